"""Rankings against a hand-made table."""

import numpy as np
import pytest

from tests.evaluation.examples import predictions
from zsar_jax.study import ranking
from zsar_jax.study.dataset_figures import measure_dataset

LABELS = [0, 1] * 40


def model(right: int, on_swapped: int = 0, background: int = 0):
  """A model that is right on the first clips, and in front of other clips' backgrounds.

  Args:
    right: how many unpainted clips it is right on.
    on_swapped: how many clips it is right on in front of another clip's background.
    background: on how many of the others it names the background's class; else a third class.
  """

  def scores(answers):
    return np.eye(3)[answers]

  labels = np.array(LABELS)
  unpainted = np.where(np.arange(80) < right, labels, 2)
  swapped = np.where(np.arange(80) < on_swapped, labels, 2)
  swapped[80 - background :] = 1 - labels[80 - background :]
  logits = {'none': scores(unpainted), 'background=swap': scores(swapped)}
  return predictions(LABELS, logits, partner_labels=[1 - label for label in LABELS])


def rank(by_run, draws):
  measured = measure_dataset(by_run, next(iter(by_run)), draws)
  return ranking.rank(by_run, measured, draws)


@pytest.fixture(scope='module')
def rankings():
  by_run = {
    'scene': [model(right=70, on_swapped=10, background=60)],
    'action': [model(right=64, on_swapped=60, background=4)],
    'nearly': [model(right=62, on_swapped=59, background=5)],
  }
  return {entry['figure']: entry for entry in rank(by_run, draws=200)}


def order(entry):
  return [item['run'] for item in entry['runs']]


def test_the_better_direction_decides(rankings):
  assert order(rankings['top1, none']) == ['scene', 'action', 'nearly']
  assert order(rankings['SHAcc']) == ['action', 'nearly', 'scene']
  assert order(rankings['SBErr']) == ['action', 'nearly', 'scene']
  assert order(rankings['SHAcc-SBErr']) == ['action', 'nearly', 'scene']
  assert rankings['SBErr']['better'] == 'lower'


def test_how_far_the_others_are_behind(rankings):
  best, second, last = rankings['SHAcc-SBErr']['runs']
  assert best['behind'] is None
  assert best['estimate']['value'] == pytest.approx((60 - 4) / 80)
  assert second['behind']['value'] == pytest.approx(2 / 80)
  assert last['behind']['value'] == pytest.approx((56 + 50) / 80)
  # Errors count in the same direction: how much worse a model is than the best.
  assert rankings['SBErr']['runs'][-1]['behind']['value'] == pytest.approx(56 / 80)


def test_models_are_tied_if_the_interval_includes_0(rankings):
  tied = [ranking.is_tied(entry) for entry in rankings['SHAcc-SBErr']['runs']]
  assert tied == [True, True, False]
  # Six clips of the first are right only there: a small but sure difference.
  assert [ranking.is_tied(entry) for entry in rankings['top1, none']['runs']] == [
    True,
    False,
    False,
  ]


def test_a_figure_without_a_value_ranks_nobody():
  nobody = predictions([0], {'none': [[1, 0, 0]], 'background=swap': [[1, 0, 0]]})  # No partner.
  figures = [entry['figure'] for entry in rank({'a': [nobody], 'b': [nobody]}, draws=10)]
  assert figures == ['top1, none']
