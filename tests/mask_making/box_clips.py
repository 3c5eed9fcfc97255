"""Clips with boxes, and drawn figures whose masks are known."""

import dataclasses

import numpy as np

from tests.mask_making.drawn_clips import make_clip
from zsar_jax.datasets.masks.boxes import RegionBox
from zsar_jax.mask_making.maker import MakerClip


def box_clip(frames, boxes=None) -> MakerClip:
  """Returns a clip of u8[K, H, W, 3] frames with lists of boxes, or None, for each of them."""
  if boxes is not None:
    boxes = tuple(None if own is None else tuple(own) for own in boxes)
  return dataclasses.replace(make_clip(frames), boxes=boxes)


def figure(height, width, *edges, color=(255, 255, 255), background=(0, 0, 0)) -> np.ndarray:
  """Returns u8[height, width, 3] with a rectangle from x1, y1 to x2, y2, if these are given."""
  frame = np.full((height, width, 3), background, np.uint8)
  if edges:
    frame[rectangle(height, width, *edges)] = color
  return frame


def rectangle(height, width, x1, y1, x2, y2) -> np.ndarray:
  """Returns bool[height, width], the pixels of a rectangle with whole edges."""
  mask = np.zeros((height, width), bool)
  mask[y1:y2, x1:x2] = True
  return mask


def bright(frame) -> np.ndarray:
  """Returns bool[H, W], the bright pixels of a frame."""
  return frame.mean(axis=2) > 128


def person(*edges, score=1.0) -> RegionBox:
  """Returns the box of a person."""
  return RegionBox('person', *edges, score=score)


def thing(*edges) -> RegionBox:
  """Returns the box of an object."""
  return RegionBox('object', *edges)
