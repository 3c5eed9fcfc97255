"""Intervals against closed forms, a slow bootstrap and their coverage; tests against exact sums."""

import fractions
import json
import math

import numpy as np
import pytest
import scipy.stats

from zsar_jax.evaluation.ratio import Ratio, stack_seeds
from zsar_jax.study import statistics
from zsar_jax.study.statistics import Estimate, difference, estimate, mcnemar


def share(correct):
  """The share of clips that are correct, of bool[N] or bool[S, N]."""
  return Ratio(np.asarray(correct, np.float64), np.ones(np.shape(correct)))


@pytest.mark.parametrize('clips', [50, 3000])
def test_the_interval_of_a_share_is_that_of_the_binomial_distribution(clips):
  """The number of correct clips in a draw has the distribution Binomial(N, share)."""
  correct = np.random.default_rng(0).random(clips) < 0.7
  for level in (0.5, 0.9):
    found = estimate(share(correct), draws=20_000, level=level)
    ends = scipy.stats.binom.ppf([(1 - level) / 2, (1 + level) / 2], clips, correct.mean()) / clips
    # A quantile of 20,000 draws has an error of a few hundredths of a standard deviation.
    slack = max(1 / clips, 0.05 * math.sqrt(0.7 * 0.3 / clips))
    assert (found.low, found.high) == (
      pytest.approx(ends[0], abs=slack),
      pytest.approx(ends[1], abs=slack),
    )
    assert found.value == pytest.approx(correct.mean())
    assert found.count == clips


def test_the_interval_over_seeds_is_that_of_the_binomial_distribution():
  """Of 10 seeds, 6 are correct on every clip and 4 on none: only the draw of seeds matters."""
  correct = np.repeat(np.arange(10) < 6, 5).reshape(10, 5)
  found = estimate(share(correct), draws=20_000)
  ends = scipy.stats.binom.ppf([0.025, 0.975], 10, 0.6) / 10
  assert (found.low, found.high) == (pytest.approx(ends[0]), pytest.approx(ends[1]))


def slow_bootstrap(ratio, draws):
  """f64[D]: draws clips and seeds one draw at a time, from a random generator of its own."""
  rng = np.random.default_rng(99)
  seeds, clips = ratio.numerator.shape
  groups = np.zeros(clips, int) if ratio.groups is None else ratio.groups
  values = []
  for _ in range(draws):
    sample = rng.integers(clips, size=clips)
    of_seeds = []
    for seed in rng.integers(seeds, size=seeds) if seeds > 1 else [0]:
      of_groups = []
      for group in set(groups[sample].tolist()):
        inside = sample[groups[sample] == group]
        if below := ratio.denominator[seed, inside].sum():
          of_groups.append(ratio.numerator[seed, inside].sum() / below)
      of_seeds.append(np.mean(of_groups))
    values.append(np.mean(of_seeds))
  return np.array(values)


@pytest.mark.parametrize('seeds', [1, 3])
@pytest.mark.parametrize('grouped', [False, True])
def test_intervals_against_a_slow_bootstrap(seeds, grouped):
  rng = np.random.default_rng(seeds)
  clips = 30
  denominator = rng.integers(0, 3, (seeds, clips)) * 1.0
  # The seeds differ about as much as draws of clips do.
  rate = np.array([0.2, 0.5, 0.8])[:seeds, None]
  numerator = denominator * (rng.random((seeds, clips)) < rate)
  groups = rng.integers(0, 5, clips) if grouped else None
  ratio = Ratio(numerator, denominator, groups=groups)
  expected = slow_bootstrap(ratio, 6000)
  for level in (0.5, 0.9):
    found = estimate(ratio, draws=20_000, level=level)
    ends = np.quantile(expected, [(1 - level) / 2, (1 + level) / 2])
    np.testing.assert_allclose([found.low, found.high], ends, atol=0.1 * expected.std())
  assert found.count == (denominator > 0).any(axis=0).sum()
  if not grouped:
    per_seed = numerator.sum(axis=1) / denominator.sum(axis=1)
    assert found.per_seed == pytest.approx(tuple(per_seed))
    assert found.value == pytest.approx(per_seed.mean())


