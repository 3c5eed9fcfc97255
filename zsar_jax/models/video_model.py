"""CLIP for video: each frame through the image tower, the frames through a temporal head.

`VideoNetwork` is the module; `VideoModel` is the functional view of it that training uses, in
which parameters are a plain nested dict of arrays, keyed by strings.

Letters in shapes: B clips, T frames, H and W pixels, C texts, L tokens, M patches, E embedding.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from zsar_jax.models import layers, temporal, towers
from zsar_jax.models.distillation import ResidualNetwork, distance
from zsar_jax.models.layers import Compute
from zsar_jax.models.presets import NORMALIZATIONS, TowerSpec, VideoSpec
from zsar_jax.models.video_prompts import VideoPrompts

# A nested dict of f32 arrays; a path reads like 'visual/transformer/resblocks/0/ln_1/scale'.
Params = dict[str, Any]

# A batch of clips: 'embedding' f32[B, E], of unit length (of 'window' the mean of its frames', each
# of unit length); in a model whose class embeddings look at
# the video 'context' [B, M, E]; in one with distillation 'frames' f32[B, T, E], of unit length.
Encoded = dict[str, jax.Array]


class VideoNetwork(nnx.Module):
  """A video and a text tower into one space.

  Attributes:
    logit_scale: f32[], the logarithm of what cosines are multiplied by.
  """

  def __init__(self, spec: TowerSpec, video: VideoSpec, *, compute: Compute, rngs: nnx.Rngs):
    self.visual = towers.ImageTower(spec, video, compute=compute, rngs=rngs)
    self.text = towers.TextTower(spec, video, compute=compute, rngs=rngs)
    self.temporal = temporal.make_head(spec.embed_dim, video, compute=compute, rngs=rngs)
    self.video_prompts = nnx.data(
      VideoPrompts(spec.image_width, spec.embed_dim, compute=compute, rngs=rngs)
      if video.temporal == 'xclip'
      else None
    )
    self.distillation = nnx.data(
      nnx.Dict(
        {
          tower: ResidualNetwork(spec.embed_dim, compute=compute, rngs=rngs)
          for tower in ('visual', 'text')
        }
      )
      if video.residual_distillation
      else None
    )
    # Open-VCLIP scores each frame by itself and takes the mean of the scores.
    self.mean_of_cosines = video.temporal == 'window'
    self.normalization = spec.normalization
    self.logit_scale = nnx.Param(jnp.array(math.log(1 / 0.07), jnp.float32))

  def encode_frames(self, frames: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    """Embeds each frame of clips.

    Args:
      frames: f32[B, T, H, W, 3], normalized with CLIP's mean and deviation, whatever the spec's
        normalization; H = W = the spec's resolution.

    Returns:
      embeddings: f32[B, T, E], not of unit length.
      patches: [B, T, M, D], the patches' last tokens; None where nothing looks at them.
    """
    batch, count = frames.shape[:2]
    frames = _renormalize(frames, self.normalization)
    embedded, patches = self.visual(frames.reshape(batch * count, *frames.shape[2:]))
    if patches is not None:
      patches = patches.reshape(batch, count, *patches.shape[1:])
    return embedded.reshape(batch, count, -1), patches

  def encode_video(self, frames: jax.Array) -> Encoded:
    """Encodes clips `frames: f32[B, T, H, W, 3]`, normalized; see `Encoded`."""
    embedded, patches = self.encode_frames(frames)
    if self.mean_of_cosines:
      embedding = jnp.mean(layers.l2_normalize(embedded), axis=1)
    else:
      embedding = layers.l2_normalize(self.temporal(embedded))
    encoded = {'embedding': embedding}
    if self.video_prompts:
      encoded['context'] = self.video_prompts.context(patches)
    if self.distillation:
      encoded['frames'] = layers.l2_normalize(embedded)
    return encoded

  def encode_text(self, tokens: jax.Array) -> jax.Array:
    """Embeds texts.

    Args:
      tokens: i32[C, L], see `text.tokenizers`.

    Returns:
      f32[C, E], of unit length; not so where class embeddings look at the video, which they
      do as they come out of the tower.
    """
    embeddings = self.text(tokens)  # [C, E]
    return embeddings if self.video_prompts else layers.l2_normalize(embeddings)

  def similarity(self, encoded: Encoded, texts: jax.Array) -> jax.Array:
    """Cosines of clips with classes.

    Args:
      encoded: B clips, from `encode_video`.
      texts: f32[C, E], from `encode_text`, or means of several such.

    Returns:
      f32[B, C].
    """
    if self.video_prompts:
      texts = layers.l2_normalize(self.video_prompts(texts, encoded['context']))  # [B, C, E]
      return jnp.einsum('be,bce->bc', encoded['embedding'], texts)
    return encoded['embedding'] @ layers.l2_normalize(texts).T

  def distance(
    self, encoded: Encoded, texts: jax.Array, frame_teacher: jax.Array, text_teacher: jax.Array
  ) -> jax.Array:
    """How far frames and class texts are from those of the CLIP that training began with.

    Args:
      encoded: B clips, from `encode_video`.
      texts: f32[C, E], from `encode_text`.
      frame_teacher: f32[B, T, E], the frames by the frozen CLIP.
      text_teacher: f32[C, E], the texts by the frozen CLIP.

    Returns:
      f32[], 0 to 4, see `distillation`.
    """
    frames = self.distillation['visual'](encoded['frames'])
    named = self.distillation['text'](layers.l2_normalize(texts))
    return distance(frames, frame_teacher) + distance(named, text_teacher)


def _renormalize(frames: jax.Array, normalization: str) -> jax.Array:
  """f32[..., 3] from the space of CLIP's mean and deviation to that of others."""
  if normalization == 'clip':
    return frames
  (mean, std), (own_mean, own_std) = (
    [jnp.array(one) for one in NORMALIZATIONS[name]] for name in ('clip', normalization)
  )
  return (frames * std + mean - own_mean) / own_std


