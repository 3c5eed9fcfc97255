"""Measures of static bias against tables worked out by hand and slow loops."""

import numpy as np
import pytest

from tests.evaluation.examples import (
  LABELS,
  PARTNER_LABELS,
  TABLE,
  by_hand,
  mean,
  order,
  predictions,
  random_predictions,
)
from zsar_jax.evaluation import bias_metrics, metrics


def static_metrics(p):
  """The metrics but those of `order_metrics`, whose names have a recipe in brackets."""
  figures = bias_metrics.all_bias_metrics(p)
  return {name: figure for name, figure in figures.items() if '[' not in name}


def test_figures_by_hand():
  figures = static_metrics(by_hand())
  assert {name: figure.value for name, figure in figures.items()} == {
    'BOR': pytest.approx(2 / 3),  # 2 correct, and 3 unmasked
    'HOR': pytest.approx(3 / 3),
    'HOR-BOR': pytest.approx((3 - 2) / 3),
    'SHAcc': pytest.approx(3 / 5),  # of the clips with partners: clips 1, 2 and 5
    # The fourth clip has a partner; its logits 7 6 5 predict class 0 and its label is 1: wrong.
    'SBErr': pytest.approx(1 / 3),  # of clips 0, 1 and 5
    'SHAcc-SBErr': pytest.approx((2 - 1) / 3),  # of the same; clips 1 and 5 are correct
    'background_wins': pytest.approx(1 / 3),
    'rank_gap': pytest.approx((2 - 1 - 1) / 3),
    'score_gap': pytest.approx((-2 + 1 + 6) / 3),
    'SCUBA': pytest.approx(4 / 6),
    'SCUFO': pytest.approx(3 / 6),
    'contrasted': pytest.approx(2 / 6),  # clips 1 and 3
    'recolour': pytest.approx(3 / 6),  # clips 0, 2 and 3
  }
  counts = {name: int(figure.counted_clips.sum()) for name, figure in figures.items()}
  assert counts == dict.fromkeys(figures, 6) | {
    'SHAcc': 5,
    'SBErr': 3,
    'SHAcc-SBErr': 3,
    'background_wins': 3,
    'rank_gap': 3,
    'score_gap': 3,
  }
  assert {name: figure.chance_level for name, figure in figures.items()} == {
    # Guessing on 6 clips of 3 classes gives 2 correct clips instead of 3.
    **dict.fromkeys(('BOR', 'HOR'), pytest.approx(2 / 3)),
    **dict.fromkeys(('SHAcc', 'SBErr', 'SCUBA', 'SCUFO', 'recolour'), pytest.approx(1 / 3)),
    'background_wins': 0.5,
    'contrasted': pytest.approx(1 / 3 * 2 / 3),
    **dict.fromkeys(('HOR-BOR', 'SHAcc-SBErr', 'rank_gap', 'score_gap')),
  }
  assert metrics.top_k(by_hand(), 'none', 2).chance_level == pytest.approx(2 / 3)
  assert metrics.mean_class(by_hand(), 'none').chance_level == pytest.approx(1 / 3)


def test_figures_need_their_recipes():
  def names(*recipes):
    p = predictions(LABELS, {recipe: TABLE['none'] for recipe in recipes}, PARTNER_LABELS)
    return set(static_metrics(p))

  assert names('none') == set()
  assert names('none', 'background=mean') == {'HOR'}
  assert names('background=mean') == set()
  assert names('none', 'person=mean') == {'BOR'}
  assert names('none', 'person=mean,object=mean') == {'BOR'}
  assert names('none', 'person=inpaint') == {'BOR'}
  assert names('background=stripes') == {'SCUBA'}
  assert names('background=stripes,freeze') == {'SCUFO'}
  assert names('background=normal', 'background=uniform/other') == set()
  assert names('none', 'person=mean', 'background=mean') == {'BOR', 'HOR', 'HOR-BOR'}
  swapped = {'SHAcc', 'SBErr', 'SHAcc-SBErr', 'background_wins', 'rank_gap', 'score_gap'}
  assert names('background=swap') == swapped


def test_background_only_clips_have_no_objects():
  logits = {'none': TABLE['none'], 'person=mean': TABLE['none']}
  p = predictions(LABELS, logits | {'person=mean,object=mean': TABLE['object=mean,person=mean']})
  assert static_metrics(p)['BOR'].value == pytest.approx(2 / 3)


def test_human_only_clips_have_no_objects():
  logits = {'none': TABLE['none'], 'background=mean': TABLE['none']}
  logits |= {'background=mean,object=mean': TABLE['object=mean,person=mean']}
  assert static_metrics(predictions(LABELS, logits))['HOR'].value == pytest.approx(2 / 3)


