import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests.models import reference
from zsar_jax.models.architectures import get_architecture
from zsar_jax.models.compute import Compute
from zsar_jax.models.pooling import AttentionPool
from zsar_jax.runtime import sharding

WIDTH, HEADS = 48, 8


def pool_and_params(architecture='siglip'):
  parts = get_architecture(architecture)
  pool = AttentionPool(WIDTH, HEADS, compute=Compute(), rngs=nnx.Rngs(0), parts=parts, mlp_width=80)
  module, state = nnx.split(pool)
  rng = np.random.default_rng(1)
  drawn = jax.tree.map(lambda leaf: rng.normal(0.1, 0.2, leaf.shape), nnx.to_pure_dict(state))
  return module, drawn


def test_pool_agrees_with_numpy():
  module, params = pool_and_params()
  x = np.random.default_rng(2).normal(size=(3, 7, WIDTH))
  pool = nnx.merge(module, jax.tree.map(jnp.float32, params))
  ours = pool(x.astype(np.float32))

  p, expected = params['attn'], []
  for tokens in x:
    keys, values = (
      np.einsum('ld,dhk->lhk', tokens, p[name]['kernel']) + p[name]['bias']
      for name in ('key', 'value')
    )
    y = reference.attend(params['probe'][None], keys, values, p)
    centered = y - y.mean()
    normed = centered / np.sqrt(y.var() + 1e-6) * params['ln']['scale'] + params['ln']['bias']
    h = reference.dense(normed, params['mlp']['c_fc'])
    h = h / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
    expected.append((y + reference.dense(h, params['mlp']['c_proj']))[0])
  expected = np.array(expected)
  np.testing.assert_allclose(ours, expected, atol=1e-5)

  other = nnx.merge(pool_and_params('clip_gelu')[0], jax.tree.map(jnp.float32, params))
  assert np.abs(other(x.astype(np.float32)) - expected).max() > 1e-4


def test_heads_and_hidden_units_are_split_over_devices():
  _, params = pool_and_params()
  mesh = jax.make_mesh((1, 1, 8), sharding.AXES, axis_types=(jax.sharding.AxisType.Auto,) * 3)
  split = sharding.sharded_shapes({'attn_pool': params}, mesh, 2**40)['attn_pool']
  for name in ('query', 'key', 'value'):
    assert split['attn'][name]['kernel'].sharding.shard_shape((WIDTH, HEADS, 6)) == (WIDTH, 1, 6)
  assert split['attn']['out']['kernel'].sharding.shard_shape((HEADS, 6, WIDTH)) == (1, 6, WIDTH)
  assert split['mlp']['c_fc']['kernel'].sharding.shard_shape((WIDTH, 80)) == (WIDTH, 10)
