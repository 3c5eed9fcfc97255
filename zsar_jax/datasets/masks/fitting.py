"""Fits masks to the size of a video's frames, or refuses those of another aspect ratio."""

import collections

import cv2
import numpy as np

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.source import Remarks
from zsar_jax.datasets.video import VideoFacts
from zsar_jax.runtime.wording import pluralize

# The longest side of a mask in pixels; a larger mask is not decoded.
MAX_SIDE = 16384

# The relative difference allowed between the aspect ratios of a mask and the video.
_TOLERANCE = 0.01


class Fitting:
  """Brings the masks of one clip to the size of its stored frames."""

  def __init__(self, video: VideoFacts, remarks: Remarks):
    """Creates the fitting.

    Args:
      video: the decoded video.
      remarks: receives 'masks resized' for sizes other than the video's and the stored frames'.
    """
    self._video = video
    self._remarks = remarks
    self._resized: collections.Counter[tuple[int, int]] = collections.Counter()

  def check(self, height: int, width: int, where: str) -> None:
    """Checks that a size may be the video's.

    Args:
      height: the height of a mask, or of the image that it was drawn on, in pixels.
      width: the width of the same.
      where: the mask, for errors.

    Raises:
      ClipError: The size is absurd or has another aspect ratio than the video.
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
        f'{video.source_height}, which is another aspect ratio, so the mask may be letterboxed or '
        "rotated; make masks of the video's own frames"
      )
    self._resized[size] += 1
    self._remarks['masks resized'] = '; '.join(
      f'{pluralize(count, "mask")}, from {width} x {height}'
      for (height, width), count in self._resized.items()
    )

  def scale(self, plane: np.ndarray) -> np.ndarray:
    """Scales a u8[h, w] plane, of a size that was checked, to u8[H, W] of the stored frame."""
    if plane.shape == (self._video.height, self._video.width):
      return plane
    size = (self._video.width, self._video.height)
    return cv2.resize(plane, size, interpolation=cv2.INTER_NEAREST_EXACT)


def _proportional(size: tuple[int, int], other: tuple[int, int]) -> bool:
  """Returns whether two aspect ratios agree, up to one pixel per side or one percent."""
  if size == other[::-1]:
    return False  # Transposed, even if almost square.
  scales = [side / other_side for side, other_side in zip(size, other, strict=True)]
  one_pixel = sum(1 / side for side in other)
  return abs(scales[0] - scales[1]) <= max(one_pixel, _TOLERANCE * min(scales))
