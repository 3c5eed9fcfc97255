"""All figures of a data set in study.json, from the predictions of every run and seed."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from zsar_jax.evaluation import bias_metrics, metrics, multiple_choice
from zsar_jax.evaluation.chirality import two_way_accuracy_by_group
from zsar_jax.evaluation.predictions import Predictions
from zsar_jax.evaluation.ratio import Ratio, restrict_to_common, stack_seeds
from zsar_jax.study import statistics
from zsar_jax.study.pair_figures import measure_pairs
from zsar_jax.study.statistics import finite_or_none

# {run: its predictions on a data set, one for each seed}
ByRun = dict[str, list[Predictions]]

# Figures of one run and seed, by name.
_Figures = Callable[[Predictions], dict[Any, Ratio]]


def measure_dataset(by_run: ByRun, baseline: str, draws: int) -> dict[str, Any]:
  """Computes the figures of a data set, with intervals over clips and seeds.

  Args:
    by_run: the predictions of each run.
    baseline: the run that the others are compared with.
    draws: the number of bootstrap draws.

  Returns:
    A JSON object.
  """
  reference = by_run[baseline][0]
  runs = _Runs(by_run, baseline, draws)
  figures: dict[str, Any] = {
    'about': f'{len(reference.ids)} clips of {len(reference.classes)} classes',
    'count': len(reference.ids),
    'classes': len(reference.classes),
    'matrix': {run: _accuracies(runs, run) for run in by_run},
    'difference': {run: _gains(runs, run) for run in runs.others},
    'bias': {run: runs.estimates(run, bias_metrics.all_bias_metrics) for run in by_run},
  }
  if reference.pairs:
    figures['pairs'] = measure_pairs(by_run, draws)
  if 'none' in reference.recipes:
    if not reference.pairs:  # Of thousands of pairs, each has few clips.
      figures['classes_gain'] = {run: _class_gains(runs, run) for run in runs.others}
    groups = {run: runs.estimates(run, two_way_accuracy_by_group) for run in by_run}
    if any(groups.values()):
      figures['chiral_groups'] = groups
    figures['strata'] = {run: _strata(runs, run) for run in by_run}
    figures['coverage'] = {run: _coverage_bins(runs, run, 'none') for run in by_run}
  if swap := bias_metrics.swap_recipe(reference):
    figures['coverage_swapped'] = {run: _coverage_bins(runs, run, swap) for run in by_run}
  saliency = {run: _saliency(runs, run) for run in by_run}
  figures['saliency'] = {run: shares for run, shares in saliency.items() if shares}
  return figures


@dataclasses.dataclass(frozen=True)
class _Runs:
  """The runs of an experiment on a data set."""

  by_run: ByRun
  baseline: str
  draws: int

  @property
  def others(self) -> list[str]:
    """All runs but the baseline."""
    return [run for run in self.by_run if run != self.baseline]

  @property
  def reference(self) -> Predictions:
    """Predictions of the baseline, for what is the same in all runs: clips, classes, recipes."""
    return self.by_run[self.baseline][0]

  def estimates(self, run: str, figures: _Figures) -> dict[Any, Any]:
    """Estimates the figures of a run."""
    ratios = self._stacked(run, figures)
    return {
      name: statistics.estimate(ratio, self.draws).to_json() for name, ratio in ratios.items()
    }

  def gains(self, run: str, figures: _Figures) -> dict[Any, Any]:
    """Estimates how far the figures of a run are above the baseline's, in pairs."""
    after, before = self._stacked(run, figures), self._stacked(self.baseline, figures)
    return {
      name: statistics.difference(ratio, before[name], self.draws).to_json()
      for name, ratio in after.items()
    }

  def _stacked(self, run: str, figures: _Figures) -> dict[Any, Ratio]:
    """Combines the figures of all seeds of a run.

    A seed may lack a figure, such as that of a stratum without clips, if the data set got more
    annotations between two evaluations. Its figure then counts no clip.
    """
    by_seed = [figures(predictions) for predictions in self.by_run[run]]
    any_seed = {name: ratio for of_seed in reversed(by_seed) for name, ratio in of_seed.items()}
    return {
      name: stack_seeds([of_seed.get(name, ratio.restrict(np.False_)) for of_seed in by_seed])
      for name, ratio in any_seed.items()
    }


