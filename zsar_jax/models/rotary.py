"""Rotary position embeddings of image patches (Su et al., arXiv 2104.09864) in two dimensions.

Queries and keys are rotated by angles proportional to the patch's column and row, so that their
products depend on the distances between patches. There are no parameters.

Letters in shapes: N images, L tokens, G patches on a side, H heads, d width of a head.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

# PE-Core (arXiv 2504.13181, `Rope2D` of its code): the first half of the angles follows the column,
# the second the row, both counted from 1 if there is a class token, else from 0. EVA-02 (arXiv
# 2303.11331): the row comes before the column, and both are counted from 0 and scaled to a grid of
# `_REFERENCE` patches on a side, whatever the resolution.
KINDS = ('pe', 'eva02')

# The smallest frequency is nearly 1 / _BASE, the largest 1 radian per patch.
_BASE = 10_000
_REFERENCE = 16


@dataclasses.dataclass(frozen=True)
class Rotary:
  """The positions by which the attention of an image tower rotates queries and keys.

  Attributes:
    kind: one of `KINDS`.
    grid: G, the number of patches on each side of the image.
    class_token: whether a class token, which is not rotated, precedes the patches.
  """

  kind: str
  grid: int
  class_token: bool

  def angles(self, length: int, head_width: int) -> np.ndarray:
    """Returns the angles of `length` tokens, f32[L, d / 2], in radians.

    The class token and the tokens after the patches (prompts, padding) have angle 0.

    Args:
      length: L, at least the number of patches and the class token.
      head_width: d, a multiple of 4.
    """
    return _angles(self, length, head_width)


@functools.cache
def _angles(rotary: Rotary, length: int, head_width: int) -> np.ndarray:
  grid, start = rotary.grid, int(rotary.class_token)
  frequencies = np.float32(_BASE) ** (
    -np.arange(head_width // 4, dtype=np.float32) * 4 / head_width
  )
  positions = np.arange(grid, dtype=np.float32)
  coordinates = positions + start if rotary.kind == 'pe' else positions / grid * _REFERENCE
  along = np.multiply.outer(coordinates, frequencies)  # [G, d / 4]
  columns = np.broadcast_to(along, (grid, *along.shape))
  rows = np.broadcast_to(along[:, None], columns.shape)
  order = (columns, rows) if rotary.kind == 'pe' else (rows, columns)
  angles = np.zeros((length, head_width // 2), np.float32)
  angles[start : start + grid**2] = np.concatenate(order, axis=-1).reshape(grid**2, -1)
  return angles


def select_angles(angles: np.ndarray, index: int | jax.Array | None) -> jax.Array | np.ndarray:
  """Selects the angles f32[L, d / 2] of the tokens that `layers.select_token` selects.

  Returns:
    f32[1, d / 2] for an integer, f32[N, 1, d / 2] for i32[N], and all angles for None.
  """
  if index is None:
    return angles
  if isinstance(index, int):
    return angles[index : index + 1]
  return jnp.take(angles, index, axis=0)[:, None]


def rotate(x: jax.Array, angles: jax.Array | np.ndarray) -> jax.Array:
  """Rotates each pair of neighboring elements of queries or keys, in f32.

  Args:
    x: [N, L, H, d].
    angles: f32[L, d / 2] or f32[N, L, d / 2], in radians.

  Returns:
    The rotated vectors, in the shape and dtype of `x`.
  """
  pairs = x.astype(jnp.float32).reshape(*x.shape[:-1], -1, 2)
  even, odd = pairs[..., 0], pairs[..., 1]
  cos, sin = (function(angles)[..., None, :] for function in (jnp.cos, jnp.sin))
  rotated = jnp.stack([even * cos - odd * sin, odd * cos + even * sin], axis=-1)
  return rotated.reshape(x.shape).astype(x.dtype)