@pytest.mark.parametrize('scale', [1, -3, 2**12, 0.1])
def test_sums_in_f32_are_those_in_f64(monkeypatch, scale):
  rng = np.random.default_rng(3)
  summands = rng.integers(0, 2, (2, 5000)).astype(np.float64)
  ratio = Ratio(scale * summands, rng.integers(0, 2, (2, 5000)) + summands)
  assert statistics._sums_are_exact(ratio.numerator) == (abs(scale) in (1, 3))
  values = [statistics._bootstrap(ratio, 300, 0)]
  monkeypatch.setattr(statistics, '_EXACT', 0)
  values.append(statistics._bootstrap(ratio, 300, 0))
  np.testing.assert_array_equal(*values)


def test_the_mean_of_two_certain_classes_is_certain():
  correct = np.repeat([1.0, 0.0], 50)
  found = estimate(Ratio(correct, np.ones(100), groups=np.repeat([0, 1], 50)))
  assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_clips_that_do_not_count_do_not_narrow_the_interval():
  """A share over 1,000 of 3,000 clips."""
  correct = np.random.default_rng(0).random(3000) < 0.7
  counted = np.arange(3000) % 3 == 0
  found = estimate(share(correct).restrict(counted), draws=4000)
  p = correct[counted].mean()
  assert found.value == pytest.approx(p)
  width = 2 * 1.96 * math.sqrt(p * (1 - p) / 1000)
  assert found.high - found.low == pytest.approx(width, rel=0.05)
  assert found.count == 1000


def test_every_draw_has_as_many_clips_as_the_sample():
  """The number of clips divided by that of the first clip, which most draws with it have once."""
  ratio = Ratio(np.ones(3000), (np.arange(3000) == 0) * 1.0)
  found = estimate(ratio, level=0.05)
  assert (found.low, found.high) == (3000, 3000)


def test_a_single_seed_needs_no_axis_of_seeds():
  values = share(np.random.default_rng(0).random(40))
  stacked = stack_seeds([values])
  assert stacked.numerator.shape == (1, 40)
  assert estimate(stacked) == estimate(values)
  assert estimate(values) != estimate(values, seed=1)


SIMULATIONS = 400


def assert_coverage(intervals, truth, level=0.95):
  """Asserts that the intervals contain the truth as often as they should."""
  coverage = np.mean([low <= truth <= high for low, high in intervals])
  # 4 standard deviations, and what the bootstrap lacks at this number of clips.
  slack = 4 * math.sqrt(level * (1 - level) / len(intervals)) + 0.01
  assert abs(coverage - level) < slack


def test_coverage_of_a_share():
  rng = np.random.default_rng(0)
  intervals = []
  for _ in range(SIMULATIONS):
    found = estimate(share(rng.random(200) < 0.7), draws=400)
    intervals.append((found.low, found.high))
  assert_coverage(intervals, 0.7)
  widths = [high - low for low, high in intervals]
  assert np.mean(widths) == pytest.approx(2 * 1.96 * math.sqrt(0.7 * 0.3 / 200), rel=0.05)


def test_coverage_of_a_ratio():
  rng = np.random.default_rng(1)
  intervals = []
  for _ in range(SIMULATIONS):
    denominator = rng.random(300) < 0.8
    numerator = np.where(denominator, rng.random(300) < 0.6, rng.random(300) < 0.1)
    found = estimate(Ratio(numerator * 1.0, denominator * 1.0), draws=400)
    intervals.append((found.low, found.high))
  assert_coverage(intervals, (0.8 * 0.6 + 0.2 * 0.1) / 0.8)


