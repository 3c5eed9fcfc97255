"""Zero-shot evaluation: every data set under every mask recipe, in one pass over its clips."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from zsar_jax import config as config_lib
from zsar_jax.data.clip_loader import ClipLoader
from zsar_jax.data.dataset import open_dataset
from zsar_jax.data.pipeline import evaluation_batches
from zsar_jax.data.splits import intersection
from zsar_jax.data.subset import Subset, data_identity, select
from zsar_jax.data.view import EvaluationViews, View
from zsar_jax.data.watchdog import WorkerPolicy
from zsar_jax.errors import UserError
from zsar_jax.evaluation import saliency, swaps
from zsar_jax.evaluation.metrics import accuracy
from zsar_jax.evaluation.predictions import PARTS, Predictions
from zsar_jax.models.from_config import build_model
from zsar_jax.models.layers import compiler_options
from zsar_jax.models.video_model import VideoModel
from zsar_jax.ops.prepare import evaluation_input
from zsar_jax.recipes import language
from zsar_jax.recipes.regions import REGION_BITS
from zsar_jax.runtime import agreement, distributed, sharding
from zsar_jax.runtime.files import make_folder, write_file
from zsar_jax.runtime.progress import Progress, log
from zsar_jax.text.classes import ClassTexts, encode_classes
from zsar_jax.weights import run_config, runs
from zsar_jax.weights.checkpoint import has_checkpoint
from zsar_jax.weights.formats.preprocessing import Preprocessing, describe_differences
from zsar_jax.weights.initial import (
  InitialWeights,
  load_weight_entries,
  run_seen_classes,
  source_seen_classes,
  weights_for_evaluation,
)

# {dataset: {recipe: {'top1', 'top5', 'mean_class', 'count'}}}, and for each group of data sets
# {group: {recipe: {'top1', 'top1_std', ..., 'count', 'over'}}}: see `summarize`.
Results = dict[str, dict[str, dict[str, float]]]

FIGURES = ('top1', 'top5', 'mean_class')

# Validation colors do not follow the training seed: every model meets the same ones.
COLOR_SEED = 0


@dataclasses.dataclass(frozen=True)
class _Entry:
  name: str
  subset: Subset
  tokens: np.ndarray  # i32[P, C', L], C' the classes padded for the mesh
  partners: np.ndarray | None  # i32[N], whose background each clip gets, -1 nobody's


class Evaluator:
  """Evaluates a model on `config.eval.datasets` under `config.eval.recipes`.

  The vocabulary of each data set is its own: the training classes have no part in it.
  """

  def __init__(
    self,
    config: ConfigDict,
    model: VideoModel,
    texts: ClassTexts,
    mesh: Mesh,
    seen: Collection[str] | None,
  ):
    """Opens the data sets, so that whatever is wrong with them shows before training.

    Args:
      config: a validated config.
      model: the model.
      texts: for the class texts.
      mesh: the devices.
      seen: the classes that the parameters were or will be trained on; None if nobody knows.

    Raises:
      UserError: for a data set, class, recipe or batch size that does not fit, and for classes
        that were seen, unless `config.eval.allow_seen_classes`.
    """
    config_lib.check_batch(
      'config.eval.batch_size', config.eval.batch_size, sharding.num_batch_shards(mesh)
    )
    self._config, self._mesh = config, mesh
    self._recipes = [language.parse(text) for text in config.eval.recipes]
    self._views = EvaluationViews(config.eval.clips, config.eval.crops)
    self._entries = []
    if seen is None and config.eval.datasets:
      log('which classes the weights were trained on is not known: nothing says this is zero-shot')
    for name, reference in config.eval.datasets.items():
      field = f'config.eval.datasets.{name}'
      dataset = open_dataset(config.data.dir, reference.dataset, reference.split)
      subset = select(dataset, reference.classes, config.view.unannotated, f'{field}.classes')
      check_unseen(subset.classes, seen or (), config.eval.allow_seen_classes, field)
      for recipe in self._recipes:
        subset.check_recipe(recipe, f'config.eval.recipes, {name}')
      tokens = texts.tokens(subset.texts, sharding.num_batch_shards(mesh))
      partners = None
      if any(recipe.swap_part for recipe in self._recipes):
        partners = _partners(subset, reference.pairs, f'{field}.pairs')
      self._entries.append(_Entry(name, subset, tokens, partners))

    whole = sharding.replicated(mesh)
    encode_texts = functools.partial(encode_classes, model, mesh=mesh)
    options = dict(out_shardings=whole, compiler_options=compiler_options(mesh))
    self._encode_texts = jax.jit(encode_texts, **options)

    def region_shares(params: dict, batch: dict, video: jax.Array, classes: jax.Array) -> Any:
      scored = functools.partial(score, model, params, classes=classes)
      return saliency.region_shares(scored, video, batch['regions'], batch['annotated'])

    self._score = jit_score(model, mesh, config.mesh.fsdp_min_bytes)
    self._region_shares = jax.jit(region_shares, **options)
    self._gather = jax.jit(lambda tree: tree, out_shardings=whole)

  def identity(self) -> dict[str, str]:
    """What tells the clips, class texts and pairs of the evaluation from others, by field."""
    facts = {}
    for entry in self._entries:
      field = f'config.eval.datasets.{entry.name}'
      facts[field] = data_identity(entry.subset)
      facts[f'{field}, class texts'] = agreement.tree_checksum(entry.tokens)
      facts[f'{field}.pairs'] = agreement.tree_checksum(entry.partners)
    return facts

  def run(self, params: dict) -> list[Predictions]:
    """Evaluates `params` on each data set."""
    with jax.transfer_guard('allow'):
      return [self._predict(entry, params) for entry in self._entries]

  def _predict(self, entry: _Entry, params: dict) -> Predictions:
    """Every clip counts once, whatever the number of its views.

    Of several views the logits are their mean, or the logarithm of the mean of their softmax over
    the classes: see `config.eval.view_mean`.
    """
    config, subset, views = self._config, entry.subset, self._views
    if len(views) == 1:
      nothing, add = np.nan, _set_view
    elif config.eval.view_mean == 'logits':
      nothing, add = 0.0, add_logits
    else:
      nothing, add = -np.inf, add_views
    logits = {
      recipe: np.full((len(subset), len(subset.classes)), nothing, np.float32)
      for recipe in self._recipes
    }
    shares = np.full((2, len(subset), len(PARTS)), np.nan, np.float32)
    classes = self._class_embeddings(entry, params)  # [C, E]
    key = sharding.random_key(COLOR_SEED, self._mesh)
    batches = evaluation_batches(
      ClipLoader(subset, View.from_config(config)),
      config.eval.batch_size,
      config.data.workers,
      views,
      entry.partners,
      sharding.process_batch_shard(self._mesh),
      WorkerPolicy(config.data.patience, config.data.on_worker_failure),
    )
    steps = -(-len(subset) * len(views) // config.eval.batch_size)
    # Batches all over the data set, whose clips may be sorted.
    looked_at = -(-config.eval.saliency // config.eval.batch_size)
    looking = set(np.linspace(1, steps, min(looked_at, steps)).astype(int).tolist())
    unit = 'clips' if len(views) == 1 else 'views'
    progress = Progress(steps, 0, unit, config.eval.batch_size, log_interval=10)
    try:
      for step, host_batch in enumerate(batches, start=1):
        batch = sharding.shard_batch(host_batch, self._mesh)
        with jax.transfer_guard('disallow'):
          found = [
            self._score(params, evaluation_input(key, batch, recipe), classes)
            for recipe in self._recipes
          ]
          places = self._gather((batch['clip'], batch['weight']))
          looked = []
          if step in looking:
            video = evaluation_input(key, batch, language.Recipe())
            looked = self._region_shares(params, batch, video, classes)
        (clip, weight), found, looked = jax.device_get((places, found, looked))
        real = weight > 0
        for recipe, scores in zip(self._recipes, found, strict=True):
          add(logits[recipe], clip[real], scores[real], len(views))
        for column, values in zip(shares, looked, strict=False):
          column[clip[real]] = values[real]
        if step == 1:
          progress.restart(step)
        progress.show(step, f'evaluating {entry.name}')
    finally:
      progress.close()
      batches.close()
    return _predictions(entry, logits, shares)

  def _class_embeddings(self, entry: _Entry, params: dict) -> jax.Array:
    """f32[C, E]: the mean over the templates."""
    tokens = sharding.put_global(entry.tokens, sharding.replicated(self._mesh))
    by_template = self._encode_texts(params, tokens)  # [P, C', E]
    return by_template[:, : len(entry.subset.classes)].mean(axis=0)


def score(model: VideoModel, params: dict, video: jax.Array, classes: jax.Array) -> jax.Array:
  """The logits f32[B, C] of clips f32[B, T, H, W, 3] for class embeddings f32[C, E]."""
  return model.logits(params, model.encode_video(params, video), classes)


def jit_score(model: VideoModel, mesh: Mesh, fsdp_min_bytes: int) -> Callable[..., jax.Array]:
  """`score` of a model, jitted, from clips on the mesh to logits that every device has whole."""

  def scored(params: dict, video: jax.Array, classes: jax.Array) -> jax.Array:
    return score(model, sharding.gather_fsdp(params, mesh, fsdp_min_bytes), video, classes)

  whole = sharding.replicated(mesh)
  return jax.jit(scored, out_shardings=whole, compiler_options=compiler_options(mesh))


def _partners(subset: Subset, pairs: str, field: str) -> np.ndarray:
  """i32[N]: the position of the clip whose background each gets, or -1."""
  ids = [subset.clip_id(n) for n in range(len(subset))]
  index = subset.index
  person = index.coverage[:, list(REGION_BITS).index(subset.person_region)]
  partners = swaps.open_pairs(pairs, ids, subset.labels, subset.classes, person, field)
  # A list of pairs knows nothing of the masks here: both clips need them, and a figure to move.
  whole = (index.num_annotated == index.num_frames) & (person > 0)
  able = (partners >= 0) & whole & whole[partners]
  if lost := int((partners >= 0).sum() - able.sum()):
    log(f'{field}: {lost} pairs are left out, of which a clip is not annotated or shows nobody')
  partners = np.where(able, partners, -1).astype(np.int32)
  if not (partners >= 0).any():
    raise UserError(
      f'{field}: no clip of {subset.dataset.name} has a partner under {pairs!r}; leave swap out of'
      ' config.eval.recipes, or take other pairs'
    )
  return partners


def _predictions(
  entry: _Entry, logits: dict[language.Recipe, np.ndarray], shares: np.ndarray
) -> Predictions:
  """What is kept of an evaluation, in the subset's order."""
  subset, partners = entry.subset, entry.partners
  if partners is None:
    partners = np.full(len(subset), -1, np.int32)
  ids = tuple(subset.clip_id(n) for n in range(len(subset)))
  found = Predictions(
    dataset=entry.name,
    recipes=tuple(map(str, logits)),
    classes=subset.classes,
    ids=ids,
    labels=subset.labels,
    logits={str(recipe): scores for recipe, scores in logits.items()},
    regions=tuple(REGION_BITS),
    coverage=subset.index.coverage,
    attributes=tuple(map(json.loads, subset.index.attributes)),
    partners=tuple(ids[n] if n >= 0 else '' for n in partners),
    partner_labels=np.where(partners >= 0, subset.labels[partners], -1).astype(np.int32),
    saliency=shares[0],
    saliency_area=shares[1],
  )
  for recipe, scores in found.logits.items():
    scores[~found.counted(recipe)] = np.nan
  return found


