"""The residual block of EVA-02 (Fang et al., arXiv 2303.11331), in EVA-CLIP's image towers.

It differs from CLIP's block in a gated MLP (SwiGLU), in layer norms before the last matrix of the
attention and of the MLP, and in keys without a bias.
"""

from typing import Any

import jax
from flax import nnx

from zsar_jax.models import layers
from zsar_jax.models.architectures import Architecture
from zsar_jax.models.compute import Compute


class _NormedProjection(layers.Projection):
  """A linear layer out of attention heads, with a layer norm over all heads before it."""

  def __init__(
    self, heads: tuple[int, int], *, epsilon: float, compute: Compute, rngs: nnx.Rngs, **options
  ):
    super().__init__(heads, axis=(-2, -1), dtype=compute.dtype, rngs=rngs, **options)
    self.norm = layers.LayerNorm(heads[0] * heads[1], compute, rngs, epsilon)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `x: [N, L, H, d]` to [N, L, D]."""
    normed = self.norm(x.reshape(*x.shape[:-2], -1))
    return super().__call__(normed.reshape(x.shape))


class Eva02Attention(layers.Attention):
  """Attention with a layer norm before its last matrix, and keys without a bias."""

  def __init__(
    self,
    width: int,
    heads: int,
    *,
    residual_std: float,
    compute: Compute,
    rngs: nnx.Rngs,
    epsilon: float,
    **options: Any,
  ):
    super().__init__(width, heads, residual_std=residual_std, compute=compute, rngs=rngs, **options)
    head_shape = (heads, width // heads)
    self.key = layers.Projection(
      width,
      head_shape,
      use_bias=False,
      kernel_init=nnx.initializers.normal(width**-0.5),
      dtype=compute.dtype,
      rngs=rngs,
    )
    self.out = _NormedProjection(
      head_shape,
      out_features=width,
      kernel_init=nnx.initializers.normal(residual_std),
      epsilon=epsilon,
      compute=compute,
      rngs=rngs,
    )


class GatedMlp(nnx.Module):
  """SwiGLU (Shazeer, arXiv 2002.05202) with a layer norm before its last matrix."""

  def __init__(
    self,
    width: int,
    *,
    hidden: int,
    residual_std: float,
    compute: Compute,
    rngs: nnx.Rngs,
    epsilon: float,
  ):
    def dense(inputs: int, outputs: int, std: float) -> nnx.Linear:
      init = nnx.initializers.normal(std)
      return nnx.Linear(inputs, outputs, kernel_init=init, dtype=compute.dtype, rngs=rngs)

    self.c_gate = dense(width, hidden, (2 * width) ** -0.5)
    self.c_fc = dense(width, hidden, (2 * width) ** -0.5)
    self.ln = layers.LayerNorm(hidden, compute, rngs, epsilon)
    self.c_proj = dense(hidden, width, residual_std)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `x: [..., D]` to [..., D]."""
    return self.c_proj(self.ln(jax.nn.silu(self.c_gate(x)) * self.c_fc(x)))


class Eva02Block(layers.ResidualBlock):
  """A pre-norm residual block with `Eva02Attention` and `GatedMlp`."""

  def __init__(
    self,
    width: int,
    heads: int,
    *,
    residual_std: float,
    compute: Compute,
    rngs: nnx.Rngs,
    mlp_width: int,
    parts: Architecture,
    **options: Any,
  ):
    shared: dict[str, Any] = dict(residual_std=residual_std, compute=compute, rngs=rngs)
    super().__init__(width, heads, mlp_width=mlp_width, parts=parts, **shared, **options)
    self.attn = Eva02Attention(width, heads, epsilon=parts.epsilon, **shared, **options)
    self.mlp = GatedMlp(width, hidden=mlp_width or 4 * width, epsilon=parts.epsilon, **shared)
