"""CLIP for video: the image tower encodes each frame, a temporal head combines the frames.

`VideoNetwork` is the Flax module. `VideoModel` wraps it as pure functions, whose parameters are a
plain nested dict of arrays with strings as keys; training, evaluation and checkpoints use these.

Letters in shapes: B clips, T frames, H and W pixels, C texts, L tokens, M patches, E embedding.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from zsar_jax.errors import UserError
from zsar_jax.models import layers, temporal, towers, videoprism
from zsar_jax.models.compute import Compute
from zsar_jax.models.distillation import ResidualNetwork, distance
from zsar_jax.models.parameter_keys import ParameterKeys
from zsar_jax.models.presets import CLIP_ENCODERS, NORMALIZATIONS, TowerSpec, VideoSpec
from zsar_jax.models.video_prompts import VideoPrompts

# A nested dict of f32 arrays; a path reads like 'visual/transformer/resblocks/0/ln_1/scale'.
Params = dict[str, Any]

# A batch of encoded clips:
#   'embedding'  f32[B, E], of unit length; in a 'window' model the mean of the frames' embeddings,
#                each of unit length.
#   'context'    [B, M, E], what class embeddings attend to; only in an 'xclip' model.
#   'frames'     f32[B, T, E], of unit length; only in a model with distillation.
Encoded = dict[str, jax.Array]


class VideoNetwork(nnx.Module):
  """Encodes videos and texts into one embedding space.

  Attributes:
    logit_scale: f32[], the logarithm of the factor that turns cosines into logits.
    logit_bias: f32[], what is then added to them; None in most families.
  """

  def __init__(self, spec: TowerSpec, video: VideoSpec, *, compute: Compute, rngs: nnx.Rngs):
    is_videoprism = video.temporal == 'videoprism'
    visual_class = videoprism.VideoTower if is_videoprism else towers.ImageTower
    text_class = videoprism.TextTower if is_videoprism else towers.TextTower
    self.visual = visual_class(spec, video, compute=compute, rngs=rngs)
    self.text = text_class(spec, video, compute=compute, rngs=rngs)
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
    # Open-VCLIP scores each frame separately and averages the scores.
    self.mean_of_cosines = video.temporal == 'window'
    self.normalization = spec.normalization
    self.precision = compute.precision
    # With a bias, the initial values are those of SigLIP (arXiv 2303.15343, section 3.2).
    has_bias = spec.parts.logit_bias
    scale = 10.0 if has_bias else 1 / 0.07
    self.logit_scale = nnx.Param(jnp.array(math.log(scale), jnp.float32))
    self.logit_bias = nnx.data(nnx.Param(jnp.array(-10.0, jnp.float32)) if has_bias else None)

  def encode_frames(self, frames: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    """Embeds each frame of clips.

    Args:
      frames: f32[B, T, H, W, 3], normalized with CLIP's mean and standard deviation, also if the
        spec has another normalization. H = W = the spec's resolution.

    Returns:
      embeddings: f32[B, T, E], not of unit length; f32[B, 1, E] if the tower embeds clips, see
        `presets.CLIP_ENCODERS`.
      patches: [B, T, M, D], the patches' tokens after the last block; None except in an 'xclip'
        model.
    """
    batch, count = frames.shape[:2]
    frames = _renormalize(frames, self.normalization)
    embedded, patches = self.visual(frames.reshape(batch * count, *frames.shape[2:]))
    if patches is not None:
      patches = patches.reshape(batch, count, *patches.shape[1:])
    return embedded.reshape(batch, -1, embedded.shape[-1]), patches

  def encode_video(self, frames: jax.Array) -> Encoded:
    """Encodes clips `frames: f32[B, T, H, W, 3]`, normalized as in `encode_frames`."""
    return self.combine_frames(*self.encode_frames(frames))

  def combine_frames(self, embedded: jax.Array, patches: jax.Array | None) -> Encoded:
    """Encodes clips from their frames, as `encode_frames` returns them, in another order or not."""
    if self.mean_of_cosines:
      embedding = jnp.mean(layers.l2_normalize(embedded), axis=1)
    else:
      embedding = layers.l2_normalize(self.temporal(embedded))
    encoded = {'embedding': embedding}
    if self.video_prompts:
      assert patches is not None  # The image tower of X-CLIP returns them.
      encoded['context'] = self.video_prompts.context(patches)
    if self.distillation:
      encoded['frames'] = layers.l2_normalize(embedded)
    return encoded

  def encode_text(self, tokens: jax.Array) -> jax.Array:
    """Embeds texts.

    Args:
      tokens: i32[C, L], see `text.tokenizers`.

    Returns:
      f32[C, E], of unit length, except in an 'xclip' model, where the tower's outputs attend to the
      video first.
    """
    embeddings = self.text(tokens)  # [C, E]
    return embeddings if self.video_prompts else layers.l2_normalize(embeddings)

  def similarity(self, encoded: Encoded, texts: jax.Array) -> jax.Array:
    """Computes the cosines between clips and classes.

    Args:
      encoded: B clips, from `encode_video`.
      texts: f32[C, E], from `encode_text`, or means of its results over several templates.

    Returns:
      f32[B, C].
    """
    if self.video_prompts:
      texts = layers.l2_normalize(self.video_prompts(texts, encoded['context']))  # [B, C, E]
      return jnp.einsum('be,bce->bc', encoded['embedding'], texts, precision=self.precision)
    texts = layers.l2_normalize(texts)
    return jnp.matmul(encoded['embedding'], texts.T, precision=self.precision)

  def distance(
    self, encoded: Encoded, texts: jax.Array, frame_teacher: jax.Array, text_teacher: jax.Array
  ) -> jax.Array:
    """Computes the distance to the frozen CLIP that training started from; see `distillation`.

    Args:
      encoded: B clips, from `encode_video`.
      texts: f32[C, E], from `encode_text`.
      frame_teacher: f32[B, T, E], the frozen CLIP's embeddings of the frames.
      text_teacher: f32[C, E], the frozen CLIP's embeddings of the texts.

    Returns:
      f32[], between 0 and 4.
    """
    assert self.distillation is not None
    frames = self.distillation['visual'](encoded['frames'])
    classes = self.distillation['text'](layers.l2_normalize(texts))
    return distance(frames, frame_teacher) + distance(classes, text_teacher)


def _check_fit(spec: TowerSpec, video: VideoSpec) -> None:
  """Refuses a video model that a family of encoders, or a temporal model, does not have.

  Raises:
    UserError: with the name of a field of `VideoSpec`.
  """
  required = spec.parts.temporal
  if required and video.temporal != required:
    raise UserError(
      f'temporal: a model of {spec.architecture} encodes clips in its own way; set it to'
      f' {required!r} instead of {video.temporal!r}'
    )
  if video.temporal == 'videoprism' and not required:
    raise UserError(
      "temporal: 'videoprism' is part of the VideoPrism models; take another one for a model of"
      f' {spec.architecture}'
    )
  if required and (video.image_prompts or video.text_prompts):
    raise UserError(
      f'prompts: a model of {spec.architecture} has none; set the numbers of its prompts to 0'
    )
  if video.text_prompts and spec.parts.texts != 'clip':
    raise UserError(
      'prompts: learnable tokens of texts follow the start token, which texts of'
      f' {spec.architecture} do not have; set the number of its text prompts to 0'
    )
  if spec.parts.rotary and video.temporal in ('window', 'xclip', 'joint'):
    raise UserError(
      f'temporal: {video.temporal!r} attends across frames inside the image tower, which zsar_jax'
      f' does not support with the rotary positions of {spec.architecture}; set it to'
      " 'mean' or 'transformer'"
    )
  if video.temporal == 'xclip' and not spec.parts.class_token:
    raise UserError(
      "temporal: 'xclip' sends messages between class tokens, which a model of"
      f" {spec.architecture} does not have; set it to 'mean' or 'transformer'"
    )
  if video.residual_distillation and video.temporal in CLIP_ENCODERS:
    raise UserError(
      f'temporal: {video.temporal!r} has no embeddings of single frames, which residual'
      ' distillation compares; set config.optim.distillation to 0'
    )


def _renormalize(frames: jax.Array, normalization: str) -> jax.Array:
  """Maps f32[..., 3] from CLIP's normalization to another one."""
  if normalization == 'clip':
    return frames
  clip_mean, clip_std = map(jnp.array, NORMALIZATIONS['clip'])
  mean, std = map(jnp.array, NORMALIZATIONS[normalization])
  return (frames * clip_std + clip_mean - mean) / std