def test_clips_without_masks_do_not_count_under_painting():
  coverage = np.array([[np.nan], [0], [0.3], [np.nan], [0.3], [np.nan]], np.float32)
  p = predictions(LABELS, TABLE, PARTNER_LABELS, coverage=coverage)
  counts = {name: figure.counted_clips.sum() for name, figure in static_metrics(p).items()}
  assert (counts['HOR'], counts['SCUBA'], counts['SHAcc']) == (3, 3, 2)
  assert metrics.top_1(p, 'none').counted_clips.sum() == 6
  assert metrics.top_1(p, 'background=mean').value == pytest.approx(2 / 3)


def test_figures_without_a_clip_that_counts_are_nan():
  wrong = [[0, 1]] * 3
  logits = {'none': wrong, 'background=mean': wrong, 'background=swap': [[np.nan] * 2] * 3}
  figures = static_metrics(predictions([0, 0, 0], logits))
  assert all(np.isnan(figure.value) for figure in figures.values())
  assert set(figures) == {
    'HOR', 'SHAcc', 'SBErr', 'SHAcc-SBErr', 'background_wins', 'rank_gap', 'score_gap',
  }  # fmt: skip


def test_gaps_leave_out_clips_without_ranks():
  scores = [[np.nan, 0, 0], [np.inf, 0, 0], [3, 1, 0]]
  figures = static_metrics(predictions([0, 0, 0], {'background=swap': scores}, [1, 1, 1]))
  assert figures['rank_gap'].value == -1
  assert figures['score_gap'].value == 2
  # For the other figures these clips are wrong, and their background does not win.
  assert figures['SHAcc'].value == pytest.approx(1 / 3)
  assert figures['SBErr'].value == 0
  assert figures['background_wins'].value == 0
  assert figures['SBErr'].counted_clips.sum() == 3


@pytest.mark.parametrize('seed', range(4))
def test_figures_against_loops(seed):
  p = random_predictions(seed)
  values = {name: figure.value for name, figure in static_metrics(p).items()}
  # Clips without masks do not count under a recipe that paints.
  clips = [n for n in range(len(p.ids)) if not np.isnan(p.coverage[n, 0])]
  assert len(clips) < len(p.ids)

  def predicted(recipe, n):
    classes = order(p, recipe, n)
    return None if classes is None else classes[0]

  def correct(recipe):
    return [predicted(recipe, n) == p.labels[n] for n in clips]

  swap = 'background=swap'
  paired = [n for n in clips if p.partners[n]]
  rivals = [n for n in paired if p.partner_labels[n] not in (-1, p.labels[n])]
  assert len(paired) > len(rivals) > 0
  ranked = [n for n in rivals if order(p, swap, n) is not None]
  rank = {n: order(p, swap, n).index for n in ranked}
  gaps = [rank[n](p.labels[n]) - rank[n](p.partner_labels[n]) for n in ranked]
  scores = p.logits[swap]
  scuba, scufo = correct('background=stripes'), correct('background=stripes,freeze')
  colors = [
    [predicted(text, n) for text in ('background=normal', 'background=normal/other')] for n in clips
  ]
  assert values == {
    'BOR': pytest.approx(sum(correct('object=mean,person=mean')) / sum(correct('none'))),
    # Numerator and denominator are over the clips with masks.
    'HOR': pytest.approx(sum(correct('background=mean')) / sum(correct('none'))),
    'HOR-BOR': pytest.approx(
      (sum(correct('background=mean')) - sum(correct('object=mean,person=mean')))
      / sum(correct('none'))
    ),
    'SHAcc': mean([predicted(swap, n) == p.labels[n] for n in paired]),
    'SBErr': mean([predicted(swap, n) == p.partner_labels[n] for n in rivals]),
    'SHAcc-SBErr': mean(
      [
        float(predicted(swap, n) == p.labels[n]) - float(predicted(swap, n) == p.partner_labels[n])
        for n in rivals
      ]
    ),
    'background_wins': pytest.approx(sum(gap > 0 for gap in gaps) / len(rivals)),
    'rank_gap': mean(gaps),
    'score_gap': mean([scores[n, p.labels[n]] - scores[n, p.partner_labels[n]] for n in ranked]),
    'SCUBA': mean(scuba),
    'SCUFO': mean(scufo),
    'contrasted': mean([a and not b for a, b in zip(scuba, scufo, strict=True)]),
    'recolour': mean([a == b and a is not None for a, b in colors]),
  }
