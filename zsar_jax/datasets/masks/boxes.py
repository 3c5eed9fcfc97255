"""The interface of sources of boxes: `BoxSource` for a data set, `ClipBoxes` for one clip."""

import dataclasses
from collections.abc import Collection, Iterator
from typing import Protocol

import numpy as np

from zsar_jax.datasets.masks.source import Remarks
from zsar_jax.datasets.sources.listing import ListedClip
from zsar_jax.datasets.video import VideoFacts


@dataclasses.dataclass(frozen=True)
class RegionBox:
  """A box in a frame.

  Attributes:
    region: 'person' or 'object', what the box encloses. Hands count as persons.
    x1: the left edge in pixels.
    y1: the upper edge in pixels.
    x2: the right edge in pixels, exclusive.
    y2: the lower edge in pixels, exclusive.
    score: the confidence of the detector, from 0 to 1; 1 for an annotation.
  """

  region: str
  x1: float
  y1: float
  x2: float
  y2: float
  score: float = 1.0


class ClipBoxes(Protocol):
  """The boxes of one clip before they are read; it pickles."""

  def annotated_frames(self, num_frames: int, frame_numbers: np.ndarray | None) -> Collection[int]:
    """See `source.ClipMasks`."""

  def boxes(self, video: VideoFacts, remarks: Remarks) -> Iterator[list[RegionBox] | None]:
    """Yields the boxes of each kept frame, or None for a frame that is not annotated.

    Raises:
      records.ClipError: the boxes cannot be read, or cannot belong to this video.
    """


class BoxSource(Protocol):
  """The boxes of a data set."""

  def for_clip(self, clip: ListedClip) -> ClipBoxes | None:
    """Returns the boxes of a clip, or None if the source has none for it."""