class VideoModel:
  """`VideoNetwork` as pure functions of its parameters.

  Building it computes nothing: the parameters exist only once `init` has been called, which
  may be done under `jax.jit` with `out_shardings`, so that none is ever whole on one device.

  Attributes:
    spec: the dimensions of the towers.
    video: what makes a video model of them.
    abstract_params: what `init` returns, as `jax.ShapeDtypeStruct`.
  """

  def __init__(self, spec: TowerSpec, video: VideoSpec, compute: Compute | None = None):
    """Describes a model.

    Args:
      spec: the dimensions of the towers.
      video: what makes a video model of them.
      compute: how it is computed; None is in float32 by XLA's own means.
    """
    compute = compute or Compute()

    def build(key: jax.Array) -> VideoNetwork:
      return VideoNetwork(spec, video, compute=compute, rngs=nnx.Rngs(key))

    self.spec = spec
    self.video = video
    self._build = build
    self._graphdef, state = nnx.split(nnx.eval_shape(build, jax.random.key(0)))
    self.abstract_params: Params = nnx.to_pure_dict(state)

  def init(self, key: jax.Array) -> Params:
    """Draws parameters for training from scratch."""
    return nnx.to_pure_dict(nnx.split(self._build(key))[1])

  def encode_frames(self, params: Params, frames: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    """See `VideoNetwork.encode_frames`."""
    return nnx.merge(self._graphdef, params).encode_frames(frames)

  def encode_video(self, params: Params, frames: jax.Array) -> Encoded:
    """See `VideoNetwork.encode_video`."""
    return nnx.merge(self._graphdef, params).encode_video(frames)

  def encode_text(self, params: Params, tokens: jax.Array) -> jax.Array:
    """See `VideoNetwork.encode_text`."""
    return nnx.merge(self._graphdef, params).encode_text(tokens)

  def similarity(self, params: Params, encoded: Encoded, texts: jax.Array) -> jax.Array:
    """See `VideoNetwork.similarity`."""
    return nnx.merge(self._graphdef, params).similarity(encoded, texts)

  def logits(self, params: Params, encoded: Encoded, texts: jax.Array) -> jax.Array:
    """Scores clips for classes, f32[B, C]: the cosines of `similarity` times exp(logit_scale)."""
    return jnp.exp(params['logit_scale']) * self.similarity(params, encoded, texts)

  def distance(
    self,
    params: Params,
    encoded: Encoded,
    texts: jax.Array,
    frame_teacher: jax.Array,
    text_teacher: jax.Array,
  ) -> jax.Array:
    """See `VideoNetwork.distance`."""
    model = nnx.merge(self._graphdef, params)
    return model.distance(encoded, texts, frame_teacher, text_teacher)
