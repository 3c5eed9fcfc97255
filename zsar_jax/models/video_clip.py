"""CLIP for video: each frame through the image tower, the frames through a temporal head.

`VideoClip` is the module; `VideoModel` is the functional view of it that training uses, in
which parameters are a plain nested dict of arrays, keyed by strings.

Letters in shapes: B clips, T frames, H and W pixels, C texts, L tokens, E embedding.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from zsar_jax.models import clip, layers, temporal
from zsar_jax.models.presets import ClipSpec

# A nested dict of f32 arrays; a path reads like 'visual/transformer/resblocks/0/ln_1/scale'.
Params = dict[str, Any]


class VideoClip(nnx.Module):
  """A video and a text tower into one space.

  Attributes:
    logit_scale: f32[], the logarithm of what cosines are multiplied by.
  """

  def __init__(
    self,
    spec: ClipSpec,
    *,
    num_frames: int,
    temporal_head: str,
    temporal_layers: int,
    dtype: DTypeLike,
    attention: str,
    rngs: nnx.Rngs,
  ):
    self.visual = clip.ImageTower(spec, dtype=dtype, attention=attention, rngs=rngs)
    self.text = clip.TextTower(spec, dtype=dtype, attention=attention, rngs=rngs)
    self.temporal = temporal.make_head(
      temporal_head,
      width=spec.embed_dim,
      num_frames=num_frames,
      num_layers=temporal_layers,
      dtype=dtype,
      attention=attention,
      rngs=rngs,
    )
    self.logit_scale = nnx.Param(jnp.array(math.log(1 / 0.07), jnp.float32))

  def encode_video(self, frames: jax.Array) -> jax.Array:
    """Embeds clips.

    Args:
      frames: f32[B, T, H, W, 3], normalised; H = W = the spec's resolution.

    Returns:
      f32[B, E], of unit length.
    """
    batch, count = frames.shape[:2]
    embedded = self.visual(frames.reshape(batch * count, *frames.shape[2:]))  # [B * T, E]
    return layers.l2_normalize(self.temporal(embedded.reshape(batch, count, -1)))  # [B, E]

  def encode_text(self, tokens: jax.Array) -> jax.Array:
    """Embeds texts.

    Args:
      tokens: i32[C, L], see `text.tokenizers`.

    Returns:
      f32[C, E], of unit length.
    """
    return layers.l2_normalize(self.text(tokens))  # [C, E]


class VideoModel:
  """`VideoClip` as pure functions of its parameters.

  Building it computes nothing: the parameters exist only once `init` has been called, which
  may be done under `jax.jit` with `out_shardings`, so that none is ever whole on one device.

  Attributes:
    spec: the dimensions of the towers.
    abstract_params: what `init` returns, as `jax.ShapeDtypeStruct`.
  """

  def __init__(
    self,
    spec: ClipSpec,
    *,
    num_frames: int,
    temporal_head: str = 'mean',
    temporal_layers: int = 6,
    dtype: DTypeLike = jnp.float32,
    attention: str = 'xla',
  ):
    """Describes a model.

    Args:
      spec: the dimensions of the towers.
      num_frames: T, the frames in a clip.
      temporal_head: 'mean' or 'transformer', see `temporal`.
      temporal_layers: residual blocks of the transformer head; ActionCLIP has 6.
      dtype: what matrix products are computed in, float32 or bfloat16; parameters are f32.
      attention: implementation of `jax.nn.dot_product_attention`.

    Raises:
      UserError: there is no such temporal head.
    """

    def build(key: jax.Array) -> VideoClip:
      return VideoClip(
        spec,
        num_frames=num_frames,
        temporal_head=temporal_head,
        temporal_layers=temporal_layers,
        dtype=dtype,
        attention=attention,
        rngs=nnx.Rngs(key),
      )

    self.spec = spec
    self._build = build
    self._graphdef, state = nnx.split(nnx.eval_shape(build, jax.random.key(0)))
    self.abstract_params: Params = nnx.to_pure_dict(state)

  def init(self, key: jax.Array) -> Params:
    """Draws parameters for training from scratch."""
    return nnx.to_pure_dict(nnx.split(self._build(key))[1])

  def encode_video(self, params: Params, frames: jax.Array) -> jax.Array:
    """See `VideoClip.encode_video`."""
    return nnx.merge(self._graphdef, params).encode_video(frames)

  def encode_text(self, params: Params, tokens: jax.Array) -> jax.Array:
    """See `VideoClip.encode_text`."""
    return nnx.merge(self._graphdef, params).encode_text(tokens)
