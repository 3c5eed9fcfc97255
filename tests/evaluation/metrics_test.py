"""Accuracy and the figures of static bias, against tables worked out by hand and slow loops."""

import numpy as np
import pytest

from zsar_jax.evaluation import metrics
from zsar_jax.evaluation.metrics import accuracy
from zsar_jax.evaluation.predictions import Predictions


@pytest.mark.parametrize('classes', [2, 5, 6, 40])
def test_against_sorting(classes):
  rng = np.random.default_rng(classes)
  # Few distinct values, so that there are ties.
  logits = rng.integers(0, 5, (300, classes)).astype(np.float32)
  labels = np.minimum(rng.integers(0, classes + 3, 300), classes - 1).astype(np.int32)
  labels[labels == 1] = 0  # A class without clips.
  top1, top5, by_class = [], [], {}
  for scores, label in zip(logits, labels, strict=True):
    order = sorted(range(classes), key=lambda c: (-scores[c], c))
    top1.append(order[0] == label)
    top5.append(label in order[:5])
    by_class.setdefault(label, []).append(order[0] == label)
  got = accuracy(logits, labels)
  assert got == {
    'top1': pytest.approx(np.mean(top1)),
    'top5': pytest.approx(np.mean(top5)),
    'mean_class': pytest.approx(np.mean([np.mean(right) for right in by_class.values()])),
    'count': 300,
  }
  assert got['top1'] == (logits.argmax(1) == labels).mean()


def test_logits_that_are_not_finite_are_wrong():
  logits = np.zeros((2, 3), np.float32)
  logits[0, 1] = np.nan
  assert accuracy(logits, np.zeros(2, np.int32))['top1'] == 0.5
  assert accuracy(logits, np.zeros(2, np.int32))['top5'] == 0.5


def predictions(labels, logits, partner_labels=None, **changes):
  """Predictions of clips whose partners, where they have any, are called 'p'."""
  count, classes = np.shape(next(iter(logits.values())))
  if partner_labels is None:
    partner_labels = [None] * count
  fields = {
    'dataset': 'made up',
    'recipes': tuple(logits),
    'classes': tuple(f'class {n}' for n in range(classes)),
    'ids': tuple(f'clip {n}' for n in range(count)),
    'labels': np.array(labels, np.int32),
    'logits': {recipe: np.array(scores, np.float32) for recipe, scores in logits.items()},
    'regions': ('person',),
    'coverage': np.full((count, 1), 0.2, np.float32),
    'attributes': tuple({} for _ in range(count)),
    'partners': tuple('' if label is None else 'p' for label in partner_labels),
    'partner_labels': np.array([-1 if n is None else n for n in partner_labels], np.int32),
    'saliency': np.full((count, 3), np.nan, np.float32),
    'saliency_area': np.full((count, 3), np.nan, np.float32),
  }
  return Predictions(**(fields | changes))


NAN = [np.nan] * 3

# Six clips, three classes. Behind each row: the predicted class, whether it is right.
LABELS = [0, 0, 0, 1, 1, 2]
TABLE = {
  'none': [
    [3, 1, 0],  # 0, right
    [2, 2, 1],  # 0 of a tie, right
    [0, 5, 4],  # 1, wrong, third
    [0, 1, 0],  # 1, right
    [1, 0, 2],  # 2, wrong, third
    NAN,  # wrong
  ],
  'background=mean': [
    [0, 1, 2],  # 2, wrong
    [4, 0, 0],  # 0, right
    [4, 0, 0],  # 0, right
    [1, 0, 0],  # 0, wrong
    [0, 0, 1],  # 2, wrong
    [0, 0, 1],  # 2, right
  ],
  'object=mean,person=mean': [
    [1, 0, 0],  # 0, right
    [0, 1, 0],  # 1, wrong
    [0, 1, 0],  # 1, wrong
    [0, 1, 0],  # 1, right
    [0, 0, 1],  # 2, wrong
    [1, 0, 0],  # 0, wrong
  ],
  'background=swap': [
    [1, 3, 2],  # 1; of 0 third, of 1 first, 2 less
    [5, 1, 4],  # 0; of 0 first, of 2 second, 1 more
    [9, 0, 1],  # Its background is of its own class.
    [7, 6, 5],  # Its background is of no class of the vocabulary.
    NAN,  # No partner.
    [2, 1, 8],  # 2; of 2 first, of 0 second, 6 more
  ],
  'background=stripes': [
    [1, 0, 0],  # 0, right
    [1, 0, 0],  # 0, right
    [0, 1, 0],  # 1, wrong
    [0, 1, 0],  # 1, right
    [0, 1, 0],  # 1, right
    [1, 0, 0],  # 0, wrong
  ],
  'background=stripes,freeze': [
    [1, 0, 0],  # 0, right
    [0, 1, 0],  # 1, wrong
    [1, 0, 0],  # 0, right
    NAN,  # wrong
    [0, 1, 0],  # 1, right
    [1, 0, 0],  # 0, wrong
  ],
  'background=normal': [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], NAN, [0, 0, 1]],
  'background=normal/other': [[2, 0, 0], [0, 0, 1], [0, 1, 2], [3, 0, 0], NAN, NAN],
}
PARTNER_LABELS = [1, 2, 0, -1, None, 0]


