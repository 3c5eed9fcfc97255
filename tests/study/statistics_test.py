"""Intervals against their promise on simulated data, and tests against exact sums."""

import fractions
import json
import math

import numpy as np
import pytest

from zsar_jax.evaluation.ratio import Ratio, stack_seeds
from zsar_jax.study import statistics
from zsar_jax.study.statistics import Estimate, difference, estimate, mcnemar


def shares(right):
  """A share of clips, of bool[N] or bool[S, N]."""
  return Ratio(np.asarray(right, np.float64), np.ones(np.shape(right)))


def ratio_of(rng, *shape):
  return Ratio(rng.integers(0, 2, shape) * 1.0, rng.integers(0, 3, shape) * 1.0)


@pytest.mark.parametrize('seeds', [1, 3])
def test_draws_against_a_loop(seeds):
  rng = np.random.default_rng(seeds)
  clips, draws = 30, 150  # More than are counted at a time.
  ratio = ratio_of(rng, seeds, clips)
  weights = statistics._weights(clips, draws, 7)
  assert weights.shape == (clips, draws)
  # Clips are drawn with replacement, each as often as another.
  assert (weights.sum(axis=0) == clips).all()
  assert abs(weights.mean(axis=1) - 1).max() < 4 * math.sqrt(1 / draws)
  assert weights.var() == pytest.approx(1 - 1 / clips, rel=0.1)
  assert len({tuple(draw) for draw in weights.T.tolist()}) == draws
  chosen = np.random.default_rng([7, 1]).integers(seeds, size=(seeds, draws))
  drawn = []
  for d in range(draws):
    clips_drawn = [n for n in range(clips) for _ in range(weights[n, d])]
    values = []
    for s in chosen[:, d]:
      above = sum(ratio.numerator[s, n] for n in clips_drawn)
      values.append(above / sum(ratio.denominator[s, n] for n in clips_drawn))
    drawn.append(np.mean(values))
  low, high = np.percentile(drawn, [5, 95])
  found = estimate(ratio, draws, seed=7, level=0.9)
  per_seed = ratio.numerator.sum(axis=1) / ratio.denominator.sum(axis=1)
  assert found == Estimate(
    pytest.approx(per_seed.mean()),
    pytest.approx(low),
    pytest.approx(high),
    pytest.approx(tuple(per_seed)),
    int((ratio.denominator > 0).any(axis=0).sum()),
  )


@pytest.mark.parametrize('seeds', [1, 2])
def test_groups_are_drawn_with_the_clips(seeds):
  """The mean of the groups' ratios is formed in each draw, over the groups that are in it."""
  rng = np.random.default_rng(seeds)
  clips, draws = 20, 60
  groups = rng.integers(0, 8, clips)
  right = rng.integers(0, 2, (seeds, clips)) * 1.0
  ratio = Ratio(right, np.ones_like(right), groups=groups)
  weights = statistics._weights(clips, draws, 7)
  chosen = np.random.default_rng([7, 1]).integers(seeds, size=(seeds, draws))

  def mean_class(s, times):
    means = [
      np.average(right[s][groups == group], weights=times[groups == group])
      for group in set(groups.tolist())
      if times[groups == group].sum()
    ]
    return np.mean(means)

  drawn = [np.mean([mean_class(s, weights[:, d]) for s in chosen[:, d]]) for d in range(draws)]
  found = estimate(ratio, draws, seed=7, level=0.9)
  assert found.per_seed == pytest.approx([mean_class(s, np.ones(clips)) for s in range(seeds)])
  assert (found.low, found.high) == pytest.approx(tuple(np.percentile(drawn, [5, 95])))


def test_the_mean_of_two_sure_classes_is_sure():
  right = np.repeat([1.0, 0.0], 50)
  found = estimate(Ratio(right, np.ones(100), groups=np.repeat([0, 1], 50)))
  assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_a_part_of_the_clips_in_pieces(monkeypatch):
  ratio = ratio_of(np.random.default_rng(0), 2, 50)
  ratio.numerator[:, ::2] = ratio.denominator[:, ::2] = 0
  whole = estimate(ratio)
  monkeypatch.setattr(statistics, '_CHUNK', 7)
  pieces = estimate(ratio)
  assert (pieces.low, pieces.high) == pytest.approx((whole.low, whole.high))
  assert whole.count <= 25


def test_one_seed_is_a_ratio_without_seeds():
  values = shares(np.random.default_rng(0).random(40))
  one = stack_seeds([values])
  assert one.numerator.shape == (1, 40)
  assert estimate(one) == estimate(values)
  assert estimate(values) != estimate(values, seed=1)


def covered(intervals, truth, level=0.95):
  """How many intervals must hold the truth, within what chance explains; or an error."""
  share = np.mean([low <= truth <= high for low, high in intervals])
  # 4 standard deviations, and what the bootstrap misses at this number of clips.
  slack = 4 * math.sqrt(level * (1 - level) / len(intervals)) + 0.01
  assert abs(share - level) < slack, share