def test_coverage_of_a_difference():
  rng = np.random.default_rng(2)
  paired, unpaired_widths = [], []
  for _ in range(SIMULATIONS):
    difficulty = rng.random(200)  # The same clips are hard for both models.
    first = share(difficulty < 0.6)
    second = share(difficulty + 0.02 * rng.normal(size=200) < 0.5)
    found = difference(first, second, draws=400)
    paired.append((found.low, found.high))
    sides = [estimate(first, 400), estimate(second, 400)]
    unpaired_widths.append(math.hypot(*(side.high - side.low for side in sides)))
  assert_coverage(paired, 0.1)
  assert np.mean([high - low for low, high in paired]) < 0.6 * np.mean(unpaired_widths)


def test_coverage_over_trainings():
  rng = np.random.default_rng(3)
  intervals, single_covers = [], []
  for _ in range(SIMULATIONS):
    rates = 0.6 + 0.05 * rng.normal(size=(10, 1))  # Each training has a rate of its own.
    found = estimate(share(rng.random((10, 200)) < rates), draws=400)
    intervals.append((found.low, found.high))
    single = estimate(share(rng.random(200) < rates[0]), draws=400)
    single_covers.append(single.low <= 0.6 <= single.high)
  # With n seeds, the bootstrap sees (n - 1) / n of the variance between them.
  assert_coverage(intervals, 0.6, level=0.94)
  # An interval over the clips of a single training misses the variance between trainings.
  assert np.mean(single_covers) < 0.85


def test_differences():
  rng = np.random.default_rng(4)
  second = rng.random((2, 300)) < 0.5
  first = second | (rng.random((2, 300)) < 0.2)
  found = difference(share(first), share(second), draws=999)
  assert found.per_seed == pytest.approx(tuple(first.mean(axis=1) - second.mean(axis=1)))
  assert found.value == pytest.approx(np.mean(found.per_seed))
  assert 0 < found.low < found.value < found.high
  assert found.count == 300
  # No draw is at or below 0; the sample itself counts as one.
  assert found.p == 1 / 1000
  reverse = difference(share(second), share(first), draws=999)
  assert (reverse.low, reverse.high) == pytest.approx((-found.high, -found.low))
  assert reverse.p == 1.0
  # All figures are drawn on the same clips.
  same = difference(share(first), share(first))
  assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)
  # Sums of the same numbers in another order differ by a rounding error.
  third = Ratio(first / 3, np.ones(first.shape) / 3)
  assert difference(third, share(first)).p == 1.0
  with pytest.raises(ValueError, match='shapes differ'):
    difference(share(first), share(second[:, :200]))


@pytest.mark.parametrize('seeds', [1, 3])
@pytest.mark.parametrize('kind', ['mean', 'groups', 'ratio'])
def test_differences_use_the_clips_that_count_on_both_sides(seeds, kind):
  """Against figures of the common clips alone."""
  rng = np.random.default_rng(6)
  clips = 24
  groups = rng.integers(0, 3, clips)
  counted = rng.random((2, clips)) < 0.7
  common = counted.all(axis=0)
  assert 0 < common.sum() < counted.any(axis=0).sum() < clips

  def side(number, chosen):
    correct = np.random.default_rng(number).random((seeds, clips)) < 0.6
    denominator = np.random.default_rng(9).random((seeds, clips)) < 0.8 if kind == 'ratio' else 1.0
    mask = np.broadcast_to(chosen, correct.shape)
    return Ratio(
      correct * mask * 1.0, denominator * mask, mask, groups if kind == 'groups' else None
    )

  found = difference(side(0, counted[0]), side(1, counted[1]), draws=200)
  expected = difference(side(0, common), side(1, common), draws=200)
  assert (found.low, found.high, found.p) == (expected.low, expected.high, expected.p)
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


def test_easy_clips_of_one_side_do_not_enter_the_difference():
  """Twenty clips count on both sides, and four easy ones only on the first."""
  first, second = np.ones(24), np.zeros(24)
  first[:10] = 0
  second[:13] = 1
  counted = np.arange(24) < 20
  found = difference(share(first), Ratio(second * counted, counted * 1.0))
  assert found.value == pytest.approx(10 / 20 - 13 / 20)
  assert found.count == 20
  disjoint = difference(Ratio(first * ~counted, ~counted * 1.0), Ratio(second, counted * 1.0))
  assert (disjoint.count, math.isnan(disjoint.value), math.isnan(disjoint.p)) == (0, True, True)


