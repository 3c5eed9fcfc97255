"""Pooling by attention: a learned query attends to the tokens of an image.

SigLIP (Zhai et al., arXiv 2303.15343) and PE-Core (Bolya et al., arXiv 2504.13181) have it instead
of a class token; big_vision calls it MAP head (Lee et al., arXiv 1810.00825).

Letters in shapes: N images, L tokens, D width.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from zsar_jax.models import layers
from zsar_jax.models.architectures import Architecture
from zsar_jax.models.compute import Compute


class AttentionPool(nnx.Module):
  """Attention of a learned query, then an MLP with a residual connection."""

  def __init__(
    self,
    width: int,
    heads: int,
    *,
    compute: Compute,
    rngs: nnx.Rngs,
    parts: Architecture,
    mlp_width: int = 0,
  ):
    residual_std = layers.residual_std(width, 1)
    init = nnx.initializers.normal(width**-0.5)
    self.probe = nnx.Param(init(rngs.params(), (width,), jnp.float32))
    # With the names of a block's parts, they are sharded by the rules of blocks.
    self.attn = layers.Attention(
      width, heads, residual_std=residual_std, compute=compute, rngs=rngs
    )
    self.ln = layers.LayerNorm(width, compute, rngs, parts.epsilon)
    self.mlp = layers.Mlp(
      width,
      residual_std=residual_std,
      compute=compute,
      rngs=rngs,
      hidden=mlp_width,
      activation=parts.activation,
    )

  def __call__(self, x: jax.Array) -> jax.Array:
    """Pools tokens `x: [N, L, D]` to [N, D]."""
    probe = jnp.broadcast_to(self.probe[...].astype(x.dtype), (len(x), 1, x.shape[-1]))
    y = self.attn(probe, context=x, query_index=0)  # [N, 1, D]
    y = y + self.mlp(self.ln(y))
    return y[:, 0]
