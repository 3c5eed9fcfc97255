"""Figures of order and of resistance, against a table worked out by hand and slow loops."""

import numpy as np
import pytest

from tests.evaluation.examples import mean, order, predictions
from zsar_jax.evaluation import bias_metrics, order_metrics

NAN = [np.nan] * 3
LABELS = [0, 0, 1, 1, 2, 2]
# Logits for three classes, with the predicted class and whether it is right.
TABLE = {
  'none': [
    [1, 0, 0],  # 0, right
    [2, 2, 0],  # 0 of a tie, right
    [0, 1, 0],  # 1, right
    [1, 0, 0],  # 0, wrong
    [0, 0, 1],  # 2, right
    NAN,  # no class, wrong
  ],
  'reverse': [
    [1, 0, 0],  # 0, right
    [0, 2, 2],  # 1, wrong
    [0, 0, 1],  # 2, wrong
    [0, 1, 0],  # 1, right
    [0, 0, 1],  # 2, right
    NAN,  # no class, wrong
  ],
  'freeze': [
    [1, 0, 0],  # 0, right
    [0, 1, 0],  # 1, wrong
    [1, 0, 0],  # 0, wrong
    [1, 0, 0],  # 0, wrong
    NAN,  # no class, wrong
    [0, 0, 1],  # 2, right
  ],
  'background=normal': [
    [1, 0, 0],  # 0, right
    [0, 1, 0],  # 1, wrong
    NAN,  # no class, wrong
    [0, 1, 0],  # 1, right
    [0, 0, 1],  # 2, right
    [0, 0, 1],  # Not counted: it has no masks.
  ],
  'background=normal,shuffle': [
    [0, 1, 0],  # 1, wrong
    [0, 1, 0],  # 1, wrong
    [0, 1, 0],  # 1, right
    [0, 0, 1],  # 2, wrong
    [0, 0, 1],  # 2, right
    [0, 0, 1],  # Not counted.
  ],
}


def by_hand():
  coverage = np.array([[0.2]] * 5 + [[np.nan]], np.float32)
  return predictions(LABELS, TABLE, coverage=coverage)


def test_figures_by_hand():
  figures = order_metrics.order_metrics(by_hand())
  assert {name: figure.value for name, figure in figures.items()} == {
    'drop[reverse]': pytest.approx((4 - 3) / 4),
    'flips[reverse]': pytest.approx(3 / 6),  # clips 1, 2 and 3
    'TSS[reverse]': pytest.approx(2 / 4),  # clips 1 and 2
    'drop[freeze]': pytest.approx((4 - 2) / 4),
    'flips[freeze]': pytest.approx(4 / 6),  # clips 1, 2, 4 and 5
    'TSS[freeze]': pytest.approx(3 / 4),  # clips 1, 2 and 4
    'static_share[freeze]': pytest.approx(2 / 4),
    'drop[background=normal,shuffle]': pytest.approx((3 - 2) / 3),
    'flips[background=normal,shuffle]': pytest.approx(3 / 5),  # clips 0, 2 and 3
    'TSS[background=normal,shuffle]': pytest.approx(2 / 3),  # clips 0 and 3
    'resist[background=normal]': pytest.approx(2 / 4),  # clips 0 and 4
  }
  counts = {name: int(figure.counted_clips.sum()) for name, figure in figures.items()}
  assert counts == {name: 5 if 'background' in name else 6 for name in figures}
  # A model that guesses among three classes under the changed recipe.
  assert {name: figure.chance_level for name, figure in figures.items()} == {
    'drop[reverse]': pytest.approx(1 - 2 / 4),  # 2 of 6 clips instead of 4
    'flips[reverse]': pytest.approx(2 / 3),
    'TSS[reverse]': pytest.approx(2 / 3),
    'drop[freeze]': pytest.approx(1 - 2 / 4),
    'flips[freeze]': pytest.approx(2 / 3),
    'TSS[freeze]': pytest.approx(2 / 3),
    'static_share[freeze]': pytest.approx(2 / 4),
    'drop[background=normal,shuffle]': pytest.approx(1 - (5 / 3) / 3),
    'flips[background=normal,shuffle]': pytest.approx(2 / 3),
    'TSS[background=normal,shuffle]': pytest.approx(2 / 3),
    'resist[background=normal]': pytest.approx(1 / 3),
  }
  assert figures.keys() <= bias_metrics.all_bias_metrics(by_hand()).keys()


