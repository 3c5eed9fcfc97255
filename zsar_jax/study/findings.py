"""Decides the findings of a study: does a difference in top-1 reach its threshold?"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from zsar_jax.evaluation import metrics, predictions
from zsar_jax.evaluation.ratio import restrict_to_common, stack_seeds
from zsar_jax.recipes import language
from zsar_jax.study import statistics
from zsar_jax.study.dataset_figures import ByRun
from zsar_jax.study.statistics import finite_or_none


def decide(
  finding: ConfigDict, experiments: Mapping[str, Mapping[str, ByRun]], draws: int
) -> dict[str, Any]:
  """Computes the difference of a finding over the clips that count on both sides.

  Args:
    finding: the finding, from `plan.finding`.
    experiments: {experiment: {data set: {run: predictions}}}.
    draws: the number of bootstrap draws.

  Returns:
    A JSON object.

  Raises:
    UserError: the two sides were evaluated on different clips.
  """
  sides, first_seeds = [], []
  for experiment, run, dataset, recipe in (finding.better, finding.worse):
    # Predictions name a recipe in its canonical form.
    recipe = str(language.parse(recipe))
    by_seed = experiments[experiment][dataset][run]
    first_seeds.append(by_seed[0])
    sides.append(stack_seeds([metrics.top_1(seed, recipe) for seed in by_seed]))
  predictions.check_same_clips(*first_seeds)
  better, worse = restrict_to_common(*sides)
  gain = statistics.difference(better, worse, draws)
  verdict = statistics.verdict(gain, finding.threshold)
  return {
    'name': finding.name,
    'statement': finding.statement,
    'verdict': verdict,
    'threshold': finding.threshold,
    'estimate': gain.to_json(),
    'per_seed': gain.to_json()['per_seed'],
    'better': {'value': finite_or_none(better.value), 'place': list(finding.better)},
    'worse': {'value': finite_or_none(worse.value), 'place': list(finding.worse)},
    'explanation': _explain(gain, finding.threshold, verdict),
  }


def _explain(gain: statistics.Estimate, threshold: float, verdict: str) -> str:
  """Returns the reason for the verdict on a finding."""
  if not math.isfinite(gain.value):
    return 'No clip counts on both sides, so there is no difference to judge.'
  below = sum(seed < threshold for seed in np.round(gain.per_seed, 12))
  of_seeds = (
    f' In {below} of {len(gain.per_seed)} seeds the gain is below the threshold.' if below else ''
  )
  if verdict == statistics.HOLDS:
    return f'The whole interval is at or above the threshold.{of_seeds}'
  if verdict == statistics.HOLDS_ON_AVERAGE:
    return (
      'The estimate reaches the threshold, but the interval begins below it: with other clips or'
      f' seeds the gain may be smaller.{of_seeds}'
    )
  if gain.low > 0:
    return 'There is a gain, but it is smaller than the threshold.'
  if gain.high < 0:
    return 'The whole interval is below 0: this is a loss.'
  return 'The interval includes 0: these clips and seeds show no clear gain.'
