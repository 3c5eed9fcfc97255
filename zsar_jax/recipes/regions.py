"""Region planes, which mark the pixels of a frame that show a person, an object, or their boxes.

A plane is u8[H, W] with one bit for each region, so that a silhouette and its box can overlap. The
background is what neither a person nor an object covers. Frames without annotation are not marked
in the plane but separately, by `annotated = False`. If only some regions of a frame are known, the
plane has a bit for each unknown one.
"""

from collections.abc import Collection

import numpy as np

PERSON = 1
OBJECT = 2
PERSON_BOX = 4
OBJECT_BOX = 8

# Region names in recipes, in the metadata of data sets and in reports.
REGION_BITS = {
  'person': PERSON,
  'object': OBJECT,
  'person_box': PERSON_BOX,
  'object_box': OBJECT_BOX,
}

# A box's bit is the bit of the shape that it encloses, shifted left by this.
BOX_SHIFT = 2

# The bit that marks a region as unknown is the region's own bit, shifted left by this.
UNKNOWN_SHIFT = 4


def shapes_from_boxes(plane: np.ndarray, shapes: Collection[str]) -> np.ndarray:
  """Uses boxes in place of the shapes that they enclose.

  Args:
    plane: u8[..., H, W], region planes.
    shapes: the shapes to replace, of 'person' and 'object'.

  Returns:
    u8[..., H, W]. A pixel in a box is also in the shape, and where the box is unknown, so is the
    shape.
  """
  bits = sum(REGION_BITS[name] for name in shapes)
  bits = np.uint8(bits | bits << UNKNOWN_SHIFT)
  return plane | (plane >> BOX_SHIFT) & bits


def draw_box(plane: np.ndarray, bit: int, x1: float, y1: float, x2: float, y2: float) -> None:
  """Sets a bit on every pixel that a box touches.

  Args:
    plane: u8[H, W], changed in place.
    bit: the region's bit.
    x1: left edge in pixels. All edges are clipped to the plane.
    y1: upper edge in pixels.
    x2: right edge in pixels, exclusive if it is an integer.
    y2: lower edge in pixels, exclusive if it is an integer.
  """
  height, width = plane.shape
  left, top = max(0, int(np.floor(x1))), max(0, int(np.floor(y1)))
  right, bottom = min(width, int(np.ceil(x2))), min(height, int(np.ceil(y2)))
  if left < right and top < bottom:
    plane[top:bottom, left:right] |= np.uint8(bit)
