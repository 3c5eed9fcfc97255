"""Ranks the models of a study: for each figure the best first, and how far the others are behind.

A model is tied with the best if the interval of their paired difference includes 0.
"""

from collections.abc import Mapping
from typing import Any

from zsar_jax.evaluation import bias_metrics, metrics
from zsar_jax.evaluation.predictions import Predictions
from zsar_jax.evaluation.ratio import Ratio, stack_seeds
from zsar_jax.study import statistics
from zsar_jax.study.report import metric_labels

# {run: its predictions on a data set, one for each seed}
_ByRun = Mapping[str, list[Predictions]]

# The name of top-1 under a recipe in a ranking.
TOP_1 = 'top1, {}'


def rank(by_run: _ByRun, measured: Mapping[str, Any], draws: int) -> list[dict[str, Any]]:
  """Ranks runs by top-1 under each recipe and by each bias metric that has a better direction.

  Args:
    by_run: the predictions of each run.
    measured: the figures of the data set, from `dataset_figures.measure_dataset`.
    draws: the number of bootstrap draws.

  Returns:
    For each figure, an object with its name, the 'better' direction, and 'runs': from the best to
    the worst, each with 'run', 'estimate', and 'behind', how much worse it is than the best as an
    estimate of the paired difference (None for the best). Runs without a defined figure are left
    out.
  """
  first = next(iter(by_run.values()))[0]
  rankings = []
  for recipe in first.recipes:
    figures = {
      run: stack_seeds([metrics.top_1(predictions, recipe) for predictions in seeds])
      for run, seeds in by_run.items()
    }
    estimates = {run: measured['matrix'][run][recipe]['top1'] for run in by_run}
    rankings.append(_rank_figure(TOP_1.format(recipe), 'higher', figures, estimates, draws))
  by_metric: dict[str, dict[str, Ratio]] = {}
  for run, seeds in by_run.items():
    by_seed = [bias_metrics.all_bias_metrics(predictions) for predictions in seeds]
    for name in by_seed[0]:
      ratios = [of_seed[name] for of_seed in by_seed]
      by_metric.setdefault(name, {})[run] = stack_seeds(ratios)
  for name, figures in by_metric.items():
    label = metric_labels.find_label(name)
    if label and label.better:
      estimates = {run: measured['bias'][run][name] for run in figures}
      rankings.append(_rank_figure(name, label.better, figures, estimates, draws))
  return [ranking for ranking in rankings if ranking['runs']]


def _rank_figure(
  name: str,
  better: str,
  figures: Mapping[str, Ratio],
  estimates: Mapping[str, dict[str, Any]],
  draws: int,
) -> dict[str, Any]:
  """Ranks runs by a figure, of which `estimates` are JSON objects; see `rank`."""
  sign = 1 if better == 'higher' else -1
  defined = [run for run, estimate in estimates.items() if estimate['value'] is not None]
  order = sorted(defined, key=lambda run: -sign * estimates[run]['value'])
  runs = []
  for run in order:
    best, other = figures[order[0]], figures[run]
    sides = (best, other) if better == 'higher' else (other, best)
    behind = None if run == order[0] else statistics.difference(*sides, draws).to_json()
    runs.append({'run': run, 'estimate': estimates[run], 'behind': behind})
  return {'figure': name, 'better': better, 'runs': runs}


def is_tied(entry: dict[str, Any]) -> bool:
  """Whether a run of a ranking is the best, or not clearly worse than the best."""
  behind = entry['behind']
  return behind is None or behind['low'] is None or behind['low'] <= 0
