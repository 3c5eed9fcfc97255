"""Evaluates a model zero-shot: each data set under all mask recipes, in one pass over its clips."""

import dataclasses
import json
from collections.abc import Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from zsar_jax import config as config_lib
from zsar_jax.data.clip_loader import ClipLoader
from zsar_jax.data.pipeline import BatchIterator, evaluation_batches
from zsar_jax.data.splits import intersection
from zsar_jax.data.subset import Subset, data_identity, open_subset
from zsar_jax.data.view import EvaluationViews, View
from zsar_jax.data.watchdog import WorkerPolicy
from zsar_jax.errors import UserError
from zsar_jax.evaluation.background_pairs import choose_partners
from zsar_jax.evaluation.pair_predictions import PairPredictions
from zsar_jax.evaluation.predictions import PARTS, Predictions
from zsar_jax.evaluation.scoring import Scorer
from zsar_jax.evaluation.view_average import ViewAverage
from zsar_jax.recipes import language
from zsar_jax.recipes.regions import REGION_BITS
from zsar_jax.runtime import agreement, sharding
from zsar_jax.runtime.progress import Progress, log

# The seed of painted colors. It is not the training seed, so that every model is evaluated with the
# same colors.
COLOR_SEED = 0


@dataclasses.dataclass(frozen=True)
class _EvalSet:
  """A data set to evaluate.

  Attributes:
    name: the name of the data set in the config.
    subset: the N clips to evaluate.
    prompts: the class texts as the model reads them, see `Scorer.read_texts`; those of all pairs
      of a verb and an object if the open world is scored.
    scored_classes: the number of these texts, C'.
    columns: i32[C], the position of each class among them; None if they are the classes.
    partners: i32[N], for each clip the position of the clip that provides its background, or -1 for
      none; None if no recipe swaps backgrounds.
  """

  name: str
  subset: Subset
  prompts: np.ndarray
  scored_classes: int
  columns: np.ndarray | None
  partners: np.ndarray | None


