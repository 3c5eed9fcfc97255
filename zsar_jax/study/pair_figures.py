"""The figures of verbs and objects in study.json, with intervals over clips and seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

from zsar_jax.evaluation.pair_metrics import all_pair_metrics, worlds
from zsar_jax.evaluation.predictions import Predictions
from zsar_jax.evaluation.ratio import Combination, Ratio, stack_seeds
from zsar_jax.study import statistics


def measure_pairs(by_run: Mapping[str, Sequence[Predictions]], draws: int) -> dict[str, Any]:
  """Estimates the figures of `pair_metrics`.

  Args:
    by_run: the predictions of each run, one for each seed; all with pairs.
    draws: the number of bootstrap draws.

  Returns:
    {world: {run: {recipe: {figure: estimate}}}}, of the worlds that were scored for every run.
  """
  scored = [worlds(seed) for seeds in by_run.values() for seed in seeds]
  common = [world for world in scored[0] if all(world in of_seed for of_seed in scored)]
  return {
    world: {
      run: {
        recipe: _estimates([all_pair_metrics(seed, recipe, world) for seed in seeds], draws)
        for recipe in seeds[0].recipes
      }
      for run, seeds in by_run.items()
    }
    for world in common
  }


def _estimates(
  by_seed: Sequence[Mapping[str, Ratio | Combination]], draws: int
) -> dict[str, dict[str, Any]]:
  return {
    name: statistics.estimate(_stack([figures[name] for figures in by_seed]), draws).to_json()
    for name in by_seed[0]
  }


def _stack(figures: Sequence[Any]) -> Ratio | Combination:
  """Combines the same figure of several seeds."""
  first = figures[0]
  if isinstance(first, Combination):
    by_ratio = zip(*(figure.ratios for figure in figures), strict=True)
    return Combination(first.function, tuple(map(stack_seeds, by_ratio)))
  return stack_seeds(figures)
