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

  def inpainted(
    self, video: VideoFacts, jpeg_quality: int, remarks: Remarks
  ) -> Iterator[bytes] | None:
    """Reads the K kept frames without their people, in order; None if there are none.

    Args:
      video: the decoded video.
      jpeg_quality: 1 to 100, for frames that are scaled to the size of the stored ones.
      remarks: receives the observations about the frames, before the last one is yielded.

    Yields:
      A JPEG of u8[H, W, 3], or b'' for a frame from which nobody was removed.

    Raises:
      records.ClipError: A frame cannot be read, or cannot belong to this video.
    """


class MaskSource(Protocol):
  """The masks of a data set."""

  @property
  def region_names(self) -> tuple[str, ...]:
    """The names in `regions.REGION_BITS` that the source may draw."""

  @property
  def has_inpainted(self) -> bool:
    """Whether its clips have inpainted frames, see `ClipMasks.inpainted`."""

  @property
  def parameters(self) -> Mapping[str, Any]:
    """Everything but the files that determines the planes, as JSON values."""

  def for_clip(self, clip: ListedClip) -> ClipMasks | None:
    """Returns the masks of a clip, or None if the source has none for it."""
