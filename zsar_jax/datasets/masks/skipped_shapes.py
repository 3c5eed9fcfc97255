"""Counts shapes that cannot be drawn, so that a single one does not cost the clip."""

import collections
import itertools
from collections.abc import Hashable

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.source import Remarks


class EmptyShape(ClipError):
  """A shape that encloses no pixel, such as a contour of two points."""


class DamagedShape(ClipError):
  """A shape whose pixels are unknown, so its frame is not annotated."""


class SkippedShapes:
  """Counts the drawn and the skipped shapes of one clip."""

  def __init__(self, remarks: Remarks):
    """Creates the counter; `check` adds 'shapes left out' to `remarks`."""
    self._remarks = remarks
    self._drawn: collections.Counter[Hashable] = collections.Counter()
    self._reasons: dict[Hashable, list[str]] = {}

  def count_drawn(self, category: Hashable) -> None:
    """Counts a drawn shape of a category."""
    self._drawn[category] += 1

  def skip(self, category: Hashable, error: EmptyShape | DamagedShape) -> None:
    """Counts a skipped shape of a category."""
    self._reasons.setdefault(category, []).append(error.reason)

  def check(self) -> None:
    """Adds the remark, after the clip's last shape.

    Raises:
      ClipError: Several shapes of a category were skipped and none was drawn: the file then holds
        something other than shapes, such as boxes. A single skipped shape proves nothing.
    """
    for category, reasons in self._reasons.items():
      if len(reasons) > 1 and not self._drawn[category]:
        raise ClipError(reasons[0])
    reasons = list(itertools.chain.from_iterable(self._reasons.values()))
    if reasons:
      total = len(reasons) + self._drawn.total()
      self._remarks['shapes left out'] = f'{len(reasons)} of {total}: {reasons[0]}'
