"""Parses the lines of YOLO's text files.

A line is `class x1 y1 x2 y2 ...` with the corners of a polygon, or `class x y w h` with the center
and the size of a box, as fractions of the frame's width and height. A confidence and a track's id
may follow.
"""

import dataclasses
import math

import numpy as np

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.region_labels import label_bit
from zsar_jax.datasets.masks.skipped_shapes import EmptyShape
from zsar_jax.recipes.regions import OBJECT_BOX, PERSON_BOX

# How far rounding may move a coordinate out of the range 0 to 1.
_TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class LineFormat:
  """The settings for reading lines.

  Attributes:
    bits: the region's bit of each class, in digits, and of '*' for all others.
    score: lines with a lower confidence are left out.
    extra: how many numbers follow the coordinates; None infers it from their count.
  """

  bits: dict[str, int]
  score: float
  extra: int | None


def parse_line(line: str, line_format: LineFormat, where: str) -> tuple[int, np.ndarray, float]:
  """Parses a line.

  Args:
    line: has at least one word.
    line_format: how it is read.
    where: the line, for errors.

  Returns:
    bit: the bit of the region, or 0 if the line is left out.
    points: f64[P, 2], x and y as fractions of the frame: the P >= 3 corners of a polygon, or two
      opposite corners of a box. Undefined if `bit` is 0.
    confidence: from 0 to 1; 1 if the line has none.

  Raises:
    EmptyShape: The line has too few coordinates or one that is not finite, or it is a box where
      a shape is needed: ultralytics writes contours of one and two points, and empty ones.
    ClipError: The line is not of this format.
  """
  category, numbers = _parse_numbers(line, where)
  bit = label_bit(line_format.bits, category)
  if not bit:
    return 0, np.empty((0, 2)), 1.0
  extra = _count_extra(numbers, where) if line_format.extra is None else line_format.extra
  coordinates = numbers[: max(0, len(numbers) - extra)]
  points = np.array(coordinates[: len(coordinates) // 2 * 2]).reshape(-1, 2)
  about = f'{where}: {len(numbers)} numbers after the class are neither a box nor a polygon'
  if len(coordinates) >= 4 and len(coordinates) % 2:
    raise ClipError(
      about
      + (f', of which {extra} are no coordinates by extra={extra}' if extra else '')
      + '; give extra=0, 1 or 2, the count of numbers after the coordinates'
    )
  if len(points) > 1 and np.isfinite(points).all():
    _check_range(points, where)
  has_confidence = extra and len(numbers) > len(coordinates)
  confidence = numbers[len(coordinates)] if has_confidence else 1.0
  _check_confidence(confidence, where)
  if confidence < line_format.score:
    return 0, points, confidence
  if len(points) < 2:
    raise EmptyShape(about)
  if not np.isfinite(points).all():
    raise EmptyShape(f'{where}: coordinates must be from 0 to 1, and one is not a number')
  if len(points) == 2:
    if bit not in (PERSON_BOX, OBJECT_BOX):
      raise EmptyShape(
        f'{where} is a box and not a polygon; give values={category}:person_box or object_box'
      )
    center, size = points
    points = np.stack([center - size / 2, center + size / 2])
  return bit, np.clip(points, 0, 1), confidence


def _parse_numbers(line: str, where: str) -> tuple[int, list[float]]:
  """Returns the class and the numbers after it."""
  try:
    category, *numbers = [float(word) for word in line.split()]
  except ValueError:
    raise ClipError(f'{where}: {line[:40]!r} has more than numbers; make it again') from None
  if not (category >= 0 and category.is_integer()):
    raise ClipError(f'{where}: the class must be a whole number, not {category:g}')
  return int(category), numbers


def _check_range(points: np.ndarray, where: str) -> None:
  if not ((points >= -_TOLERANCE) & (points <= 1 + _TOLERANCE)).all():
    raise ClipError(
      f'{where}: coordinates must be from 0 to 1; pixels are not accepted, and if a track id ends '
      'the line, save without it or give extra=2'
    )


def _check_confidence(confidence: float, where: str) -> None:
  if not math.isfinite(confidence):
    raise EmptyShape(f'{where}: the confidence must be from 0 to 1, not {confidence:g}')
  if not 0 <= confidence <= 1:
    raise ClipError(
      f'{where}: the confidence must be from 0 to 1, not {confidence:g}; if a track id ends the '
      'line, save it with a confidence or without the id'
    )


def _count_extra(numbers: list[float], where: str) -> int:
  """Infers how many numbers follow the coordinates, as far as the count of all numbers tells."""
  if len(numbers) % 2:
    return 1
  # Coordinates with a confidence and the id 1 look like a polygon with one more corner, on the
  # frame's lower edge, where polygons rarely end. Other ids are larger than any coordinate.
  if len(numbers) > 4 and numbers[-1] == 1:
    raise ClipError(
      f"{where}: the last number, 1, may be a coordinate or a track's id; give extra=0 or extra=2"
    )
  return 0