def test_pairs_of_recipes():
  recipes = (
    'none',
    'reverse',
    'shuffle@0.5',
    'background=normal,freeze',
    'object=mean',
    'object=mean,shuffle',
    'reverse,freeze',
  )
  assert list(order_metrics.order_changes(recipes)) == [
    ('none', 'reverse', 'reverse'),
    ('object=mean', 'shuffle', 'object=mean,shuffle'),
  ]
  assert list(order_metrics.order_changes(recipes[1:])) == [
    ('object=mean', 'shuffle', 'object=mean,shuffle')
  ]


def test_recipes_that_leave_what_the_label_says():
  resisted = ('background=swap', 'background=mean,object_box=normal', 'object=white')
  others = (
    'none', 'person=mean', 'background=mean,person_box=black', 'object=white!', 'freeze',
    'background=normal,reverse', 'background=normal@0.5',
  )  # fmt: skip
  scores = np.eye(3)[LABELS]
  p = predictions(LABELS, {recipe: scores for recipe in (*resisted, *others)}, [1] * 6)
  figures = order_metrics.order_metrics(p)
  assert {name for name in figures if 'resist' in name} == {f'resist[{text}]' for text in resisted}
  assert {figures[f'resist[{text}]'].value for text in resisted} == {1.0}
  without = predictions(LABELS, {recipe: scores for recipe in resisted}, [1] * 6)
  assert order_metrics.order_metrics(without) == {}


PAINTINGS = ('none', 'background=mean', 'background=swap,object=white')


def random_predictions(seed, count=150, classes=5):
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, classes, count)
  logits = {}
  for painting in PAINTINGS:
    for effect in ('', 'reverse', 'shuffle', 'freeze'):
      recipe = ','.join(filter(None, (painting.replace('none', ''), effect))) or 'none'
      # Labels are favored, and there are ties and rows that are not finite.
      scores = rng.integers(0, 4, (count, classes)) + 2 * (rng.random(count) < 0.6)[:, None] * (
        np.arange(classes) == labels[:, None]
      )
      logits[recipe] = scores.astype(np.float32)
      logits[recipe][rng.random(count) < 0.1, rng.integers(classes)] = np.inf
  partners = [rng.choice([None, *range(classes)]) for _ in range(count)]
  coverage = rng.choice([0.3, np.nan], (count, 1), p=[0.8, 0.2]).astype(np.float32)
  return predictions(labels, logits, partners, coverage=coverage)


@pytest.mark.parametrize('seed', range(3))
def test_figures_against_loops(seed):
  p = random_predictions(seed)

  def predicted(recipe, n):
    classes = order(p, recipe, n)
    return 'none' if classes is None else classes[0]

  def counts(painting, n):
    if painting == 'none':
      return True
    return bool(np.isfinite(p.coverage[n, 0]) and (p.partners[n] or 'swap' not in painting))

  expected = {}
  for painting in PAINTINGS:
    clips = [n for n in range(len(p.ids)) if counts(painting, n)]
    right = [n for n in clips if predicted(painting, n) == p.labels[n]]
    assert 20 < len(right) < len(clips)
    for effect in ('reverse', 'shuffle', 'freeze'):
      recipe = f'{painting},{effect}'.removeprefix('none,')
      after = [n for n in clips if predicted(recipe, n) == p.labels[n]]
      flips = [predicted(painting, n) != predicted(recipe, n) for n in clips]
      expected[f'drop[{recipe}]'] = pytest.approx((len(right) - len(after)) / len(right))
      expected[f'flips[{recipe}]'] = mean(flips)
      expected[f'TSS[{recipe}]'] = mean([predicted(recipe, n) != p.labels[n] for n in right])
      if effect == 'freeze':
        expected[f'static_share[{recipe}]'] = pytest.approx(len(after) / len(right))
    if painting != 'none':
      right = [n for n in clips if predicted('none', n) == p.labels[n]]
      resisted = [predicted(painting, n) == p.labels[n] for n in right]
      expected[f'resist[{painting}]'] = mean(resisted)
  values = {name: figure.value for name, figure in order_metrics.order_metrics(p).items()}
  assert values == expected