def results_of(predictions: Sequence[Predictions], groups: Mapping[str, Sequence[str]]) -> Results:
  """The accuracies of an evaluation.

  Args:
    predictions: of each data set.
    groups: names of data sets that are summed up together, by the group's name.
  """
  results = {}
  for one in predictions:
    results[one.dataset] = {
      recipe: accuracy(logits[one.counted(recipe)], one.labels[one.counted(recipe)])
      for recipe, logits in one.logits.items()
    }
  return results | {
    name: summarize([results[member] for member in members]) for name, members in groups.items()
  }


def add_views(total: np.ndarray, clips: np.ndarray, logits: np.ndarray, count: int) -> None:
  """Adds views' class probabilities, divided by their number, to those of their clips.

  The mean of the softmax over the views is X-CLIP's and ViFi-CLIP's (they add it up). It is
  formed in logarithms, where no probability becomes 0.

  Args:
    total: f32[N, C], logarithms; changed in place. It begins at -inf.
    clips: i32[B], the clip of each view; several may have the same.
    logits: f32[B, C], of each view.
    count: the views that every clip has.
  """
  # A view whose logits are no numbers spoils its clip, which then counts as wrong.
  with np.errstate(invalid='ignore'):
    shifted = logits - logits.max(axis=1, keepdims=True)
    normalizer = np.log(np.exp(shifted).sum(axis=1, keepdims=True)) + np.log(np.float32(count))
    for clip, view in zip(clips, shifted - normalizer, strict=True):
      total[clip] = np.logaddexp(total[clip], view)


