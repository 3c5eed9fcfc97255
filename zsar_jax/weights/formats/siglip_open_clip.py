"""SigLIP and SigLIP 2 in open_clip, whose image towers are timm's."""

import pathlib
import re
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.weights.formats.format import Format
from zsar_jax.weights.formats.key_tables import (
  CONVOLUTION,
  HEADS_BIAS,
  HEADS_IN,
  HEADS_OUT,
  ONE_TOKEN,
  SAME,
  Row,
  Table,
  dense,
  norm,
)
from zsar_jax.weights.formats.lazy_arrays import StateDict, printable
from zsar_jax.weights.formats.openai import blocks, split_projections
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
  rows = [
    *scalars('logit_scale', 'logit_bias'),
    ('visual/conv1/kernel', f'{trunk}.patch_embed.proj.weight', CONVOLUTION),
    ('visual/conv1/bias', f'{trunk}.patch_embed.proj.bias', SAME),
    ('visual/positional_embedding', f'{trunk}.pos_embed', SAME),
    *norm(f'{ours}/ln_1', f'{theirs}.norm1'),
    *norm(f'{ours}/ln_2', f'{theirs}.norm2'),
    *dense(f'{ours}/mlp/c_fc', f'{theirs}.mlp.fc1'),
    *dense(f'{ours}/mlp/c_proj', f'{theirs}.mlp.fc2'),
    *norm('visual/ln_post', f'{trunk}.norm'),
    (f'{POOL}/probe', f'{pool}.latent', ONE_TOKEN),
    *norm(f'{POOL}/ln', f'{pool}.norm'),
    *dense(f'{POOL}/mlp/c_fc', f'{pool}.mlp.fc1'),
    *dense(f'{POOL}/mlp/c_proj', f'{pool}.mlp.fc2'),
    ('text/token_embedding/embedding', 'text.token_embedding.weight', SAME),
    ('text/positional_embedding', 'text.positional_embedding', SAME),
    *blocks('text/transformer', 'text.transformer'),
    *norm('text/ln_final', 'text.ln_final'),
    *dense('text/text_projection', 'text.text_projection'),
  ]
  for our_attention, their_attention in (
    (f'{ours}/attn', f'{theirs}.attn'),
    (f'{POOL}/attn', f'{pool}.attn'),
  ):
    for name in ('query', 'key', 'value'):
      rows.append((f'{our_attention}/{name}/kernel', f'{their_attention}.{name}.weight', HEADS_IN))
      rows.append((f'{our_attention}/{name}/bias', f'{their_attention}.{name}.bias', HEADS_BIAS))
    rows.append((f'{our_attention}/out/kernel', f'{their_attention}.proj.weight', HEADS_OUT))
    rows.append((f'{our_attention}/out/bias', f'{their_attention}.proj.bias', SAME))
  return rows


# timm's names of stacked projections: in blocks, and in the pooling, whose layers have no name of
# their own for the attention.
_STACKED = (
  (r'(.*\.blocks\.\d+\.attn)\.qkv\.(weight|bias)', ('query', 'key', 'value')),
  (r'(.*\.attn_pool)\.kv\.(weight|bias)', ('key', 'value')),
  (r'(.*\.attn_pool)\.q\.(weight|bias)', ('query',)),
  (r'(.*\.attn_pool)\.proj\.(weight|bias)', ('proj',)),
)


def _prepare_timm(state: StateDict) -> StateDict:
  """Splits stacked projections, and removes the first axis of the positions."""
  split = {}
  for key, array in prepare_scalars(split_projections(state)).items():
    if key == 'visual.trunk.pos_embed' and array.shape[:1] == (1,):
      split[key] = array.reshape(*array.shape[1:])
      continue
    for pattern, names in _STACKED:
      match = re.fullmatch(pattern, key)
      if match and array.shape and array.shape[0] % len(names) == 0:
        layer = match[1] if match[1].endswith('.attn') else f'{match[1]}.attn'
        for number, name in enumerate(names):
          split[f'{layer}.{name}.{match[2]}'] = array.part(number, len(names))
        break
    else:
      split[key] = array
  return split


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
  prepare=_prepare_timm,
  tower_fields={'architecture': 'siglip'},
  heads=HEADS,
  normalization='half',
  preprocessing=PREPROCESSING,
  config_file='open_clip_config.json',
  read_config=_read_open_clip_config,
)
