"""Draws the shapes that a segmenter finds in boxes into region planes."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from zsar_jax.datasets.masks.boxes import RegionBox
from zsar_jax.mask_making.maker import FrameMask
from zsar_jax.recipes.regions import REGION_BITS, draw_box

# In pixels. The shape in a smaller box is noise.
MIN_SIDE = 4

# How far a shape may extend beyond each edge of its box, as a fraction of the box's width or
# height. Segmenters leak from an object in a box to the table that it lies on.
DILATION = 0.1

# What determines the masks, besides the segmenter, as JSON values for `maker.Maker.provenance`.
SETTINGS = {'min_box_side': MIN_SIDE, 'box_dilation': DILATION}

# Segments the boxes f64[N, 4] of frames u8[H, W, 3], which may differ in size and in N. Returns
# bool[N, H, W], the masks, and f32[N], their scores, for each frame; see `sam_boxes.BoxSegmenter`.
Segmenter = Callable[
  [Sequence[np.ndarray], Sequence[np.ndarray]], list[tuple[np.ndarray, np.ndarray]]
]


def usable_boxes(boxes: Sequence[RegionBox], height: int, width: int) -> list[RegionBox]:
  """Returns the boxes clipped to a frame, without those that have a side below `MIN_SIDE`."""
  clipped = [
    dataclasses.replace(
      box,
      x1=max(0.0, box.x1),
      y1=max(0.0, box.y1),
      x2=min(float(width), box.x2),
      y2=min(float(height), box.y2),
    )
    for box in boxes
  ]
  return [box for box in clipped if min(box.x2 - box.x1, box.y2 - box.y1) >= MIN_SIDE]


def segment_boxes(
  segmenter: Segmenter, frames: Sequence[np.ndarray], boxes: Sequence[Sequence[RegionBox]]
) -> list[FrameMask]:
  """Segments what boxes enclose, and draws it.

  Args:
    segmenter: sees frames with usable boxes only.
    frames: u8[H, W, 3] each.
    boxes: those of each frame.

  Returns:
    The mask of each frame. Its number of people is the number of usable boxes around persons.
  """
  usable = [usable_boxes(own, *frame.shape[:2]) for frame, own in zip(frames, boxes, strict=True)]
  edges = [
    np.array([(box.x1, box.y1, box.x2, box.y2) for box in own], np.float64).reshape(-1, 4)
    for own in usable
  ]
  return [
    draw_shapes(own, masks, scores)
    for own, (masks, scores) in zip(usable, segmenter(frames, edges), strict=True)
  ]


def draw_shapes(boxes: Sequence[RegionBox], masks: np.ndarray, scores: np.ndarray) -> FrameMask:
  """Draws the shapes in the boxes of a frame.

  Args:
    boxes: N boxes within the frame.
    masks: bool[N, H, W], the shape in each box; pixels far outside of the box are removed.
    scores: f32[N], the score of each shape.

  Returns:
    The mask. `outside` is the share of the pixels of all shapes that were removed.
  """
  plane = np.zeros(masks.shape[1:], np.uint8)
  kept_pixels, drawn_scores = 0, []
  for box, mask, score in zip(boxes, masks, scores, strict=True):
    inside = mask & _around(box, plane.shape)
    plane[inside] |= np.uint8(REGION_BITS[box.region])
    if count := np.count_nonzero(inside):
      kept_pixels += count
      drawn_scores.append(float(score))
  all_pixels = np.count_nonzero(masks)
  return FrameMask(
    plane,
    people=sum(box.region == 'person' for box in boxes),
    score=min(drawn_scores, default=np.nan),
    outside=float(1 - kept_pixels / all_pixels) if all_pixels else np.nan,
  )


def _around(box: RegionBox, shape: tuple[int, ...]) -> np.ndarray:
  """Returns bool[H, W], the pixels that the dilated box touches."""
  around = np.zeros(shape, np.uint8)
  dx, dy = DILATION * (box.x2 - box.x1), DILATION * (box.y2 - box.y1)
  draw_box(around, 1, box.x1 - dx, box.y1 - dy, box.x2 + dx, box.y2 + dy)
  return around.astype(bool)