def test_p_values_are_uniform_if_nothing_differs():
  rng = np.random.default_rng(5)
  p_values = [
    difference(share(rng.random(100) < 0.5), share(rng.random(100) < 0.5), draws=200).p
    for _ in range(SIMULATIONS)
  ]
  for level in (0.1, 0.5, 0.9):
    slack = 4 * math.sqrt(level * (1 - level) / SIMULATIONS) + 0.03
    assert abs(np.mean(np.array(p_values) <= level) - level) < slack


def test_draws_without_a_clip_that_counts_are_left_out():
  correct, counted = np.zeros((2, 50))
  counted[:2] = correct[0] = 1  # Every seventh draw has neither of the two clips.
  found = estimate(Ratio(correct, counted))
  assert (found.value, found.low, found.high, found.count) == (0.5, 0.0, 1.0, 2)


def test_no_clip_counts():
  nothing = Ratio(np.zeros(5), np.zeros(5))
  null = {'value': None, 'low': None, 'high': None, 'count': 0}
  assert estimate(nothing).to_json() == null | {'per_seed': [None]}
  assert difference(nothing, nothing).to_json() == null | {'per_seed': [None], 'p': None}
  assert estimate(Ratio(np.zeros(0), np.zeros(0))).to_json() == null | {'per_seed': [None]}
  some = stack_seeds([nothing, share(np.ones(5))])
  assert estimate(some).to_json()['per_seed'] == [None, 1.0]
  assert estimate(some).to_json()['value'] is None


def test_json():
  found = difference(share([True, False, True]), share([False, False, True]), draws=50)
  text = json.dumps(found.to_json(), allow_nan=False)
  assert json.loads(text) == {
    'value': found.value,
    'low': found.low,
    'high': found.high,
    'per_seed': list(found.per_seed),
    'count': 3,
    'p': found.p,
  }
  assert 'p' not in estimate(share([True])).to_json()
  assert Estimate(0.5, 0.25, math.nan, (0.5,), 4, chance=0.1).to_json()['high'] is None


def exact_p_value(only_first, only_second):
  """The p-value of McNemar's test in whole numbers."""
  n, smaller = only_first + only_second, min(only_first, only_second)
  choices, tail = 1, 0
  for k in range(smaller + 1):
    tail += choices
    choices = choices * (n - k) // (k + 1)
  return float(min(fractions.Fraction(2 * tail, 2**n), fractions.Fraction(1)))


def correct_clips(only_first, only_second, both=3, neither=4):
  """Which clips two models are correct on, in random order."""
  first = [True] * only_first + [False] * only_second + [True] * both + [False] * neither
  second = [False] * only_first + [True] * only_second + [True] * both + [False] * neither
  order = np.random.default_rng(0).permutation(len(first))
  return np.array(first)[order], np.array(second)[order]


def test_mcnemar():
  # At most 1 of 8: (1 + 8) of 256 outcomes, on two sides.
  assert mcnemar(*correct_clips(1, 7)) == pytest.approx(18 / 256)
  for only_first in range(12):
    for only_second in range(12):
      p = mcnemar(*correct_clips(only_first, only_second))
      assert p == pytest.approx(exact_p_value(only_first, only_second), rel=1e-12)
      assert p == mcnemar(*correct_clips(only_second, only_first))
  assert mcnemar(np.array([True, False]), np.array([True, False])) == 1.0
  assert mcnemar(np.zeros(0, bool), np.zeros(0, bool)) == 1.0


@pytest.mark.parametrize(
  ('only_first', 'only_second'),
  [(5000, 5000), (4999, 5001), (4900, 5100), (4500, 5500), (4000, 6000), (300, 9700), (0, 1000)],
)
def test_mcnemar_with_thousands_of_clips(only_first, only_second):
  p = mcnemar(*correct_clips(only_first, only_second))
  assert p == pytest.approx(exact_p_value(only_first, only_second), rel=1e-9, abs=0)
