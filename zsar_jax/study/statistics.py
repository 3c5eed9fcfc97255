"""Computes confidence intervals by the bootstrap, and tests differences.

Intervals are those of the percentile bootstrap (Efron and Tibshirani, "An Introduction to the
Bootstrap", 1993, chapters 13 and 16). Each draw resamples the clips with replacement. If there are
several training seeds, it also resamples the seeds, independently of the clips. The same bootstrap
seed draws the same clips for every figure, so that differences compare models on the same clips.
With few training seeds the bootstrap underestimates their share of the variance: with three,
intervals are somewhat too narrow.
"""

import dataclasses
import functools
import math
from typing import Any

import numpy as np
import scipy.stats

from zsar_jax.evaluation.ratio import Combination, Ratio, divide, nan_mean, restrict_to_common

# The number of clips whose weights are converted to floats at a time: 16 MB for 2,000 draws in f64.
_CHUNK = 1024

# Sums of integers up to here are exact in f32.
_EXACT = 2**24

# The verdicts on whether a gain reaches a threshold, see `verdict`.
HOLDS, HOLDS_ON_AVERAGE, DOES_NOT_HOLD = 'holds', 'holds on average', 'does not hold'
VERDICTS = (HOLDS, HOLDS_ON_AVERAGE, DOES_NOT_HOLD)

# Two figures that are equal in exact arithmetic may differ by this much.
_ROUNDING = 1e-12


@dataclasses.dataclass(frozen=True)
class Estimate:
  """A figure with its interval.

  Attributes:
    value: the mean over the seeds; NaN if it is undefined.
    low: lower end of the interval.
    high: upper end of the interval.
    per_seed: the figure of each seed.
    count: the number of clips that count for at least one seed.
    p: the p-value of the hypothesis that a difference is not above 0; None for other figures.
    chance: the figure of a model that guesses evenly among all classes; None if there is none.
  """

  value: float
  low: float
  high: float
  per_seed: tuple[float, ...]
  count: int
  p: float | None = None
  chance: float | None = None

  def to_json(self) -> dict[str, Any]:
    """Returns a JSON object. NaN is written as null; 'p' and 'chance' are left out if None."""
    values: dict[str, Any] = {
      name: finite_or_none(getattr(self, name)) for name in ('value', 'low', 'high')
    }
    values |= {'per_seed': [finite_or_none(value) for value in self.per_seed], 'count': self.count}
    optional = {'p': self.p, 'chance': self.chance}
    return values | {
      name: finite_or_none(value) for name, value in optional.items() if value is not None
    }


def finite_or_none(value: float) -> float | None:
  """Returns a value for JSON, which has no NaN and no infinity."""
  return value if math.isfinite(value) else None


def estimate(
  ratio: Ratio | Combination, draws: int = 2000, seed: int = 0, level: float = 0.95
) -> Estimate:
  """Computes a figure and its interval.

  Draws without a defined figure, such as draws without a clip that counts, are left out.

  Args:
    ratio: the figure, of one seed or several.
    draws: the number of bootstrap draws.
    seed: the seed of the bootstrap.
    level: the confidence level.
  """
  low, high = _interval(_bootstrap(ratio, draws, seed), level)
  per_seed = tuple(ratio.per_seed.tolist())
  count = int(ratio.counted_clips.sum())
  chance = ratio.chance_level if isinstance(ratio, Ratio) else None
  return Estimate(ratio.value, low, high, per_seed, count, chance=chance)


def difference(
  first: Ratio, second: Ratio, draws: int = 2000, seed: int = 0, level: float = 0.95
) -> Estimate:
  """Computes the first figure minus the second, paired by clip and seed, and its interval.

  Clips that count in only one of the figures are left out of both, so that both figures are over
  the same clips.

  The p-value is that of the one-sided hypothesis that the first figure is not above the second. The
  observed sample counts as one more draw (Davison and Hinkley, "Bootstrap Methods", 1997, section
  4.2).

  Args:
    first: a figure with the same seeds and clips as `second`, in the same order.
    second: the figure to subtract.
    draws: see `estimate`.
    seed: see `estimate`.
    level: see `estimate`.
  """
  first, second = restrict_to_common(first, second)
  values = _bootstrap(first, draws, seed) - _bootstrap(second, draws, seed)
  low, high = _interval(values, level)
  values = values[~np.isnan(values)]
  p = (1 + int((values <= _ROUNDING).sum())) / (1 + len(values)) if len(values) else math.nan
  per_seed = first.per_seed - second.per_seed
  count = int(first.counted_clips.sum())
  return Estimate(first.value - second.value, low, high, tuple(per_seed.tolist()), count, p)


