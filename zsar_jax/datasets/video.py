"""Describes the stored part of a video, and the facts on which its region planes depend."""

import dataclasses
import re
from collections.abc import Callable, Collection

import cv2
import numpy as np

from zsar_jax.data import records
from zsar_jax.data.sampling import SAMPLINGS, evaluation_indices
from zsar_jax.errors import UserError

# The side in pixels of the thumbnails by which frames are recognized.
THUMBNAIL_SIDE = 8

# The frames per second of most videos, for folders of frames, which do not state their rate.
DEFAULT_FPS = 30.0

# Returns the annotated frames of a video, given its number of frames and, if they are images of a
# folder, their numbers i64[N] in the file names, else None.
AnnotatedFrames = Callable[[int, np.ndarray | None], Collection[int]]


@dataclasses.dataclass(frozen=True)
class Storage:
  """The frames and pixels of a video that are stored.

  Attributes:
    short_side: frames are scaled down so that their shorter side has this many pixels, and
      smaller ones are left as they are; None keeps the size.
    jpeg_quality: 1 to 100.
    keep: which frames: 'all', 'every:N' for each N-th, 'segments:N' for the centers of N equal
      segments, or 'starts:N' or 'ends:N', see `sampling.evaluation_indices` (all frames of a video
      with fewer). Each frame that this selects is replaced by the nearest annotated frame among
      those that are closer to it than to the other selected frames, if there is one.
  """

  short_side: int | None = None
  jpeg_quality: int = records.JPEG_QUALITY
  keep: str = 'all'

  def __post_init__(self):
    rules = ('every', *SAMPLINGS)
    if not re.fullmatch(rf'all|({"|".join(rules)}):0*[1-9]\d*', self.keep):
      names = ', '.join(f'{rule}:N' for rule in rules)
      raise UserError(f'--keep: {self.keep!r} is none of all, {names}')

  def select_frames(self, num_frames: int, annotated: Collection[int] = ()) -> np.ndarray:
    """Returns i64[K], the frames of a video that are kept, ascending.

    Args:
      num_frames: the number of frames in the video.
      annotated: the annotated frames, from 0, if only some are annotated.
    """
    rule, _, number = self.keep.partition(':')
    if rule == 'every':
      kept = np.arange(0, num_frames, int(number))
    elif rule in SAMPLINGS and int(number) < num_frames:
      kept = evaluation_indices(num_frames, int(number), rule)
    else:
      return np.arange(num_frames)
    annotated = np.array(sorted(annotated), np.int64)
    # For each annotated frame, the index of the nearest selected frame.
    nearest = np.searchsorted((kept[:-1] + kept[1:] + 1) // 2, annotated, side='right')
    for index in np.unique(nearest):
      near = annotated[nearest == index]
      kept[index] = near[np.abs(near - kept[index]).argmin()]
    return kept

  def scaled_size(self, height: int, width: int) -> tuple[int, int]:
    """Returns the stored height and width of frames of `height` x `width`."""
    scale = 1.0 if self.short_side is None else min(1.0, self.short_side / min(height, width))
    return round(height * scale), round(width * scale)


@dataclasses.dataclass(frozen=True)
class VideoFacts:
  """The facts about a decoded video on which its region planes depend.

  Attributes:
    num_frames: N, of the full video.
    kept: i64[K], the frames that are stored, ascending, each in [0, N).
    height: H, of the stored frames in pixels.
    width: W, of the stored frames in pixels.
    source_height: the height of the video's frames before they were scaled to H x W.
    source_width: the width of the video's frames before they were scaled.
    thumbnails: u8[K, S, S], the luminance of the stored frames at the size `THUMBNAIL_SIDE`.
    numbers: i64[N], the numbers in the frames' file names, for a folder of images; None for a
      video file.
  """

  num_frames: int
  kept: np.ndarray
  height: int
  width: int
  source_height: int
  source_width: int
  thumbnails: np.ndarray
  numbers: np.ndarray | None = None


def make_thumbnail(frame: np.ndarray) -> np.ndarray:
  """Returns u8[S, S], the luminance of an RGB frame u8[H, W, 3] at the size `THUMBNAIL_SIDE`."""
  size = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
  small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
  return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)


@dataclasses.dataclass(frozen=True)
class StoredVideo:
  """The stored part of a video.

  Attributes:
    jpegs: its K kept frames.
    facts: their number and size.
    fps: kept frames per second.
    remarks: the remarks by kind.
  """

  jpegs: list[bytes]
  facts: VideoFacts
  fps: float
  remarks: dict[str, str]
