"""The model that a config describes."""

import jax.numpy as jnp
from ml_collections import ConfigDict

from zsar_jax.models.presets import preset
from zsar_jax.models.video_clip import VideoModel


def build_model(config: ConfigDict) -> VideoModel:
  """Builds the model of `config.model` for the clips of `config.view`; no array is made.

  Raises:
    UserError: for an unknown preset or temporal head, or a size that patches do not divide.
  """
  return VideoModel(
    preset(config.model.preset, resolution=config.view.size),
    num_frames=config.view.num_frames,
    temporal_head=config.model.temporal,
    temporal_layers=config.model.temporal_layers,
    dtype=jnp.dtype(config.model.dtype),
  )
