"""Accuracy against a loop that sorts each clip's classes."""

import numpy as np
import pytest

from zsar_jax.bias.metrics import accuracy


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
