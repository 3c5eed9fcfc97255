"""The residual transformer of CLIP's two towers and of the temporal head.

Letters in shapes: N sequences, L tokens, D width, H heads, d = D / H.

Parameters are f32. Matrix products and the residual stream are computed in `Compute.dtype`, layer
norms and the softmax always in f32. Parameter names are OpenAI's. Kernel layouts are Scenic's:
query, key and value (D, H, d), out (H, d, D), so that attention can be sharded by head.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from zsar_jax.models.architectures import CLIP, Architecture
from zsar_jax.models.attention import attend, pad_tokens
from zsar_jax.models.compute import REMATS, Compute
from zsar_jax.models.normalization import normalize
from zsar_jax.models.rotary import Rotary, rotate, select_angles


def _fusion_barrier(x: jax.Array) -> jax.Array:
  """Separates a block from the next one on CPUs; see `compute.compiler_options`."""
  return jax.lax.platform_dependent(x, cpu=jax.lax.optimization_barrier, default=lambda x: x)


def quick_gelu(x: jax.Array) -> jax.Array:
  """Computes x * sigmoid(1.702 x), the approximation of GELU in OpenAI's CLIP."""
  return x * jax.nn.sigmoid(1.702 * x)


# The functions of `architectures.ACTIVATIONS`.
_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  'quick_gelu': quick_gelu,
  'gelu': functools.partial(jax.nn.gelu, approximate=False),
  'gelu_tanh': functools.partial(jax.nn.gelu, approximate=True),
  'relu': jax.nn.relu,
}


class LayerNorm(nnx.LayerNorm):
  """A layer norm whose operations have the scope `layer_norm` in profiles.

  Attributes:
    compute: how it is computed.
  """

  def __init__(self, width: int, compute: Compute, rngs: nnx.Rngs, epsilon: float = CLIP.epsilon):
    # The fast variance, E[x^2] - E[x]^2, cancels where the mean is large, as it is in CLIP's
    # residual stream.
    super().__init__(
      width, epsilon=epsilon, dtype=compute.dtype, use_fast_variance=False, rngs=rngs
    )
    self.compute = compute

  @jax.named_scope('layer_norm')
  def __call__(self, x: jax.Array) -> jax.Array:
    """Normalizes `x: [..., D]` over its last axis, in f32; returns the dtype of `compute`."""
    if not self.compute.flat_norms:
      return super().__call__(x)
    assert self.scale is not None
    assert self.bias is not None
    tokens = x.reshape(-1, x.shape[-1])
    y = normalize(tokens, self.scale[...], self.bias[...], self.compute.dtype, self.epsilon)
    return y.reshape(x.shape)


def select_token(x: jax.Array, index: int | jax.Array) -> jax.Array:
  """Selects one token of each sequence.

  Args:
    x: [N, L, D], the tokens.
    index: the token's index, the same for all sequences, or i32[N], one for each.

  Returns:
    [N, 1, D].
  """
  if isinstance(index, int):
    return x[:, index : index + 1]
  return jnp.take_along_axis(x, index[:, None, None], axis=1)


