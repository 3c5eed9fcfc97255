"""The residual transformer that CLIP's two towers and the temporal head are made of.

Letters in shapes: N sequences, L tokens, D width, H heads, d = D / H.

Parameters are f32; `Compute.dtype` is what matrix products and the residual stream are computed
in. Layer norms and the softmax are computed in f32 whatever it is. Parameter names are OpenAI's,
kernel layouts are Scenic's: query, key and value (D, H, d), out (H, d, D), so that attention
can be sharded by head.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh
from jax.typing import DTypeLike

from zsar_jax.errors import UserError

ATTENTIONS = ('xla', 'cudnn')

# What a residual block keeps for the backward pass: everything, its matrix products with
# weights, or nothing but its input.
REMATS = {
  'none': None,
  'dots': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  'full': jax.checkpoint_policies.nothing_saveable,
}


@dataclasses.dataclass(frozen=True)
class Compute:
  """How a model is computed, whatever it is.

  Attributes:
    dtype: of matrix products and the residual stream: float32 or bfloat16.
    attention: the implementation of `jax.nn.dot_product_attention`, one of `ATTENTIONS`.
    remat: what each residual block keeps for the backward pass, one of `REMATS`.

  Raises:
    UserError: where there is no such choice, or it does not apply here.
  """

  dtype: DTypeLike = jnp.float32
  attention: str = 'xla'
  remat: str = 'none'

  def __post_init__(self):
    for field, choices in (('attention', ATTENTIONS), ('remat', REMATS)):
      if getattr(self, field) not in choices:
        raise UserError(
          f'config.model.{field}: {getattr(self, field)!r} is none of {", ".join(choices)}'
        )
    if self.attention == 'cudnn':
      if jnp.dtype(self.dtype) != jnp.bfloat16:
        raise UserError(
          'config.model.attention: cudnn computes attention in bfloat16 only; set'
          " config.model.dtype to 'bfloat16', or take 'xla'"
        )
      if jax.default_backend() != 'gpu':
        raise UserError(
          'config.model.attention: cudnn needs an NVIDIA GPU and JAX runs on'
          f" {jax.default_backend()} here; take 'xla'"
        )


def compiler_options(mesh: Mesh | None = None) -> dict[str, str] | None:
  """For the jits of a model's passes: what makes a CPU keep to the borders between blocks.

  XLA for CPUs drops optimization barriers before it fuses operations, and then forms the residual
  stream (and its gradient) anew from the first block on in each block, and several times. None on
  other devices, where the stream has no barriers.

  Args:
    mesh: the devices; None for those that JAX has here.
  """
  platform = mesh.devices.flat[0].platform if mesh else jax.default_backend()
  return {'xla_disable_hlo_passes': 'cse_barrier_expander'} if platform == 'cpu' else None


def _fusion_barrier(x: jax.Array) -> jax.Array:
  """The border of a block, on a CPU: see `compiler_options`."""
  return jax.lax.platform_dependent(x, cpu=jax.lax.optimization_barrier, default=lambda x: x)


def quick_gelu(x: jax.Array) -> jax.Array:
  """The approximation of GELU that OpenAI's CLIP was trained with: x * sigmoid(1.702 x)."""
  return x * jax.nn.sigmoid(1.702 * x)


class LayerNorm(nnx.LayerNorm):
  """A layer norm that profiles know as such."""

  @jax.named_scope('layer_norm')
  def __call__(self, x: jax.Array) -> jax.Array:
    """Norms `x: [..., D]`."""
    return super().__call__(x)


def layer_norm(width: int, dtype: DTypeLike, rngs: nnx.Rngs) -> LayerNorm:
  """A layer norm with CLIP's epsilon: statistics and scaling in f32, the result in `dtype`."""
  # The fast variance, E[x^2] - E[x]^2, cancels where the mean is large, as it is in CLIP's
  # residual stream.
  return LayerNorm(width, epsilon=1e-5, dtype=dtype, use_fast_variance=False, rngs=rngs)


