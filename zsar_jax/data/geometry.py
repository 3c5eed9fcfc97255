"""Crops and resizes frames and region planes on the host, in uint8, with the same geometry."""

import dataclasses
import math

import cv2
import numpy as np

INTERPOLATIONS = {'bilinear': cv2.INTER_LINEAR, 'bicubic': cv2.INTER_CUBIC}
# How evaluation makes a square of a frame: by cutting one out, or by resizing the full frame.
RESIZES = ('shortest', 'squash')


@dataclasses.dataclass(frozen=True)
class Box:
  """A crop; all values are integers in pixels."""

  top: int
  left: int
  height: int
  width: int


def center_crop(
  height: int, width: int, fraction: float, offset: float = 0.5, resize: str = 'shortest'
) -> Box:
  """Returns a square whose side is `fraction` of the frame's short side.

  The square is centered on the short side, and `offset` positions it on the long side. With
  fraction = size / short this equals the usual resize of the short side to `short` followed by a
  center crop of `size`, in one resampling. With 'squash' both sides are resized to `short`, and
  the box is central and has the frame's aspect ratio.

  Args:
    height: of the frame, in pixels.
    width: of the frame, in pixels.
    fraction: in (0, 1].
    offset: position of the square on the long side: 0 at its start, 0.5 in its middle, 1 at its
      end. The long side of a square frame is its width. 'squash' ignores the offset.
    resize: one of `RESIZES`.
  """
  if resize == 'squash':
    rows, columns = (max(1, round(side * fraction)) for side in (height, width))
    return Box((height - rows) // 2, (width - columns) // 2, rows, columns)
  side = max(1, round(min(height, width) * fraction))
  vertical, horizontal = (0.5, offset) if width >= height else (offset, 0.5)
  top, left = int((height - side) * vertical), int((width - side) * horizontal)
  return Box(top, left, side, side)


def random_crop(
  rng: np.random.Generator,
  height: int,
  width: int,
  scale: tuple[float, float],
  ratio: tuple[float, float],
) -> Box:
  """Draws a box as in Inception's training (Szegedy et al., CVPR 2015).

  Args:
    rng: draws the box.
    height: of the frame, in pixels.
    width: of the frame, in pixels.
    scale: smallest and largest share of the frame's area.
    ratio: smallest and largest width / height; its logarithm is drawn uniformly.

  Returns:
    A box inside the frame; a side that exceeds the frame's is reduced to it.
  """
  area = height * width * rng.uniform(*scale)
  aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
  crop_width = min(width, max(1, round(math.sqrt(area * aspect))))
  crop_height = min(height, max(1, round(math.sqrt(area / aspect))))
  top = int(rng.integers(height - crop_height + 1))
  left = int(rng.integers(width - crop_width + 1))
  return Box(top, left, crop_height, crop_width)


def random_square(
  rng: np.random.Generator, height: int, width: int, side: tuple[float, float]
) -> Box:
  """Draws a square whose side is a uniformly drawn share of the frame's short side.

  Args:
    rng: draws the square.
    height: of the frame, in pixels.
    width: of the frame, in pixels.
    side: smallest and largest share of the short side, in (0, 1].
  """
  pixels = max(1, round(min(height, width) * rng.uniform(*side)))
  top = int(rng.integers(height - pixels + 1))
  left = int(rng.integers(width - pixels + 1))
  return Box(top, left, pixels, pixels)


def resize_frame(
  frame: np.ndarray, box: Box, size: int, interpolation: str, out: np.ndarray | None = None
) -> np.ndarray:
  """Cuts `box` from u8[H, W, 3] and resizes it to u8[size, size, 3], in `out` if given.

  OpenCV interpolates only between the nearest pixels, which would alias, so a box of more than
  twice the size is averaged over areas instead.
  """
  shrinks = min(box.height, box.width) > 2 * size
  method = cv2.INTER_AREA if shrinks else INTERPOLATIONS[interpolation]
  return cv2.resize(_cut(frame, box), (size, size), dst=out, interpolation=method)


def resize_plane(
  plane: np.ndarray, box: Box, size: int, out: np.ndarray | None = None
) -> np.ndarray:
  """Cuts `box` from u8[H, W] and resizes it to u8[size, size] by nearest neighbor.

  INTER_NEAREST_EXACT samples at pixel centers, as the frames' interpolation does; INTER_NEAREST
  samples at corners and would shift the planes against the frames.
  """
  method = cv2.INTER_NEAREST_EXACT
  return cv2.resize(_cut(plane, box), (size, size), dst=out, interpolation=method)


def _cut(image: np.ndarray, box: Box) -> np.ndarray:
  return image[box.top : box.top + box.height, box.left : box.left + box.width]