def by_hand():
  return predictions(LABELS, TABLE, PARTNER_LABELS)


def test_figures_by_hand():
  figures = metrics.bias_metrics(by_hand())
  assert {name: figure.value for name, figure in figures.items()} == {
    'BOR': pytest.approx(2 / 3),  # 2 right, where 3 are as they are
    'HOR': pytest.approx(3 / 3),
    'HOR-BOR': pytest.approx((3 - 2) / 3),
    'SHAcc': pytest.approx(3 / 5),  # of the clips with partners: clips 1, 2 and 5
    # The fourth clip has a partner, 7 6 5 names class 0 and its label is 1: wrong.
    'SBErr': pytest.approx(1 / 3),  # of clips 0, 1 and 5
    'SHAcc-SBErr': pytest.approx((2 - 1) / 3),  # of the same, of which clips 1 and 5 are right
    'background_wins': pytest.approx(1 / 3),
    'rank_gap': pytest.approx((2 - 1 - 1) / 3),
    'score_gap': pytest.approx((-2 + 1 + 6) / 3),
    'SCUBA': pytest.approx(4 / 6),
    'SCUFO': pytest.approx(3 / 6),
    'contrasted': pytest.approx(2 / 6),  # clips 1 and 3
    'recolour': pytest.approx(3 / 6),  # clips 0, 2 and 3
  }
  counts = {name: int(figure.clips.sum()) for name, figure in figures.items()}
  assert counts == dict.fromkeys(figures, 6) | {
    'SHAcc': 5,
    'SBErr': 3,
    'SHAcc-SBErr': 3,
    'background_wins': 3,
    'rank_gap': 3,
    'score_gap': 3,
  }
  assert {name: figure.chance_level for name, figure in figures.items()} == {
    # Guessing keeps 2 of the 3 right answers, out of 6 clips and 3 classes.
    **dict.fromkeys(('BOR', 'HOR'), pytest.approx(2 / 3)),
    **dict.fromkeys(('SHAcc', 'SBErr', 'SCUBA', 'SCUFO', 'recolour'), pytest.approx(1 / 3)),
    'background_wins': 0.5,
    'contrasted': pytest.approx(1 / 3 * 2 / 3),
    **dict.fromkeys(('HOR-BOR', 'SHAcc-SBErr', 'rank_gap', 'score_gap')),
  }
  assert metrics.top_k(by_hand(), 'none', 2).chance_level == pytest.approx(2 / 3)
  assert metrics.mean_class(by_hand(), 'none').chance_level == pytest.approx(1 / 3)


