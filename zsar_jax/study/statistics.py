"""How certain a figure is: intervals by the bootstrap, and tests of differences.

Clips are drawn with replacement, and where there are several seeds these as well, independently
of the clips: the percentile bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap",
1993, chapters 13 and 16). The same seed draws the same clips whatever the figure is, so that
differences are those of models on the same clips. Of few seeds the bootstrap knows little: with
three, their part of an interval is rather too narrow.
"""

import dataclasses
import functools
import math
from typing import Any

import numpy as np

from zsar_jax.evaluation.ratio import Ratio, divide, nan_mean, restrict_to_common

# Clips of which weights are widened to f64 at a time, which takes 16 MB for 2,000 draws.
_CHUNK = 1024

# What may be said of a gain that is to reach a threshold, see `verdict`.
HOLDS, HOLDS_ON_AVERAGE, DOES_NOT_HOLD = 'holds', 'holds on average', 'does not hold'
VERDICTS = (HOLDS, HOLDS_ON_AVERAGE, DOES_NOT_HOLD)

# What two figures may differ by that are the same in exact numbers.
_ROUNDING = 1e-12


@dataclasses.dataclass(frozen=True)
class Estimate:
  """A figure and how certain it is.

  Attributes:
    value: the mean over the seeds; NaN where it cannot be formed.
    low: lower end of the interval.
    high: upper end of the interval.
    per_seed: the figure of each seed.
    count: the clips that have a say.
    p: of a difference, the p-value of "it is not above 0"; None otherwise.
    chance: the figure of a model that guesses evenly among all classes; None where it has none.
  """

  value: float
  low: float
  high: float
  per_seed: tuple[float, ...]
  count: int
  p: float | None = None
  chance: float | None = None

  def to_json(self) -> dict[str, Any]:
    """As a JSON object; null is no finite number, and 'p' and 'chance' are left out if None."""
    values = {name: _finite(getattr(self, name)) for name in ('value', 'low', 'high')}
    values |= {'per_seed': [_finite(value) for value in self.per_seed], 'count': self.count}
    optional = {'p': self.p, 'chance': self.chance}
    return values | {name: _finite(value) for name, value in optional.items() if value is not None}


def _finite(value: float) -> float | None:
  return value if math.isfinite(value) else None


def estimate(ratio: Ratio, draws: int = 2000, seed: int = 0, level: float = 0.95) -> Estimate:
  """A figure with its interval.

  Draws in which the figure cannot be formed, such as those without a clip that has a say, are left
  out.

  Args:
    ratio: the figure, of one seed or several.
    draws: how often to draw.
    seed: another one draws other clips.
    level: the share of such intervals that are to hold the truth.
  """
  low, high = _interval(_drawn(ratio, draws, seed), level)
  per_seed = tuple(ratio.per_seed.tolist())
  count = int(ratio.counted_clips.sum())
  return Estimate(ratio.value, low, high, per_seed, count, chance=ratio.chance_level)


def difference(
  first: Ratio, second: Ratio, draws: int = 2000, seed: int = 0, level: float = 0.95
) -> Estimate:
  """How far the first figure is above the second, in pairs: of the same clips and seeds.

  Clips that have a say in one of the figures alone are left out of both: the difference would
  otherwise also be one of clips.

  Its p-value is that of "the first is not above the second", one-sided, with the figures as they
  are counted among the draws (Davison and Hinkley, "Bootstrap Methods", 1997, section 4.2).

  Args:
    first: of as many seeds and clips as `second`, in the same order.
    second: what it is compared with.
    draws: see `estimate`.
    seed: see `estimate`.
    level: see `estimate`.
  """
  first, second = restrict_to_common(first, second)
  drawn = _drawn(first, draws, seed) - _drawn(second, draws, seed)
  low, high = _interval(drawn, level)
  drawn = drawn[~np.isnan(drawn)]
  p = (1 + int((drawn <= _ROUNDING).sum())) / (1 + len(drawn)) if len(drawn) else math.nan
  per_seed = first.per_seed - second.per_seed
  count = int(first.counted_clips.sum())
  return Estimate(first.value - second.value, low, high, tuple(per_seed.tolist()), count, p)