def at(x: jax.Array, place: int | jax.Array) -> jax.Array:
  """Of `x: [N, L, D]` one token of each sequence, [N, 1, D].

  Args:
    x: the tokens.
    place: where it is, in all sequences or, i32[N], in each.
  """
  if isinstance(place, int):
    return x[:, place : place + 1]
  return jnp.take_along_axis(x, place[:, None, None], axis=1)


class Projection(nnx.LinearGeneral):
  """A linear layer into heads or out of them, computed as one product of matrices.

  Gradients of matrices are what XLA for TPUs reduces and scatters in one; those of kernels with
  more dimensions it sums up whole on every device.
  """

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `x: [..., D]` to [..., H, d], or the other way."""
    batch = x.shape[: x.ndim - len(self.in_features)]
    # Folded before it is cast, or XLA finds the fold between the gradient and its sum.
    kernel = self.kernel[...].reshape(math.prod(self.in_features), -1).astype(self.dtype)
    y = x.reshape(*batch, -1).astype(self.dtype) @ kernel
    y = y.reshape(*batch, *self.out_features)
    return y if self.bias is None else y + self.bias[...].astype(self.dtype)


class Attention(nnx.Module):
  """Multi-head attention.

  Attributes:
    causal: whether a token attends only to itself and to those before it.
    compute: how it is computed.
  """

  def __init__(
    self,
    width: int,
    heads: int,
    *,
    residual_std: float,
    compute: Compute,
    rngs: nnx.Rngs,
    causal: bool = False,
    input_bias: bool = True,
  ):
    head_shape = (heads, width // heads)

    def project_in() -> Projection:
      init = nnx.initializers.normal(width**-0.5)
      return Projection(
        width,
        head_shape,
        use_bias=input_bias,
        kernel_init=init,
        dtype=compute.dtype,
        rngs=rngs,
      )

    self.query = project_in()
    self.key = project_in()
    self.value = project_in()
    self.out = Projection(
      head_shape,
      width,
      axis=(-2, -1),
      kernel_init=nnx.initializers.normal(residual_std),
      dtype=compute.dtype,
      rngs=rngs,
    )
    self.causal = causal
    self.compute = compute

  def __call__(
    self,
    x: jax.Array,
    context: jax.Array | None = None,
    only: int | jax.Array | None = None,
  ) -> jax.Array:
    """Attends from each token of `x` to those of `context`.

    Args:
      x: [N, L, D].
      context: [N, M, D]; None stands for `x`.
      only: the place of the one token that attends, see `at`; None for all.

    Returns:
      [N, L, D], or [N, 1, D].
    """
    context = x if context is None else context
    key, value = self.neighbors(self.key(context)), self.neighbors(self.value(context))
    query = self.query(x if only is None else at(x, only))
    seen, implementation = {'is_causal': self.causal}, self.compute.attention
    if only is not None:
      # Nothing to gain from a kernel for long queries.
      seen, implementation = {}, 'xla'
      if self.causal:
        seen['key_value_seq_lengths'] = jnp.broadcast_to(only + 1, x.shape[:1])
    with jax.named_scope('attention'):
      mixed = jax.nn.dot_product_attention(
        query, key, value, **seen, implementation=implementation
      )  # [N, L, H, d]
    return self.out(mixed)  # [N, L, D]

  def neighbors(self, x: jax.Array) -> jax.Array:
    """From the keys or values [N, M, H, d] of each sequence to those that it attends to."""
    return x


class Mlp(nnx.Module):
  """Two dense layers with a quick GELU between them, four times as wide inside."""

  def __init__(self, width: int, *, residual_std: float, compute: Compute, rngs: nnx.Rngs):
    self.c_fc = nnx.Linear(
      width,
      4 * width,
      kernel_init=nnx.initializers.normal((2 * width) ** -0.5),
      dtype=compute.dtype,
      rngs=rngs,
    )
    self.c_proj = nnx.Linear(
      4 * width,
      width,
      kernel_init=nnx.initializers.normal(residual_std),
      dtype=compute.dtype,
      rngs=rngs,
    )

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `x: [..., D]` to [..., D]."""
    return self.c_proj(quick_gelu(self.c_fc(x)))


