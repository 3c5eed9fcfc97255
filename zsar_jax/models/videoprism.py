"""The video and the text tower of VideoPrism-LvT (arXiv 2402.13217).

The video tower is a factorized encoder (ViViT's "model 2", arXiv 2103.15691): its blocks attend
first among the patches of a frame, then among the frames of a patch, then among all tokens of the
clip. A learned query attends to the result.

Letters in shapes: B clips, T frames, M patches of a frame, C texts, L tokens, D width, H heads,
d width of a head.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from zsar_jax.models import layers, towers
from zsar_jax.models.compute import Compute
from zsar_jax.models.presets import TowerSpec, VideoSpec

# The width of the heads of the pooling, together, as a multiple of D.
POOL_EXPANSION = 4

# The longest wavelength of the positions of texts, in tokens, divided by 2 pi.
_MAX_TIMESCALE = 10_000


class VideoTower(nnx.Module):
  """The factorized encoder, the auxiliary blocks and the pooling."""

  def __init__(self, spec: TowerSpec, video: VideoSpec, *, compute: Compute, rngs: nnx.Rngs):
    width, heads, parts = spec.image_width, spec.image_heads, spec.parts

    def transformer(depth: int) -> layers.Transformer:
      return layers.plain_transformer(
        width, depth, heads, compute=compute, rngs=rngs, mlp_width=spec.image_mlp, parts=parts
      )

    def norm() -> layers.LayerNorm:
      return layers.LayerNorm(width, compute, rngs, parts.epsilon)

    def positions(count: int) -> nnx.Param:
      return nnx.Param(nnx.initializers.normal(count**-0.5)(rngs.params(), (count, width)))

    self.conv1 = towers.PatchEmbedding(
      spec.patch, width, dtype=compute.dtype, rngs=rngs, use_bias=parts.patch_bias
    )
    self.positional_embedding = positions(spec.num_patches)
    self.transformer = transformer(spec.image_layers)
    self.ln_frame = norm()
    self.temporal_embedding = positions(video.num_frames)
    self.temporal_transformer = transformer(spec.time_layers)
    self.ln_temporal = norm()
    self.auxiliary_transformer = transformer(spec.auxiliary_layers)
    self.attn_pool = AttentionPool(width, heads, compute=compute, rngs=rngs)
    self.ln_post = norm()
    self.num_frames = video.num_frames

  def __call__(self, images: jax.Array) -> tuple[jax.Array, None]:
    """Embeds clips.

    Args:
      images: f32[B * T, resolution, resolution, 3], in [0, 1]; the T frames of a clip are
        consecutive.

    Returns:
      embeddings: f32[B, D], not of unit length.
      patches: None; see `towers.ImageTower`.
    """
    x = self.conv1(images)  # [B * T, M, D]
    x = self.transformer(x + self.positional_embedding[...].astype(x.dtype))
    x = _swap_frames(self.ln_frame(x), self.num_frames)  # [B * M, T, D]
    x = self.temporal_transformer(x + self.temporal_embedding[...].astype(x.dtype))
    clips = len(images) // self.num_frames
    x = _swap_frames(self.ln_temporal(x), len(x) // clips)  # [B * T, M, D]
    x = self.auxiliary_transformer(x.reshape(clips, -1, x.shape[-1]))  # [B, T * M, D]
    return self.ln_post(self.attn_pool(x)).astype(jnp.float32), None


def _swap_frames(x: jax.Array, count: int) -> jax.Array:
  """Maps [B * count, L, D] to [B * L, count, D]."""
  _, length, width = x.shape
  x = x.reshape(-1, count, length, width).swapaxes(1, 2)
  return x.reshape(-1, count, width)


class AttentionPool(nnx.Module):
  """Reduces the tokens of a clip to what a learned query attends to.

  Attributes:
    probe: f32[1, D], the query.
  """

  def __init__(self, width: int, heads: int, *, compute: Compute, rngs: nnx.Rngs):
    inner = POOL_EXPANSION * width
    self.probe = nnx.Param(nnx.initializers.normal(width**-0.5)(rngs.params(), (1, width)))
    self.attn = layers.Attention(
      width,
      heads,
      residual_std=layers.residual_std(width, 1),
      compute=compute,
      rngs=rngs,
      inner_width=inner,
    )
    self.attn.query = ScaledProjection(
      width,
      (heads, inner // heads),
      kernel_init=nnx.initializers.normal(width**-0.5),
      dtype=compute.dtype,
      rngs=rngs,
    )

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps tokens `x: [B, L, D]` to [B, D]."""
    probe = self.probe[...].astype(x.dtype)
    query = jnp.broadcast_to(probe, (len(x), *probe.shape))  # [B, 1, D]
    return self.attn(query, context=x, query_index=0)[:, 0]


