"""The model that a config describes."""

import jax.numpy as jnp
from ml_collections import ConfigDict

from zsar_jax.errors import UserError
from zsar_jax.models.layers import Compute
from zsar_jax.models.presets import TowerSpec, VideoSpec, preset
from zsar_jax.models.video_model import VideoModel

# What the text tower needs besides prompts: the start, the end, and two for words.
_FEWEST_TOKENS = 4


def model_spec(config: ConfigDict) -> tuple[TowerSpec, VideoSpec]:
  """The model of `config.model` for the clips of `config.view`, however it is computed.

  Raises:
    UserError: for an unknown preset or kind of model, a size that patches do not divide, or
      prompts that a tower has no room for.
  """
  model, size = config.model, config.view.size
  patch = preset(model.preset).patch
  if size % patch:
    fitting = [str(n * patch) for n in (size // patch, size // patch + 1) if n]
    raise UserError(
      f'config.view.size: {size} pixels do not divide into patches of {patch}, which'
      f' config.model.preset {model.preset!r} has; take {" or ".join(fitting)}'
    )
  spec = preset(model.preset, resolution=size, normalization=model.normalization)
  prompts = model.prompts
  most = spec.context_length - _FEWEST_TOKENS
  if prompts.text > most:
    raise UserError(
      f'config.model.prompts.text: {prompts.text} prompts leave nothing for words of the'
      f" {spec.context_length} tokens of {model.preset}'s texts; at most {most}"
    )
  layers = {'image': spec.image_layers, 'text': spec.text_layers}
  for tower, count in layers.items():
    if prompts[tower] and prompts.depth > count:
      raise UserError(
        f'config.model.prompts.depth: {prompts.depth} is more than the {count} blocks of'
        f" {model.preset}'s {tower} tower; at most {count}"
      )
  return spec, VideoSpec(
    config.view.num_frames,
    model.temporal,
    model.temporal_layers,
    prompts.image,
    prompts.text,
    prompts.depth,
    residual_distillation=config.optim.distillation > 0,
  )


def build_model(config: ConfigDict) -> VideoModel:
  """Builds the model that `model_spec` describes; no array is made.

  Raises:
    UserError: as `model_spec`, and for a way of computing it that does not apply here.
  """
  model = config.model
  compute = Compute(jnp.dtype(model.dtype), model.attention, model.remat)
  return VideoModel(*model_spec(config), compute)


def build_teacher(config: ConfigDict) -> VideoModel:
  """Builds the CLIP that distillation stays close to: frames by themselves, nothing learnt."""
  return VideoModel(
    preset(config.model.preset, resolution=config.view.size),
    VideoSpec(config.view.num_frames),
    Compute(jnp.dtype(config.model.dtype), config.model.attention),
  )