SIMULATIONS = 400


def test_intervals_hold_the_truth():
  rng = np.random.default_rng(0)
  intervals = []
  for _ in range(SIMULATIONS):
    found = estimate(shares(rng.random(200) < 0.7), draws=400)
    intervals.append((found.low, found.high))
  covered(intervals, 0.7)
  # A tenth of the clips is too few, and half of the width too narrow.
  widths = [high - low for low, high in intervals]
  assert np.mean(widths) == pytest.approx(2 * 1.96 * math.sqrt(0.7 * 0.3 / 200), rel=0.05)


def test_intervals_of_ratios_hold_the_truth():
  rng = np.random.default_rng(1)
  intervals = []
  for _ in range(SIMULATIONS):
    below = rng.random(300) < 0.8
    above = np.where(below, rng.random(300) < 0.6, rng.random(300) < 0.1)
    found = estimate(Ratio(above * 1.0, below * 1.0), draws=400)
    intervals.append((found.low, found.high))
  covered(intervals, (0.8 * 0.6 + 0.2 * 0.1) / 0.8)


def test_intervals_of_differences_hold_the_truth():
  rng = np.random.default_rng(2)
  paired, apart = [], []
  for _ in range(SIMULATIONS):
    hard = rng.random(200)  # The same clips are hard for both models.
    first, second = shares(hard < 0.6), shares(hard + 0.02 * rng.normal(size=200) < 0.5)
    found = difference(first, second, draws=400)
    paired.append((found.low, found.high))
    ends = [estimate(first, 400), estimate(second, 400)]
    apart.append(math.hypot(*(end.high - end.low for end in ends)))
  covered(paired, 0.1)
  assert np.mean([high - low for low, high in paired]) < 0.6 * np.mean(apart)


def test_intervals_hold_the_truth_of_many_trainings():
  rng = np.random.default_rng(3)
  intervals, of_one = [], []
  for _ in range(SIMULATIONS):
    of_seed = 0.6 + 0.05 * rng.normal(size=(10, 1))  # Each training has luck of its own.
    found = estimate(shares(rng.random((10, 200)) < of_seed), draws=400)
    intervals.append((found.low, found.high))
    alone = estimate(shares(rng.random(200) < of_seed[0]), draws=400)
    of_one.append(alone.low <= 0.6 <= alone.high)
  # Of n seeds, the draws know n - 1 of n parts of the variance.
  covered(intervals, 0.6, level=0.94)
  assert np.mean(of_one) < 0.85


def test_differences():
  rng = np.random.default_rng(4)
  second = rng.random((2, 300)) < 0.5
  first = second | (rng.random((2, 300)) < 0.2)
  found = difference(shares(first), shares(second), draws=999)
  assert found.per_seed == pytest.approx(tuple(first.mean(axis=1) - second.mean(axis=1)))
  assert found.value == pytest.approx(np.mean(found.per_seed))
  assert 0 < found.low < found.value < found.high
  assert found.count == 300
  # Never at or below 0 in any draw, which is not the same as never.
  assert found.p == 1 / 1000
  back = difference(shares(second), shares(first), draws=999)
  assert (back.low, back.high) == pytest.approx((-found.high, -found.low))
  assert back.p == 1.0
  assert difference(shares(first), shares(first)).p == 1.0
  # Sums of the same numbers in another order differ by a rounding error.
  third = Ratio(first / 3, np.ones(first.shape) / 3)
  assert difference(third, shares(first)).p == 1.0
  with pytest.raises(ValueError, match='shapes differ'):
    difference(shares(first), shares(second[:, :200]))


@pytest.mark.parametrize('seeds', [1, 3])
@pytest.mark.parametrize('kind', ['mean', 'groups', 'ratio'])
def test_differences_are_of_the_clips_that_count_on_both_sides(seeds, kind):
  """Against the same figures of arrays from which the other clips were taken out."""
  rng = np.random.default_rng(6)
  clips = 24
  groups = rng.integers(0, 3, clips)
  counted = rng.random((2, clips)) < 0.7
  common = counted.all(axis=0)
  assert 0 < common.sum() < counted.any(axis=0).sum() < clips

  def side(number, chosen):
    right = np.random.default_rng(number).random((seeds, clips)) < 0.6
    below = np.random.default_rng(9).random((seeds, clips)) < 0.8 if kind == 'ratio' else 1.0
    say = np.broadcast_to(chosen, right.shape)
    return Ratio(right * say * 1.0, below * say, say, groups if kind == 'groups' else None)

  found = difference(side(0, counted[0]), side(1, counted[1]), draws=200)
  # The same draws, of figures that count nothing but the common clips.
  first, second = (statistics._drawn(side(number, common), 200, 0) for number in (0, 1))
  assert (found.low, found.high) == pytest.approx(
    tuple(np.nanpercentile(first - second, [2.5, 97.5]))
  )
  per_seed = []
  for s in range(seeds):
    means = []
    for number in (0, 1):
      ratio = side(number, common)
      parts = [common & (groups == group) for group in range(3)] if kind == 'groups' else [common]
      values = [ratio.numerator[s, part].sum() / ratio.denominator[s, part].sum()
                for part in parts if part.any()]  # fmt: skip
      means.append(np.mean(values))
    per_seed.append(means[0] - means[1])
  assert found.per_seed == pytest.approx(per_seed)
  assert found.value == pytest.approx(np.mean(per_seed))
  assert found.count == common.sum()


