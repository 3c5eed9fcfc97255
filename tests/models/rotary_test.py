"""Rotary positions, compared with loops over patches and pairs written from the papers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from zsar_jax.models import layers
from zsar_jax.models.architectures import Architecture
from zsar_jax.models.compute import Compute
from zsar_jax.models.eva02 import Eva02Block
from zsar_jax.models.rotary import Rotary, rotate

GRID, HEADS, WIDTH = 3, 2, 12  # Of a head; the number of frequencies per axis is odd.


def rotate_by_loops(x, kind, grid, class_token, start=None):
  """Rotates `x: [L, d]`, one pair of elements at a time."""
  x, result = np.asarray(x, np.float64), np.array(x, np.float64)
  width, first = x.shape[1], int(class_token)
  for row in range(grid):
    for column in range(grid):
      token = first + row * grid + column
      if kind == 'pe':
        offset = first if start is None else start
        axes = (column + offset, row + offset)
      else:
        axes = (row * 16 / grid, column * 16 / grid)
      for axis, coordinate in enumerate(axes):
        for k in range(width // 4):
          angle = coordinate * 10000 ** (-2 * k / (width / 2))
          a = axis * width // 2 + 2 * k
          c, s = math.cos(angle), math.sin(angle)
          result[token, a] = c * x[token, a] - s * x[token, a + 1]
          result[token, a + 1] = c * x[token, a + 1] + s * x[token, a]
  return result


def vectors(tokens, seed=0):
  return np.random.default_rng(seed).normal(size=(2, tokens, HEADS, WIDTH)).astype(np.float32)


@pytest.mark.parametrize('class_token', [True, False])
@pytest.mark.parametrize('kind', ['pe', 'eva02'])
def test_rotation_agrees_with_loops(kind, class_token):
  rotary = Rotary(kind, GRID, class_token)
  x = vectors(GRID**2 + class_token + 2)  # The last two are prompts.
  ours = rotate(x, rotary.angles(x.shape[1], WIDTH))
  for n in range(2):
    for h in range(HEADS):
      expected = rotate_by_loops(x[n, :, h], kind, GRID, class_token)
      np.testing.assert_allclose(ours[n, :, h], expected, atol=1e-5)
  np.testing.assert_array_equal(ours[:, -2:], x[:, -2:])
  if class_token:
    np.testing.assert_array_equal(ours[:, 0], x[:, 0])
    if kind == 'pe':  # Counted from 0, the coordinates give other vectors.
      wrong = rotate_by_loops(x[0, :, 0], kind, GRID, class_token, start=0)
      assert np.abs(ours[0, :, 0] - wrong).max() > 0.1


def test_bfloat16_is_rotated_in_float32():
  x = jnp.asarray(vectors(9), jnp.bfloat16)
  angles = Rotary('pe', GRID, False).angles(9, WIDTH)
  ours = rotate(x, angles)
  assert ours.dtype == jnp.bfloat16
  exact = rotate(x.astype(jnp.float32), angles)
  np.testing.assert_array_equal(ours, exact.astype(jnp.bfloat16))


@pytest.mark.parametrize('block_class', [layers.ResidualBlock, Eva02Block])
def test_a_selected_token_is_rotated_as_among_all(block_class):
  parts = Architecture(activation='gelu', epsilon=1e-6)
  block = block_class(
    HEADS * WIDTH,
    HEADS,
    residual_std=0.3,
    compute=Compute(),
    rngs=nnx.Rngs(0),
    mlp_width=20,
    parts=parts,
    rotary=Rotary('pe', GRID, True),
  )
  x = jax.random.normal(jax.random.key(0), (3, 1 + GRID**2, HEADS * WIDTH))
  among_all = block(x)
  np.testing.assert_allclose(block(x, query_index=4), among_all[:, 4:5], atol=1e-5)
  index = jnp.array([0, 9, 5])
  expected = layers.select_token(among_all, index)
  np.testing.assert_allclose(block(x, query_index=index), expected, atol=1e-5)
  # Padding for cuDNN's attention is neither rotated nor attended to.
  padded = jnp.pad(x, ((0, 0), (0, 6), (0, 0)))
  np.testing.assert_allclose(block(padded, length=10)[:, :10], among_all, atol=1e-5)
