"""Resizes position embeddings to another resolution or number of frames."""

import math

import jax
import numpy as np


def resize_grid(positions: np.ndarray, count: int, method: str = 'cubic') -> np.ndarray | None:
  """Resizes position embeddings of an image, f32[c + g * g, D], to f32[count, D].

  c is 1 if there is a class token, whose embedding is kept, and 0 if not; it follows from the
  lengths, since g * g + 1 is no square. Those of the grid are interpolated by one of these methods:

  - 'cubic': bicubically with anti-aliasing (Keys' kernel, a = -0.5) as in open_clip, which calls
    PyTorch's `interpolate(mode='bicubic', antialias=True)`. (Without anti-aliasing, PyTorch's
    bicubic has a = -0.75.)
  - 'linear': bilinearly with anti-aliasing, as in VideoPrism.
  - 'linear_no_antialias': bilinearly without it, as in PE-Core.

  Returns:
    The resized embeddings; None if the old or the new grid is not square, or only one of them has
    a class token.
  """
  (first, old), (new_first, new) = map(_grid, (len(positions), count))
  if not old or not new or first != new_first:
    return None
  grid = positions[first:].reshape(old, old, -1)
  with jax.transfer_guard('allow'):
    kernel, _, exception = method.partition('_')
    shape = (new, new, grid.shape[-1])
    resized = jax.image.resize(grid, shape, kernel, antialias=not exception)
    return np.concatenate([positions[:first], np.asarray(resized).reshape(new * new, -1)])


def _grid(count: int) -> tuple[int, int]:
  """Returns how many of `count` positions are class tokens, and the side of their grid, or 0."""
  for first in (0, 1):
    side = math.isqrt(max(0, count - first))
    if side**2 + first == count:
      return first, side
  return 0, 0


def resize_frames(positions: np.ndarray, count: int) -> np.ndarray:
  """Resizes position embeddings of frames, f32[T, D], to f32[count, D], by linear interpolation.

  The first and the last frame lie half a frame from the ends of the clip, as in PyTorch's
  `interpolate(mode='linear', align_corners=False)`. With fewer frames, neighbors are averaged.
  """
  with jax.transfer_guard('allow'):
    shape = (count, positions.shape[1])
    return np.asarray(jax.image.resize(positions, shape, 'linear', antialias=True))