class VideoModel:
  """`VideoNetwork` as pure functions of its parameters.

  Creating one allocates no parameters; `init` does. Called under `jax.jit` with `out_shardings`,
  `init` creates each parameter split over the devices.

  Attributes:
    spec: dimensions of the towers.
    video: what turns the towers into a video model.
    compute: how the model is computed.
    abstract_params: the result of `init` as `jax.ShapeDtypeStruct`s.
  """

  def __init__(self, spec: TowerSpec, video: VideoSpec, compute: Compute | None = None):
    """Creates a model without parameters.

    Args:
      spec: dimensions of the towers.
      video: what turns the towers into a video model.
      compute: how the model is computed; None for `Compute()`.

    Raises:
      UserError: if the two specs do not fit together.
    """
    _check_fit(spec, video)
    compute = compute or Compute()
    if spec.parts.logit_cap:  # cuDNN's kernels do not cap logits.
      compute = dataclasses.replace(compute, attention='xla')

    def build(key: jax.Array) -> VideoNetwork:
      return VideoNetwork(spec, video, compute=compute, rngs=ParameterKeys(key))

    self.spec = spec
    self.video = video
    self.compute = compute
    self._build = build
    self._graphdef, state = nnx.split(nnx.eval_shape(build, jax.random.key(0)))
    self.abstract_params: Params = nnx.to_pure_dict(state)

  def init(self, key: jax.Array) -> Params:
    """Draws the initial parameters of training from scratch."""
    return nnx.to_pure_dict(nnx.split(self._build(key))[1])

  @contextlib.contextmanager
  def _network(self, params: Params) -> Iterator[VideoNetwork]:
    """Yields the network with `params`, and sets the precision of its float32 products."""
    # XLA does not consider its Triton kernels for bfloat16 products whose precision is stated.
    precision = self.compute.precision if self.compute.dtype == jnp.float32 else None
    with jax.default_matmul_precision(precision):
      yield nnx.merge(self._graphdef, params)

  def encode_frames(self, params: Params, frames: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    """See `VideoNetwork.encode_frames`."""
    with self._network(params) as network:
      return network.encode_frames(frames)

  def encode_video(self, params: Params, frames: jax.Array) -> Encoded:
    """See `VideoNetwork.encode_video`."""
    with self._network(params) as network:
      return network.encode_video(frames)

  def combine_frames(
    self, params: Params, embedded: jax.Array, patches: jax.Array | None
  ) -> Encoded:
    """See `VideoNetwork.combine_frames`."""
    with self._network(params) as network:
      return network.combine_frames(embedded, patches)

  def encode_text(self, params: Params, tokens: jax.Array) -> jax.Array:
    """See `VideoNetwork.encode_text`."""
    with self._network(params) as network:
      return network.encode_text(tokens)

  def similarity(self, params: Params, encoded: Encoded, texts: jax.Array) -> jax.Array:
    """See `VideoNetwork.similarity`."""
    with self._network(params) as network:
      return network.similarity(encoded, texts)

  def logits(self, params: Params, encoded: Encoded, texts: jax.Array) -> jax.Array:
    """Scores clips for classes, f32[B, C]: the `scale_cosines` of `similarity`."""
    return self.scale_cosines(params, self.similarity(params, encoded, texts))

  def scale_cosines(self, params: Params, cosines: jax.Array) -> jax.Array:
    """Returns the logits of cosines: exp(logit_scale) times them, plus the bias if there is one."""
    logits = jnp.exp(params['logit_scale']) * cosines
    return logits + params['logit_bias'] if 'logit_bias' in params else logits

  def distance(
    self,
    params: Params,
    encoded: Encoded,
    texts: jax.Array,
    frame_teacher: jax.Array,
    text_teacher: jax.Array,
  ) -> jax.Array:
    """See `VideoNetwork.distance`."""
    with self._network(params) as network:
      return network.distance(encoded, texts, frame_teacher, text_teacher)
