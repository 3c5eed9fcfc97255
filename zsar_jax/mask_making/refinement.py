"""Refines the masks of a clip: unites those of neighboring frames, dilates them and fills holes.

All three only add pixels. The two errors of a mask have different prices: a pixel that is missed
shows a part of the actor in what a study calls the background, while a false pixel only makes the
background smaller.
"""

import collections
import dataclasses
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from zsar_jax.errors import UserError
from zsar_jax.mask_making.maker import FrameMask
from zsar_jax.recipes.regions import OBJECT, PERSON

# The most frames on either side whose masks are united; each is in memory.
_MAX_UNION = 16


@dataclasses.dataclass(frozen=True)
class Refinement:
  """How masks are refined, in this order.

  Attributes:
    union: the number of kept frames on either side whose masks are added to a frame's mask. This
      helps where a segmenter misses a person in single frames, and it adds the pixels that the
      person is about to enter or has just left. 1 is right where kept frames are at most about 0.2
      seconds apart, such as every frame of SSv2. The default is 0, because 8 or 32 frames of a clip
      may be a second apart: the person of the neighboring frame then stands elsewhere.
    dilate: the distance by which shapes grow, as a share of the frame's shorter side. Segmenters
      draw an outline slightly inside of the person, and JPEG spreads a person's colors over the
      pixels around it. The default, 0.01, is 2.4 pixels of 240.
    fill_holes: background that a shape encloses is added to the shape up to this share of the
      frame's area. The default, 0.001, is a patch of 9 x 9 pixels in a frame of 320 x 240, such as
      a print on a shirt; the gap between an arm and the trunk is usually larger, and stays.
  """

  union: int = 0
  dilate: float = 0.01
  fill_holes: float = 0.001

  def __post_init__(self):
    if not 0 <= self.union <= _MAX_UNION:
      raise UserError(f'--union={self.union} is not between 0 and {_MAX_UNION} frames')
    for flag, value in (('dilate', self.dilate), ('fill-holes', self.fill_holes)):
      if not 0 <= value <= 1:
        raise UserError(f'--{flag}={value} is not a share from 0 to 1')

  @property
  def parameters(self) -> dict[str, Any]:
    """The refinement as JSON values, for `Maker.provenance`."""
    return dataclasses.asdict(self)


def refine(masks: Iterator[FrameMask | None], refinement: Refinement) -> Iterator[FrameMask | None]:
  """Refines the masks of a clip, with at most 2 * union + 1 of them in memory.

  Only the shapes 'person' and 'object' change, each for itself; boxes, counts and scores remain.

  Args:
    masks: the masks of the clip's frames in order, all of one size; None for a frame whose regions
      are unknown.
    refinement: what to do.

  Yields:
    The refined masks. None stays None, and adds nothing to its neighbors.
  """
  window: collections.deque[FrameMask | None] = collections.deque()
  index = 0  # Of the window's frame that is refined next.
  exhausted = False
  while True:
    while not exhausted and len(window) <= index + refinement.union:
      try:
        window.append(next(masks))
      except StopIteration:
        exhausted = True
    if index == len(window):
      return
    mask = window[index]
    yield None if mask is None else _refine_frame(mask, window, refinement)
    if index == refinement.union:
      window.popleft()
    else:
      index += 1


def _refine_frame(
  mask: FrameMask, window: collections.deque[FrameMask | None], refinement: Refinement
) -> FrameMask:
  """Refines a mask, given itself and its neighbors."""
  height, width = mask.plane.shape
  radius = refinement.dilate * min(height, width)
  max_hole = refinement.fill_holes * height * width
  united = np.bitwise_or.reduce([other.plane for other in window if other is not None])
  plane = mask.plane.copy()
  for bit in (PERSON, OBJECT):
    shape = dilate_shape(united & bit != 0, radius)
    _fill_holes(shape, max_hole)
    plane |= np.where(shape, np.uint8(bit), np.uint8(0))
  return dataclasses.replace(mask, plane=plane)


def dilate_shape(shape: np.ndarray, radius: float) -> np.ndarray:
  """Returns bool[H, W]: the pixels whose distance from bool[H, W] `shape` is at most `radius`.

  Distances are between the centers of pixels; a radius below 1 changes nothing.
  """
  if radius < 1:
    return shape.copy()
  left, top, width, height = cv2.boundingRect(shape.view(np.uint8))
  grown = np.zeros_like(shape)
  if not width:
    return grown
  reach = int(radius)
  rows = slice(max(0, top - reach), top + height + reach)
  columns = slice(max(0, left - reach), left + width + reach)
  # Unlike the elements of OpenCV's dilation, distances cost the same for any radius, and their
  # disks are round.
  outside = (~shape[rows, columns]).view(np.uint8)
  distance = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
  grown[rows, columns] = distance <= radius
  return grown


def _fill_holes(shape: np.ndarray, max_area: float) -> None:
  """Sets, in place, the holes of bool[H, W] `shape` with at most `max_area` pixels.

  A hole is background that is connected along rows and columns, and enclosed: background at the
  edge of the frame may continue beyond it.
  """
  left, top, width, height = cv2.boundingRect(shape.view(np.uint8))
  inside = shape[top : top + height, left : left + width]
  if max_area < 1 or not width:
    return
  background = (~inside).view(np.uint8)
  count, labels, stats, _ = cv2.connectedComponentsWithStats(background, connectivity=4)
  is_hole = stats[:, cv2.CC_STAT_AREA] <= max_area
  for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
    is_hole[edge] = False
  is_hole[0] = False  # The shape.
  if count > 1 and is_hole.any():
    inside |= is_hole[labels]
