"""Verbs and objects end to end: lists over a data set, training on them, both worlds, results."""

import itertools
import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import zsar_jax
from tests.evaluation.pair_metrics_test import slow_figures
from tests.toy import build_toy
from tests.training.loop_test import toy_config
from zsar_jax import experiment
from zsar_jax.config import dataset_ref
from zsar_jax.data.clip_loader import ClipLoader
from zsar_jax.data.subset import open_subset
from zsar_jax.data.verb_objects import pair_text
from zsar_jax.data.view import View
from zsar_jax.errors import UserError
from zsar_jax.evaluation import predictions, scoring
from zsar_jax.evaluation.evaluator import COLOR_SEED, Evaluator
from zsar_jax.evaluation.external_model import ExternalScorer
from zsar_jax.ops.prepare import evaluation_input
from zsar_jax.recipes import language
from zsar_jax.runtime import sharding
from zsar_jax.training.setup import open_training_subset

VERBS = ('Turning [something]', 'Moving [something] to the left', 'rest beside')
OBJECTS = ('book', 'cup', 'toy car', 'sponge')


@pytest.fixture(name='config')
def _config(tmp_path):
  """A light model, trained on the training pairs and evaluated in both worlds."""
  rng = np.random.default_rng(0)
  every = [{'verb': verb, 'object': thing} for verb, thing in itertools.product(VERBS, OBJECTS)]
  ids = [f'train{n}' for n in range(37)] + [f'validation{n}' for n in range(11)]
  rng.shuffle(ids)
  drawn = {
    'train': [every[n] for n in rng.choice(6, 22, p=[0.5, 0.1, 0.1, 0.1, 0.1, 0.1])],
    'test': [every[n] for n in rng.choice(9, 26)],
  }
  for part, pairs in drawn.items():
    rows = [{'id': ids.pop(), **pair} for pair in pairs]
    (tmp_path / f'{part}_pairs.json').write_text(json.dumps(rows))
  config = toy_config(
    build_toy(tmp_path / 'data'),
    model__temporal='mean',
    recipe='none',
    optim__accumulation=1,
    steps=2,
    eval__recipes=('none', 'background=normal'),
    eval__allow_seen_classes=True,
  )
  for name, part, classes in (('train', 'train', 'seen'), ('test', 'test', 'open')):
    labels = str(tmp_path / f'{part}_pairs.json')
    reference = dataset_ref('toy', 'train+validation', classes, labels=labels)
    if name == 'train':
      config.data.train = reference
    else:
      config.eval.datasets = ConfigDict({'pairs': reference})
  return config


@pytest.mark.slow
def test_a_run_on_lists_of_pairs(config, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(scoring, '_TEXT_CHUNK', 5)  # 12 texts in three chunks.
  run = tmp_path / 'run'
  config.eval.every = config.steps // 2
  results = experiment.run(config, run)
  assert experiment.run(config, run, 'eval') == results
  assert json.loads((run / 'results.json').read_text()) == results
  # An evaluation during the training gives numbers, as TensorBoard needs.
  lines = [json.loads(line) for line in (run / 'metrics.jsonl').read_text().splitlines()]
  evaluated = next(line for line in lines if 'pairs/none/top1' in line)
  assert all(isinstance(value, int | float) for value in evaluated.values())
  assert 0 <= evaluated['pairs/none/open/unseen_verb'] <= 1

  subset = open_subset(config.data.dir, config.eval.datasets.pairs, 'nearest', '')
  assert len(subset) == 26
  model = zsar_jax.load(run)
  texts = [pair_text(verb, thing) for verb in sorted(VERBS) for thing in subset.pairs.objects]
  embeddings = np.stack([model.encode_text([text])[0] for text in texts])
  embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
  scale = np.exp(model.params['logit_scale'])
  loader = ClipLoader(subset, View.from_config(config))
  saved = predictions.load(run / 'predictions' / 'pairs.npz')
  numbers = saved.pairs.vocabulary.numbers
  assert saved.classes == tuple(texts[n].replace('[', '').replace(']', '') for n in numbers)
  for recipe in ('none', 'background=normal'):
    for position in range(len(subset)):
      clip = jax.tree.map(lambda x: np.asarray(x)[None], loader.evaluation_clip(position))
      video = evaluation_input(jax.random.key(COLOR_SEED), clip, language.parse(recipe))
      encoded = model.model.encode_video(model.params, video)['embedding'][0]
      scores = scale * embeddings @ np.asarray(encoded)  # [12]
      if np.isfinite(saved.logits[recipe][position]).all():
        closed = scores[numbers]
        np.testing.assert_allclose(saved.logits[recipe][position], closed, rtol=2e-5, atol=2e-5)
        best = saved.pairs.open_world[recipe][position]
        assert scores[best] >= scores.max() - 1e-4
    for world in ('closed', 'open'):
      expected = slow_figures(saved, recipe, world)
      assert results['pairs'][recipe]['pairs'][world] == pytest.approx(
        {name: None if np.isnan(value) else value for name, value in expected.items()}
      )


def test_the_open_world_is_refused_where_it_cannot_be_scored(config):
  config.eval.crops = 3
  with pytest.raises(UserError, match=r'pairs.classes: the open world .* one view .* give 3; set'):
    Evaluator(config, None, sharding.make_mesh(config.mesh), ())
  config.data.train.classes = 'open'
  with pytest.raises(UserError, match=r"config.data.train.classes: the open world .*take 'seen'"):
    open_training_subset(config)


def test_scores_of_somebodys_model(config, tmp_path, monkeypatch):
  """Its scores are NumPy arrays, and the open world is chosen from all of them."""
  (tmp_path / 'somebody.py').write_text(
    'import numpy as np, zlib\n'
    'class Model:\n'
    '  def score(self, frames, texts):\n'
    '    sums = frames.reshape(len(frames), -1).sum(1).astype(np.int64)\n'
    '    seeds = np.array([zlib.crc32(text.encode()) for text in texts])\n'
    '    return ((sums[:, None] + 7) * seeds % 1009).astype(np.float32)\n'
    'make = Model\n'
  )
  monkeypatch.syspath_prepend(tmp_path)
  config.text.templates = ('{}',)
  mesh = sharding.make_mesh(config.mesh)
  results = []
  for classes in ('open', 'all'):
    config.eval.datasets.pairs.classes = classes
    scorer = ExternalScorer('somebody:make', ('{}',), True, 'keep')
    results += Evaluator(config, scorer, mesh, ()).run(None)
  both, closed = results
  for recipe in both.recipes:
    np.testing.assert_array_equal(both.logits[recipe], closed.logits[recipe])
    best = both.pairs.open_world[recipe]
    in_closed = np.isin(best, both.pairs.vocabulary.numbers)
    assert in_closed.any()
    assert not in_closed.all()
    counted = both.counted(recipe)
    numbers = both.pairs.vocabulary.numbers[both.logits[recipe][counted & in_closed].argmax(1)]
    np.testing.assert_array_equal(best[counted & in_closed], numbers)
  assert closed.pairs.open_world is None