def verdict(gain: Estimate, threshold: float) -> str:
  """Returns whether a gain reaches a threshold, as one of `VERDICTS`.

  A gain holds if its interval is entirely at or above the threshold. It holds on average if only
  the estimate is. An estimate of 0 is not a gain, even if the threshold is 0.
  """
  # Rounded because 0.6 - 0.5 is slightly less than 0.1 in floating point.
  value, low = round(gain.value, 12), round(gain.low, 12)
  if not (value >= threshold and value > 0):  # Both comparisons are False for NaN.
    return DOES_NOT_HOLD
  return HOLDS if low >= threshold else HOLDS_ON_AVERAGE


def mcnemar(first_correct: np.ndarray, second_correct: np.ndarray) -> float:
  """Returns the exact two-sided p-value of McNemar's test.

  The hypothesis is that both models are correct equally often. Then, on a clip that only one model
  classifies correctly, that model is equally likely to be the first or the second (McNemar,
  Psychometrika 12, 1947; exact by the binomial distribution).

  Args:
    first_correct: bool[N], whether the first model is correct on each clip.
    second_correct: bool[N], the same for the second model.
  """
  only_first = int((first_correct & ~second_correct).sum())
  only_second = int((second_correct & ~first_correct).sum())
  if only_first == only_second:  # SciPy refuses 0 trials.
    return 1.0
  return float(scipy.stats.binomtest(only_first, only_first + only_second).pvalue)


def _interval(values: np.ndarray, level: float) -> tuple[float, float]:
  """Returns the percentile interval of the bootstrap values that are not NaN."""
  values = values[~np.isnan(values)]
  if not len(values):
    return math.nan, math.nan
  low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
  return float(low), float(high)


def _bootstrap(figure: Ratio | Combination, draws: int, seed: int) -> np.ndarray:
  """Returns f64[D], the value of the figure in each draw."""
  if isinstance(figure, Combination):
    by_ratio = [_draws_by_group(ratio, draws, seed) for ratio in figure.ratios]
    by_group = [figure.function(*of_group) for of_group in zip(*by_ratio, strict=True)]
  else:
    by_group = _draws_by_group(figure, draws, seed)
  by_seed = nan_mean(by_group)  # [S, D]
  seeds = len(by_seed)
  if seeds == 1:
    return by_seed[0]
  sampled_seeds = np.random.default_rng([seed, 1]).integers(seeds, size=(seeds, draws))
  return np.take_along_axis(by_seed, sampled_seeds, axis=0).mean(axis=0)


def _draws_by_group(ratio: Ratio, draws: int, seed: int) -> list[np.ndarray]:
  """Returns f64[S, D] for each group: the group's ratio of each seed in each draw."""
  numerator, denominator = map(np.atleast_2d, (ratio.numerator, ratio.denominator))
  seeds, clips = numerator.shape
  summands = np.concatenate([numerator, denominator])  # [2S, N]
  # Most figures count clips. In f32, which takes half the time, the sums are the same.
  dtype = np.float32 if _sums_are_exact(summands) else np.float64
  summands = summands.astype(dtype)
  weights = _clip_weights(clips, draws, seed)
  # Clips whose summands are all 0 are skipped: most clips, for a figure of one class or stratum.
  nonzero = np.any(summands, axis=0)
  by_group = []
  for positions in ratio.group_positions:
    positions = positions[nonzero[positions]]
    sums = np.zeros((2 * seeds, draws))
    for start in range(0, len(positions), _CHUNK):
      chunk = positions[start : start + _CHUNK]
      sums += summands[:, chunk] @ weights[chunk].astype(dtype)
    by_group.append(divide(sums[:seeds], sums[seeds:]))
  return by_group


def _sums_are_exact(summands: np.ndarray) -> bool:
  """Returns whether f32 can hold the sums of any N clips, of summands f64[2S, N]."""
  is_integer = bool((summands == np.trunc(summands)).all())
  return is_integer and np.abs(summands).max(initial=0) * summands.shape[1] < _EXACT


@functools.lru_cache(maxsize=1)
def _clip_weights(clips: int, draws: int, seed: int) -> np.ndarray:
  """Returns u16[N, D], how often each draw has each clip: 80 MB for 20,000 clips, 2,000 draws.

  The result is cached because all figures of a data set use the same draws.
  """
  rng = np.random.default_rng([seed, 0])
  weights = np.empty((clips, draws), np.uint16)
  for start in range(0, draws if clips else 0, 64):
    size = min(64, draws - start)
    sampled = rng.integers(clips, size=(size, clips)) + np.arange(size)[:, None] * clips
    counts = np.bincount(sampled.ravel(), minlength=size * clips).reshape(size, clips)
    weights[:, start : start + size] = counts.T
  weights.flags.writeable = False
  return weights