def test_accuracy_by_hand():
  p = by_hand()
  assert metrics.top_k(p, 'none', 1).value == pytest.approx(3 / 6)
  assert metrics.top_k(p, 'none', 2).value == pytest.approx(3 / 6)
  assert metrics.top_k(p, 'none', 3).value == pytest.approx(5 / 6)
  assert metrics.top_k(p, 'none', 5).value == pytest.approx(5 / 6)
  assert metrics.mean_class(p, 'none').value == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
  # Of the clips with partners, 3 are right over another background, and 3 over stripes.
  swapped = metrics.accuracy_ratio(p, 'background=swap', 'background=stripes')
  assert (swapped.value, swapped.clips.sum()) == (pytest.approx(3 / 3), 5)
  # Under swap the class 1 has one clip left.
  assert metrics.mean_class(p, 'background=swap').value == pytest.approx((2 / 3 + 0 + 1) / 3)
  classes = {name: part.value for name, part in metrics.by_class(p).items()}
  assert classes == {'class 0': pytest.approx(2 / 3), 'class 1': 0.5, 'class 2': 0.0}


def test_figures_need_their_recipes():
  def names(*recipes):
    p = predictions(LABELS, {recipe: TABLE['none'] for recipe in recipes}, PARTNER_LABELS)
    return set(metrics.bias_metrics(p))

  assert names('none') == set()
  assert names('none', 'background=mean') == {'HOR'}
  assert names('background=mean') == set()
  assert names('none', 'person=mean') == {'BOR'}
  assert names('none', 'person=mean,object=mean') == {'BOR'}
  assert names('background=stripes') == {'SCUBA'}
  assert names('background=stripes,freeze') == {'SCUFO'}
  assert names('background=normal', 'background=uniform/other') == set()
  assert names('none', 'person=mean', 'background=mean') == {'BOR', 'HOR', 'HOR-BOR'}
  swapped = {'SHAcc', 'SBErr', 'SHAcc-SBErr', 'background_wins', 'rank_gap', 'score_gap'}
  assert names('background=swap') == swapped


def test_objects_are_no_background():
  logits = {'none': TABLE['none'], 'person=mean': TABLE['none']}
  p = predictions(LABELS, logits | {'person=mean,object=mean': TABLE['object=mean,person=mean']})
  assert metrics.bias_metrics(p)['BOR'].value == pytest.approx(2 / 3)


def test_human_only_clips_have_no_objects_either():
  logits = {'none': TABLE['none'], 'background=mean': TABLE['none']}
  logits |= {'background=mean,object=mean': TABLE['object=mean,person=mean']}
  assert metrics.bias_metrics(predictions(LABELS, logits))['HOR'].value == pytest.approx(2 / 3)


def test_clips_that_nobody_annotated_are_not_painted():
  coverage = np.array([[np.nan], [0], [0.3], [np.nan], [0.3], [np.nan]], np.float32)
  p = predictions(LABELS, TABLE, PARTNER_LABELS, coverage=coverage)
  counts = {name: figure.clips.sum() for name, figure in metrics.bias_metrics(p).items()}
  assert (counts['HOR'], counts['SCUBA'], counts['SHAcc']) == (3, 3, 2)
  assert metrics.top_1(p, 'none').clips.sum() == 6
  assert metrics.top_1(p, 'background=mean').value == pytest.approx(2 / 3)


def test_nothing_to_divide_by():
  wrong = [[0, 1]] * 3
  logits = {'none': wrong, 'background=mean': wrong, 'background=swap': [[np.nan] * 2] * 3}
  figures = metrics.bias_metrics(predictions([0, 0, 0], logits))
  assert all(np.isnan(figure.value) for figure in figures.values())
  assert set(figures) == {
    'HOR', 'SHAcc', 'SBErr', 'SHAcc-SBErr', 'background_wins', 'rank_gap', 'score_gap',
  }  # fmt: skip


def test_gaps_leave_out_what_has_no_rank():
  scores = [[np.nan, 0, 0], [np.inf, 0, 0], [3, 1, 0]]
  figures = metrics.bias_metrics(predictions([0, 0, 0], {'background=swap': scores}, [1, 1, 1]))
  assert figures['rank_gap'].value == -1
  assert figures['score_gap'].value == 2
  # Elsewhere they are wrong, and their background does not win.
  assert figures['SHAcc'].value == pytest.approx(1 / 3)
  assert figures['SBErr'].value == 0
  assert figures['background_wins'].value == 0
  assert figures['SBErr'].clips.sum() == 3


