"""Masks of what moves, made without any weights: a weak default that works offline.

It finds what moves against the scene. A person who stands still is not found, waving arms are found
without the person, and so are cars, shadows and water.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from zsar_jax.errors import UserError
from zsar_jax.mask_making.camera_motion import equalize_contrast, register
from zsar_jax.mask_making.maker import FrameMask, MakerClip
from zsar_jax.mask_making.refinement import dilate_shape
from zsar_jax.recipes.regions import REGION_BITS

# Frames are analyzed with this many pixels on their shorter side.
_SHORT_SIDE = 240

# Each frame is compared with this many others on either side, which are this many seconds apart. A
# person has to leave a pixel within this time; over a longer time, errors of the registration grow.
_REACH = 8
_SPACING = 0.15

# The differences of colors that count as a movement, in levels of CIELAB as OpenCV scales them, and
# as a multiple of the median difference, which is due to noise.
_THRESHOLD = 14.0
_NOISE_FACTOR = 6.0
_CHROMA_WEIGHT = 1.5

# A difference counts at most this multiple of the threshold. A pixel moves if the mean over the
# other frames is larger than the second number: here, if two fifths of them differ clearly. A
# higher number misses people who move little; a lower one adds the pixels that they left long ago.
_MAX_COUNT = 2.0
_MOVING = 0.8

# Two frames show different scenes if more than this share of their pixels differ.
_CUT = 0.6

# The result is smoothed with this standard deviation in pixels. Specks up to this radius, and parts
# up to this share of the frame, are dropped; gaps up to twice this share of the rows are closed.
_SMOOTHING = 1.5
_SPECK_RADIUS = 1.0
_MIN_PART = 0.002
_GAP = 0.04


@dataclasses.dataclass(frozen=True)
class MotionSpec:
  """Finds what moves, a `maker.MakerSpec`.

  Attributes:
    region: 'person' or 'object', what is said to move.
  """

  region: str = 'person'
  uses_device = False
  batch_frames = 0

  def __post_init__(self):
    if self.region not in ('person', 'object'):
      raise UserError(f'--region: {self.region!r} is neither person nor object')

  def open(self) -> 'MotionMaker':
    """Creates the maker."""
    return MotionMaker(self.region)


@dataclasses.dataclass(frozen=True)
class MotionMaker:
  """Finds what moves, a `maker.Maker`.

  A frame is compared with others of the next and the last seconds, after the camera's movement
  between them was undone. A pixel moves if it differs from many of them. Frames beyond a cut are
  not compared. The regions of a frame that cannot be compared with any other, such as the only
  frame of a clip, are unknown.

  Attributes:
    region: the region that moves.
  """

  region: str

  @property
  def regions(self) -> tuple[str, ...]:
    """See `Maker`."""
    return (self.region,)

  @property
  def provenance(self) -> dict[str, Any]:
    """See `Maker`."""
    return {
      'maker': 'motion',
      'about': 'what moves, found without a network: a weak default',
      'weak': True,
      'licenses': {},
      'region': self.region,
      'short_side': _SHORT_SIDE,
      'seconds': _SPACING * _REACH,
      'threshold': _THRESHOLD,
      'moving': _MOVING,
    }

  def make(self, clips: Sequence[MakerClip]) -> Iterator[FrameMask | None]:
    """See `Maker`."""
    bit = np.uint8(REGION_BITS[self.region])
    for clip in clips:
      for moving in _find_moving(clip):
        yield None if moving is None else FrameMask(np.where(moving, bit, np.uint8(0)))


class _Picture:
  """A frame as it is compared.

  Attributes:
    detail: u8[h, w], grey for the registration, see `equalize_contrast`.
    color: u8[h, w, 3], CIELAB.
    low: u8[h, w, 3], the lowest values of `color` among a pixel and its neighbors.
    high: u8[h, w, 3], the highest.
  """

  def __init__(self, frame: np.ndarray):
    scale = _SHORT_SIDE / min(frame.shape[:2])
    if scale < 1:
      height, width = (max(1, round(side * scale)) for side in frame.shape[:2])
      frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    self.detail = equalize_contrast(frame)
    self.color = cv2.cvtColor(cv2.GaussianBlur(frame, (3, 3), 0), cv2.COLOR_RGB2Lab)
    neighbors = np.ones((3, 3), np.uint8)
    self.low, self.high = (morph(self.color, neighbors) for morph in (cv2.erode, cv2.dilate))


class _Anchors:
  """Every n-th frame of a clip, each of them registered to the next.

  Pictures and transforms are made when they are needed, and kept until `forget`.

  Attributes:
    last: the number of the last anchor, counted from 0.
  """

  def __init__(self, clip: MakerClip):
    self._frames = clip.frames
    self._step = max(1, round(_SPACING * clip.fps))
    self.last = (len(self._frames) - 1) // self._step
    self._pictures: dict[int, _Picture] = {}
    self._transforms: dict[int, np.ndarray | None] = {}

  def locate(self, index: int) -> tuple[_Picture, int, np.ndarray | None]:
    """Registers a frame to an anchor.

    Args:
      index: the number of the frame, which must not be lower than in earlier calls.

    Returns:
      The frame, the number of an anchor beside it, and f64[3, 3], the transform from the anchor to
      the frame; None if both anchors beside it show another scene.
    """
    before, offset = divmod(index, self._step)
    self._forget(before - _REACH)
    if not offset:
      return self.picture(before), before, np.eye(3)
    picture = _Picture(self._frames[index])
    for anchor in range(before, min(before + 1, self.last) + 1):
      transform = _connect(self.picture(anchor), picture)
      if transform is not None:
        return picture, anchor, transform
    return picture, before, None

  def picture(self, anchor: int) -> _Picture:
    """Returns the picture of an anchor."""
    if anchor not in self._pictures:
      self._pictures[anchor] = _Picture(self._frames[anchor * self._step])
    return self._pictures[anchor]

  def around(self, anchor: int, transform: np.ndarray) -> Iterator[tuple[_Picture, np.ndarray]]:
    """Yields the other anchors of the same scene, up to `_REACH` on either side.

    Args:
      anchor: the number of the anchor in the middle.
      transform: f64[3, 3], the transform from it to a frame.

    Yields:
      A picture, and f64[3, 3], the transform from it to the frame.
    """
    for direction in (-1, 1):
      to_frame, other = transform, anchor
      for _ in range(_REACH):
        if not 0 <= other + direction <= self.last:
          break
        link = self._link(min(other, other + direction))
        if link is None:
          break
        to_frame = to_frame @ (link if direction < 0 else np.linalg.inv(link))
        other += direction
        yield self.picture(other), to_frame

  def _link(self, anchor: int) -> np.ndarray | None:
    """Returns the transform from an anchor to the next; None across a cut."""
    if anchor not in self._transforms:
      self._transforms[anchor] = _connect(self.picture(anchor), self.picture(anchor + 1))
    return self._transforms[anchor]

  def _forget(self, before: int) -> None:
    """Drops the anchors before a number."""
    for kept in (self._pictures, self._transforms):
      for anchor in [anchor for anchor in kept if anchor < before]:
        del kept[anchor]


def _find_moving(clip: MakerClip) -> Iterator[np.ndarray | None]:
  """Yields bool[H, W] for each frame, the pixels that move; None if they are unknown."""
  anchors = _Anchors(clip)
  size = clip.facts.height, clip.facts.width
  for index in range(len(clip.frames)):
    picture, anchor, transform = anchors.locate(index)
    others = [] if transform is None else list(anchors.around(anchor, transform))
    if not others:
      yield None
      continue
    total = np.zeros(picture.detail.shape, np.float32)
    count = np.zeros(picture.detail.shape, np.float32)
    for other, to_picture in others:
      distance, overlap = _compare(picture, other, to_picture)
      noise = float(np.median(distance[overlap])) if overlap.any() else 0.0
      threshold = max(_THRESHOLD, _NOISE_FACTOR * noise)
      total += np.where(overlap, np.minimum(distance / threshold, _MAX_COUNT), 0)
      count += overlap
    yield _clean(total / np.maximum(count, 1), size)


def _connect(source: _Picture, target: _Picture) -> np.ndarray | None:
  """Returns the transform f64[3, 3] from one picture to another; None for different scenes."""
  transform = register(source.detail, target.detail)
  distance, overlap = _compare(target, source, transform)
  return transform if (distance[overlap] > _THRESHOLD).mean() <= _CUT else None


def _compare(
  picture: _Picture, other: _Picture, to_picture: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Compares the colors of a picture and of another.

  Args:
    picture: the picture.
    other: the other picture.
    to_picture: f64[3, 3], the transform from the other picture to the picture.

  Returns:
    f32[h, w], the distance of each color from the colors around the same place of the other
    picture, so that an error of a pixel in the transform does not show; and bool[h, w], where
    the other picture shows the place at all.
  """
  size = picture.detail.shape[::-1]
  inside = np.ones(picture.detail.shape, np.uint8)
  overlap = cv2.warpPerspective(inside, to_picture, size, flags=cv2.INTER_NEAREST) != 0
  low, high = (cv2.warpPerspective(x, to_picture, size) for x in (other.low, other.high))
  outside = np.maximum(cv2.subtract(low, picture.color), cv2.subtract(picture.color, high))
  weights = np.array([[1, _CHROMA_WEIGHT, _CHROMA_WEIGHT]], np.float32)
  return cv2.transform(outside.astype(np.float32), weights), overlap


def _clean(score: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Returns bool[H, W], the parts of f32[h, w] `score` that are high and large."""
  shape = cv2.GaussianBlur(score, (0, 0), _SMOOTHING) > _MOVING
  shape = dilate_shape(~dilate_shape(~shape, _SPECK_RADIUS), _SPECK_RADIUS)
  _, labels, stats, _ = cv2.connectedComponentsWithStats(shape.view(np.uint8))
  is_large = stats[:, cv2.CC_STAT_AREA] >= _MIN_PART * shape.size
  is_large[0] = False  # The background.
  gap = _GAP * min(shape.shape)
  shape = ~dilate_shape(~dilate_shape(is_large[labels], gap), gap)
  height, width = size
  levels = np.where(shape, np.uint8(255), np.uint8(0))
  return cv2.resize(levels, (width, height), interpolation=cv2.INTER_LINEAR) > 127
