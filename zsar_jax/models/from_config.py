"""Builds the model that a config describes."""

import contextlib
from collections.abc import Iterator

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from zsar_jax.errors import UserError
from zsar_jax.models.compute import DTYPES, Compute, choose_compute
from zsar_jax.models.presets import PRESETS, TowerSpec, VideoSpec, preset
from zsar_jax.models.video_model import VideoModel

# This value of `config.model.preset` takes the model and its preprocessing from the weights.
AUTO = 'auto'

# Tokens that the text tower needs besides prompts: start, end, and two for words.
_MIN_TEXT_TOKENS = 4


def model_spec(config: ConfigDict) -> tuple[TowerSpec, VideoSpec]:
  """Returns the dimensions of `config.model` for clips of `config.view`.

  They do not depend on how the model is computed (dtype, attention, rematerialization).

  Raises:
    UserError: for an unknown preset or temporal model, a frame size that is not a multiple of the
      patch size, prompts that a tower has no room for, or a loss that the model is not made for.
  """
  model, size = config.model, config.view.size
  if model.preset == AUTO:
    raise UserError(
      f'config.model.preset: {AUTO!r} takes the model from its weights, which only evaluations do'
      f' (--mode=eval); name one of {", ".join(PRESETS)}'
    )
  with _config_fields_in_errors():
    patch = preset(model.preset).patch
  if size % patch:
    fitting = [str(n * patch) for n in (size // patch, size // patch + 1) if n]
    raise UserError(
      f'config.view.size: {size} pixels do not divide into patches of {patch}, which'
      f' config.model.preset {model.preset!r} has; take {" or ".join(fitting)}'
    )
  spec = preset(model.preset, resolution=size, normalization=model.normalization)
  prompts = model.prompts
  limit = spec.context_length - _MIN_TEXT_TOKENS
  if prompts.text > limit:
    raise UserError(
      f'config.model.prompts.text: {prompts.text} prompts leave no room for words among the'
      f" {spec.context_length} tokens of {model.preset}'s texts; at most {limit}"
    )
  if config.optim.loss == 'sigmoid' and not spec.parts.logit_bias:
    raise UserError(
      "config.optim.loss: 'sigmoid' needs a model with a bias of the logits, such as siglip_b16,"
      f" which {model.preset} does not have; take 'softmax'"
    )
  layers = {'image': spec.image_layers, 'text': spec.text_layers}
  for tower, count in layers.items():
    if prompts[tower] and prompts.depth > count:
      raise UserError(
        f'config.model.prompts.depth: {prompts.depth} is more than the {count} blocks of'
        f" {model.preset}'s {tower} tower; at most {count}"
      )
  with _config_fields_in_errors():
    video = VideoSpec(
      config.view.num_frames,
      model.temporal,
      model.temporal_layers,
      prompts.image,
      prompts.text,
      prompts.depth,
      residual_distillation=config.optim.distillation > 0,
    )
  return spec, video


def build_model(config: ConfigDict, mesh: Mesh | None = None) -> VideoModel:
  """Builds the model that `model_spec` describes, without allocating arrays.

  Args:
    config: a validated config.
    mesh: the devices that compute it, which may be abstract; None for JAX's default backend.

  Raises:
    UserError: as `model_spec`, and if `config.model` asks for a way to compute the model that the
      devices do not support.
  """
  spec, video = model_spec(config)
  compute = compute_of(config, mesh, remat=config.model.remat)
  with _config_fields_in_errors():
    return VideoModel(spec, video, compute)


def build_teacher(config: ConfigDict, mesh: Mesh | None = None) -> VideoModel:
  """Builds the plain CLIP that distillation uses as teacher: no prompts, no temporal model.

  Args:
    config: a validated config.
    mesh: see `build_model`.
  """
  spec = preset(config.model.preset, resolution=config.view.size)
  return VideoModel(spec, VideoSpec(config.view.num_frames), compute_of(config, mesh))


def compute_dtype(config: ConfigDict) -> np.dtype:
  """Returns the dtype of the matrix products and the residual stream."""
  return np.dtype(DTYPES[config.model.dtype][0])


def compute_of(config: ConfigDict, mesh: Mesh | None, remat: str = 'none') -> Compute:
  """Returns how `config.model` is computed.

  Args:
    config: a validated config.
    mesh: see `build_model`.
    remat: one of `compute.REMATS`.

  Raises:
    UserError: as `build_model`.
  """
  attention = choose_attention(config)
  with _config_fields_in_errors():
    return choose_compute(config.model.dtype, attention, remat, config.model.deterministic, mesh)


def choose_attention(config: ConfigDict) -> str:
  """Returns the attention of `config.model` that the model and the losses allow.

  Raises:
    UserError: if cuDNN's attention is asked for, and a loss differentiates a gradient or the model
      caps its logits.
  """
  attention, name = config.model.attention, config.model.preset
  is_capped = name != AUTO and preset(name).parts.logit_cap > 0
  if not config.optim.still_clip.gradient and not is_capped:
    return attention
  if attention == 'cudnn' and is_capped:
    raise UserError(
      f'config.model.attention: cudnn does not cap the logits of attention, as {name} does; take'
      " 'auto'"
    )
  if attention == 'cudnn':
    raise UserError(
      'config.model.attention: cudnn has no second derivative, which'
      " config.optim.still_clip.gradient needs; take 'auto'"
    )
  return 'xla'


@contextlib.contextmanager
def _config_fields_in_errors() -> Iterator[None]:
  """Prefixes 'config.model.' to errors of classes whose fields have the names of the config's."""
  try:
    yield
  except UserError as error:
    raise UserError(f'config.model.{error}') from None
