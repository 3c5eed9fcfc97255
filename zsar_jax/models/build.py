"""The model that a config describes."""

import jax.numpy as jnp
from ml_collections import ConfigDict

from zsar_jax.models.layers import Compute
from zsar_jax.models.presets import VideoSpec, preset
from zsar_jax.models.video_clip import VideoModel


def build_model(config: ConfigDict) -> VideoModel:
  """Builds the model of `config.model` for the clips of `config.view`; no array is made.

  Raises:
    UserError: for an unknown preset or kind of model, a size that patches do not divide, or a
      way of computing it that does not apply here.
  """
  model = config.model
  return VideoModel(
    preset(model.preset, resolution=config.view.size),
    VideoSpec(
      config.view.num_frames,
      model.temporal,
      model.temporal_layers,
      model.prompts.image,
      model.prompts.text,
      model.prompts.depth,
      residual_distillation=config.optim.distillation > 0,
    ),
    Compute(jnp.dtype(model.dtype), model.attention, model.remat),
  )


def build_teacher(config: ConfigDict) -> VideoModel:
  """Builds the CLIP that distillation stays close to: frames by themselves, nothing learnt."""
  return VideoModel(
    preset(config.model.preset, resolution=config.view.size),
    VideoSpec(config.view.num_frames),
    Compute(jnp.dtype(config.model.dtype), config.model.attention),
  )
