"""Crop and resize on the host, in uint8, the same for frames and region planes."""

import dataclasses

import cv2
import numpy as np

INTERPOLATIONS = {'bilinear': cv2.INTER_LINEAR, 'bicubic': cv2.INTER_CUBIC}


@dataclasses.dataclass(frozen=True)
class Box:
  """A crop in whole pixels."""

  top: int
  left: int
  height: int
  width: int


def centre_crop(height: int, width: int, fraction: float) -> Box:
  """The central square whose side is `fraction` of the frame's short side.

  With fraction = size / short this is the field's resize of the short side to `short`
  followed by a centre crop of `size`, in one resampling.
  """
  side = max(1, round(min(height, width) * fraction))
  return Box((height - side) // 2, (width - side) // 2, side, side)


def random_crop(
  rng: np.random.Generator,
  height: int,
  width: int,
  scale: tuple[float, float],
  ratio: tuple[float, float],
) -> Box:
  """A random box, as in Inception's training (Szegedy et al., CVPR 2015).

  Args:
    rng: draws the box.
    height: of the frame, in pixels.
    width: of the frame, in pixels.
    scale: smallest and largest share of the frame's area.
    ratio: smallest and largest width / height; drawn evenly in its logarithm.

  Returns:
    A box inside the frame; where the drawn one sticks out, it is cut at the frame's border.
  """
  area = height * width * rng.uniform(*scale)
  aspect = np.exp(rng.uniform(*np.log(ratio)))
  crop_width = min(width, max(1, round(np.sqrt(area * aspect))))
  crop_height = min(height, max(1, round(np.sqrt(area / aspect))))
  top = int(rng.integers(height - crop_height + 1))
  left = int(rng.integers(width - crop_width + 1))
  return Box(top, left, crop_height, crop_width)


def resize_frame(frame: np.ndarray, box: Box, size: int, interpolation: str) -> np.ndarray:
  """Cuts `box` from u8[H, W, 3] and resizes it to u8[size, size, 3]."""
  return cv2.resize(_cut(frame, box), (size, size), interpolation=INTERPOLATIONS[interpolation])


def resize_plane(plane: np.ndarray, box: Box, size: int) -> np.ndarray:
  """Cuts `box` from u8[H, W] and resizes it to u8[size, size] by nearest neighbour.

  INTER_NEAREST_EXACT looks at pixel centres, as the frames' interpolation does; plain
  INTER_NEAREST looks at corners and would shift the planes against the frames.
  """
  return cv2.resize(_cut(plane, box), (size, size), interpolation=cv2.INTER_NEAREST_EXACT)


def _cut(image: np.ndarray, box: Box) -> np.ndarray:
  return image[box.top : box.top + box.height, box.left : box.left + box.width]
