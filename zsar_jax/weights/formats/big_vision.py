"""SigLIP and SigLIP 2 of big_vision: our layouts under the names of its Flax modules."""

import dataclasses
import re

from zsar_jax.weights.formats.format import Format
from zsar_jax.weights.formats.key_tables import ONE_TOKEN, SAME, Row, Table
from zsar_jax.weights.formats.lazy_arrays import StateDict
from zsar_jax.weights.formats.siglip import (
  BLOCK,
  HEADS,
  POOL,
  PREPROCESSING,
  refuse_naflex,
  scalars,
)


def _flax_layer(ours: str, theirs: str, *leaves: str) -> list[Row]:
  return [(f'{ours}/{leaf}', f'{theirs}/{leaf}', SAME) for leaf in leaves]


def _big_vision_attention(ours: str, theirs: str) -> list[Row]:
  rows = []
  for name in ('query', 'key', 'value', 'out'):
    theirs_name = f'{theirs}/MultiHeadDotProductAttention_0/{name}'
    rows += _flax_layer(f'{ours}/{name}', theirs_name, 'kernel', 'bias')
  return rows


def _big_vision_mlp(ours: str, theirs: str) -> list[Row]:
  return [
    *_flax_layer(f'{ours}/c_fc', f'{theirs}/MlpBlock_0/Dense_0', 'kernel', 'bias'),
    *_flax_layer(f'{ours}/c_proj', f'{theirs}/MlpBlock_0/Dense_1', 'kernel', 'bias'),
  ]


def _big_vision_rows() -> list[Row]:
  pool = 'img/MAPHead_0'
  rows = [
    *scalars('t', 'b'),
    *_flax_layer('visual/conv1', 'img/embedding', 'kernel', 'bias'),
    ('visual/positional_embedding', 'img/pos_embedding', SAME),
    *_flax_layer('visual/ln_post', 'img/Transformer/encoder_norm', 'scale', 'bias'),
    (f'{POOL}/probe', f'{pool}/probe', ONE_TOKEN),
    *_big_vision_attention(f'{POOL}/attn', pool),
    *_flax_layer(f'{POOL}/ln', f'{pool}/LayerNorm_0', 'scale', 'bias'),
    *_big_vision_mlp(f'{POOL}/mlp', pool),
    ('text/token_embedding/embedding', 'txt/Embed_0/embedding', SAME),
    ('text/positional_embedding', 'txt/pos_embedding', SAME),
    *_flax_layer('text/ln_final', 'txt/Encoder_0/encoder_norm', 'scale', 'bias'),
    *_flax_layer('text/text_projection', 'txt/head', 'kernel', 'bias'),
  ]
  for tower, encoder in (('visual', 'img/Transformer'), ('text', 'txt/Encoder_0')):
    ours, theirs = f'{tower}/{BLOCK}', f'{encoder}/encoderblock/{{i}}'
    rows += [
      *_flax_layer(f'{ours}/ln_1', f'{theirs}/LayerNorm_0', 'scale', 'bias'),
      *_big_vision_attention(f'{ours}/attn', theirs),
      *_flax_layer(f'{ours}/ln_2', f'{theirs}/LayerNorm_1', 'scale', 'bias'),
      *_big_vision_mlp(f'{ours}/mlp', theirs),
    ]
  return rows


def _prepare_big_vision(state: StateDict) -> StateDict:
  """Names the blocks of both kinds of files alike, and removes the first axis of positions.

  Files of SigLIP have the layers `encoderblock_0`, `encoderblock_1` and so on; files of SigLIP 2
  have a layer `encoderblock`, whose arrays have the blocks along their first axis.
  """
  prepared = {}
  for key, array in state.items():
    stack, separator, leaf = key.partition('/encoderblock/')
    if separator and (blocks := array.blocks()):
      for number, block in enumerate(blocks):
        prepared[f'{stack}/encoderblock/{number}/{leaf}'] = block
    elif key.endswith('/pos_embedding') and array.shape[:1] == (1,):
      prepared[key] = array.reshape(*array.shape[1:])
    else:
      prepared[re.sub(r'/encoderblock_(\d+)/', r'/encoderblock/\1/', key)] = array
  return prepared


BIG_VISION_SIGLIP = Format(
  name='big_vision_siglip',
  table=Table(_big_vision_rows()),
  markers=('img/MAPHead_0/probe', 'txt/Embed_0/embedding'),
  prepare=_prepare_big_vision,
  read_video=refuse_naflex('img/embedding/kernel'),
  tower_fields={'architecture': 'siglip'},
  heads=HEADS,
  normalization='half',
  # `resize` of big_vision's pp/ops_image.py; transformers and open_clip interpolate bicubically.
  preprocessing=dataclasses.replace(PREPROCESSING, interpolation='bilinear'),
)
