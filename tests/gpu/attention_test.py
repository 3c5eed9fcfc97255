"""cuDNN's attention against XLA's and against NumPy in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.towers_test import TINY, frames, random_params, texts
from zsar_jax.models.attention import attend
from zsar_jax.models.compute import Compute
from zsar_jax.models.presets import TEMPORAL_MODELS, VideoSpec
from zsar_jax.models.video_model import VideoModel

pytestmark = pytest.mark.gpu

# The rounding of bfloat16, relative to a value.
ROUNDING = 2.0**-9

# Tokens of B/16, B/32, L/14 at 224 and at 336 pixels and texts; keys of a window over three frames,
# and of a frame with X-CLIP's message.
SHAPES = [
  (197, 197, False),
  (50, 50, False),
  (257, 257, False),
  (577, 577, False),
  (77, 77, True),
  (197, 591, False),
  (198, 198, False),
]


def distance(x, reference):
  """The distance of two arrays, relative to the second: both as root mean squares."""
  difference = np.asarray(x, np.float64) - reference
  return np.sqrt(np.mean(difference**2) / np.mean(reference**2))


def reference_attention(query, key, value, cotangent, causal):
  """The result and the gradients of its product with `cotangent`, in float64."""
  q, k, v, g = (np.asarray(x, np.float64).swapaxes(1, 2) for x in (query, key, value, cotangent))
  scale = q.shape[-1] ** -0.5
  logits = q @ k.swapaxes(-1, -2) * scale  # [N, H, L, M]
  if causal:
    logits[..., ~np.tri(*logits.shape[-2:], dtype=bool)] = -np.inf
  weights = np.exp(logits - logits.max(-1, keepdims=True))
  weights /= weights.sum(-1, keepdims=True)
  out = weights @ v
  pulled = g @ v.swapaxes(-1, -2)
  logit_gradient = weights * (pulled - (pulled * weights).sum(-1, keepdims=True)) * scale
  gradients = (
    logit_gradient @ k,
    logit_gradient.swapaxes(-1, -2) @ q,
    weights.swapaxes(-1, -2) @ g,
  )
  return tuple(x.swapaxes(1, 2) for x in (out, *gradients))


@pytest.mark.parametrize(('queries', 'keys', 'causal'), SHAPES)
def test_cudnn_rounds_as_xla_does(gpu, queries, keys, causal):
  """A key of padding that took part would change results by 3 / 200 and more."""
  rng = np.random.default_rng(queries)
  lengths = (queries, keys, keys, queries)
  inputs = [rng.normal(size=(2, length, 2, 64)).astype(jnp.bfloat16) for length in lengths]
  expected = reference_attention(*inputs, causal)

  def run(implementation):
    @jax.jit
    def compute(query, key, value, cotangent):
      attention = functools.partial(attend, implementation=implementation, causal=causal)
      out, pull_back = jax.vjp(attention, query, key, value)
      return out, *pull_back(cotangent)

    return compute(*jax.device_put(inputs, gpu))

  xla, cudnn = run('xla'), run('cudnn')
  for name, ours, other, reference in zip(
    ('values', 'of queries', 'of keys', 'of values'), cudnn, xla, expected, strict=True
  ):
    # XLA stores the probabilities in bfloat16, cuDNN each step's weights: a few roundings each.
    limit = max(2 * distance(other, reference), 2 * ROUNDING)
    assert distance(ours, reference) < limit, name
    assert limit < 8 * ROUNDING, name


@pytest.mark.parametrize('temporal', sorted({*TEMPORAL_MODELS} - {'videoprism'}))
def test_models_with_cudnn_round_as_those_with_xla(gpu, temporal):
  """Logits and gradients in bfloat16, against those in float32."""
  video = VideoSpec(3, temporal, temporal_layers=2)
  clips, tokens = frames(TINY, clips=4, count=3), texts(TINY, [4, 5, 6, 5, 9, 3], [7, 8, 4, 5])
  params = random_params(VideoModel(TINY, video))

  def run(compute):
    model = VideoModel(TINY, video, compute)

    def loss(params):
      embeddings = model.encode_video(params, clips), model.encode_text(params, tokens)
      logits = model.logits(params, *embeddings)
      return jnp.sum(jnp.sin(logits)), logits

    gradients, logits = jax.jit(jax.grad(loss, has_aux=True))(jax.device_put(params, gpu))
    return {'logits': logits, **gradients}

  exact = run(Compute())
  xla, cudnn = (run(Compute(jnp.bfloat16, attention=name)) for name in ('xla', 'cudnn'))
  for part in ('logits', 'visual', 'text'):
    reference, ours, other = (
      np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree[part])]).astype(np.float64)
      for tree in (exact, cudnn, xla)
    )
    # Both round at each of some thirty operations in a row, independently of each other.
    assert distance(other, reference) < 0.1, part
    assert distance(ours, reference) < 2 * distance(other, reference), part
