"""FROSTER's residual distillation towards the CLIP that training starts from (arXiv 2402.03241).

A small network adds a residual to the trained model's embeddings, and the loss pulls the sum
towards the embeddings of the frozen CLIP. Classification uses the embeddings without the residual,
so they are free to change wherever the network can compensate for it.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from zsar_jax.models import layers
from zsar_jax.models.compute import Compute

# Weight of the network's output in the sum.
_RESIDUAL_WEIGHT = 0.1


class ResidualNetwork(nnx.Module):
  """Two dense layers without bias; the second starts at zero, so that at first nothing is added."""

  def __init__(self, width: int, *, compute: Compute, rngs: nnx.Rngs):
    def dense(init) -> nnx.Linear:
      return nnx.Linear(
        width, width, use_bias=False, kernel_init=init, dtype=compute.dtype, rngs=rngs
      )

    self.first = dense(nnx.initializers.he_normal())
    self.second = dense(nnx.initializers.zeros)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `x: f32[..., E]`, of unit length, to f32[..., E]."""
    residual = self.second(jax.nn.gelu(self.first(x), approximate=False))
    return x + _RESIDUAL_WEIGHT * residual.astype(jnp.float32)


def distance(student: jax.Array, teacher: jax.Array) -> jax.Array:
  """Returns the mean of 1 - cosine between two sets of embeddings, f32[..., E] each."""
  cosines = jnp.sum(layers.l2_normalize(student) * layers.l2_normalize(teacher), axis=-1)
  return jnp.mean(1 - cosines)