class ResidualBlock(nnx.Module):
  """A pre-norm residual block: attention, then MLP.

  Attributes:
    attn: the attention, which may be replaced by another kind.
  """

  def __init__(
    self,
    width: int,
    heads: int,
    *,
    residual_std: float,
    compute: Compute,
    rngs: nnx.Rngs,
    causal: bool = False,
  ):
    self.ln_1 = layer_norm(width, compute.dtype, rngs)
    self.attn = Attention(
      width, heads, residual_std=residual_std, compute=compute, rngs=rngs, causal=causal
    )
    self.ln_2 = layer_norm(width, compute.dtype, rngs)
    self.mlp = Mlp(width, residual_std=residual_std, compute=compute, rngs=rngs)

  def __call__(self, x: jax.Array, only: int | jax.Array | None = None) -> jax.Array:
    """Maps `x: [N, L, D]` to [N, L, D].

    Args:
      x: the tokens.
      only: the place of the one token that is wanted, see `at`, of which the result is [N, 1, D].
    """
    mixed = self.attn(self.ln_1(x), only=only)
    x = (x if only is None else at(x, only)) + mixed
    return x + self.mlp(self.ln_2(x))


def residual_std(width: int, layers: int) -> float:
  """The initial deviation of what is added to the residual stream.

  As OpenAI's text transformer (`CLIP.initialize_parameters`): scaled down by sqrt(2 * layers),
  so that the stream's variance does not grow with depth. OpenAI's code leaves the image
  transformer at PyTorch's defaults; here every stack uses this scheme.
  """
  return (width * 2 * layers) ** -0.5


class Transformer(nnx.Module):
  """A stack of residual blocks without a final norm.

  Attributes:
    layers: how many.
  """

  def __init__(self, layers: int, make_block: Callable[[int], nnx.Module], compute: Compute):
    """Builds the stack.

    Args:
      layers: how many blocks.
      make_block: makes the block with a number; it maps [N, L, D] to [N, L, D].
      compute: of which `remat` matters here.
    """
    # Keyed by strings: a list would put integer keys into the parameter tree, which
    # checkpoints and path patterns do not know.
    self.resblocks = nnx.Dict({str(i): make_block(i) for i in range(layers)})
    self.layers = layers
    self.compute = compute

  def __call__(
    self,
    x: jax.Array,
    before: Callable[[int, jax.Array], jax.Array] | None = None,
    only: int | jax.Array | None = None,
  ) -> jax.Array:
    """Maps `x: [N, L, D]` to [N, L, D].

    Args:
      x: the tokens.
      before: changes what the block with a number gets.
      only: the place of the one token that is wanted, see `at`, of which the result is
        [N, 1, D]: the last block computes no other.
    """
    for i in range(self.layers):  # The keys themselves are sorted as text: '10' before '2'.
      block = self.resblocks[str(i)]
      x = before(i, x) if before else x
      call = _call_for(only if i == self.layers - 1 else None)
      if self.compute.remat != 'none':
        call = nnx.remat(call, policy=REMATS[self.compute.remat])
      x = _fusion_barrier(call(block, x))
    return x


def _call_for(only: int | jax.Array | None) -> Callable[[nnx.Module, jax.Array], jax.Array]:
  """How a block is called whose tokens are wanted, or only the one that is there."""
  # Not by name: `nnx.remat` takes no keywords.
  return lambda block, x: block(x) if only is None else block(x, only)


def plain_transformer(
  width: int,
  layers: int,
  heads: int,
  *,
  compute: Compute,
  rngs: nnx.Rngs,
  causal: bool = False,
) -> Transformer:
  """A stack of `ResidualBlock`s."""

  def block(number: int) -> ResidualBlock:
    del number
    return ResidualBlock(
      width,
      heads,
      residual_std=residual_std(width, layers),
      compute=compute,
      rngs=rngs,
      causal=causal,
    )

  return Transformer(layers, block, compute)


def l2_normalize(x: jax.Array) -> jax.Array:
  """Scales `x: [..., E]` to unit length along the last axis, in f32."""
  x = x.astype(jnp.float32)
  # An all-zero vector stays zero and has a finite gradient.
  square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(square, 1e-24))
