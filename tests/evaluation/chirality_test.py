"""Two-way accuracy on chiral pairs, against a table worked out by hand and slow loops."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.evaluation.evaluator_test import random_model
from tests.evaluation.examples import predictions
from tests.toy import build_toy
from tests.training.loop_test import toy_config
from zsar_jax.config import dataset_ref
from zsar_jax.evaluation import bias_metrics
from zsar_jax.evaluation.chirality import two_way_accuracy, two_way_accuracy_by_group
from zsar_jax.study.dataset_figures import measure_dataset

# Classes are 'class 0' to 'class 4': 0 and 1 are a pair, and so are 2 and 3.
OPPOSITE = {0: 1, 1: 0, 2: 3, 3: 2}


def chiral(label, group=None):
  return {
    'chiral_group': group or ('doors' if label < 2 else 'cups'),
    'chiral_pair': f'class {OPPOSITE[label]}',
  }


def by_hand():
  labels = [0, 0, 1, 1, 2, 3, 4, 0]
  scores = [
    [2, 1, 9, 9, 9],  # 0 before 1: right, though others are first.
    [1, 1, 0, 0, 0],  # A tie, in which the first class is predicted: right.
    [1, 1, 0, 0, 0],  # The same: wrong.
    [np.nan, 1, 0, 0, 0],  # wrong
    [0, 0, 1, 2, 0],  # 2 after 3: wrong
    [0, 0, 1, 2, 0],  # 3 before 2: right
    [0, 0, 0, 0, 1],  # In no pair.
    [1, 0, 0, 0, 0],  # Its reversal is not in the vocabulary.
  ]
  attributes = [chiral(label) for label in labels[:6]]
  attributes += [{'chiral_group': 'doors'}, {'chiral_group': 'doors', 'chiral_pair': 'elsewhere'}]
  painted = [[0] * 5] * 8
  return predictions(
    labels,
    {'none': scores, 'background=mean': painted},
    attributes=tuple(attributes),
    coverage=np.array([[0.1]] * 5 + [[np.nan]] * 3, np.float32),
  )


def test_accuracy_by_hand():
  accuracy = two_way_accuracy(by_hand())
  assert accuracy.value == pytest.approx((2 / 4 + 1 / 2) / 2)
  assert accuracy.chance_level == 0.5
  assert accuracy.counted_clips.tolist() == [True] * 6 + [False] * 2
  by_group = two_way_accuracy_by_group(by_hand())
  assert {name: ratio.value for name, ratio in by_group.items()} == {'cups': 0.5, 'doors': 0.5}
  # Ties go to the lower class, and the last clip of 'cups' has no masks.
  by_group = two_way_accuracy_by_group(by_hand(), 'background=mean')
  assert {name: ratio.value for name, ratio in by_group.items()} == {'cups': 1.0, 'doors': 0.5}
  assert two_way_accuracy(by_hand(), 'background=mean').value == 0.75
  figures = bias_metrics.all_bias_metrics(by_hand())
  assert figures['chiral[none]'].value == pytest.approx(0.5)
  assert figures['chiral[background=mean]'].value == 0.75


def test_without_chiral_clips():
  p = predictions([0, 1], {'none': np.eye(2)})
  assert two_way_accuracy(p) is None
  assert two_way_accuracy_by_group(p) == {}
  assert not any('chiral' in name for name in bias_metrics.all_bias_metrics(p))


def test_against_loops():
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 4, 200)
  # Groups of other sizes, and a clip without its own.
  groups = [f'group {rng.choice(3, p=[0.7, 0.2, 0.1])}' for _ in labels]
  scores = rng.integers(0, 3, (200, 5)).astype(np.float32)
  attributes = tuple(chiral(label, group) for label, group in zip(labels, groups, strict=True))
  p = predictions(labels, {'none': scores}, attributes=attributes)
  by_group = {}
  for label, group, row in zip(labels.tolist(), groups, scores.tolist(), strict=True):
    best = max(sorted((label, OPPOSITE[label])), key=lambda n: row[n])  # noqa: B023
    by_group.setdefault(group, []).append(best == label)
  shares = {group: np.mean(right) for group, right in by_group.items()}
  got = {name: ratio.value for name, ratio in two_way_accuracy_by_group(p).items()}
  assert got == pytest.approx(shares)
  assert two_way_accuracy(p).value == pytest.approx(np.mean(list(shares.values())))


def test_half_of_the_clips_are_right_without_order():
  """Equal logits for both directions of a clip: right in one of them."""
  rng = np.random.default_rng(1)
  scores = np.repeat(rng.normal(size=(50, 5)), 2, axis=0)
  labels = [0, 1] * 50
  p = predictions(labels, {'none': scores}, attributes=tuple(map(chiral, labels)))
  assert two_way_accuracy(p).value == 0.5


def test_a_list_of_chiral_clips_is_evaluated(tmp_path):
  """From the list to the figure. A mean over frames prefers the same class of a reversed clip."""
  rows = [
    f'validation{n},{"Opening" if n % 2 else "Closing"} [something],doors,{n % 2}' for n in range(8)
  ]
  labels = tmp_path / 'list.csv'
  labels.write_text('\n'.join(('id,template,chiral_triplet_id,chiral_label', *rows)) + '\n')
  config = toy_config(build_toy(tmp_path), model__temporal='mean')
  config.eval.recipes = ('none', 'reverse')
  reference = dataset_ref('toy', 'validation', labels=str(labels))
  config.eval.datasets = ConfigDict({'chiral': reference})
  (p,) = random_model(config, 1)()
  right = [p.logits['none'][n].argmax() == p.labels[n] for n in range(8)]
  for recipe in config.eval.recipes:
    accuracy = two_way_accuracy(p, recipe)
    assert accuracy.counted_clips.sum() == 8
    assert accuracy.value == np.mean(right)  # There are only these two classes.
  figures = measure_dataset({'run': [p]}, 'run', draws=20)
  assert figures['bias']['run']['chiral[reverse]']['value'] == np.mean(right)
  assert figures['chiral_groups']['run']['doors']['value'] == np.mean(right)