def add_logits(total: np.ndarray, clips: np.ndarray, logits: np.ndarray, count: int) -> None:
  """Adds views' logits, divided by their number, to those of their clips.

  The sum of the logits over the views is Open-VCLIP's and FROSTER's (SlowFast's `TestMeter`). The
  arguments are those of `add_views`, but `total` begins at 0.
  """
  np.add.at(total, clips, logits / np.float32(count))


def _set_view(total: np.ndarray, clips: np.ndarray, logits: np.ndarray, count: int) -> None:
  """`add_logits` of clips with one view, whose logits stay as they are to the last bit."""
  del count
  total[clips] = logits


def check_unseen(classes: Sequence[str], seen: Collection[str], allowed: bool, field: str) -> None:
  """Refuses classes that were seen in training, or says so where they are allowed.

  Args:
    classes: of an evaluation.
    seen: of the training; they are compared by `splits.intersection`.
    allowed: `config.eval.allow_seen_classes`.
    field: where the classes come from, for errors.

  Raises:
    UserError: naming them.
  """
  common = intersection(classes, seen)
  if not common:
    return
  names = ', '.join(map(repr, common[:3])) + (', ...' if len(common) > 3 else '')
  overlap = f'{len(common)} of {len(classes)} classes were seen in training ({names})'
  if not allowed:
    raise UserError(
      f'{field}: {overlap}, so this would not be zero-shot; choose another class split'
      ' (zsar split makes one), or set --config.eval.allow_seen_classes=True'
    )
  log(f'{field}: {overlap}')


