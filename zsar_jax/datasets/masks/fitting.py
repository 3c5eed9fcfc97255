"""Masks of another size than the video's frames: scaled where they can be, refused otherwise."""

import collections

import cv2
import numpy as np

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.source import Remarks
from zsar_jax.datasets.video import VideoFacts
from zsar_jax.runtime.wording import pluralize

# No mask has longer sides; what claims to is not decoded.
MAX_SIDE = 16384

# How far a mask's aspect ratio may be off the video's, as a share of it.
_TOLERANCE = 0.01


class Fitting:
  """Brings the masks of one clip to the size of its stored frames."""

  def __init__(self, video: VideoFacts, remarks: Remarks):
    """Gets 'masks resized' in `remarks` for sizes that are neither the video's nor the stored."""
    self._video = video
    self._remarks = remarks
    self._resized = collections.Counter()

  def check(self, height: int, width: int, where: str) -> None:
    """Refuses a size that cannot be the video's.

    Args:
      height: of a mask, or of the image that it was drawn on, in pixels.
      width: of the same.
      where: the mask, for the error.

    Raises:
      ClipError: if the size is absurd or has another aspect ratio than the video.
    """
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
      raise ClipError(f'{where}: a mask of {width} x {height} pixels is not read; make it again')
    video = self._video
    size = (height, width)
    if size in ((video.source_height, video.source_width), (video.height, video.width)):
      return
    if not _proportional(size, (video.source_height, video.source_width)):
      raise ClipError(
        f'{where}: the mask is {width} x {height} and the video {video.source_width} x '
        f'{video.source_height}, which is another aspect ratio; it may be letterboxed or rotated: '
        "make masks of the video's own frames"
      )
    self._resized[size] += 1
    self._remarks['masks resized'] = '; '.join(
      f'{pluralize(count, "mask")}, from {width} x {height}'
      for (height, width), count in self._resized.items()
    )

  def scale(self, plane: np.ndarray) -> np.ndarray:
    """The u8[H, W] plane of the stored frame, from a u8[h, w] plane of a size that was checked."""
    if plane.shape == (self._video.height, self._video.width):
      return plane
    size = (self._video.width, self._video.height)
    return cv2.resize(plane, size, interpolation=cv2.INTER_NEAREST_EXACT)


def _proportional(size: tuple[int, int], other: tuple[int, int]) -> bool:
  """Whether two sizes have the same aspect ratio, but for one pixel a side or one per cent."""
  if size == other[::-1]:
    return False  # Transposed, however near to square.
  scales = [side / wanted for side, wanted in zip(size, other, strict=True)]
  slack = [1 / wanted for wanted in other]
  return abs(scales[0] - scales[1]) <= max(sum(slack), _TOLERANCE * min(scales))
