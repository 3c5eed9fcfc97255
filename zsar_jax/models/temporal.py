"""Temporal heads, which turn the embeddings of a clip's frames into one embedding of the clip.

A head maps f32[B, T, E] to f32[B, E]. Letters in shapes: B clips, T frames, E embedding.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from zsar_jax.models import layers
from zsar_jax.models.compute import Compute
from zsar_jax.models.presets import ORDERED_HEADS, VideoSpec


class MeanHead(nnx.Module):
  """The mean over frames, which ignores their order (ViFi-CLIP, arXiv 2212.03640).

  The embeddings are averaged without scaling them to unit length first.
  """

  def __init__(self, compute: Compute):
    self.compute = compute

  def __call__(self, frames: jax.Array) -> jax.Array:
    """Maps `frames: f32[B, T, E]` to f32[B, E]."""
    if self.compute.order_free:
      frames = jnp.sort(frames, axis=1)  # Each number on its own, so that it has the same summands.
    return jnp.mean(frames, axis=1)


class TransformerHead(nnx.Module):
  """A transformer over frames with a skip connection, then the mean over frames.

  This is the `Transf` head of ActionCLIP (arXiv 2109.08472) and the multi-frame integration
  transformer of X-CLIP (arXiv 2208.02816). Positions are learned, heads are 64 wide, and the blocks
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
    """Maps `frames: f32[B, T, E]` to f32[B, E], where T is `num_frames`."""
    x = frames + self.positional_embedding[...]  # [B, T, E]
    x = self.transformer(x.astype(self.compute.dtype)).astype(jnp.float32)
    return jnp.mean(frames + x, axis=1)  # [B, E]


def make_head(
  width: int, video: VideoSpec, *, compute: Compute, rngs: nnx.Rngs
) -> MeanHead | TransformerHead:
  """Builds the head for `video.temporal` and embeddings of `width`."""
  if video.temporal in ORDERED_HEADS:
    return TransformerHead(width, video, compute=compute, rngs=rngs)
  return MeanHead(compute)