class Projection(nnx.LinearGeneral):
  """A linear layer into or out of attention heads, computed as one matrix product.

  XLA for TPUs turns the gradient of a matrix into a reduce-scatter. The gradient of a kernel with
  more dimensions it sums up in full on every device.
  """

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `x: [..., D]` to [..., H, d], or [..., H, d] to [..., D]."""
    batch = x.shape[: x.ndim - len(self.in_features)]
    # The reshape comes before the cast. Otherwise XLA finds it between the gradient and the
    # gradient's sum over devices, and does not make a reduce-scatter of the two.
    kernel = self.kernel[...].reshape(math.prod(self.in_features), -1).astype(self.dtype)
    y = x.reshape(*batch, -1).astype(self.dtype) @ kernel
    if self.bias is not None:
      y = y + self.bias[...].reshape(-1).astype(self.dtype)
    return y.reshape(*batch, *self.out_features)


class Attention(nnx.Module):
  """Multi-head attention.

  Attributes:
    causal: whether a token attends only to itself and to earlier tokens.
    rotary: the positions by which queries and keys are rotated; None if they are not.
    logit_cap: see `attention.attend`.
    compute: how attention is computed.
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
    rotary: Rotary | None = None,
    inner_width: int = 0,
    logit_cap: float = 0.0,
  ):
    # The heads are together as wide as the tokens, or `inner_width` wide.
    head_shape = (heads, (inner_width or width) // heads)

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
    self.rotary = rotary
    self.logit_cap = logit_cap
    self.compute = compute

  def __call__(
    self,
    x: jax.Array,
    context: jax.Array | None = None,
    query_index: int | jax.Array | None = None,
    length: int | None = None,
  ) -> jax.Array:
    """Attends from each token of `x` to the tokens of `context`.

    Args:
      x: [N, L, D].
      context: [N, M, D]; None for `x` itself.
      query_index: index of the only token that attends, see `select_token`; None for all tokens.
      length: the number of tokens of `context` that are attended to; the tokens after them are
        padding. None for all tokens.

    Returns:
      [N, L, D], or [N, 1, D] with `query_index`.
    """
    context = x if context is None else context
    key = self.key(context)
    if self.rotary is not None:
      angles = self.rotary.angles(context.shape[1], key.shape[-1])
      key = rotate(key, angles)
    key, value = (self.gather_context(part, length) for part in (key, self.value(context)))
    key_length = self.context_length(length)
    query = self.query(x if query_index is None else select_token(x, query_index))
    if self.rotary is not None:
      query = rotate(query, select_angles(angles, query_index))
    causal, implementation = self.causal, self.compute.attention
    if query_index is not None:
      # A fused kernel for long queries gains nothing here.
      causal, implementation = False, 'xla'
      key_length = query_index + 1 if self.causal else key_length
    with jax.named_scope('attention'):
      mixed = attend(
        query,
        key,
        value,
        implementation=implementation,
        causal=causal,
        key_length=key_length,
        logit_cap=self.logit_cap,
      )  # [N, L, H, d]
    return self.out(mixed)  # [N, L, D]

  def gather_context(self, x: jax.Array, length: int | None) -> jax.Array:
    """Maps each sequence's own keys or values [N, M, H, d] to those that it attends to.

    Here these are its own; subclasses add those of other sequences.

    Args:
      x: the keys or values.
      length: see `__call__`.
    """
    del length
    return x

  def context_length(self, length: int | None) -> int | None:
    """Returns how many keys of `gather_context`'s result are no padding; None for all."""
    return length


class Mlp(nnx.Module):
  """Two dense layers with an activation between them.

  Attributes:
    activation: one of `architectures.ACTIVATIONS`.
  """

  def __init__(
    self,
    width: int,
    *,
    residual_std: float,
    compute: Compute,
    rngs: nnx.Rngs,
    hidden: int = 0,
    activation: str = CLIP.activation,
  ):
    hidden = hidden or 4 * width
    self.activation = activation
    self.c_fc = nnx.Linear(
      width,
      hidden,
      kernel_init=nnx.initializers.normal((2 * width) ** -0.5),
      dtype=compute.dtype,
      rngs=rngs,
    )
    self.c_proj = nnx.Linear(
      hidden,
      width,
      kernel_init=nnx.initializers.normal(residual_std),
      dtype=compute.dtype,
      rngs=rngs,
    )

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `x: [..., D]` to [..., D]."""
    return self.c_proj(_ACTIVATIONS[self.activation](self.c_fc(x)))


class ResidualBlock(nnx.Module):
  """A pre-norm residual block: attention, then MLP.

  Attributes:
    attn: the attention; subclasses may replace it.
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
    mlp_width: int = 0,
    parts: Architecture = CLIP,
    rotary: Rotary | None = None,
  ):
    self.ln_1 = LayerNorm(width, compute, rngs, parts.epsilon)
    self.attn = Attention(
      width,
      heads,
      residual_std=residual_std,
      compute=compute,
      rngs=rngs,
      causal=causal,
      rotary=rotary,
      logit_cap=parts.logit_cap,
    )
    self.ln_2 = LayerNorm(width, compute, rngs, parts.epsilon)
    self.mlp: Callable[[jax.Array], jax.Array] = Mlp(
      width,
      residual_std=residual_std,
      compute=compute,
      rngs=rngs,
      hidden=mlp_width,
      activation=parts.activation,
    )

  def __call__(
    self,
    x: jax.Array,
    query_index: int | jax.Array | None = None,
    length: int | None = None,
  ) -> jax.Array:
    """Applies the block.

    Args:
      x: [N, L, D], the tokens.
      query_index: index of the only token that is computed, see `select_token`; None for all
        tokens.
      length: the number of tokens that are no padding; None for all.

    Returns:
      [N, L, D], or [N, 1, D] with `query_index`.
    """
    mixed = self.attn(self.ln_1(x), query_index=query_index, length=length)
    x = (x if query_index is None else select_token(x, query_index)) + mixed
    return x + self.mlp(self.ln_2(x))


