"""Rotary positions, compared with loops over patches and pairs written from the papers."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models import reference
from tests.models.towers_test import TINY, random_params
from zsar_jax.errors import UserError
from zsar_jax.models import layers
from zsar_jax.models.architectures import Architecture
from zsar_jax.models.compute import Compute
from zsar_jax.models.eva02 import Eva02Block
from zsar_jax.models.presets import TowerSpec, VideoSpec
from zsar_jax.models.rotary import Rotary, rotate
from zsar_jax.models.video_model import VideoModel

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


def norm(x, p, epsilon):
  deviation = np.sqrt(x.var(-1, keepdims=True) + epsilon)
  return (x - x.mean(-1, keepdims=True)) / deviation * p['scale'] + p['bias']


def gelu(x):
  return np.vectorize(lambda value: value * (1 + math.erf(value / math.sqrt(2))) / 2)(x)


def attend(queries, x, p, turn=lambda vectors: vectors):
  """Attends from `queries: [L, D]` to `x: [M, D]`; returns [L, d] of each head."""
  heads = []
  for h in range(p['query']['kernel'].shape[1]):
    q, k, v = (
      tokens @ p[name]['kernel'][:, h] + (p[name]['bias'][h] if 'bias' in p[name] else 0)
      for tokens, name in ((queries, 'query'), (x, 'key'), (x, 'value'))
    )
    scores = turn(q) @ turn(k).T / math.sqrt(q.shape[1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    heads.append(weights / weights.sum(-1, keepdims=True) @ v)
  return heads


def project(heads, p):
  return sum(head @ kernel for head, kernel in zip(heads, p['kernel'], strict=True)) + p['bias']


def encode_image(image, p, spec):
  """PE-Core's and EVA02-CLIP's towers, from the descriptions in their papers and code."""
  is_pe, patch = 'attn_pool' in p, spec.patch
  epsilon = 1e-5 if is_pe else 1e-6
  side, x = spec.resolution // patch, []
  for row in range(side):
    for column in range(side):
      pixels = image[row * patch :, column * patch :][:patch, :patch]
      x.append(np.einsum('ijc,ijcd->d', pixels, p['conv1']['kernel']))
  x = np.stack(x) + p['conv1'].get('bias', 0)
  has_class_token = 'class_embedding' in p
  if has_class_token:
    x = np.concatenate([p['class_embedding'][None], x])
  x = x + p['positional_embedding']
  if is_pe:
    x = norm(x, p['ln_pre'], epsilon)

  def turn(vectors):
    return rotate_by_loops(vectors, 'pe' if is_pe else 'eva02', side, has_class_token)

  for number in range(spec.image_layers):
    block = p['transformer']['resblocks'][str(number)]
    y = norm(x, block['ln_1'], epsilon)
    heads, out = attend(y, y, block['attn'], turn), block['attn']['out']
    if not is_pe:
      joined = norm(np.concatenate(heads, axis=-1), out['norm'], epsilon)
      heads = np.split(joined, len(heads), axis=-1)
    x = x + project(heads, out)
    y, mlp = norm(x, block['ln_2'], epsilon), block['mlp']
    y, gate = reference.dense(y, mlp['c_fc']), None if is_pe else reference.dense(y, mlp['c_gate'])
    y = gelu(y) if is_pe else norm(gate / (1 + np.exp(-gate)) * y, mlp['ln'], epsilon)
    x = x + reference.dense(y, mlp['c_proj'])
  x = norm(x, p['ln_post'], epsilon)
  if not is_pe:
    return reference.dense(x[0], p['proj'])
  pool = p['attn_pool']
  y = project(attend(pool['probe'][None], x, pool['attn']), pool['attn']['out'])
  hidden = gelu(reference.dense(norm(y, pool['ln'], epsilon), pool['mlp']['c_fc']))
  return reference.dense(y + reference.dense(hidden, pool['mlp']['c_proj']), p['proj'])[0]


@pytest.mark.parametrize('architecture', ['pe_core', 'pe_core_g', 'eva02'])
def test_towers_agree_with_numpy(architecture):
  spec = TowerSpec(
    embed_dim=20,
    resolution=24,
    patch=8,
    image_width=48,
    image_layers=2,
    image_heads=4,
    text_width=16,
    text_layers=1,
    text_heads=2,
    architecture=architecture,
    image_mlp=40,
  )
  model = VideoModel(spec, VideoSpec(1))
  params = random_params(model)
  for leaves in params['visual']['transformer']['resblocks'].values():
    for name in ('query', 'key'):  # Attention that is far from uniform.
      leaves['attn'][name]['kernel'] *= 4
  images = np.random.default_rng(1).normal(size=(2, 24, 24, 3)).astype(np.float32)
  ours = model.encode_frames(params, images[None])[0][0]
  exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params['visual'])
  expected = [encode_image(image, exact, spec) for image in images.astype(np.float64)]
  np.testing.assert_allclose(ours, expected, rtol=0, atol=2e-5)


def test_widths_that_cannot_be_rotated_or_pooled_are_refused():
  with pytest.raises(
    UserError, match='the width of an image head 30 is not a multiple of the rota'
  ):
    dataclasses.replace(TINY, architecture='eva02', image_width=90)
  with pytest.raises(UserError, match='image width 84 is not a multiple of the number of pooling'):
    dataclasses.replace(TINY, architecture='pe_core', image_width=84)


@pytest.mark.parametrize('temporal', ['window', 'xclip', 'joint'])
def test_attention_across_frames_is_refused(temporal):
  for architecture in ('pe_core', 'eva02'):
    spec = dataclasses.replace(TINY, architecture=architecture)
    with pytest.raises(UserError, match=f"^temporal: '{temporal}' .* rotary positions"):
      VideoModel(spec, VideoSpec(2, temporal))
