"""All figures of a data set, from predictions with known accuracies."""

import dataclasses
import json

import numpy as np
import pytest

from tests.evaluation.examples import predictions
from zsar_jax.study.dataset_figures import measure_dataset
from zsar_jax.study.statistics import mcnemar

LABELS = np.arange(40) % 2


def study_predictions(share, seed, flags=None):
  """Predictions of 40 clips: a share is correct under 'none', and no clip under painting."""
  correct = np.arange(40) < 40 * share
  predicted = np.where(np.random.default_rng(seed).permutation(correct), LABELS, 1 - LABELS)
  attributes = tuple({'mime': flag} for flag in flags) if flags else ({},) * 40
  logits = {'none': np.eye(2)[predicted], 'background=normal': np.eye(2)[1 - LABELS]}
  return predictions(LABELS, logits, attributes=attributes)


def with_masks(p, clips):
  """The same predictions of clips of which only some have masks."""
  coverage = np.where(clips[:, None], np.float32(0.2), np.float32(np.nan))
  logits = p.logits | {
    'background=normal': np.where(clips[:, None], p.logits['background=normal'], np.nan)
  }
  return dataclasses.replace(p, coverage=coverage, logits=logits)


def is_correct(p):
  """bool[N]: the clips that are correct under 'none'."""
  return p.logits['none'].argmax(1) == p.labels


def test_figures_of_a_data_set():
  flags = ['yes' if n < 10 else 'no' for n in range(40)]
  by_run = {
    'plain': [study_predictions(0.25, seed, flags) for seed in (0, 1)],
    'better': [study_predictions(0.75, seed, flags) for seed in (2, 3)],
  }
  figures = measure_dataset(by_run, 'plain', draws=100)
  assert figures['matrix']['better']['none']['top1']['value'] == pytest.approx(0.75)
  assert figures['matrix']['better']['none']['mean_class']['per_seed'] == pytest.approx(
    [
      np.mean([is_correct(p)[label == p.labels].mean() for label in (0, 1)])
      for p in by_run['better']
    ]
  )
  gain = figures['difference']['better']['none']
  assert gain['value'] == pytest.approx(0.5)
  assert gain['mcnemar'] == [
    mcnemar(is_correct(p), is_correct(other))
    for p, other in zip(by_run['better'], by_run['plain'], strict=True)
  ]
  classes = {entry['class']: entry for entry in figures['classes_gain']['better']}
  first = [[is_correct(p)[LABELS == 0].mean() for p in by_run[run]] for run in ('plain', 'better')]
  assert classes['class 0']['baseline'] == pytest.approx(np.mean(first[0]))
  assert classes['class 0']['gain']['value'] == pytest.approx(np.mean(first[1]) - np.mean(first[0]))
  mimed = [is_correct(p)[:10].mean() for p in by_run['better']]
  assert figures['strata']['better']['mime']['yes']['per_seed'] == pytest.approx(mimed)
  (coverage_bin,) = figures['coverage']['plain']
  assert (coverage_bin['low'], coverage_bin['high'], coverage_bin['count']) == (0.2, 0.3, 40)


def test_differences_of_runs_with_different_masks():
  first, second = np.arange(40) % 5 > 0, np.arange(40) % 4 > 0
  by_run = {
    'plain': [with_masks(study_predictions(0.25, 0), first)],
    'better': [with_masks(study_predictions(0.75, 2), second)],
  }
  figures = measure_dataset(by_run, 'plain', draws=100)
  gain = figures['difference']['better']['background=normal']
  assert gain['count'] == 24
  assert gain['mcnemar'] == [1.0]  # No clip is correct under painting.
  counts = {run: figures['matrix'][run]['background=normal']['top1']['count'] for run in by_run}
  assert counts == {'plain': 32, 'better': 30}


@pytest.mark.parametrize('lacking', [0, 1])
def test_a_seed_without_masks_beside_one_with_masks(lacking):
  seeds = [study_predictions(0.5, seed) for seed in (0, 1)]
  seeds[lacking] = with_masks(seeds[lacking], LABELS < 0)
  shares = np.full((40, 3), np.float32(0.25))
  shares[:, 2] = 0.5
  annotated = 1 - lacking
  seeds[annotated] = dataclasses.replace(seeds[annotated], saliency=shares, saliency_area=shares)
  figures = measure_dataset({'plain': seeds}, 'plain', draws=100)
  (coverage_bin,) = figures['coverage']['plain']
  assert (coverage_bin['low'], coverage_bin['high'], coverage_bin['count']) == (0.2, 0.3, 40)
  per_seed = [None, pytest.approx(0.5)]
  assert coverage_bin['top1']['per_seed'] == (per_seed if lacking == 0 else per_seed[::-1])
  assert coverage_bin['top1']['value'] is None
  assert figures['saliency']['plain']['background']['per_seed'].count(0.5) == 1
  json.dumps(figures, allow_nan=False)
