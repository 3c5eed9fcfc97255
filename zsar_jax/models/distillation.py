"""FROSTER's residual distillation (arXiv 2402.03241): staying close to the CLIP one began with.

Embeddings of the model in training, plus what a small network adds to them, are drawn towards
those of the frozen CLIP. Classification uses the embeddings without the addition, so that they
are free to change where the network can make up for it.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from zsar_jax.models import layers
from zsar_jax.models.layers import Compute

# How much of the network's output is added.
_SHARE = 0.1


class ResidualNetwork(nnx.Module):
  """Two dense layers without bias, which add nothing at first."""

  def __init__(self, width: int, *, compute: Compute, rngs: nnx.Rngs):
    def dense(init) -> nnx.Linear:
      return nnx.Linear(
        width, width, use_bias=False, kernel_init=init, dtype=compute.dtype, rngs=rngs
      )

    self.first = dense(nnx.initializers.he_normal())
    self.second = dense(nnx.initializers.zeros)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `x: f32[..., E]`, of unit length, to f32[..., E]."""
    added = self.second(jax.nn.gelu(self.first(x), approximate=False))
    return x + _SHARE * added.astype(jnp.float32)


def distance(student: jax.Array, teacher: jax.Array) -> jax.Array:
  """The mean of 1 - cosine, of embeddings f32[..., E]."""
  cosines = jnp.sum(layers.l2_normalize(student) * layers.l2_normalize(teacher), axis=-1)
  return jnp.mean(1 - cosines)
