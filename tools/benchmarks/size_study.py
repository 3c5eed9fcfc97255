"""A study of models that guess, for the benchmark of sizes: everything but the models' own work."""

import time

import numpy as np
from ml_collections import ConfigDict

from zsar_jax.config import dataset_ref, default_config
from zsar_jax.study.plan import default_study, experiment, model

# A recipe for each kind of figure: painted and swapped backgrounds, no people, other orders.
RECIPES = (
  'none',
  'background=normal',
  'background=normal/other',
  'background=swap',
  'person=mean',
  'background=mean',
  'reverse',
  'background=normal,reverse',
)

# What the models themselves have taken in this process.
seconds_in_models = 0.0


class _Guesses:
  """A model whose scores are random."""

  def __init__(self, seed: int):
    self._rng = np.random.default_rng(seed)

  def score(self, frames: np.ndarray, texts: list[str]) -> np.ndarray:
    """Returns scores f32[B, C]."""
    global seconds_in_models
    began = time.perf_counter()
    scores = self._rng.standard_normal((len(frames), len(texts)), np.float32)
    seconds_in_models += time.perf_counter() - began
    return scores


def make_model() -> _Guesses:
  """Returns a model, of another seed each time; see `config.model.external`."""
  return _Guesses(time.perf_counter_ns())


def make_study(data_dir: str, models: int) -> ConfigDict:
  """Returns the config of a study of some models on the data set 'tiny_clips'."""
  study = default_study()
  study.seeds = (1,)
  base = default_config()
  base.data.dir, base.data.workers = data_dir, 0
  base.view.num_frames, base.view.size = 2, 16
  base.text.templates = ('{}',)
  base.eval.recipes = RECIPES
  base.eval.batch_size = 256
  base.eval.datasets = ConfigDict({'tiny': dataset_ref('tiny_clips', 'validation')})
  source = f'{__name__}:{make_model.__name__}'
  runs = {f'model{n}': model('guesses', source, trained_on='nothing') for n in range(models)}
  study.experiments.models = experiment(base, 'model0', runs)
  return study
