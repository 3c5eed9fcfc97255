"""Image towers of timm in models of open_clip: PE-Core and EVA02-CLIP.

Their text towers are open_clip's, whose keys are OpenAI's with the prefix `text.`.
"""

import pathlib
import re
from collections.abc import Callable
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.weights.formats import openai, perception_encoder
from zsar_jax.weights.formats.format import Format
from zsar_jax.weights.formats.key_tables import (
  CONVOLUTION,
  LINEAR,
  ONE_TOKEN,
  SAME,
  Row,
  Table,
  dense,
  norm,
  projections,
)
from zsar_jax.weights.formats.lazy_arrays import StateDict, printable

_TRUNK = 'visual.trunk'
_POOL = f'{_TRUNK}.attn_pool'
_BLOCK, _THEIR_BLOCK = 'visual/transformer/resblocks/{i}', f'{_TRUNK}.blocks.{{i}}'

# The numbers of heads of EVA02-CLIP, which no file gives.
HEADS = perception_encoder.published_heads('eva02')

# The layers that timm stacks, with the names of their parts in other layouts of timm.
_STACKED = {
  'attn.qkv': ('attn.q_proj', 'attn.k_proj', 'attn.v_proj'),
  'attn_pool.kv': ('attn_pool.k_proj', 'attn_pool.v_proj'),
  'attn_pool.q': ('attn_pool.q_proj',),
}


def prepare(state: StateDict) -> StateDict:
  """Splits stacked layers, and removes the first axis of the positions."""
  split = {}
  for key, array in openai.split_projections(state).items():
    layer, _, leaf = key.rpartition('.')
    stacked = next((name for name in _STACKED if layer.endswith(f'.{name}')), None)
    if key == f'{_TRUNK}.pos_embed' and array.shape[:1] == (1,):
      split[key] = array.reshape(*array.shape[1:])
    elif stacked and array.shape and array.shape[0] % len(_STACKED[stacked]) == 0:
      names = _STACKED[stacked]
      for number, name in enumerate(names):
        split[f'{layer.removesuffix(stacked)}{name}.{leaf}'] = array.part(number, len(names))
    else:
      split[key] = array
  return split


def _shared_rows() -> list[Row]:
  """Returns the rows of the parts that both families have."""
  return [
    *(row for row in openai.clip_rows('visual.', 'text.', '') if not row[0].startswith('visual/')),
    ('visual/conv1/kernel', f'{_TRUNK}.patch_embed.proj.weight', CONVOLUTION),
    ('visual/class_embedding', f'{_TRUNK}.cls_token', ONE_TOKEN),
    ('visual/positional_embedding', f'{_TRUNK}.pos_embed', SAME),
    *norm(f'{_BLOCK}/ln_1', f'{_THEIR_BLOCK}.norm1'),
    *projections(f'{_BLOCK}/attn', f'{_THEIR_BLOCK}.attn', 'proj'),
    *norm(f'{_BLOCK}/ln_2', f'{_THEIR_BLOCK}.norm2'),
    *dense(f'{_BLOCK}/mlp/c_proj', f'{_THEIR_BLOCK}.mlp.fc2'),
    *norm('visual/ln_post', f'{_TRUNK}.norm'),
    ('visual/proj/kernel', f'{_TRUNK}.head.weight', LINEAR),
    ('visual/proj/bias', f'{_TRUNK}.head.bias', SAME),
  ]


# The settings of each tower that `_config_reader` reads or that the arrays show. Any other changes
# the computation.
_IMAGE_KEYS = ('image_size', 'timm_model_name', 'timm_model_pretrained', 'timm_pool', 'timm_proj')
_TEXT_KEYS = ('context_length', 'vocab_size', 'width', 'heads', 'layers')