def verdict(gain: Estimate, threshold: float) -> str:
  """Whether a gain reaches a threshold: one of `VERDICTS`.

  A gain holds where its whole interval is at or above the threshold, and on average where only its
  estimate is. A threshold of 0 asks for any gain: an estimate of 0 is none.
  """
  # 0.6 - 0.5 is a little less than 0.1 in floating point.
  value, low = round(gain.value, 12), round(gain.low, 12)
  if not (value >= threshold and value > 0):  # Of NaN both are false.
    return DOES_NOT_HOLD
  return HOLDS if low >= threshold else HOLDS_ON_AVERAGE


def _interval(drawn: np.ndarray, level: float) -> tuple[float, float]:
  drawn = drawn[~np.isnan(drawn)]
  if not len(drawn):
    return math.nan, math.nan
  low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
  return float(low), float(high)


def _drawn(ratio: Ratio, draws: int, seed: int) -> np.ndarray:
  """f64[D]: the figure of each draw."""
  numerator, denominator = map(np.atleast_2d, (ratio.numerator, ratio.denominator))
  seeds, clips = numerator.shape
  summands = np.concatenate([numerator, denominator])  # [2S, N]
  weights = _weights(clips, draws, seed)
  # A class or a stratum is a small part of the clips; the others add nothing.
  used = summands.any(axis=0)
  by_part = []
  for part in ratio.group_positions:
    part = part[used[part]]
    sums = np.zeros((2 * seeds, draws))
    for start in range(0, len(part), _CHUNK):
      chunk = part[start : start + _CHUNK]
      sums += summands[:, chunk] @ weights[chunk].astype(np.float64)
    by_part.append(divide(sums[:seeds], sums[seeds:]))
  by_seed = nan_mean(by_part)  # [S, D]
  if seeds == 1:
    return by_seed[0]
  chosen = np.random.default_rng([seed, 1]).integers(seeds, size=(seeds, draws))
  return np.take_along_axis(by_seed, chosen, axis=0).mean(axis=0)


@functools.lru_cache(maxsize=1)
def _weights(clips: int, draws: int, seed: int) -> np.ndarray:
  """u16[N, D]: how often each draw has each clip; 80 MB for 20,000 clips and 2,000 draws.

  All figures of a data set meet the same draws, which are therefore kept.
  """
  rng = np.random.default_rng([seed, 0])
  weights = np.empty((clips, draws), np.uint16)
  for start in range(0, draws if clips else 0, 64):
    part = min(64, draws - start)
    chosen = rng.integers(clips, size=(part, clips)) + np.arange(part)[:, None] * clips
    counts = np.bincount(chosen.ravel(), minlength=part * clips).reshape(part, clips)
    weights[:, start : start + part] = counts.T
  weights.flags.writeable = False
  return weights


def mcnemar(first_correct: np.ndarray, second_correct: np.ndarray) -> float:
  """The exact two-sided p-value of "both models are right equally often", of McNemar's test.

  Of the clips on which just one model is right, each is as likely to be right then (McNemar,
  Psychometrika 12, 1947; exact, with the binomial distribution).

  Args:
    first_correct: bool[N], on which clips a model is right.
    second_correct: bool[N], on which another one is, of the same clips.
  """
  only_first = int((first_correct & ~second_correct).sum())
  only_second = int((second_correct & ~first_correct).sum())
  discordant, least = only_first + only_second, min(only_first, only_second)
  if 2 * least == discordant:
    return 1.0
  # log C(n, k) = sum of log (n - i + 1) / i over i = 1 ... k: the numbers themselves overflow.
  i = np.arange(1, least + 1)
  log_choices = np.concatenate([[0.0], np.cumsum(np.log((discordant - i + 1) / i))])
  # C(n, k) grows with k up to `least`, so that no term is above 0 = log 1 here.
  tail = np.exp(log_choices - log_choices[-1]).sum()
  return float(min(1.0, 2 * tail * np.exp(log_choices[-1] - discordant * math.log(2))))