class ScaledProjection(layers.Projection):
  """A projection into heads, each of whose dimensions has a learned positive factor.

  Attributes:
    per_dim_scale: f32[d]; the factor is softplus(per_dim_scale) / softplus(0), at first 1.
  """

  def __init__(self, width: int, head_shape: tuple[int, int], **options):
    super().__init__(width, head_shape, **options)
    self.per_dim_scale = nnx.Param(jnp.zeros(head_shape[1:], jnp.float32))

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `x: [..., D]` to [..., H, d]."""
    factor = jax.nn.softplus(self.per_dim_scale[...]) / math.log(2)
    return super().__call__(x) * factor.astype(self.dtype)


class TextTower(nnx.Module):
  """A causal transformer; the text's embedding is that of a class token that follows the text."""

  def __init__(self, spec: TowerSpec, video: VideoSpec, *, compute: Compute, rngs: nnx.Rngs):
    del video
    width = spec.text_width
    init = nnx.initializers.normal(width**-0.5)
    self.token_embedding = towers.TokenEmbedding(
      spec.vocab_size, width, embedding_init=init, dtype=compute.dtype, rngs=rngs
    )
    self.class_embedding = nnx.Param(init(rngs.params(), (width,)))
    self.transformer = layers.plain_transformer(
      width,
      spec.text_layers,
      spec.text_heads,
      compute=compute,
      rngs=rngs,
      causal=True,
      mlp_width=spec.text_mlp,
      parts=dataclasses.replace(spec.parts, activation='relu'),
    )
    self.ln_final = layers.LayerNorm(width, compute, rngs, spec.parts.epsilon)

  def __call__(self, tokens: jax.Array) -> jax.Array:
    """Embeds texts.

    The authors append the class token to the padded text, and mask the padding. It has no position.
    Here it follows the text itself, where attention is causal, which gives the same result.

    Args:
      tokens: i32[C, L]; zeros are padding, after the text.

    Returns:
      f32[C, D], not of unit length.
    """
    x = self.token_embedding(tokens)  # [C, L, D]
    length, width = x.shape[1:]
    x = x * math.sqrt(width) + sinusoids(length, width).astype(x.dtype)
    ends = jnp.count_nonzero(tokens, axis=-1)  # [C]
    is_end = jnp.arange(length + 1) == ends[:, None]  # [C, L + 1]
    x = jnp.pad(x, ((0, 0), (0, 1), (0, 0)))
    class_token = self.class_embedding[...].astype(x.dtype) * math.sqrt(width)
    x = jnp.where(is_end[..., None], class_token, x)  # [C, L + 1, D]
    x = self.transformer(x, query_index=ends)[:, 0]  # [C, D]
    return self.ln_final(x).astype(jnp.float32)


def sinusoids(length: int, width: int) -> np.ndarray:
  """Returns the positional embeddings f32[L, D] of texts: the sines, then the cosines.

  The wavelengths are a geometric sequence that contains both its ends, as in the authors' code
  (`videoprism.encoders.PositionalEmbedding`). transformers leaves out the longest.
  """
  count = width // 2
  increment = math.log(_MAX_TIMESCALE) / max(count - 1, 1)
  angles = np.arange(length)[:, None] * np.exp(-increment * np.arange(count))
  return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
