"""Zero-shot evaluation: every data set under every mask recipe, in one pass over its clips."""

import dataclasses
import functools
import json
import pathlib

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from zsar_jax import config as config_lib
from zsar_jax import sharding
from zsar_jax.bias.metrics import accuracy
from zsar_jax.checkpoint import Checkpoints, load_params
from zsar_jax.data.dataset import open_dataset
from zsar_jax.data.pipeline import ClipLoader, View, evaluation_batches
from zsar_jax.data.subset import Subset, select
from zsar_jax.models.build import build_model
from zsar_jax.models.video_clip import VideoModel
from zsar_jax.ops import recipes
from zsar_jax.ops.prepare import prepare
from zsar_jax.text.classes import ClassTexts, encode_classes
from zsar_jax.writers import Progress, write_whole

# {dataset: {recipe: {'top1', 'top5', 'mean_class', 'count'}}}
Results = dict[str, dict[str, dict[str, float]]]

# Validation colours do not follow the training seed: every model meets the same ones.
COLOUR_SEED = 0


@dataclasses.dataclass(frozen=True)
class _Entry:
  name: str
  subset: Subset
  tokens: np.ndarray  # i32[P, C', L], C' the classes padded for the mesh


class Evaluator:
  """Evaluates a model on `config.eval.datasets` under `config.eval.recipes`.

  The vocabulary of each data set is its own: nothing of the training classes is known here.
  """

  def __init__(self, config: ConfigDict, model: VideoModel, texts: ClassTexts, mesh: Mesh):
    """Opens the data sets, so that whatever is wrong with them shows before training.

    Raises:
      UserError: for a data set, class, recipe or batch size that does not fit.
    """
    config_lib.check_batch(
      'config.eval.batch_size', config.eval.batch_size, sharding.batch_parts(mesh)
    )
    self._config, self._mesh = config, mesh
    self._recipes = [recipes.parse(text) for text in config.eval.recipes]
    self._entries = []
    for name, reference in config.eval.datasets.items():
      field = f'config.eval.datasets.{name}'
      dataset = open_dataset(config.data.dir, reference.dataset, reference.split)
      subset = select(dataset, reference.classes, config.view.unannotated, f'{field}.classes')
      for recipe in self._recipes:
        subset.check_recipe(recipe, f'config.eval.recipes, {name}')
      tokens = texts.tokens(subset.classes, sharding.batch_parts(mesh))
      self._entries.append(_Entry(name, subset, tokens))

    whole = sharding.replicated(mesh)
    encode_texts = functools.partial(encode_classes, model, mesh=mesh)
    self._encode_texts = jax.jit(encode_texts, out_shardings=whole)
    self._encode_video = jax.jit(model.encode_video, out_shardings=whole)
    self._gather = jax.jit(lambda tree: tree, out_shardings=whole)

  def run(self, params: dict) -> Results:
    """Evaluates `params`; every clip counts once."""
    results = {}
    with jax.transfer_guard('allow'):
      for entry in self._entries:
        logits = self._logits(entry, params)
        results[entry.name] = {
          str(recipe): accuracy(logits[recipe], entry.subset.labels) for recipe in self._recipes
        }
    return results

  def _logits(self, entry: _Entry, params: dict) -> dict[recipes.Recipe, np.ndarray]:
    """f32[N, C] for each recipe, in the subset's order."""
    config, subset = self._config, entry.subset
    logits = {
      recipe: np.full((len(subset), len(subset.classes)), np.nan, np.float32)
      for recipe in self._recipes
    }
    classes = self._class_embeddings(entry, params)  # [C, E]
    scale = np.exp(jax.device_get(params['logit_scale']))
    key = jax.device_put(jax.random.key(COLOUR_SEED), sharding.replicated(self._mesh))
    batches = evaluation_batches(
      ClipLoader(subset, View.from_config(config)), config.eval.batch_size, config.data.workers
    )
    steps = -(-len(subset) // config.eval.batch_size)
    progress = Progress(steps, 0, 'clips', config.eval.batch_size, pause=10)
    try:
      for step, host_batch in enumerate(batches, start=1):
        batch = sharding.place(host_batch, self._mesh)
        with jax.transfer_guard('disallow'):
          found = [
            self._encode_video(params, prepare(key, batch, recipe)) for recipe in self._recipes
          ]
          places = self._gather((batch['clip'], batch['weight']))
        (clip, weight), found = jax.device_get((places, found))
        real = weight > 0
        for recipe, videos in zip(self._recipes, found, strict=True):
          logits[recipe][clip[real]] = scale * videos[real] @ classes.T
        if step == 1:
          progress.restart(step)
        progress.show(step, f'evaluating {entry.name}')
    finally:
      progress.close()
      batches.close()
    return logits

  def _class_embeddings(self, entry: _Entry, params: dict) -> np.ndarray:
    """f32[C, E]: the mean over the templates, of unit length."""
    tokens = jax.device_put(entry.tokens, sharding.replicated(self._mesh))
    by_template = jax.device_get(self._encode_texts(params, tokens))  # [P, C', E]
    mean = by_template[:, : len(entry.subset.classes)].mean(axis=0)
    return mean / np.linalg.norm(mean, axis=-1, keepdims=True)


def evaluate_checkpoint(config: ConfigDict, workdir: pathlib.Path) -> Results:
  """Evaluates the newest checkpoint of `workdir`, or else that of `config.model.init_from`.

  Raises:
    UserError: where there is no checkpoint, or it is another model's.
  """
  mesh = sharding.make_mesh(config.mesh)
  model = build_model(config)
  evaluator = Evaluator(config, model, ClassTexts.from_config(config, model), mesh)
  template = sharding.sharded_shapes(model.abstract_params, mesh, config.mesh.fsdp_min_bytes)
  with Checkpoints(workdir) as checkpoints:
    here = checkpoints.latest is not None
  run, field = workdir, '--workdir'
  if not here and config.model.init_from:
    run, field = pathlib.Path(config.model.init_from), 'config.model.init_from'
  if (run / 'config.json').exists():
    config_lib.check_same_run(config, run / 'config.json', config_lib.MODEL_FIELDS)
  params = load_params(run, template, field)
  workdir.mkdir(parents=True, exist_ok=True)
  return evaluator.run(params)


def save_results(results: Results, workdir: pathlib.Path) -> None:
  """Writes results.json."""
  write_whole(workdir / 'results.json', json.dumps(results, indent=2) + '\n')


def table(results: Results) -> str:
  """Results as text: a block for each data set, a row for each recipe."""
  lines = []
  for dataset, by_recipe in results.items():
    title = f'{dataset} ({next(iter(by_recipe.values()))["count"]} clips)'
    width = max(len(title) - 2, *map(len, by_recipe))
    lines.append(f'{title:<{width + 2}}   top-1   top-5  mean class')
    for recipe, figures in by_recipe.items():
      percent = [100 * figures[name] for name in ('top1', 'top5', 'mean_class')]
      lines.append(f'  {recipe:<{width}}' + '  {:6.1f}  {:6.1f}  {:10.1f}'.format(*percent))
    lines.append('')
  return '\n'.join(lines)