def test_a_difference_of_clips_is_none_of_models():
  """Twenty clips that both count, and four easy ones that only the first side counts."""
  first, second = np.ones(24), np.zeros(24)
  first[:10] = 0
  second[:13] = 1
  counted = np.arange(24) < 20
  found = difference(shares(first), Ratio(second * counted, counted * 1.0))
  assert found.value == pytest.approx(10 / 20 - 13 / 20)
  assert found.count == 20
  nothing = difference(Ratio(first * ~counted, ~counted * 1.0), Ratio(second, counted * 1.0))
  assert (nothing.count, math.isnan(nothing.value), math.isnan(nothing.p)) == (0, True, True)


def test_the_p_value_is_even_where_nothing_differs():
  rng = np.random.default_rng(5)
  found = [
    difference(shares(rng.random(100) < 0.5), shares(rng.random(100) < 0.5), draws=200).p
    for _ in range(SIMULATIONS)
  ]
  for level in (0.1, 0.5, 0.9):
    slack = 4 * math.sqrt(level * (1 - level) / SIMULATIONS) + 0.03
    assert abs(np.mean(np.array(found) <= level) - level) < slack


def test_draws_without_a_clip_are_left_out():
  right, counted = np.zeros((2, 50))
  counted[:2] = right[0] = 1  # Every seventh draw has neither.
  found = estimate(Ratio(right, counted))
  assert (found.value, found.low, found.high, found.count) == (0.5, 0.0, 1.0, 2)


def test_nothing_to_estimate():
  nothing = Ratio(np.zeros(5), np.zeros(5))
  null = {'value': None, 'low': None, 'high': None, 'count': 0}
  assert estimate(nothing).to_json() == null | {'per_seed': [None]}
  assert difference(nothing, nothing).to_json() == null | {'per_seed': [None], 'p': None}
  assert estimate(Ratio(np.zeros(0), np.zeros(0))).to_json() == null | {'per_seed': [None]}
  some = stack_seeds([nothing, shares(np.ones(5))])
  assert estimate(some).to_json()['per_seed'] == [None, 1.0]
  assert estimate(some).to_json()['value'] is None


def test_json():
  found = difference(shares([True, False, True]), shares([False, False, True]), draws=50)
  text = json.dumps(found.to_json(), allow_nan=False)
  assert json.loads(text) == {
    'value': found.value,
    'low': found.low,
    'high': found.high,
    'per_seed': list(found.per_seed),
    'count': 3,
    'p': found.p,
  }
  assert 'p' not in estimate(shares([True])).to_json()


def exact(only_first, only_second):
  """The p-value in whole numbers."""
  n, least = only_first + only_second, min(only_first, only_second)
  choices, tail = 1, 0
  for k in range(least + 1):
    tail += choices
    choices = choices * (n - k) // (k + 1)
  return float(min(fractions.Fraction(2 * tail, 2**n), fractions.Fraction(1)))


def answers(only_first, only_second, both=3, neither=4):
  first = [True] * only_first + [False] * only_second + [True] * both + [False] * neither
  second = [False] * only_first + [True] * only_second + [True] * both + [False] * neither
  order = np.random.default_rng(0).permutation(len(first))
  return np.array(first)[order], np.array(second)[order]


def test_mcnemar():
  # 1 of 8 and fewer: (1 + 8) of 256, twice.
  assert mcnemar(*answers(1, 7)) == pytest.approx(18 / 256)
  for only_first in range(12):
    for only_second in range(12):
      found = mcnemar(*answers(only_first, only_second))
      assert found == pytest.approx(exact(only_first, only_second), rel=1e-12)
      assert found == mcnemar(*answers(only_second, only_first))
  assert mcnemar(np.array([True, False]), np.array([True, False])) == 1.0
  assert mcnemar(np.zeros(0, bool), np.zeros(0, bool)) == 1.0


@pytest.mark.parametrize(
  ('only_first', 'only_second'),
  [(5000, 5000), (4999, 5001), (4900, 5100), (4500, 5500), (4000, 6000), (300, 9700), (0, 1000)],
)
def test_mcnemar_of_many_clips(only_first, only_second):
  found = mcnemar(*answers(only_first, only_second))
  expected = exact(only_first, only_second)
  assert found == pytest.approx(expected, rel=1e-9, abs=0)
