"""Temporal heads: from the embeddings of a clip's frames to one embedding of the clip.

A head maps f32[B, T, E] to f32[B, E]. Letters in shapes: B clips, T frames, E embedding.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from zsar_jax.errors import UserError
from zsar_jax.models import layers


class MeanHead(nnx.Module):
  """The mean over frames, blind to their order (ViFi-CLIP, arXiv 2212.03640).

  The embeddings are averaged as they are, not scaled to unit length first.
  """

  def __call__(self, frames: jax.Array) -> jax.Array:
    """Maps `frames: f32[B, T, E]` to f32[B, E]."""
    return jnp.mean(frames, axis=1)


class TransformerHead(nnx.Module):
  """A transformer over frames, added to what it reads, then the mean over frames.

  The `Transf` head of ActionCLIP (arXiv 2109.08472): positions are learnt, heads are 64
  wide. Its blocks are CLIP's.
  """

  def __init__(
    self,
    width: int,
    num_frames: int,
    num_layers: int,
    *,
    dtype: DTypeLike,
    attention: str,
    rngs: nnx.Rngs,
  ):
    self.positional_embedding = nnx.Param(
      nnx.initializers.normal(0.02)(rngs.params(), (num_frames, width))
    )
    self.transformer = layers.Transformer(
      width, num_layers, max(1, width // 64), dtype=dtype, attention=attention, rngs=rngs
    )
    self.dtype = dtype

  def __call__(self, frames: jax.Array) -> jax.Array:
    """Maps `frames: f32[B, T, E]` to f32[B, E]; T is `num_frames`."""
    x = frames + self.positional_embedding[...]  # [B, T, E]
    x = self.transformer(x.astype(self.dtype)).astype(jnp.float32)
    return jnp.mean(frames + x, axis=1)  # [B, E]


HEADS = ('mean', 'transformer')


def make_head(
  name: str,
  *,
  width: int,
  num_frames: int,
  num_layers: int,
  dtype: DTypeLike,
  attention: str,
  rngs: nnx.Rngs,
) -> MeanHead | TransformerHead:
  """Builds the head called `name`.

  Raises:
    UserError: there is no such head.
  """
  if name == 'mean':
    return MeanHead()
  if name == 'transformer':
    return TransformerHead(
      width, num_frames, num_layers, dtype=dtype, attention=attention, rngs=rngs
    )
  raise UserError(f'there is no temporal head {name!r}; choose one of {", ".join(HEADS)}.')