class Evaluator:
  """Evaluates a model on `config.eval.datasets` under `config.eval.recipes`.

  Each data set has its own vocabulary, which does not depend on the training classes.
  """

  def __init__(
    self,
    config: ConfigDict,
    scorer: Scorer,
    mesh: Mesh,
    seen: Collection[str] | None,
  ):
    """Opens the data sets here, so that their errors are raised before training.

    Args:
      config: a validated config.
      scorer: the model.
      mesh: the devices.
      seen: the classes on which the parameters were or will be trained; None if they are unknown.

    Raises:
      UserError: a data set, class, recipe or the batch size is invalid, or classes were seen in
        training and `config.eval.allow_seen_classes` is False.
    """
    config_lib.check_batch(
      'config.eval.batch_size', config.eval.batch_size, sharding.num_batch_shards(mesh)
    )
    self._config, self._scorer, self._mesh = config, scorer, mesh
    self._recipes = [language.parse(text) for text in config.eval.recipes]
    self._views = EvaluationViews(config.eval.clips, config.eval.crops)
    if seen is None and config.eval.datasets:
      log('the classes that the weights were trained on are unknown, so this may not be zero-shot')
    self._eval_sets = [self._open(name, seen or ()) for name in config.eval.datasets]

    self._replicated = sharding.replicated(mesh)
    self._gather = jax.jit(lambda tree: tree, out_shardings=self._replicated)
    self._closed_world = jax.jit(closed_world, out_shardings=self._replicated)

  def _open(self, name: str, seen: Collection[str]) -> _EvalSet:
    """Opens a data set and checks its classes and masks."""
    config = self._config
    reference = config.eval.datasets[name]
    field = f'config.eval.datasets.{name}'
    subset = open_subset(config.data.dir, reference, config.view.unannotated, field)
    check_unseen(subset.classes, seen, config.eval.allow_seen_classes, field)
    for recipe in self._recipes:
      subset.check_recipe(recipe, f'config.eval.recipes, {name}')
    texts: Sequence[str] = subset.texts
    columns = None
    if subset.open_world and subset.pairs:
      if len(self._views) > 1:
        raise UserError(
          f'{field}.classes: the open world is scored for one view of a clip, and config.eval.clips'
          f" and crops give {len(self._views)}; set both to 1, or the classes to 'all'"
        )
      texts, columns = subset.pairs.open_texts(), subset.pairs.numbers
    prompts = self._scorer.read_texts(texts)
    partners = None
    if any(recipe.swap_part for recipe in self._recipes):
      partners = choose_partners(subset, reference.pairs, f'{field}.pairs')
      if subset.dataset.has_inpainted:
        log(f'{field}: swapped backgrounds are the inpainted frames of {subset.dataset.name}')
    return _EvalSet(name, subset, prompts, len(texts), columns, partners)

  def identity(self) -> dict[str, str]:
    """Returns checksums of the clips, class texts and pairs of the evaluation, by config field."""
    checksums = {}
    for eval_set in self._eval_sets:
      field = f'config.eval.datasets.{eval_set.name}'
      checksums[field] = data_identity(eval_set.subset)
      checksums[f'{field}, class texts'] = agreement.tree_checksum(eval_set.prompts)
      checksums[f'{field}.pairs'] = agreement.tree_checksum(eval_set.partners)
    return checksums

  def run(self, params: Any) -> list[Predictions]:
    """Evaluates `params` on each data set; None for a model that has its own."""
    with jax.transfer_guard('allow'):
      return [self._predict(eval_set, params) for eval_set in self._eval_sets]

  def _predict(self, eval_set: _EvalSet, params: Any) -> Predictions:
    """Evaluates `params` on a data set; each clip counts once, whatever its number of views."""
    eval_config, subset, views = self._config.eval, eval_set.subset, self._views
    averages = {
      recipe: ViewAverage(len(subset), len(subset.classes), len(views), eval_config.view_mean)
      for recipe in self._recipes
    }
    gradient_shares, area_shares = np.full((2, len(subset), len(PARTS)), np.nan, np.float32)
    best = {recipe: np.full(len(subset), -1, np.int32) for recipe in self._recipes}
    classes = self._scorer.encode_classes(params, eval_set.prompts, eval_set.scored_classes)
    columns = None
    if eval_set.columns is not None:
      columns = sharding.put_global(eval_set.columns, self._replicated)
    key = sharding.random_key(COLOR_SEED, self._mesh)

    steps = -(-len(subset) * len(views) // eval_config.batch_size)
    saliency_steps = self._saliency_steps(steps)
    unit = 'clips' if len(views) == 1 else 'views'
    batches = self._batches(eval_set)
    progress = Progress(steps, 0, unit, eval_config.batch_size, log_interval=10)
    try:
      for step, host_batch in enumerate(batches, start=1):
        batch = sharding.shard_batch(host_batch, self._mesh)
        with jax.transfer_guard('disallow'):
          logits = [
            self._scorer.score(params, key, batch, recipe, classes) for recipe in self._recipes
          ]
          if columns is not None:
            # The scores of somebody's model are on the host.
            on_mesh = [
              sharding.put_global(scores, self._replicated)
              if isinstance(scores, np.ndarray)
              else scores
              for scores in logits
            ]
            logits = [self._closed_world(scores, columns) for scores in on_mesh]
          positions, weights = self._gather((batch['clip'], batch['weight']))
          shares = None
          if step in saliency_steps:
            shares = self._scorer.region_shares(params, key, batch, classes)
        positions, weights, logits, shares = jax.device_get((positions, weights, logits, shares))
        is_clip = weights > 0  # The padding of the last batch has weight 0.
        positions = positions[is_clip]
        if columns is not None:
          for of_recipe, (_, numbers) in zip(best.values(), logits, strict=True):
            of_recipe[positions] = numbers[is_clip]
          logits = [of_classes for of_classes, _ in logits]
        for average, recipe_logits in zip(averages.values(), logits, strict=True):
          average.add(positions, recipe_logits[is_clip])
        if shares:
          gradient_shares[positions], area_shares[positions] = (share[is_clip] for share in shares)
        if step == 1:  # Excludes compilation from the rate.
          progress.restart(step)
        progress.show(step, f'evaluating {eval_set.name}')
    finally:
      progress.close()
      batches.close()
    by_recipe = {str(recipe): average.logits for recipe, average in averages.items()}
    open_world = {str(recipe): numbers for recipe, numbers in best.items()}
    return _collect_predictions(eval_set, by_recipe, open_world, gradient_shares, area_shares)

  def _batches(self, eval_set: _EvalSet) -> BatchIterator:
    """Returns the batches of all views of a data set; the caller closes the iterator."""
    config, subset = self._config, eval_set.subset
    own = any(recipe.inpaint_part for recipe in self._recipes)
    return evaluation_batches(
      ClipLoader(subset, View.from_config(config), inpainted=own),
      config.eval.batch_size,
      config.data.workers,
      self._views,
      eval_set.partners,
      sharding.process_batch_shard(self._mesh),
      WorkerPolicy(config.data.patience, config.data.on_worker_failure),
      partners_inpainted=subset.dataset.has_inpainted,
    )

  def _saliency_steps(self, steps: int) -> set[int]:
    """Returns the steps that compute saliency, evenly spread because clips may be sorted."""
    needed = -(-self._config.eval.saliency // self._config.eval.batch_size)
    return set(np.linspace(1, steps, min(needed, steps)).astype(int).tolist())


def closed_world(logits: jax.Array, columns: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the logits of the classes, and the best pair of the open world.

  Args:
    logits: f32[B, V O], of all pairs of a verb and an object.
    columns: i32[C], the number of each class among them.

  Returns:
    logits: f32[B, C].
    best: i32[B], the number of the pair with the largest logit, the first of several; -1 if one of
      the logits is not finite.
  """
  finite = jnp.isfinite(logits).all(axis=1)
  best = jnp.where(finite, logits.argmax(axis=1), -1).astype(jnp.int32)
  return logits[:, columns], best


def check_unseen(classes: Sequence[str], seen: Collection[str], allowed: bool, field: str) -> None:
  """Raises a `UserError` if classes were seen in training, or logs them if they are allowed.

  Args:
    classes: the classes to evaluate.
    seen: the classes of the training, compared by `splits.intersection`.
    allowed: `config.eval.allow_seen_classes`.
    field: the config field that the classes come from, for errors.

  Raises:
    UserError: classes were seen in training and are not allowed.
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


def _collect_predictions(
  eval_set: _EvalSet,
  logits: dict[str, np.ndarray],
  open_world: dict[str, np.ndarray],
  gradient_shares: np.ndarray,
  area_shares: np.ndarray,
) -> Predictions:
  """Returns the predictions of an evaluation in the order of the subset.

  The logits of clips that do not count under a recipe become NaN.
  """
  subset, partners = eval_set.subset, eval_set.partners
  if partners is None:
    partners = np.full(len(subset), -1, np.int32)
  pairs = None
  if subset.pairs:
    pairs = PairPredictions(subset.pairs, open_world if subset.open_world else None)
  ids = tuple(subset.clip_id(position) for position in range(len(subset)))
  predictions = Predictions(
    dataset=eval_set.name,
    recipes=tuple(logits),
    classes=subset.classes,
    ids=ids,
    labels=subset.labels,
    logits=logits,
    regions=tuple(REGION_BITS),
    coverage=subset.index.coverage,
    attributes=tuple(map(json.loads, subset.index.attributes)),
    partners=tuple(ids[position] if position >= 0 else '' for position in partners),
    partner_labels=np.where(partners >= 0, subset.labels[partners], -1).astype(np.int32),
    saliency=gradient_shares,
    saliency_area=area_shares,
    inpainted_scenes=subset.dataset.has_inpainted,
    pairs=pairs,
  )
  for recipe, recipe_logits in predictions.logits.items():
    recipe_logits[~predictions.counted(recipe)] = np.nan
    open_world[recipe][~predictions.counted(recipe)] = -1
  return predictions
