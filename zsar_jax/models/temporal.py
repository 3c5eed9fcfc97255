"""Temporal heads: from the embeddings of a clip's frames to one embedding of the clip.

A head maps f32[B, T, E] to f32[B, E]. Letters in shapes: B clips, T frames, E embedding.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from zsar_jax.models import layers
from zsar_jax.models.layers import Compute
from zsar_jax.models.presets import VideoSpec


class MeanHead(nnx.Module):
  """The mean over frames, blind to their order (ViFi-CLIP, arXiv 2212.03640).

  The embeddings are averaged as they are, not scaled to unit length first.
  """

  def __call__(self, frames: jax.Array) -> jax.Array:
    """Maps `frames: f32[B, T, E]` to f32[B, E]."""
    return jnp.mean(frames, axis=1)


class TransformerHead(nnx.Module):
  """A transformer over frames, added to what it reads, then the mean over frames.

  The `Transf` head of ActionCLIP (arXiv 2109.08472), and the multi-frame integration
  transformer of X-CLIP (arXiv 2208.02816): positions are learnt, heads are 64 wide. Its blocks
  are CLIP's.
  """

  def __init__(self, width: int, video: VideoSpec, *, compute: Compute, rngs: nnx.Rngs):
    self.positional_embedding = nnx.Param(
      nnx.initializers.normal(0.02)(rngs.params(), (video.num_frames, width))
    )
    self.transformer = layers.plain_transformer(
      width, video.temporal_layers, max(1, width // 64), compute=compute, rngs=rngs
    )
    self.compute = compute

  def __call__(self, frames: jax.Array) -> jax.Array:
    """Maps `frames: f32[B, T, E]` to f32[B, E]; T is `num_frames`."""
    x = frames + self.positional_embedding[...]  # [B, T, E]
    x = self.transformer(x.astype(self.compute.dtype)).astype(jnp.float32)
    return jnp.mean(frames + x, axis=1)  # [B, E]


def make_head(
  width: int, video: VideoSpec, *, compute: Compute, rngs: nnx.Rngs
) -> MeanHead | TransformerHead:
  """The head of `video.temporal`, for embeddings of `width`."""
  if video.temporal in ('transformer', 'xclip'):
    return TransformerHead(width, video, compute=compute, rngs=rngs)
  return MeanHead()
