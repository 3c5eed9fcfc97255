"""Tracks the objects of a window: as many frames of a clip as fit into memory."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from zsar_jax.datasets.masks.boxes import RegionBox
from zsar_jax.mask_making.maker import FrameMask
from zsar_jax.mask_making.sam_video import Tracked
from zsar_jax.recipes.regions import REGION_BITS

# A box is of something tracked if it has this intersection over union with the box around its mask.
SAME_OBJECT = 0.5

# Objects in a window, which bounds the memory and the time.
MAX_OBJECTS = 64

# An object of which the others of its region cover this share does not continue in another window:
# it adds nothing to the plane, and a second track of the same thing would never end.
_COVERED = 0.8


class Session(Protocol):
  """What tracks objects through the frames of a window; see `sam_video.SamSession`."""

  def add_boxes(self, frame: int, boxes: Mapping[int, Sequence[float]]) -> dict[int, Tracked]:
    """See `SamSession`."""

  def add_masks(self, frame: int, masks: Mapping[int, np.ndarray]) -> dict[int, Tracked]:
    """See `SamSession`."""

  def track(self, frame: int, reverse: bool = False) -> dict[int, Tracked]:
    """See `SamSession`."""


@dataclasses.dataclass(frozen=True)
class Visible:
  """Something tracked that is visible in a frame.

  Attributes:
    region: 'person' or 'object'.
    mask: bool[H, W].
  """

  region: str
  mask: np.ndarray


class WindowTracker:
  """Tracks the objects of a window, and draws them."""

  def __init__(self, session: Session, length: int, size: tuple[int, int]):
    """Creates the tracker.

    Args:
      session: tracks through the frames of the window.
      length: the number of its frames.
      size: the height and width of the frames.
    """
    self._session = session
    self._planes = [np.zeros(size, np.uint8) for _ in range(length)]
    self._people = [0] * length
    self._scores: list[list[float]] = [[] for _ in range(length)]
    # By the number of the object: its region, and the frame where its track begins.
    self._regions: dict[int, str] = {}
    self._first: dict[int, int] = {}
    # The objects in the first and in the last frame.
    self._ends: dict[int, dict[int, Visible]] = {0: {}, length - 1: {}}

  def carry(self, frame: int, objects: Sequence[Visible]) -> None:
    """Continues the tracks of another window.

    Args:
      frame: the index of the frame that both windows have: the first or the last.
      objects: what is visible there, at least one.
    """
    numbers = self._begin(frame, [carried.region for carried in objects])
    masks = {number: carried.mask for number, carried in zip(numbers, objects, strict=True)}
    self._draw(frame, self._session.add_masks(frame, masks), numbers)

  def track_forwards(self, seeds: Mapping[int, Sequence[RegionBox]]) -> None:
    """Follows all objects to the last frame.

    Args:
      seeds: {index of a frame: boxes}. Those of nothing that is tracked already begin a track, the
        ones of higher scores first, up to `MAX_OBJECTS`.
    """
    for frame in range(len(self._planes)):
      known = [number for number, first in self._first.items() if first < frame]
      tracked = self._session.track(frame) if known else {}
      self._draw(frame, tracked, known)
      new = [box for box in seeds.get(frame, ()) if not self._is_tracked(box, tracked)]
      new = sorted(new, key=lambda box: -box.score)[: MAX_OBJECTS - len(self._regions)]
      if new:
        numbers = self._begin(frame, [box.region for box in new])
        edges = {
          number: (box.x1, box.y1, box.x2, box.y2) for number, box in zip(numbers, new, strict=True)
        }
        self._draw(frame, self._session.add_boxes(frame, edges), numbers)

  def track_backwards(self) -> None:
    """Follows all objects from where their tracks begin to the first frame."""
    for frame in reversed(range(max(self._first.values(), default=0))):
      later = [number for number, first in self._first.items() if first > frame]
      self._draw(frame, self._session.track(frame, reverse=True), later)

  def visible(self, frame: int) -> list[Visible]:
    """Returns the objects in the first or the last frame, but not those that others cover."""
    objects = sorted(
      self._ends[frame].values(), key=lambda tracked: -np.count_nonzero(tracked.mask)
    )
    covered = np.zeros_like(self._planes[frame])
    visible = []
    for tracked in objects:
      bit = np.uint8(REGION_BITS[tracked.region])
      if (covered[tracked.mask] & bit).mean() / bit < _COVERED:
        visible.append(tracked)
        covered[tracked.mask] |= bit
    return visible

  def masks(self) -> list[FrameMask]:
    """Returns the masks of the frames. Their scores are those of `sam_video.Tracked`."""
    return [
      FrameMask(plane, people, min(scores, default=np.nan))
      for plane, people, scores in zip(self._planes, self._people, self._scores, strict=True)
    ]

  def _begin(self, frame: int, regions: Sequence[str]) -> list[int]:
    """Returns the numbers of new objects in a frame."""
    numbers = list(range(len(self._regions), len(self._regions) + len(regions)))
    self._regions.update(zip(numbers, regions, strict=True))
    self._first.update(dict.fromkeys(numbers, frame))
    return numbers

  def _draw(self, frame: int, tracked: Mapping[int, Tracked], numbers: Iterable[int]) -> None:
    """Draws the objects with these numbers, each once in a frame."""
    for number in numbers:
      mask, region = tracked[number].mask, self._regions[number]
      if mask.any():
        self._planes[frame][mask] |= np.uint8(REGION_BITS[region])
        self._people[frame] += region == 'person'
        self._scores[frame].append(tracked[number].score)
        if frame in self._ends:
          self._ends[frame][number] = Visible(region, mask)

  def _is_tracked(self, box: RegionBox, tracked: Mapping[int, Tracked]) -> bool:
    """Returns whether one of the objects in a frame is what a box encloses."""
    return any(
      self._regions[number] == box.region and _overlap(box, found.mask) >= SAME_OBJECT
      for number, found in tracked.items()
    )


def _overlap(box: RegionBox, mask: np.ndarray) -> float:
  """Returns the intersection over union of a box and the box around a mask; 0 if it is empty."""
  rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
  if not len(rows):
    return 0.0
  x1, y1, x2, y2 = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
  width = min(box.x2, x2) - max(box.x1, x1)
  height = min(box.y2, y2) - max(box.y1, y1)
  common = max(width, 0.0) * max(height, 0.0)
  areas = (box.x2 - box.x1) * (box.y2 - box.y1) + (x2 - x1) * (y2 - y1)
  return float(common / (areas - common))