def residual_std(width: int, layers: int) -> float:
  """Returns the initial standard deviation of kernels that write to the residual stream.

  As in OpenAI's text transformer (`CLIP.initialize_parameters`), it is scaled down by
  sqrt(2 * layers), so that the stream's variance does not grow with depth. OpenAI's code leaves the
  image transformer at PyTorch's defaults; here every stack uses this scheme.
  """
  return (width * 2 * layers) ** -0.5


class Transformer(nnx.Module):
  """A stack of residual blocks without a final norm.

  Attributes:
    layers: number of blocks.
  """

  def __init__(self, layers: int, make_block: Callable[[int], nnx.Module], compute: Compute):
    """Builds the stack.

    Args:
      layers: number of blocks.
      make_block: makes block i, which maps [N, L, D] to [N, L, D].
      compute: how the blocks are computed.
    """
    # The keys are strings. A list would put integer keys into the parameter tree, which checkpoints
    # and path patterns do not support.
    self.resblocks = nnx.Dict({str(i): make_block(i) for i in range(layers)})
    self.layers = layers
    self.compute = compute

  def __call__(
    self,
    x: jax.Array,
    before: Callable[[int, jax.Array], jax.Array] | None = None,
    query_index: int | jax.Array | None = None,
  ) -> jax.Array:
    """Applies the blocks.

    Args:
      x: [N, L, D], the tokens.
      before: called with i and the tokens before block i; returns the tokens that block i gets.
      query_index: index of the only token that the last block computes, see `select_token`; None
        for all tokens.

    Returns:
      [N, L, D], or [N, 1, D] with `query_index`.
    """
    count = x.shape[1]
    if self.compute.attention == 'cudnn':
      x = pad_tokens(x)  # Once here, and not in each block.
    length = None if x.shape[1] == count else count
    for i in range(self.layers):  # The keys themselves are sorted as text: '10' before '2'.
      block = self.resblocks[str(i)]
      x = before(i, x) if before else x
      call = _block_call(query_index if i == self.layers - 1 else None, length)
      if self.compute.remat != 'none':
        call = nnx.remat(call, policy=REMATS[self.compute.remat])
      x = _fusion_barrier(call(block, x))
    return x[:, :count]


def _block_call(
  query_index: int | jax.Array | None, length: int | None
) -> Callable[[nnx.Module, jax.Array], jax.Array]:
  """Returns a function of block and tokens that calls the block; see `ResidualBlock`."""

  # The options are bound here and not passed on, since `nnx.remat` takes no keywords.
  def call(block: nnx.Module, x: jax.Array) -> jax.Array:
    options = {} if query_index is None else {'query_index': query_index}
    return block(x, length=length, **options)

  return call


def plain_transformer(
  width: int,
  layers: int,
  heads: int,
  *,
  compute: Compute,
  rngs: nnx.Rngs,
  **options: Any,
) -> Transformer:
  """Builds a `Transformer` of `ResidualBlock`s, which get the `options`."""

  def block(number: int) -> ResidualBlock:
    del number
    return ResidualBlock(
      width,
      heads,
      residual_std=residual_std(width, layers),
      compute=compute,
      rngs=rngs,
      **options,
    )

  return Transformer(layers, block, compute)


def l2_normalize(x: jax.Array) -> jax.Array:
  """Scales `x: [..., E]` to unit length along the last axis, in f32."""
  x = x.astype(jnp.float32)
  # With the lower bound, an all-zero vector stays zero and has a finite gradient.
  square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(square, 1e-24))
