"""Figures as ratios of two sums over clips.

A figure keeps the summands of each clip, because `study.statistics` draws its bootstrap samples
from them.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Ratio:
  """A ratio of two sums over clips, or the mean of such ratios over groups of clips.

  Attributes:
    numerator: f64[N], or f64[S, N] for S seeds that are evaluated on the same clips.
    denominator: same shape, nowhere negative. Both are 0 for clips that do not count.
    counted: bool, same shape: which clips count. By default those with a positive denominator.
    groups: i64[N], the group of each clip: the figure is the mean of the groups' ratios, over the
      groups whose ratio is defined. None for a single group.
    chance: same shape as `numerator`: its expected value for a model that guesses evenly among all
      classes. None for a figure without a chance level.
  """

  numerator: np.ndarray
  denominator: np.ndarray
  counted: np.ndarray | None = None
  groups: np.ndarray | None = None
  chance: np.ndarray | None = None

  @property
  def mask(self) -> np.ndarray:
    """bool, same shape as `numerator`: which clips count."""
    return self.denominator > 0 if self.counted is None else self.counted

  @property
  def counted_clips(self) -> np.ndarray:
    """bool[N]: which clips count for at least one seed."""
    return np.any(np.atleast_2d(self.mask), axis=0)

  @property
  def group_positions(self) -> list[np.ndarray]:
    """The positions of the clips of each group, i64[n]."""
    if self.groups is None:
      return [np.arange(self.numerator.shape[-1])]
    order = np.argsort(self.groups, kind='stable')
    return np.split(order, np.flatnonzero(np.diff(self.groups[order])) + 1)

  @property
  def per_seed(self) -> np.ndarray:
    """f64[S]: the figure of each seed; NaN if no denominator is positive."""
    return nan_mean(self.by_group)

  @property
  def by_group(self) -> list[np.ndarray]:
    """f64[S] for each group: the group's ratio of each seed; NaN if it is undefined."""
    numerator, denominator = map(np.atleast_2d, (self.numerator, self.denominator))
    return [
      divide(numerator[:, clips].sum(1), denominator[:, clips].sum(1))
      for clips in self.group_positions
    ]

  @property
  def value(self) -> float:
    """The mean over the seeds; NaN if the figure of any seed is undefined."""
    return float(self.per_seed.mean())

  @property
  def chance_level(self) -> float | None:
    """The value for a model that guesses evenly among all classes; None if there is none."""
    if self.chance is None:
      return None
    level = dataclasses.replace(self, numerator=self.chance).value
    return level if math.isfinite(level) else None

  def restrict(self, clips: np.ndarray | np.bool_) -> 'Ratio':
    """Returns the figure over some of the clips: bool[N], or bool[S, N] to choose per seed."""
    return dataclasses.replace(
      self,
      numerator=self.numerator * clips,
      denominator=self.denominator * clips,
      counted=self.mask & clips,
      chance=None if self.chance is None else self.chance * clips,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Combination:
  """A figure that is computed from ratios of the same clips, such as their harmonic mean.

  Attributes:
    function: maps the values of the ratios, as arrays of one shape, to those of the figure.
    ratios: over the same clips and with the same groups. With groups, the function is applied to
      the ratios of each group, and the figure is the mean over the groups for which it is defined.
  """

  function: Callable[..., np.ndarray]
  ratios: tuple[Ratio, ...]

  @property
  def counted_clips(self) -> np.ndarray:
    """bool[N]: which clips count in any of the ratios."""
    return np.any([ratio.counted_clips for ratio in self.ratios], axis=0)

  @property
  def per_seed(self) -> np.ndarray:
    """f64[S]: the figure of each seed; NaN if it is undefined."""
    by_ratio = zip(*(ratio.by_group for ratio in self.ratios), strict=True)
    return nan_mean([self.function(*of_group) for of_group in by_ratio])

  @property
  def value(self) -> float:
    """The mean over the seeds; NaN if the figure of any seed is undefined."""
    return float(self.per_seed.mean())


def mean(
  values: np.ndarray,
  counted: np.ndarray,
  chance: float | None = None,
  groups: np.ndarray | None = None,
) -> Ratio:
  """Returns the mean of `values` over the clips that count.

  Args:
    values: [N], of each clip.
    counted: bool[N], which clips count.
    chance: the expected value of each clip for a model that guesses.
    groups: see `Ratio`.
  """
  weights = counted.astype(np.float64)
  summands = np.where(counted, values, 0).astype(np.float64)
  return Ratio(
    summands, weights, groups=groups, chance=None if chance is None else chance * weights
  )


def stack_seeds(ratios: Sequence[Ratio]) -> Ratio:
  """Combines the figures of several seeds, f64[N] each, to one of f64[S, N]."""
  chances = [ratio.chance for ratio in ratios if ratio.chance is not None]
  return Ratio(
    np.stack([ratio.numerator for ratio in ratios]),
    np.stack([ratio.denominator for ratio in ratios]),
    np.stack([ratio.mask for ratio in ratios]),
    ratios[0].groups,
    np.stack(chances) if len(chances) == len(ratios) else None,
  )


def restrict_to_common(first: Ratio, second: Ratio) -> tuple[Ratio, Ratio]:
  """Restricts two figures to the clips that count in both, seed by seed, to compare them.

  Raises:
    ValueError: they have different numbers of seeds or clips.
  """
  if first.numerator.shape != second.numerator.shape:
    raise ValueError(f'shapes differ: {first.numerator.shape} and {second.numerator.shape}')
  common = first.mask & second.mask
  return first.restrict(common), second.restrict(common)


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
  """Divides elementwise; NaN where the denominator is 0."""
  with np.errstate(divide='ignore', invalid='ignore'):
    return np.where(denominator == 0, np.nan, numerator / denominator)


def nan_mean(arrays: Sequence[np.ndarray]) -> np.ndarray:
  """The elementwise mean of arrays of one shape over the values that are not NaN."""
  stacked = np.stack(arrays)
  valid = ~np.isnan(stacked)
  return divide(np.where(valid, stacked, 0).sum(axis=0), valid.sum(axis=0))