def _top_1(predictions: Predictions) -> dict[Any, Ratio]:
  return {recipe: metrics.top_1(predictions, recipe) for recipe in predictions.recipes}


def _top_5(predictions: Predictions) -> dict[Any, Ratio]:
  return {recipe: metrics.top_k(predictions, recipe, 5) for recipe in predictions.recipes}


def _mean_class(predictions: Predictions) -> dict[Any, Ratio]:
  return {recipe: metrics.mean_class(predictions, recipe) for recipe in predictions.recipes}


def _multiple_choice(predictions: Predictions) -> dict[Any, Ratio]:
  return {
    recipe: multiple_choice.multiple_choice(predictions, recipe) for recipe in predictions.recipes
  }


def _accuracies(runs: _Runs, run: str) -> dict[str, Any]:
  """The accuracies of a run under each recipe."""
  figures = {'top1': _top_1, 'top5': _top_5, 'mean_class': _mean_class}
  if runs.reference.choices:
    figures['multiple_choice'] = _multiple_choice
  columns = {name: runs.estimates(run, figure) for name, figure in figures.items()}
  return {
    recipe: {name: column[recipe] for name, column in columns.items()}
    for recipe in runs.reference.recipes
  }


def _gains(runs: _Runs, run: str) -> dict[str, Any]:
  """The gains in top-1 over the baseline under each recipe."""
  return {
    recipe: gain | {'mcnemar': _mcnemar(runs, run, recipe)}
    for recipe, gain in runs.gains(run, _top_1).items()
  }


def _mcnemar(runs: _Runs, run: str, recipe: str) -> list[float]:
  """The p-value of each seed for "the run and the baseline are correct equally often"."""
  values = []
  for pair in zip(runs.by_run[run], runs.by_run[runs.baseline], strict=True):
    ratios = restrict_to_common(*(metrics.top_1(predictions, recipe) for predictions in pair))
    values.append(statistics.mcnemar(*(ratio.numerator > 0 for ratio in ratios)))
  return values


def _class_gains(runs: _Runs, run: str) -> list[dict[str, Any]]:
  """The gain of each class over the baseline, on unmasked clips."""
  of_run, of_baseline = (
    stack_seeds([metrics.top_1(predictions, 'none') for predictions in runs.by_run[name]])
    for name in (run, runs.baseline)
  )
  entries = []
  # One class after another, as the figures of a class have a summand for each clip of all classes.
  for label, name in enumerate(runs.reference.classes):
    inside = runs.reference.labels == label
    after, before = restrict_to_common(of_run.restrict(inside), of_baseline.restrict(inside))
    if not after.counted_clips.any():
      continue
    gain = statistics.difference(after, before, runs.draws).to_json()
    entries.append({
      'class': name,
      'count': gain['count'],
      'baseline': finite_or_none(before.value),
      'accuracy': finite_or_none(after.value),
      'gain': gain,
    })  # fmt: skip
  return entries


def _strata(runs: _Runs, run: str) -> dict[str, Any]:
  """Top-1 by the values of each attribute."""
  names = sorted({name for attributes in runs.reference.attributes for name in attributes})
  return {
    name: runs.estimates(run, functools.partial(metrics.top_1_by_attribute, name=name))
    for name in names
  }


def _coverage_bins(runs: _Runs, run: str, recipe: str) -> list[dict[str, Any]]:
  """Top-1 by the share of the frame that people cover."""
  actor = runs.reference.actor
  by_bin = runs.estimates(run, lambda p: metrics.top_1_by_coverage(p, actor, recipe))
  return [
    {'low': low, 'high': high, 'count': top1['count'], 'top1': top1}
    for (low, high), top1 in sorted(by_bin.items())
  ]


def _saliency(runs: _Runs, run: str) -> dict[str, Any]:
  """The shares of the gradient, with those of the pixels as 'area'; {} without saliency."""
  gradient = runs.estimates(run, lambda p: metrics.saliency(p)[0])
  area = runs.estimates(run, lambda p: metrics.saliency(p)[1])
  if not gradient or not area:
    return {}
  return gradient | {'area': {part: estimate['value'] for part, estimate in area.items()}}
