"""X-CLIP's video-specific prompting: class embeddings that attend to the video.

Letters in shapes: B clips, C classes, M patches of a frame, D width of the image tower,
E embedding.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from zsar_jax.models import layers
from zsar_jax.models.compute import Compute

# As in the paper (arXiv 2208.02816) and its code: two layers, whose output is added with a weight
# that starts at 0.1.
_LAYERS = 2
_ALPHA = 0.1


class _CrossBlock(nnx.Module):
  """A pre-norm residual block: attention to the video, then MLP."""

  def __init__(self, width: int, *, compute: Compute, rngs: nnx.Rngs):
    std = layers.residual_std(width, _LAYERS)
    self.norm1 = layers.LayerNorm(width, compute, rngs)
    self.cross_attn = layers.Attention(
      width,
      max(1, width // 64),
      residual_std=std,
      compute=compute,
      rngs=rngs,
      input_bias=False,
    )
    self.norm3 = layers.LayerNorm(width, compute, rngs)
    self.mlp = layers.Mlp(width, residual_std=std, compute=compute, rngs=rngs)

  def __call__(self, texts: jax.Array, video: jax.Array) -> jax.Array:
    """Maps `texts: [B, C, E]`, which attend to `video: [B, M, E]`, to [B, C, E]."""
    texts = texts + self.cross_attn(self.norm1(texts), video)
    return texts + self.mlp(self.norm3(texts))


class VideoPrompts(nnx.Module):
  """Adapts class embeddings to a video.

  Attributes:
    alpha: f32[E], the weight of the adaptation.
  """

  def __init__(self, image_width: int, width: int, *, compute: Compute, rngs: nnx.Rngs):
    self.visual_ln = layers.LayerNorm(image_width, compute, rngs)
    self.visual_proj = nnx.Linear(
      image_width,
      width,
      use_bias=False,
      kernel_init=nnx.initializers.normal(image_width**-0.5),
      dtype=compute.dtype,
      rngs=rngs,
    )
    self.norm = layers.LayerNorm(width, compute, rngs)
    self.decoder = nnx.Dict(
      {str(i): _CrossBlock(width, compute=compute, rngs=rngs) for i in range(_LAYERS)}
    )
    self.alpha = nnx.Param(jnp.full((width,), _ALPHA, jnp.float32))
    self.compute = compute

  def context(self, patches: jax.Array) -> jax.Array:
    """Returns what classes attend to: the mean of `patches: [B, T, M, D]` over T, [B, M, E]."""
    return jnp.mean(self.visual_proj(self.visual_ln(patches)), axis=1)

  def __call__(self, texts: jax.Array, context: jax.Array) -> jax.Array:
    """Maps `texts: f32[C, E]` to f32[B, C, E], given the `context: [B, M, E]` of B videos."""
    context = self.norm(context)
    texts = jnp.broadcast_to(texts, (context.shape[0], *texts.shape))  # [B, C, E]
    x = texts.astype(self.compute.dtype)
    for i in range(_LAYERS):
      x = self.decoder[str(i)](x, context)
    return texts + self.alpha[...] * x.astype(jnp.float32)
