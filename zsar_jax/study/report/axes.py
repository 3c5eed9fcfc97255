"""Axes of the report's charts: their ends, their ticks and the positions of values on them."""

import dataclasses
import math
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Axis:
  """A span of numbers.

  Attributes:
    low, high: its ends, low < high.
    ticks: the numbers to label, all within the ends.
  """

  low: float
  high: float
  ticks: tuple[float, ...]

  def position(self, value: float, start: float = 0.0, end: float = 1.0) -> float:
    """Where to draw a value.

    Args:
      value: a number; one beyond the ends is drawn at the end.
      start, end: where the low and the high end are drawn.
    """
    share = (value - self.low) / (self.high - self.low)
    return start + (end - start) * min(1.0, max(0.0, share))


def axis(values: Iterable[float | None], ticks: int = 4, min_span: float = 0.0) -> Axis:
  """An axis with round ends that includes 0 and all values.

  Args:
    values: numbers to draw; None is ignored.
    ticks: the approximate number of ticks.
    min_span: the axis spans at least this.
  """
  values = [value for value in values if value is not None] + [0.0]
  low, high = min(values), max(values)
  min_span = max(min_span, 1e-9)
  if high - low < min_span:
    high = low + min_span
  step = _round_step((high - low) / ticks)
  first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
  marks = tuple(number * step for number in range(first, last + 1))
  return Axis(marks[0], marks[-1], marks)


def _round_step(rough: float) -> float:
  """The smallest of 1, 2 or 5 times a power of ten that is at least `rough`."""
  power = 10.0 ** math.floor(math.log10(rough))
  return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
