"""The residual transformer that CLIP's two towers and the temporal head are made of.

Letters in shapes: N sequences, L tokens, D width, H heads, d = D / H.

Parameters are f32; `dtype` is what matrix products and the residual stream are computed in.
Layer norms and the softmax are computed in f32 whatever it is. Parameter names are OpenAI's,
kernel layouts are Scenic's: query, key and value (D, H, d), out (H, d, D), so that attention
can be sharded by head.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike


def quick_gelu(x: jax.Array) -> jax.Array:
  """The approximation of GELU that OpenAI's CLIP was trained with: x * sigmoid(1.702 x)."""
  return x * jax.nn.sigmoid(1.702 * x)


def layer_norm(width: int, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.LayerNorm:
  """A layer norm with CLIP's epsilon: statistics and scaling in f32, the result in `dtype`."""
  # The fast variance, E[x^2] - E[x]^2, cancels where the mean is large, as it is in CLIP's
  # residual stream.
  return nnx.LayerNorm(width, epsilon=1e-5, dtype=dtype, use_fast_variance=False, rngs=rngs)


class Attention(nnx.Module):
  """Multi-head self-attention.

  Attributes:
    causal: whether a token attends only to itself and to those before it.
    implementation: which kernel of `jax.nn.dot_product_attention` computes it.
  """

  def __init__(
    self,
    width: int,
    heads: int,
    *,
    residual_std: float,
    causal: bool,
    dtype: DTypeLike,
    attention: str,
    rngs: nnx.Rngs,
  ):
    head_shape = (heads, width // heads)

    def project_in() -> nnx.LinearGeneral:
      init = nnx.initializers.normal(width**-0.5)
      return nnx.LinearGeneral(width, head_shape, kernel_init=init, dtype=dtype, rngs=rngs)

    self.query = project_in()
    self.key = project_in()
    self.value = project_in()
    self.out = nnx.LinearGeneral(
      head_shape,
      width,
      axis=(-2, -1),
      kernel_init=nnx.initializers.normal(residual_std),
      dtype=dtype,
      rngs=rngs,
    )
    self.causal = causal
    self.implementation = attention

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `x: [N, L, D]` to [N, L, D]."""
    mixed = jax.nn.dot_product_attention(
      self.query(x),
      self.key(x),
      self.value(x),
      is_causal=self.causal,
      implementation=self.implementation,
    )  # [N, L, H, d]
    return self.out(mixed)  # [N, L, D]


class Mlp(nnx.Module):
  """Two dense layers with a quick GELU between them, four times as wide inside."""

  def __init__(self, width: int, *, residual_std: float, dtype: DTypeLike, rngs: nnx.Rngs):
    self.c_fc = nnx.Linear(
      width,
      4 * width,
      kernel_init=nnx.initializers.normal((2 * width) ** -0.5),
      dtype=dtype,
      rngs=rngs,
    )
    self.c_proj = nnx.Linear(
      4 * width,
      width,
      kernel_init=nnx.initializers.normal(residual_std),
      dtype=dtype,
      rngs=rngs,
    )

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `x: [..., D]` to [..., D]."""
    return self.c_proj(quick_gelu(self.c_fc(x)))


class ResidualBlock(nnx.Module):
  """A pre-norm residual block: attention, then MLP."""

  def __init__(
    self,
    width: int,
    heads: int,
    *,
    residual_std: float,
    causal: bool,
    dtype: DTypeLike,
    attention: str,
    rngs: nnx.Rngs,
  ):
    self.ln_1 = layer_norm(width, dtype, rngs)
    self.attn = Attention(
      width,
      heads,
      residual_std=residual_std,
      causal=causal,
      dtype=dtype,
      attention=attention,
      rngs=rngs,
    )
    self.ln_2 = layer_norm(width, dtype, rngs)
    self.mlp = Mlp(width, residual_std=residual_std, dtype=dtype, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `x: [N, L, D]` to [N, L, D]."""
    x = x + self.attn(self.ln_1(x))
    return x + self.mlp(self.ln_2(x))


class Transformer(nnx.Module):
  """A stack of residual blocks without a final norm.

  Initialised as OpenAI's text transformer is (`CLIP.initialize_parameters`): what is added
  to the residual stream is scaled down by sqrt(2 * layers), so that its variance does not
  grow with depth. OpenAI's code leaves the image transformer at PyTorch's defaults; here
  every stack uses this scheme.
  """

  def __init__(
    self,
    width: int,
    layers: int,
    heads: int,
    *,
    dtype: DTypeLike,
    attention: str,
    rngs: nnx.Rngs,
    causal: bool = False,
  ):
    residual_std = (width * 2 * layers) ** -0.5
    # Keyed by strings: a list would put integer keys into the parameter tree, which
    # checkpoints and path patterns do not know.
    self.resblocks = nnx.Dict(
      {
        str(i): ResidualBlock(
          width,
          heads,
          residual_std=residual_std,
          causal=causal,
          dtype=dtype,
          attention=attention,
          rngs=rngs,
        )
        for i in range(layers)
      }
    )
    self.layers = layers

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `x: [N, L, D]` to [N, L, D]."""
    for i in range(self.layers):  # The keys themselves are sorted as text: '10' before '2'.
      x = self.resblocks[str(i)](x)
    return x


def l2_normalize(x: jax.Array) -> jax.Array:
  """Scales `x: [..., E]` to unit length along the last axis, in f32."""
  x = x.astype(jnp.float32)
  # An all-zero vector stays zero and has a finite gradient.
  square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(square, 1e-24))
