"""Shapes that cannot be drawn: left out and counted, so that one of them does not cost the clip."""

import collections
import itertools
from collections.abc import Hashable

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.source import Remarks


class EmptyShape(ClipError):
  """A shape that encloses nothing, such as a contour of two points."""


class DamagedShape(ClipError):
  """A shape that does not tell what it encloses: its frame is not annotated."""


class LeftOut:
  """Counts the shapes of one clip that are drawn and those that are left out."""

  def __init__(self, remarks: Remarks):
    """Gets 'shapes left out' in `remarks`, from `check`."""
    self._remarks = remarks
    self._drawn = collections.Counter()
    self._reasons: dict[Hashable, list[str]] = {}

  def count(self, category: Hashable) -> None:
    """Counts a shape of a category that was drawn."""
    self._drawn[category] += 1

  def add(self, category: Hashable, error: EmptyShape | DamagedShape) -> None:
    """Counts a shape of a category that was not drawn."""
    self._reasons.setdefault(category, []).append(error.reason)

  def check(self) -> None:
    """After the clip's last shape: raises a `ClipError` where all of a category were left out.

    Then the file holds something else than shapes, such as boxes. A single one proves nothing.
    """
    for category, reasons in self._reasons.items():
      if len(reasons) > 1 and not self._drawn[category]:
        raise ClipError(reasons[0])
    reasons = list(itertools.chain.from_iterable(self._reasons.values()))
    if reasons:
      total = len(reasons) + self._drawn.total()
      self._remarks['shapes left out'] = f'{len(reasons)} of {total}: {reasons[0]}'