def random_predictions(seed, count=120, classes=8):
  rng = np.random.default_rng(seed)
  logits = {recipe: rng.integers(0, 4, (count, classes)).astype(np.float32) for recipe in TABLE}
  for scores in logits.values():
    scores[rng.random(count) < 0.1, rng.integers(classes)] = np.nan
  labels = rng.integers(0, classes - 2, count)
  partners = [rng.choice([None, -1, *range(classes)]) for _ in range(count)]
  return predictions(
    labels,
    logits,
    partners,
    coverage=rng.choice([0, 0.04, 0.05, 0.3, 0.5, 1, np.nan], (count, 1)).astype(np.float32),
    attributes=tuple(
      {} if n % 5 == 0 else {'scene': str(rng.choice(['yes', 'no']))} for n in range(count)
    ),
    saliency=rng.choice([0.1, 0.5, np.nan], (count, 3), p=[0.45, 0.45, 0.1]).astype(np.float32),
    saliency_area=rng.choice([0.2, np.nan], (count, 3), p=[0.9, 0.1]).astype(np.float32),
  )


def order(p, recipe, n):
  """The classes from the first to the last, None where the logits are not finite."""
  scores = p.logits[recipe][n].tolist()
  if not all(np.isfinite(scores)):
    return None
  return sorted(range(len(scores)), key=lambda c: (-scores[c], c))


def mean(values):
  return pytest.approx(sum(values) / len(values)) if values else pytest.approx(np.nan, nan_ok=True)


