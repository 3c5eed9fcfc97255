"""`SiglipModel` of transformers: SigLIP, and SigLIP 2 of a fixed resolution.

SigLIP 2's NaFlex models, whose images keep their proportions,
are refused.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from zsar_jax.errors import UserError
from zsar_jax.models.presets import TowerSpec
from zsar_jax.weights.formats.format import Format
from zsar_jax.weights.formats.key_tables import (
  CONVOLUTION,
  ONE_NUMBER,
  ONE_TOKEN,
  SAME,
  Row,
  Table,
  dense,
  norm,
  projections,
)
from zsar_jax.weights.formats.lazy_arrays import StateDict
from zsar_jax.weights.formats.openai import attention, split_projections
from zsar_jax.weights.formats.preprocessing import Preprocessing

# The numbers of heads of all published towers, by their width; only big_vision's arrays show them.
HEADS = {768: 12, 1024: 16, 1152: 16, 1536: 16}

# What transformers' image processor does unless its file says otherwise.
_PROCESSOR_DEFAULTS = {
  'size': {'height': 224, 'width': 224},
  'resample': 3,
  'image_mean': [0.5] * 3,
  'image_std': [0.5] * 3,
}
PREPROCESSING = Preprocessing(resize='squash')

BLOCK = 'transformer/resblocks/{i}'
POOL = 'visual/attn_pool'


def scalars(scale: str, bias: str) -> list[Row]:
  return [('logit_scale', scale, ONE_NUMBER), ('logit_bias', bias, ONE_NUMBER)]


def prepare_scalars(state: StateDict) -> StateDict:
  """Gives scale and bias of the logits, which some files hold without axes, one axis."""
  return {
    key: array.reshape(1) if key in ('logit_scale', 'logit_bias') and not array.shape else array
    for key, array in state.items()
  }


def _hf_rows() -> list[Row]:
  image, text, pool = 'vision_model.embeddings', 'text_model.embeddings', 'vision_model.head'
  rows = [
    *scalars('logit_scale', 'logit_bias'),
    ('visual/conv1/kernel', f'{image}.patch_embedding.weight', CONVOLUTION),
    ('visual/conv1/bias', f'{image}.patch_embedding.bias', SAME),
    ('visual/positional_embedding', f'{image}.position_embedding.weight', SAME),
    *norm('visual/ln_post', 'vision_model.post_layernorm'),
    (f'{POOL}/probe', f'{pool}.probe', ONE_TOKEN),
    *attention(f'{POOL}/attn', f'{pool}.attention'),
    *norm(f'{POOL}/ln', f'{pool}.layernorm'),
    *dense(f'{POOL}/mlp/c_fc', f'{pool}.mlp.fc1'),
    *dense(f'{POOL}/mlp/c_proj', f'{pool}.mlp.fc2'),
    ('text/token_embedding/embedding', f'{text}.token_embedding.weight', SAME),
    ('text/positional_embedding', f'{text}.position_embedding.weight', SAME),
    *norm('text/ln_final', 'text_model.final_layer_norm'),
    *dense('text/text_projection', 'text_model.head'),
  ]
  for tower, model in (('visual', 'vision_model'), ('text', 'text_model')):
    ours, theirs = f'{tower}/{BLOCK}', f'{model}.encoder.layers.{{i}}'
    rows += [
      *norm(f'{ours}/ln_1', f'{theirs}.layer_norm1'),
      *projections(f'{ours}/attn', f'{theirs}.self_attn', 'out_proj'),
      *norm(f'{ours}/ln_2', f'{theirs}.layer_norm2'),
      *dense(f'{ours}/mlp/c_fc', f'{theirs}.mlp.fc1'),
      *dense(f'{ours}/mlp/c_proj', f'{theirs}.mlp.fc2'),
    ]
  return rows


# Settings that a model must have for our implementation to compute the same numbers.
_REQUIRED = {'hidden_act': 'gelu_pytorch_tanh', 'layer_norm_eps': 1e-6, 'vision_use_head': True}


def _read_hf_config(path: pathlib.Path, config: dict[str, Any]) -> dict[str, int]:
  """Reads the numbers of heads from a config.json; see `Format.read_config`."""
  model_type = config.get('model_type')
  if model_type == 'siglip2':
    raise naflex_error(path)
  if model_type != 'siglip':
    raise UserError(f'{path}: model_type is {model_type!r}, but the weights are those of siglip')
  heads = {}
  for section, field in (('vision_config', 'image_heads'), ('text_config', 'text_heads')):
    settings = config.get(section) or {}
    for key, required in _REQUIRED.items():
      if settings.get(key, required) != required:
        raise UserError(
          f'{path}: {section}.{key} is {settings[key]!r}, but zsar_jax supports only'
          f' {required!r}; use another model'
        )
    # The defaults of transformers are those of B/16.
    heads[field] = settings.get('num_attention_heads', 12)
  return heads


def naflex_error(path: pathlib.Path) -> UserError:
  return UserError(
    f'{path}: a NaFlex model, whose images keep their proportions, while zsar_jax computes frames'
    ' that are square; use a SigLIP 2 of a fixed resolution, such as siglip2-base-patch16-224'
  )


def refuse_naflex(key: str):
  """Returns a `Format.read_video` that refuses models whose patch embedding is a matrix."""

  def read_video(path: pathlib.Path, extras: Mapping[str, Any], state: StateDict) -> dict[str, Any]:
    del extras
    if key in state and len(state[key].shape) == 2:
      raise naflex_error(path)
    return {}

  return read_video


def join_projections(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Stacks what `split_projections` splits."""
  joined, parts = {}, {}
  for key, array in arrays.items():
    stacked, bracket, _ = key.partition('[')
    if bracket:
      parts.setdefault(stacked, {})[key] = array
    else:
      joined[key] = array
  for key, split in parts.items():
    names = ('query', 'key', 'value')
    joined[key] = np.concatenate([split[f'{key}[{name}]'] for name in names])
  return joined