def summarize(members: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
  """The mean and the standard deviation of results over data sets, such as three test splits.

  Args:
    members: the results of two or more data sets, under the same recipes.

  Returns:
    {recipe: figures}: the mean of each of `FIGURES`, with the sample standard deviation (n - 1)
    beside it as 'top1_std' and so on; 'count', the clips of all; 'over', the number of data sets.
  """
  summary = {}
  for recipe in members[0]:
    figures = {}
    for name in FIGURES:
      values = [member[recipe][name] for member in members]
      figures[name] = float(np.mean(values))
      figures[f'{name}_std'] = float(np.std(values, ddof=1))
    figures['count'] = sum(member[recipe]['count'] for member in members)
    summary[recipe] = figures | {'over': len(members)}
  return summary


def evaluate_checkpoint(config: ConfigDict, workdir: pathlib.Path) -> list[Predictions]:
  """Evaluates the newest checkpoint of `workdir`, or else the weights of `config.model.init_from`.

  Raises:
    UserError: where there are none, or they are another model's, or were trained on the classes
      of the evaluation.
  """
  agreement.check_workdir(workdir)
  if (has_checkpoint(workdir) or config.model.init_from) and distributed.is_main():
    for folder in (workdir, workdir / 'predictions'):
      make_folder(folder, '--workdir')
  mesh = sharding.make_mesh(config.mesh)
  model = build_model(config)
  texts = ClassTexts.from_config(config, model)
  template = sharding.sharded_shapes(model.abstract_params, mesh, config.mesh.fsdp_min_bytes)
  start = InitialWeights(config, model, template)
  if has_checkpoint(workdir):
    fields = run_config.MODEL_FIELDS
    if config.eval.interpolate:
      # The other end must be what this run began with.
      fields += ('model.init_from',)
    run_config.check_same_run(config, workdir / 'config.json', fields)
    trained = Preprocessing.from_config(runs.saved_config(workdir))
    for difference in describe_differences(trained, Preprocessing.from_config(config)):
      log(difference)
    seen = run_seen_classes(workdir, '--workdir')
    evaluator = Evaluator(config, model, texts, mesh, seen)
    agreement.check_files(evaluator.identity)
    state = load_weight_entries(workdir, config, model, mesh)
    params = weights_for_evaluation(state, start, config.eval.interpolate)
  elif config.model.init_from:
    if config.eval.interpolate:
      raise UserError(
        f'config.eval.interpolate: {workdir} holds no trained weights to mix with those of'
        ' config.model.init_from; name the --workdir of a run'
      )
    saved = pathlib.Path(config.model.init_from, 'config.json')
    if has_checkpoint(saved.parent):
      run_config.check_same_run(config, saved, run_config.MODEL_FIELDS)
    evaluator = Evaluator(config, model, texts, mesh, source_seen_classes(config))
    agreement.check_files(evaluator.identity)
    params = start.load_all()
  else:
    raise UserError(
      f'--workdir: {workdir} holds no checkpoint of this project; name the --workdir of a run that'
      ' was trained, or weights in config.model.init_from'
    )
  return evaluator.run(params)


def save_results(
  predictions: Sequence[Predictions], groups: Mapping[str, Sequence[str]], workdir: pathlib.Path
) -> Results:
  """Writes predictions/DATASET.npz and results.json, and returns the latter."""
  results = results_of(predictions, groups)
  if distributed.is_main():
    for one in predictions:
      one.save(workdir / 'predictions' / f'{one.dataset}.npz')
    write_file(workdir / 'results.json', json.dumps(results, indent=2) + '\n')
  return results


def table(results: Results) -> str:
  """Results as text: a block for each data set and group, a row for each recipe.

  Each row has its number of clips: not every clip counts under every recipe.
  """
  lines = []
  for name, by_recipe in results.items():
    first = next(iter(by_recipe.values()))
    is_group = 'over' in first
    title = f'{name} (mean and standard deviation over {first["over"]})' if is_group else name
    width = max(len(title) - 2, *map(len, by_recipe))
    column = 11 if is_group else 6
    heads = f'  {"top-1":>{column}}  {"top-5":>{column}}  {"mean class":>{max(column, 10)}}'
    lines.append(f'{title:<{width + 2}}   clips{heads}')
    for recipe, figures in by_recipe.items():
      top1, top5, mean_class = (_percent(figures, figure) for figure in FIGURES)
      cells = f'  {top1:>{column}}  {top5:>{column}}  {mean_class:>{max(column, 10)}}'
      lines.append(f'  {recipe:<{width}}  {figures["count"]:>6}{cells}')
    lines.append('')
  return '\n'.join(lines)


def _percent(figures: dict[str, float], figure: str) -> str:
  deviation = figures.get(f'{figure}_std')
  spread = '' if deviation is None else f' ± {100 * deviation:.1f}'
  return f'{100 * figures[figure]:.1f}{spread}'
