"""Resizes position embeddings to another resolution or number of frames."""

import math

import jax
import numpy as np


def resize_grid(positions: np.ndarray, count: int) -> np.ndarray | None:
  """Resizes position embeddings of an image, f32[1 + g * g, D], to f32[count, D].

  The embedding of the class token is kept. Those of the grid are interpolated bicubically with
  anti-aliasing (Keys' kernel, a = -0.5) as in open_clip, which calls PyTorch's
  `interpolate(mode='bicubic', antialias=True)`. (Without anti-aliasing, PyTorch uses a = -0.75.)

  Returns:
    The resized embeddings; None if the old or the new grid is not square.
  """
  old, new = (math.isqrt(size - 1) for size in (len(positions), count))
  if old * old + 1 != len(positions) or new * new + 1 != count or not old or not new:
    return None
  grid = positions[1:].reshape(old, old, -1)
  with jax.transfer_guard('allow'):
    resized = jax.image.resize(grid, (new, new, grid.shape[-1]), 'cubic', antialias=True)
    return np.concatenate([positions[:1], np.asarray(resized).reshape(new * new, -1)])


def resize_frames(positions: np.ndarray, count: int) -> np.ndarray:
  """Resizes position embeddings of frames, f32[T, D], to f32[count, D], by linear interpolation.

  The first and the last frame lie half a frame from the ends of the clip, as in PyTorch's
  `interpolate(mode='linear', align_corners=False)`. With fewer frames, neighbors are averaged.
  """
  with jax.transfer_guard('allow'):
    shape = (count, positions.shape[1])
    return np.asarray(jax.image.resize(positions, shape, 'linear', antialias=True))
