"""Decisions of findings, from predictions with known accuracies."""

import json
import math

import numpy as np
import pytest

from tests.study.dataset_figures_test import is_correct, study_predictions, with_masks
from zsar_jax.study import findings, statistics
from zsar_jax.study.plan import finding


def decide(better, worse, threshold):
  experiments = {'e': {'d': {'none': better, 'other': worse}}}
  entry = finding(
    'name',
    'A statement.',
    better=('e', 'none', 'd', 'none'),
    worse=('e', 'other', 'd', 'none'),
    threshold=threshold,
  )
  return findings.decide(entry, experiments, draws=200)


@pytest.mark.parametrize(
  ('shares', 'threshold', 'verdict', 'words'),
  [
    ((0.9, 0.2), 0.3, 'holds', 'The whole interval is at or above'),
    ((1.0, 0.0), 1.0, 'holds', 'The whole interval is at or above'),
    ((0.6, 0.5), 0.1, 'holds on average', 'the interval begins below it'),
    ((0.9, 0.2), 0.9, 'does not hold', 'smaller than the threshold'),
    ((0.5, 0.5), 0.1, 'does not hold', 'includes 0'),
    ((0.1, 0.9), 0.1, 'does not hold', 'below 0: this is a loss'),
    ((0.0, 0.0), 0.0, 'does not hold', 'includes 0'),
  ],
)
def test_findings(shares, threshold, verdict, words):
  better, worse = ([study_predictions(share, seed) for seed in (0, 1)] for share in shares)
  decision = decide(better, worse, threshold)
  assert decision['verdict'] == verdict
  assert words in decision['explanation']
  assert decision['estimate']['value'] == pytest.approx(shares[0] - shares[1])
  assert decision['better']['value'] == pytest.approx(shares[0])


def test_findings_use_the_clips_that_count_on_both_sides():
  masks = np.arange(40) % 5 > 0
  p = with_masks(study_predictions(0.5, 0), masks)
  experiments = {'e': {'d': {'none': [p]}}}
  sides = [('e', 'none', 'd', recipe) for recipe in ('none', 'background=normal')]
  entry = finding('name', 'A statement.', better=sides[0], worse=sides[1], threshold=0.1)
  decision = findings.decide(entry, experiments, draws=200)
  share = is_correct(p)[masks].mean()
  assert share != 0.5
  assert decision['estimate']['value'] == pytest.approx(share)
  assert decision['estimate']['count'] == 32
  # The values of the two sides are over the same clips.
  assert (decision['better']['value'], decision['worse']['value']) == (pytest.approx(share), 0)

  nothing = {'e': {'d': {'none': [with_masks(p, masks & False)]}}}
  decision = findings.decide(entry, nothing, draws=200)
  assert decision['verdict'] == 'does not hold'
  assert 'No clip counts on both sides' in decision['explanation']
  json.dumps(decision, allow_nan=False)


@pytest.mark.parametrize(
  ('value', 'low', 'threshold', 'verdict'),
  [
    (0.3, 0.2, 0.2, 'holds'),
    (0.3, 0.3 - 0.1 - 1e-16, 0.2, 'holds'),  # 0.2 up to rounding.
    (0.3, 0.1999, 0.2, 'holds on average'),
    (0.2, -0.1, 0.2, 'holds on average'),
    (0.1999, 0.15, 0.2, 'does not hold'),
    (0.1999, 0.2, 0.2, 'does not hold'),  # The interval of a skewed bootstrap lies above.
    (-0.1, -0.2, 0.2, 'does not hold'),
    (0.01, 0.0, 0.0, 'holds'),
    (0.01, -0.01, 0.0, 'holds on average'),
    (0.0, 0.0, 0.0, 'does not hold'),
    (math.nan, math.nan, 0.0, 'does not hold'),
  ],
)
def test_a_gain_holds_only_if_its_whole_interval_reaches_the_threshold(
  value, low, threshold, verdict
):
  gain = statistics.Estimate(value, low, value + 0.1, (value,), 100)
  assert statistics.verdict(gain, threshold) == verdict