HF_SIGLIP = Format(
  name='hf_siglip',
  table=Table(_hf_rows()),
  markers=('vision_model.head.probe', 'text_model.head.weight'),
  droppable=(r'(vision|text)_model\.embeddings\.position_ids',),
  prepare=lambda state: split_projections(prepare_scalars(state)),
  restore=join_projections,
  read_video=refuse_naflex('vision_model.embeddings.patch_embedding.weight'),
  tower_fields={'architecture': 'siglip'},
  heads=HEADS,
  normalization='half',
  preprocessing=PREPROCESSING,
  processor_defaults=_PROCESSOR_DEFAULTS,
  config_file='config.json',
  read_config=_read_hf_config,
)


def describe(spec: TowerSpec) -> dict[str, Any]:
  """Returns the config.json of a `SiglipModel`."""
  text = {
    'model_type': 'siglip_text_model',
    'hidden_size': spec.text_width,
    'intermediate_size': spec.text_mlp_width,
    'num_hidden_layers': spec.text_layers,
    'num_attention_heads': spec.text_heads,
    'max_position_embeddings': spec.context_length,
    'vocab_size': spec.vocab_size,
    'projection_size': spec.embed_dim,
    # The model itself does not read these ids.
    'pad_token_id': 1,
    'bos_token_id': None,
    'eos_token_id': 1,
  }
  vision = {
    'model_type': 'siglip_vision_model',
    'hidden_size': spec.image_width,
    'intermediate_size': spec.image_mlp_width,
    'num_hidden_layers': spec.image_layers,
    'num_attention_heads': spec.image_heads,
    'image_size': spec.resolution,
    'patch_size': spec.patch,
  }
  for section in (text, vision):
    section |= {'hidden_act': _REQUIRED['hidden_act'], 'layer_norm_eps': spec.parts.epsilon}
  return {
    'architectures': ['SiglipModel'],
    'model_type': 'siglip',
    'text_config': text,
    'vision_config': vision,
  }
