"""The interface of mask sources: `MaskSource` for a data set, `ClipMasks` for one clip."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from zsar_jax.datasets.sources.listing import ListedClip
from zsar_jax.datasets.video import VideoFacts

# Observations about one clip's masks: {kind: details}, such as {'masks resized': '1 mask, from
# 72 x 48'}. The build report counts the clips of each kind and names them.
Remarks = dict[str, str]


class ClipMasks(Protocol):
  """The masks of one clip before they are read: a small frozen dataclass that pickles."""

  def annotated_frames(self, num_frames: int, frame_numbers: np.ndarray | None) -> Collection[int]:
    """Returns the frames that have a region plane, counted from 0.

    Args:
      num_frames: N, the number of frames in the video.
      frame_numbers: i64[N], the numbers in the frames' file names where the video is a folder of
        images; None for a video file.

    Raises:
      records.ClipError: The masks cannot belong to this video.
    """

  def planes(self, video: VideoFacts, remarks: Remarks) -> Iterator[np.ndarray | None]:
    """Draws the planes of the K kept frames, in order.

    Args:
      video: the decoded video.
      remarks: receives the observations about the masks, before the last plane is yielded.

    Yields:
      u8[H, W], the region plane of a frame, or None for a frame that is not annotated.

    Raises:
      records.ClipError: A mask cannot be read, or cannot belong to this video.
    """


class MaskSource(Protocol):
  """The masks of a data set."""

  @property
  def region_names(self) -> tuple[str, ...]:
    """The names in `regions.REGION_BITS` that the source may draw."""

  @property
  def parameters(self) -> Mapping[str, Any]:
    """Everything but the files that determines the planes, as JSON values."""

  def for_clip(self, clip: ListedClip) -> ClipMasks | None:
    """Returns the masks of a clip, or None if the source has none for it."""
