"""Position embeddings for another resolution or number of frames."""

import math

import jax
import numpy as np


def resize_grid(positions: np.ndarray, count: int) -> np.ndarray | None:
  """The positions of images, `f32[1 + g * g, D]`, as [count, D].

  The class token's stays; those of the grid are interpolated bicubically with anti-aliasing
  (Keys' kernel, a = -0.5), which is what open_clip does (`interpolate(mode='bicubic',
  antialias=True)` of PyTorch; without anti-aliasing, its kernel is another one, a = -0.75).

  Returns:
    None where either is no square grid.
  """
  old, new = (math.isqrt(size - 1) for size in (len(positions), count))
  if old * old + 1 != len(positions) or new * new + 1 != count or not old or not new:
    return None
  grid = positions[1:].reshape(old, old, -1)
  with jax.transfer_guard('allow'):
    resized = jax.image.resize(grid, (new, new, grid.shape[-1]), 'cubic', antialias=True)
    return np.concatenate([positions[:1], np.asarray(resized).reshape(new * new, -1)])


def resize_frames(positions: np.ndarray, count: int) -> np.ndarray:
  """The positions of frames, `f32[T, D]`, as [count, D], interpolated linearly.

  The first and the last frame are taken for the same times, half a frame from the ends of the
  clip, as in PyTorch's `interpolate(mode='linear', align_corners=False)`; fewer are means.
  """
  with jax.transfer_guard('allow'):
    shape = (count, positions.shape[1])
    return np.asarray(jax.image.resize(positions, shape, 'linear', antialias=True))