def _config_reader(
  family: str, towers: str, pool: str
) -> Callable[[pathlib.Path, dict[str, Any]], dict[str, Any]]:
  """Returns the `Format.read_config` of a family.

  Args:
    family: its name, for errors.
    towers: a regex of timm's names of its image towers.
    pool: its pooling.
  """

  def read_config(path: pathlib.Path, config: dict[str, Any]) -> dict[str, Any]:
    model = config['model_cfg']
    image, text = model['vision_cfg'], model['text_cfg']
    name = str(image.get('timm_model_name'))
    if not re.fullmatch(towers, name):
      raise UserError(
        f'{path}: timm_model_name is {printable(name)!r}, but the arrays are those of {family};'
        ' fetch the file that belongs to these weights'
      )
    unknown = [key for key in image if key not in _IMAGE_KEYS]
    unknown += [key for key in text if key not in _TEXT_KEYS]
    unknown += ['quick_gelu'] if model.get('quick_gelu') else []
    unknown += ['timm_proj'] if image.get('timm_proj') else []
    unknown += ['timm_pool'] if image.get('timm_pool', pool) != pool else []
    if unknown:
      raise UserError(
        f'{path}: zsar_jax does not support the setting {printable(unknown[0])}, which makes the'
        f' model differ from {family}; use another model'
      )
    return {'text_heads': text['heads']}

  return read_config


OPEN_CLIP_PE_CORE = Format(
  name='open_clip_pe_core',
  table=Table(
    [
      *_shared_rows(),
      *norm('visual/ln_pre', f'{_TRUNK}.norm_pre'),
      *dense(f'{_BLOCK}/mlp/c_fc', f'{_THEIR_BLOCK}.mlp.fc1'),
      ('visual/attn_pool/probe', f'{_POOL}.latent', ONE_TOKEN),
      *projections('visual/attn_pool/attn', _POOL, 'proj'),
      *norm('visual/attn_pool/ln', f'{_POOL}.norm'),
      *dense('visual/attn_pool/mlp/c_fc', f'{_POOL}.mlp.fc1'),
      *dense('visual/attn_pool/mlp/c_proj', f'{_POOL}.mlp.fc2'),
    ]
  ),
  # SigLIP has no norm before its blocks.
  markers=(f'{_POOL}.latent', f'{_TRUNK}.norm_pre.weight', 'text.token_embedding.weight'),
  droppable=openai.DROPPABLE,
  prepare=prepare,
  tower_fields={'architecture': 'pe_core'},
  read_tower=perception_encoder.read_tower,
  heads=perception_encoder.HEADS,
  normalization='half',
  preprocessing=perception_encoder.PREPROCESSING,
  config_file='open_clip_config.json',
  read_config=_config_reader('PE-Core', r'vit_pe_core_\w+', 'map'),
)

OPEN_CLIP_EVA02 = Format(
  name='open_clip_eva02',
  table=Table(
    [
      *_shared_rows(),
      ('visual/conv1/bias', f'{_TRUNK}.patch_embed.proj.bias', SAME),
      *norm(f'{_BLOCK}/attn/out/norm', f'{_THEIR_BLOCK}.attn.norm'),
      *dense(f'{_BLOCK}/mlp/c_gate', f'{_THEIR_BLOCK}.mlp.fc1_g'),
      *dense(f'{_BLOCK}/mlp/c_fc', f'{_THEIR_BLOCK}.mlp.fc1_x'),
      *norm(f'{_BLOCK}/mlp/ln', f'{_THEIR_BLOCK}.mlp.norm'),
    ]
  ),
  markers=(
    f'{_TRUNK}.blocks.0.mlp.fc1_g.weight',
    f'{_TRUNK}.blocks.0.attn.norm.weight',
    'text.token_embedding.weight',
  ),
  droppable=openai.DROPPABLE,
  prepare=prepare,
  tower_fields={'architecture': 'eva02'},
  heads=HEADS,
  config_file='open_clip_config.json',
  read_config=_config_reader('EVA02-CLIP', r'eva02_(base|large)_patch\d+_clip_\d+', 'token'),
)
