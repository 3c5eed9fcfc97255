"""Boxes around persons and objects, and the interface of their sources."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Protocol

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
  """The boxes of one clip before they are read: a small frozen dataclass that pickles."""

  def annotated_frames(self, num_frames: int, frame_numbers: np.ndarray | None) -> Collection[int]:
    """Returns the frames whose boxes are known; see `source.ClipMasks`."""

  def boxes(self, video: VideoFacts, remarks: Remarks) -> Iterator[list[RegionBox] | None]:
    """Reads the boxes of the K kept frames, in order.

    Args:
      video: the decoded video.
      remarks: receives the observations about the boxes, before the last frame's are yielded.

    Yields:
      The boxes of a frame, in pixels of the stored frame, possibly beyond its edges; None for a
      frame that is not annotated.

    Raises:
      records.ClipError: A box cannot be read, or cannot belong to this video.
    """


class BoxSource(Protocol):
  """The boxes of a data set."""

  @property
  def region_names(self) -> tuple[str, ...]:
    """The regions that its boxes may have, of 'person' and 'object'."""

  @property
  def parameters(self) -> Mapping[str, Any]:
    """Everything but the files that determines the boxes, as JSON values."""

  def for_clip(self, clip: ListedClip) -> ClipBoxes | None:
    """Returns the boxes of a clip, or None if the source has none for it."""
