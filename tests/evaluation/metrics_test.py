"""Accuracy against tables worked out by hand and slow loops."""

import numpy as np
import pytest

from tests.evaluation.examples import (
  LABELS,
  TABLE,
  by_hand,
  mean,
  order,
  predictions,
  random_predictions,
)
from zsar_jax.evaluation import metrics
from zsar_jax.evaluation.metrics import accuracy


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


def test_clips_with_logits_that_are_not_finite_are_wrong():
  logits = np.zeros((2, 3), np.float32)
  logits[0, 1] = np.nan
  assert accuracy(logits, np.zeros(2, np.int32))['top1'] == 0.5
  assert accuracy(logits, np.zeros(2, np.int32))['top5'] == 0.5


def test_accuracy_by_hand():
  p = by_hand()
  assert metrics.top_k(p, 'none', 1).value == pytest.approx(3 / 6)
  assert metrics.top_k(p, 'none', 2).value == pytest.approx(3 / 6)
  assert metrics.top_k(p, 'none', 3).value == pytest.approx(5 / 6)
  assert metrics.top_k(p, 'none', 5).value == pytest.approx(5 / 6)
  assert metrics.mean_class(p, 'none').value == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
  # Of the clips with partners, 3 are correct over another background, and 3 over stripes.
  swapped = metrics.accuracy_ratio(p, 'background=swap', 'background=stripes')
  assert (swapped.value, swapped.counted_clips.sum()) == (pytest.approx(3 / 3), 5)
  # Under swap, class 1 has a single clip.
  assert metrics.mean_class(p, 'background=swap').value == pytest.approx((2 / 3 + 0 + 1) / 3)
  top1 = metrics.top_1(p, 'none')
  by_class = [top1.restrict(p.labels == label).value for label in range(3)]
  assert by_class == [pytest.approx(2 / 3), 0.5, 0.0]


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('recipe', ['none', 'background=swap'])
def test_strata_against_loops(seed, recipe):
  p = random_predictions(seed)
  painted = [n for n in range(len(p.ids)) if p.partners[n] and not np.isnan(p.coverage[n, 0])]
  counted = range(len(p.ids)) if recipe == 'none' else painted
  right = {n: (order(p, recipe, n) or [None])[0] == p.labels[n] for n in counted}

  def top1(chosen):
    return {key: mean([right[n] for n in clips]) for key, clips in chosen.items() if clips}

  def values(ratios):
    return {key: ratio.value for key, ratio in ratios.items()}

  for k in (1, 3, 5):
    in_top_k = [p.labels[n] in (order(p, recipe, n) or [])[:k] for n in counted]
    assert metrics.top_k(p, recipe, k).value == mean(in_top_k)

  classes = {
    name: [n for n in counted if p.labels[n] == label] for label, name in enumerate(p.classes)
  }
  assert not all(classes.values())
  by_class = {
    name: metrics.top_1(p, recipe).restrict(p.labels == label)
    for label, name in enumerate(p.classes)
    if classes[name]
  }
  assert values(by_class) == top1(classes)
  counts = {name: ratio.counted_clips.sum() for name, ratio in by_class.items()}
  assert counts == {name: len(clips) for name, clips in classes.items() if clips}
  of_classes = [sum(right[n] for n in clips) / len(clips) for clips in classes.values() if clips]
  assert metrics.mean_class(p, recipe).value == mean(of_classes)
  # The accuracies in results.json.
  logits, labels = p.logits[recipe][counted], p.labels[counted]
  expected = accuracy(logits, labels)
  for name, ratio in (
    ('top1', metrics.top_1(p, recipe)),
    ('top5', metrics.top_k(p, recipe, 5)),
    ('mean_class', metrics.mean_class(p, recipe)),
  ):
    assert ratio.value == pytest.approx(expected[name])
    assert ratio.counted_clips.sum() == expected['count']

  scenes = {
    value: [n for n in counted if p.attributes[n].get('scene') == value] for value in ('yes', 'no')
  }
  assert values(metrics.top_1_by_attribute(p, 'scene', recipe)) == top1(scenes)
  assert metrics.top_1_by_attribute(p, 'mime', recipe) == {}

  share = p.coverage[:, 0].tolist()
  bins = {(0, 0.05): [0, 0.04], (0.05, 0.1): [0.05], (0.3, 0.5): [0.3], (0.5, 1): [0.5, 1]}
  bins = {
    edges: [n for n in counted if share[n] in np.float32(inside)] for edges, inside in bins.items()
  }
  assert values(metrics.top_1_by_coverage(p, 'person', recipe)) == top1(bins)
  assert list(metrics.top_1_by_coverage(p, 'person', edges=(0.1, 1.0))) == [(0.1, 1.0)]

  # Clips whose gradient or area is unknown do not count.
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
