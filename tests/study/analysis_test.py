"""What a study concludes, on predictions that are made by hand."""

import dataclasses
import json

import numpy as np
import pytest

from tests.evaluation.examples import predictions
from zsar_jax.study import findings
from zsar_jax.study.dataset_figures import measure_dataset
from zsar_jax.study.plan import finding
from zsar_jax.study.statistics import mcnemar

LABELS = np.arange(40) % 2


def answers(share, seed, flags=None):
  """Predictions that are right on a share of the clips under 'none', and on none when painted."""
  right = np.arange(40) < 40 * share
  named = np.where(np.random.default_rng(seed).permutation(right), LABELS, 1 - LABELS)
  attributes = tuple({'mime': flag} for flag in flags) if flags else ({},) * 40
  logits = {'none': np.eye(2)[named], 'background=normal': np.eye(2)[1 - LABELS]}
  return predictions(LABELS, logits, attributes=attributes)


def conclude(better, worse, threshold):
  found = {'e': {'d': {'none': better, 'other': worse}}}
  asked = finding(
    'name',
    'It is so.',
    better=('e', 'none', 'd', 'none'),
    worse=('e', 'other', 'd', 'none'),
    threshold=threshold,
  )
  return findings.decide(asked, found, draws=200)


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
  better, worse = ([answers(share, seed) for seed in (0, 1)] for share in shares)
  found = conclude(better, worse, threshold)
  assert found['verdict'] == verdict
  assert words in found['explanation']
  assert found['estimate']['value'] == pytest.approx(shares[0] - shares[1])
  assert found['better']['value'] == pytest.approx(shares[0])


def _with_masks(p, clips):
  """The same predictions where only some clips have masks; the others have no painted logits."""
  coverage = np.where(clips[:, None], np.float32(0.2), np.float32(np.nan))
  logits = p.logits | {
    'background=normal': np.where(clips[:, None], p.logits['background=normal'], np.nan)
  }
  return dataclasses.replace(p, coverage=coverage, logits=logits)


def test_a_finding_is_of_the_clips_that_have_masks():
  masks = np.arange(40) % 5 > 0
  p = _with_masks(answers(0.5, 0), masks)
  found = {'e': {'d': {'none': [p]}}}
  sides = [('e', 'none', 'd', recipe) for recipe in ('none', 'background=normal')]
  asked = finding('name', 'It is so.', better=sides[0], worse=sides[1], threshold=0.1)
  concluded = findings.decide(asked, found, draws=200)
  right = _right(p)[masks].mean()
  assert right != 0.5
  assert concluded['estimate']['value'] == pytest.approx(right)
  assert concluded['estimate']['count'] == 32
  # What is shown of the two sides is what the difference is of.
  assert (concluded['better']['value'], concluded['worse']['value']) == (pytest.approx(right), 0)

  nothing = {'e': {'d': {'none': [_with_masks(p, masks & False)]}}}
  concluded = findings.decide(asked, nothing, draws=200)
  assert concluded['verdict'] == 'does not hold'
  assert 'No clip counts on both sides' in concluded['explanation']
  json.dumps(concluded, allow_nan=False)


def test_differences_of_runs_whose_masks_are_not_the_same():
  first, second = np.arange(40) % 5 > 0, np.arange(40) % 4 > 0
  by_run = {
    'plain': [_with_masks(answers(0.25, 0), first)],
    'better': [_with_masks(answers(0.75, 2), second)],
  }
  content = measure_dataset(by_run, 'plain', draws=100)
  gain = content['difference']['better']['background=normal']
  assert gain['count'] == 24
  assert gain['mcnemar'] == [1.0]  # No clip is right when painted.
  counts = {run: content['matrix'][run]['background=normal']['top1']['count'] for run in by_run}
  assert counts == {'plain': 32, 'better': 30}


@pytest.mark.parametrize('lacking', [0, 1])
def test_a_seed_without_masks_beside_one_with_masks(lacking):
  seeds = [answers(0.5, seed) for seed in (0, 1)]
  seeds[lacking] = _with_masks(seeds[lacking], LABELS < 0)
  shares = np.full((40, 3), np.float32(0.25))
  shares[:, 2] = 0.5
  other = 1 - lacking
  seeds[other] = dataclasses.replace(seeds[other], saliency=shares, saliency_area=shares)
  content = measure_dataset({'plain': seeds}, 'plain', draws=100)
  (bin,) = content['coverage']['plain']
  assert (bin['low'], bin['high'], bin['count']) == (0.2, 0.3, 40)
  per_seed = [None, pytest.approx(0.5)]
  assert bin['top1']['per_seed'] == (per_seed if lacking == 0 else per_seed[::-1])
  assert bin['top1']['value'] is None
  assert content['saliency']['plain']['background']['per_seed'].count(0.5) == 1
  json.dumps(content, allow_nan=False)


def test_a_data_set():
  flags = ['yes' if n < 10 else 'no' for n in range(40)]
  by_run = {
    'plain': [answers(0.25, seed, flags) for seed in (0, 1)],
    'better': [answers(0.75, seed, flags) for seed in (2, 3)],
  }
  told = measure_dataset(by_run, 'plain', draws=100)
  assert told['matrix']['better']['none']['top1']['value'] == pytest.approx(0.75)
  assert told['matrix']['better']['none']['mean_class']['per_seed'] == pytest.approx(
    [np.mean([_right(p)[label == p.labels].mean() for label in (0, 1)]) for p in by_run['better']]
  )
  gain = told['difference']['better']['none']
  assert gain['value'] == pytest.approx(0.5)
  assert gain['mcnemar'] == [
    mcnemar(_right(p), _right(other))
    for p, other in zip(by_run['better'], by_run['plain'], strict=True)
  ]
  classes = {one['class']: one for one in told['classes_gain']['better']}
  first = [[_right(p)[LABELS == 0].mean() for p in by_run[run]] for run in ('plain', 'better')]
  assert classes['class 0']['baseline'] == pytest.approx(np.mean(first[0]))
  assert classes['class 0']['gain']['value'] == pytest.approx(np.mean(first[1]) - np.mean(first[0]))
  mimed = [_right(p)[:10].mean() for p in by_run['better']]
  assert told['strata']['better']['mime']['yes']['per_seed'] == pytest.approx(mimed)
  (bin,) = told['coverage']['plain']
  assert (bin['low'], bin['high'], bin['count']) == (0.2, 0.3, 40)


def _right(p):
  return p.logits['none'].argmax(1) == p.labels
