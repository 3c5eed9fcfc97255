"""SigLIP and SigLIP 2 in open_clip, whose image towers are timm's."""

import pathlib
import re
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.weights.formats import timm_towers
from zsar_jax.weights.formats.format import Format
from zsar_jax.weights.formats.key_tables import (
  CONVOLUTION,
  ONE_TOKEN,
  SAME,
  Row,
  Table,
  dense,
  norm,
  projections,
)
from zsar_jax.weights.formats.lazy_arrays import StateDict, printable
from zsar_jax.weights.formats.openai import blocks
from zsar_jax.weights.formats.siglip import (
  BLOCK,
  HEADS,
  POOL,
  PREPROCESSING,
  naflex_error,
  prepare_scalars,
  scalars,
)


def _open_clip_rows() -> list[Row]:
  trunk, pool = 'visual.trunk', 'visual.trunk.attn_pool'
  ours, theirs = f'visual/{BLOCK}', f'{trunk}.blocks.{{i}}'
  return [
    *scalars('logit_scale', 'logit_bias'),
    ('visual/conv1/kernel', f'{trunk}.patch_embed.proj.weight', CONVOLUTION),
    ('visual/conv1/bias', f'{trunk}.patch_embed.proj.bias', SAME),
    ('visual/positional_embedding', f'{trunk}.pos_embed', SAME),
    *norm(f'{ours}/ln_1', f'{theirs}.norm1'),
    *projections(f'{ours}/attn', f'{theirs}.attn', 'proj'),
    *norm(f'{ours}/ln_2', f'{theirs}.norm2'),
    *dense(f'{ours}/mlp/c_fc', f'{theirs}.mlp.fc1'),
    *dense(f'{ours}/mlp/c_proj', f'{theirs}.mlp.fc2'),
    *norm('visual/ln_post', f'{trunk}.norm'),
    (f'{POOL}/probe', f'{pool}.latent', ONE_TOKEN),
    *projections(f'{POOL}/attn', pool, 'proj'),
    *norm(f'{POOL}/ln', f'{pool}.norm'),
    *dense(f'{POOL}/mlp/c_fc', f'{pool}.mlp.fc1'),
    *dense(f'{POOL}/mlp/c_proj', f'{pool}.mlp.fc2'),
    ('text/token_embedding/embedding', 'text.token_embedding.weight', SAME),
    ('text/positional_embedding', 'text.positional_embedding', SAME),
    *blocks('text/transformer', 'text.transformer'),
    *norm('text/ln_final', 'text.ln_final'),
    *dense('text/text_projection', 'text.text_projection'),
  ]


def _prepare(state: StateDict) -> StateDict:
  return timm_towers.prepare(prepare_scalars(state))


# Settings of the two towers that do not change the computation, or that the arrays show.
_IMAGE_KEYS = ('image_size', 'timm_model_name', 'timm_model_pretrained', 'timm_pool', 'timm_proj')
_TEXT_KEYS = ('context_length', 'vocab_size', 'width', 'heads', 'layers', 'mlp_ratio')
_TEXT_KEYS += ('hf_tokenizer_name', 'tokenizer_kwargs', 'no_causal_mask', 'proj_bias')
_TEXT_KEYS += ('pool_type', 'norm_kwargs', 'act_kwargs')
_TIMM_MODELS = {'base': 12, 'large': 16, 'so400m': 16, 'giantopt': 16}


def _read_open_clip_config(path: pathlib.Path, config: dict[str, Any]) -> dict[str, int]:
  """Reads the numbers of heads; see `Format.read_config`."""
  image, text = config['model_cfg']['vision_cfg'], config['model_cfg']['text_cfg']
  name = str(image.get('timm_model_name'))
  match = re.match(r'vit_([a-z0-9]+)_patch\d+_siglip', name)
  if 'naflex' in name:
    raise naflex_error(path)
  if not match or match[1] not in _TIMM_MODELS:
    raise UserError(
      f'{path}: the image tower {printable(name)} is none of SigLIP that zsar_jax supports; use'
      ' another model'
    )
  unknown = [key for key in image if key not in _IMAGE_KEYS]
  unknown += [key for key in text if key not in _TEXT_KEYS]
  if unknown:
    raise UserError(
      f'{path}: zsar_jax does not support the setting {printable(unknown[0])}, which makes the'
      ' model differ from SigLIP; use another model'
    )
  for section, key, value in (
    (image, 'timm_pool', 'map'),
    (image, 'timm_proj', 'none'),
    (text, 'no_causal_mask', True),
    (text, 'pool_type', 'last'),
    # Not stated for SigLIP 1, whose text tower open_clip computes with other ones.
    (text, 'norm_kwargs', text.get('norm_kwargs') and {'eps': 1e-6}),
    (text, 'act_kwargs', text.get('act_kwargs') and {'approximate': 'tanh'}),
  ):
    if section.get(key) != value:
      raise UserError(
        f'{path}: {key} is {printable(str(section.get(key)))}, but SigLIP has {value!r}; use'
        ' another model'
      )
  return {'image_heads': _TIMM_MODELS[match[1]], 'text_heads': text['heads']}


OPEN_CLIP_SIGLIP = Format(
  name='open_clip_siglip',
  table=Table(_open_clip_rows()),
  markers=('visual.trunk.attn_pool.latent', 'text.text_projection.bias', 'logit_bias'),
  prepare=_prepare,
  tower_fields={'architecture': 'siglip'},
  heads=HEADS,
  normalization='half',
  preprocessing=PREPROCESSING,
  config_file='open_clip_config.json',
  read_config=_read_open_clip_config,
)