@pytest.mark.parametrize('seed', range(4))
def test_figures_against_loops(seed):
  p = random_predictions(seed)
  found = {name: figure.value for name, figure in metrics.bias_metrics(p).items()}
  everyone = range(len(p.ids))
  # Who was not annotated was not painted either.
  clips = [n for n in everyone if not np.isnan(p.coverage[n, 0])]
  assert len(clips) < len(everyone)

  def named(recipe, n):
    classes = order(p, recipe, n)
    return None if classes is None else classes[0]

  def right(recipe):
    return [named(recipe, n) == p.labels[n] for n in clips]

  swap = 'background=swap'
  paired = [n for n in clips if p.partners[n]]
  rivals = [n for n in paired if p.partner_labels[n] not in (-1, p.labels[n])]
  assert len(paired) > len(rivals) > 0
  whole = [n for n in rivals if order(p, swap, n) is not None]
  places = {n: order(p, swap, n).index for n in whole}
  gaps = [places[n](p.labels[n]) - places[n](p.partner_labels[n]) for n in whole]
  scores = p.logits[swap]
  scuba, scufo = right('background=stripes'), right('background=stripes,freeze')
  colors = [
    [named(text, n) for text in ('background=normal', 'background=normal/other')] for n in clips
  ]
  assert found == {
    'BOR': pytest.approx(sum(right('object=mean,person=mean')) / sum(right('none'))),
    # Both sides over the clips that were painted.
    'HOR': pytest.approx(sum(right('background=mean')) / sum(right('none'))),
    'HOR-BOR': pytest.approx(
      (sum(right('background=mean')) - sum(right('object=mean,person=mean'))) / sum(right('none'))
    ),
    'SHAcc': mean([named(swap, n) == p.labels[n] for n in paired]),
    'SBErr': mean([named(swap, n) == p.partner_labels[n] for n in rivals]),
    'SHAcc-SBErr': mean(
      [
        float(named(swap, n) == p.labels[n]) - float(named(swap, n) == p.partner_labels[n])
        for n in rivals
      ]
    ),
    'background_wins': pytest.approx(sum(gap > 0 for gap in gaps) / len(rivals)),
    'rank_gap': mean(gaps),
    'score_gap': mean([scores[n, p.labels[n]] - scores[n, p.partner_labels[n]] for n in whole]),
    'SCUBA': mean(scuba),
    'SCUFO': mean(scufo),
    'contrasted': mean([a and not b for a, b in zip(scuba, scufo, strict=True)]),
    'recolour': mean([a == b and a is not None for a, b in colors]),
  }


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('recipe', ['none', 'background=swap'])
def test_strata_against_loops(seed, recipe):
  p = random_predictions(seed)
  painted = [n for n in range(len(p.ids)) if p.partners[n] and not np.isnan(p.coverage[n, 0])]
  counted = range(len(p.ids)) if recipe == 'none' else painted
  right = {n: (order(p, recipe, n) or [None])[0] == p.labels[n] for n in counted}

  def top1(chosen):
    return {key: mean([right[n] for n in clips]) for key, clips in chosen.items() if clips}

  def values(found):
    return {key: ratio.value for key, ratio in found.items()}

  for k in (1, 3, 5):
    among = [p.labels[n] in (order(p, recipe, n) or [])[:k] for n in counted]
    assert metrics.top_k(p, recipe, k).value == mean(among)

  classes = {
    name: [n for n in counted if p.labels[n] == label] for label, name in enumerate(p.classes)
  }
  assert not all(classes.values())
  found = metrics.by_class(p, recipe)
  assert values(found) == top1(classes)
  counts = {name: part.clips.sum() for name, part in found.items()}
  assert counts == {name: len(clips) for name, clips in classes.items() if clips}
  of_classes = [sum(right[n] for n in clips) / len(clips) for clips in classes.values() if clips]
  assert metrics.mean_class(p, recipe).value == mean(of_classes)
  # As the evaluation has it.
  logits, labels = p.logits[recipe][counted], p.labels[counted]
  expected = accuracy(logits, labels)
  for name, ratio in (
    ('top1', metrics.top_1(p, recipe)),
    ('top5', metrics.top_k(p, recipe, 5)),
    ('mean_class', metrics.mean_class(p, recipe)),
  ):
    assert ratio.value == pytest.approx(expected[name])
    assert ratio.clips.sum() == expected['count']

  scenes = {
    value: [n for n in counted if p.attributes[n].get('scene') == value] for value in ('yes', 'no')
  }
  assert values(metrics.by_attribute(p, 'scene', recipe)) == top1(scenes)
  assert metrics.by_attribute(p, 'mime', recipe) == {}

  share = p.coverage[:, 0].tolist()
  bins = {(0, 0.05): [0, 0.04], (0.05, 0.1): [0.05], (0.3, 0.5): [0.3], (0.5, 1): [0.5, 1]}
  bins = {
    edges: [n for n in counted if any(share[n] == np.float32(one) for one in inside)]
    for edges, inside in bins.items()
  }
  assert values(metrics.by_coverage(p, 'person', recipe)) == top1(bins)
  assert list(metrics.by_coverage(p, 'person', edges=(0.1, 1.0))) == [(0.1, 1.0)]

  # A gradient without its area, and an area without its gradient, have no say.
  rows = [
    [row.tolist() for row in pair]
    for pair in zip(p.saliency, p.saliency_area, strict=True)
    if not np.isnan(pair).any()
  ]
  assert 0 < len(rows) < np.isfinite(p.saliency).all(axis=1).sum()
  for number, shares in enumerate(metrics.saliency(p)):
    assert values(shares) == {
      part: mean([pair[number][column] for pair in rows])
      for column, part in enumerate(('person', 'object', 'background'))
    }
  assert metrics.saliency(predictions(LABELS, TABLE)) == ({}, {})


def test_seeds():
  first = metrics.Ratio(np.array([1.0, 0, 1]), np.array([1.0, 1, 0]))
  second = metrics.Ratio(np.array([1.0, 1, 0]), np.array([1.0, 1, 0]))
  both = metrics.stack([first, second])
  assert both.numerator.shape == both.denominator.shape == (2, 3)
  assert both.per_seed.tolist() == [1.0, 1.0]
  nothing = metrics.Ratio(np.zeros(3), np.zeros(3))
  assert np.isnan(nothing.value)
  assert np.isnan(metrics.stack([first, nothing]).value)
  half = metrics.Ratio(np.array([1.0, 0, 0]), np.array([1.0, 1, 0]))
  assert metrics.stack([first, half]).value == 0.75
  assert metrics.stack([first, half]).clips.tolist() == [True, True, False]
