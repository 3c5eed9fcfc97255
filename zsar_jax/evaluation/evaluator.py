"""Evaluates a model zero-shot: each data set under all mask recipes, in one pass over its clips."""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from zsar_jax import config as config_lib
from zsar_jax.data.subset import Subset
from zsar_jax.data.view import EvaluationViews
from zsar_jax.evaluation.eval_set import EvalSet
from zsar_jax.evaluation.predictions import PARTS, Predictions
from zsar_jax.evaluation.scoring import Scorer
from zsar_jax.evaluation.view_average import ViewAverage
from zsar_jax.recipes import language
from zsar_jax.runtime import agreement, sharding
from zsar_jax.runtime.progress import Progress, log

# The seed of painted colors. It is not the training seed, so that every model is evaluated with the
# same colors.
COLOR_SEED = 0


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
    self._eval_sets = [
      EvalSet.open(config, name, self._recipes, seen or ()) for name in config.eval.datasets
    ]
    # The class texts of each data set as the model reads them.
    self._prompts = [scorer.read_texts(eval_set.texts) for eval_set in self._eval_sets]
    self._replicated = sharding.replicated(mesh)
    self._gather = jax.jit(lambda tree: tree, out_shardings=self._replicated)
    self._split_worlds = jax.jit(split_worlds, out_shardings=self._replicated)

  @property
  def subsets(self) -> dict[str, Subset]:
    """The clips of each data set."""
    return {eval_set.name: eval_set.subset for eval_set in self._eval_sets}

  def identity(self) -> dict[str, str]:
    """Returns checksums of the clips, class texts and pairs of the evaluation, by config field."""
    checksums = {}
    for eval_set, prompts in zip(self._eval_sets, self._prompts, strict=True):
      field = f'config.eval.datasets.{eval_set.name}, class texts'
      checksums |= eval_set.identity() | {field: agreement.tree_checksum(prompts)}
    return checksums

  def run(self, params: Any) -> list[Predictions]:
    """Evaluates `params` on each data set; None for a model that has its own."""
    with jax.transfer_guard('allow'):
      return [
        self._predict(eval_set, prompts, params)
        for eval_set, prompts in zip(self._eval_sets, self._prompts, strict=True)
      ]

  def _predict(self, eval_set: EvalSet, prompts: np.ndarray, params: Any) -> Predictions:
    """Evaluates `params` on a data set; each clip counts once, whatever its number of views."""
    eval_config, subset, views = self._config.eval, eval_set.subset, self._views
    averages = {
      recipe: ViewAverage(len(subset), len(subset.classes), len(views), eval_config.view_mean)
      for recipe in self._recipes
    }
    gradient_shares, area_shares = np.full((2, len(subset), len(PARTS)), np.nan, np.float32)
    classes = self._scorer.encode_classes(params, prompts, len(eval_set.texts))
    open_world, columns = None, eval_set.columns
    if columns is not None:
      columns = sharding.put_global(columns, self._replicated)
      open_world = {str(recipe): np.full(len(subset), -1, np.int32) for recipe in self._recipes}
    key = sharding.random_key(COLOR_SEED, self._mesh)

    steps = -(-len(subset) * len(views) // eval_config.batch_size)
    saliency_steps = self._saliency_steps(steps)
    unit = 'clips' if len(views) == 1 else 'views'
    batches = eval_set.batches(self._config, self._mesh)
    progress = Progress(steps, 0, unit, eval_config.batch_size, log_interval=10)
    try:
      for step, host_batch in enumerate(batches, start=1):
        batch = sharding.shard_batch(host_batch, self._mesh)
        with jax.transfer_guard('disallow'):
          logits = [
            self._scorer.score(params, key, batch, recipe, classes) for recipe in self._recipes
          ]
          best: list[jax.Array] = []
          if columns is not None:
            worlds = [self._split_worlds(self._on_mesh(scores), columns) for scores in logits]
            logits, best = [closed for closed, _ in worlds], [opened for _, opened in worlds]
          positions, weights = self._gather((batch['clip'], batch['weight']))
          shares = None
          if step in saliency_steps:
            shares = self._scorer.region_shares(params, key, batch, classes)
        positions, weights, logits, best, shares = jax.device_get(
          (positions, weights, logits, best, shares)
        )
        is_clip = weights > 0  # The padding of the last batch has weight 0.
        positions = positions[is_clip]
        for average, recipe_logits in zip(averages.values(), logits, strict=True):
          average.add(positions, recipe_logits[is_clip])
        if open_world:
          for numbers, of_recipe in zip(best, open_world.values(), strict=True):
            of_recipe[positions] = numbers[is_clip]
        if shares:
          gradient_shares[positions], area_shares[positions] = (share[is_clip] for share in shares)
        if step == 1:  # Excludes compilation from the rate.
          progress.restart(step)
        progress.show(step, f'evaluating {eval_set.name}')
    finally:
      progress.close()
      batches.close()
    by_recipe = {str(recipe): average.logits for recipe, average in averages.items()}
    return eval_set.predictions(by_recipe, gradient_shares, area_shares, open_world)

  def _on_mesh(self, scores: jax.Array | np.ndarray) -> jax.Array:
    """Returns scores on the mesh; those of somebody's model are on the host."""
    if isinstance(scores, np.ndarray):
      return sharding.put_global(scores, self._replicated)
    return scores

  def _saliency_steps(self, steps: int) -> set[int]:
    """Returns the steps that compute saliency, evenly spread because clips may be sorted."""
    needed = -(-self._config.eval.saliency // self._config.eval.batch_size)
    return set(np.linspace(1, steps, min(needed, steps)).astype(int).tolist())


def split_worlds(logits: jax.Array, columns: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the logits of the classes, and the best pair of the open world.

  Args:
    logits: f32[B, V O], of all pairs of a verb and an object.
    columns: i32[C], the position of each class among them.

  Returns:
    logits: f32[B, C].
    best: i32[B], the position of the largest logit, the first of several; -1 if one is not finite.
  """
  finite = jnp.isfinite(logits).all(axis=1)
  best = jnp.where(finite, logits.argmax(axis=1), -1).astype(jnp.int32)
  return logits[:, columns], best
