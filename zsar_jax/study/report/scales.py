"""Axes: where a number lies, and which numbers are written beside it."""

import dataclasses
import math
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Axis:
  """A span of numbers.

  Attributes:
    low, high: its ends, low < high.
    ticks: the numbers to write, all inside.
  """

  low: float
  high: float
  ticks: tuple[float, ...]

  def place(self, value: float) -> float:
    """Where the value lies, 0 at the low end and 1 at the high one; outside values at the end."""
    return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


def axis(values: Iterable[float | None], ticks: int = 4, least: float = 0.0) -> Axis:
  """An axis with round ends about the values and 0.

  Args:
    values: what is to lie on it; None is left out.
    ticks: about how many.
    least: the least span.
  """
  values = [value for value in values if value is not None] + [0.0]
  low, high = min(values), max(values)
  if high - low < max(least, 1e-9):
    high = low + max(least, 1e-9)
  step = _round_step((high - low) / ticks)
  first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
  marks = tuple(number * step for number in range(first, last + 1))
  return Axis(marks[0], marks[-1], marks)


def _round_step(rough: float) -> float:
  """1, 2 or 5 times a power of ten, not below `rough`."""
  power = 10.0 ** math.floor(math.log10(rough))
  return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
