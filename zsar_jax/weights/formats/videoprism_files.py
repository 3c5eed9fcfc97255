"""VideoPrism-LvT (arXiv 2402.13217) as its authors save it, and as transformers does.

The authors' .npz files have the blocks of a stack in one array, with a leading axis. Both formats
store the scale of a layer norm as its difference from 1.
"""

import dataclasses
import math
import pathlib
import types
from typing import Any

import numpy as np

from zsar_jax.errors import UserError
from zsar_jax.weights.formats.format import Format
from zsar_jax.weights.formats.key_tables import (
  BATCH_OF_ONE,
  CONVOLUTION,
  SAME,
  Layout,
  Row,
  Shape,
  Table,
  dense,
  projections,
)
from zsar_jax.weights.formats.lazy_arrays import LazyArray, StateDict
from zsar_jax.weights.formats.preprocessing import Preprocessing

# The files have no scale of the logits. The authors' demonstration divides cosines by 0.01
# (`videoprism_video_text_demo.ipynb`).
_LOGIT_SCALE = np.array(math.log(1 / 0.01), np.float32)

# Our stacks of blocks, with their names in the two formats.
_STACKS = (
  ('visual/transformer', 'vision_encoder/spatial_encoder', 'vision_model.spatial_layers'),
  (
    'visual/temporal_transformer',
    'vision_encoder/temporal_encoder',
    'vision_model.temporal_layers',
  ),
  ('visual/auxiliary_transformer', 'auxiliary_encoder', 'auxiliary_layers'),
)
_NORMS = (
  ('visual/ln_frame', 'vision_encoder/spatial_ln', 'vision_model.layernorm1'),
  ('visual/ln_temporal', 'vision_encoder/temporal_ln', 'vision_model.layernorm2'),
)


@dataclasses.dataclass(frozen=True)
class _Offset(Layout):
  """A scale is stored as its difference from 1."""

  def save(self, array: np.ndarray) -> np.ndarray:
    return array - 1

  def load(self, array: np.ndarray, shape: Shape) -> np.ndarray:
    return super().load(array, shape) + 1


_OFFSET = _Offset()
# (H, d, D) is (D, H, d).
_HEADS_LAST = Layout(order=(2, 0, 1))


def _norm(ours: str, scale: str, bias: str) -> list[Row]:
  return [(f'{ours}/scale', scale, _OFFSET), (f'{ours}/bias', bias, SAME)]


def _flax_norm(ours: str, theirs: str) -> list[Row]:
  return _norm(ours, f'{theirs}/scale', f'{theirs}/bias')


def _flax_attention(ours: str, theirs: str) -> list[Row]:
  rows = [(f'{ours}/out/kernel', f'{theirs}/post/w', _HEADS_LAST)]
  rows.append((f'{ours}/out/bias', f'{theirs}/post/b', SAME))
  for name in ('query', 'key', 'value'):
    rows.append((f'{ours}/{name}/kernel', f'{theirs}/{name}/w', SAME))
    rows.append((f'{ours}/{name}/bias', f'{theirs}/{name}/b', SAME))
  return rows


def _flax_blocks(ours: str, theirs: str) -> list[Row]:
  ours, theirs = f'{ours}/resblocks/{{i}}', f'{theirs}/x_layers/{{i}}'
  rows = [
    *_flax_norm(f'{ours}/ln_1', f'{theirs}/layer_norm'),
    *_flax_attention(f'{ours}/attn', f'{theirs}/self_attention'),
    *_flax_norm(f'{ours}/ln_2', f'{theirs}/ff_layer/layer_norm'),
  ]
  for name, layer in (('c_fc', 'ffn_layer1'), ('c_proj', 'ffn_layer2')):
    for leaf in ('kernel', 'bias'):
      rows.append((f'{ours}/mlp/{name}/{leaf}', f'{theirs}/ff_layer/{layer}/linear/{leaf}', SAME))
  return rows


def _flax_rows() -> list[Row]:
  root, pooler = 'params', 'params/contrastive_vision_pooler'
  video, text = f'{root}/vision_encoder', f'{root}/text_encoder'
  rows = [
    ('logit_scale', 'logit_scale', SAME),
    ('visual/conv1/kernel', f'{video}/patch_projection/linear/kernel', SAME),
    ('visual/conv1/bias', f'{video}/patch_projection/linear/bias', SAME),
    ('visual/positional_embedding', f'{video}/spatial_pos_emb/emb_var', SAME),
    ('visual/temporal_embedding', f'{video}/temporal_pos_emb/emb_var', SAME),
    ('visual/attn_pool/probe', f'{pooler}/pooling_attention_query', SAME),
    *_flax_attention('visual/attn_pool/attn', f'{pooler}/pooling_attention'),
    (
      'visual/attn_pool/attn/query/per_dim_scale',
      f'{pooler}/pooling_attention/per_dim_scale/per_dim_scale',
      SAME,
    ),
    *_flax_norm('visual/ln_post', f'{pooler}/pooling_attention_layer_norm'),
    ('text/token_embedding/embedding', f'{text}/token_emb/emb_var', SAME),
    ('text/class_embedding', f'{text}/cls_emb', SAME),
    *_flax_blocks('text/transformer', f'{text}/unimodal_transformer'),
    *_flax_norm('text/ln_final', f'{text}/unimodal_ln'),
  ]
  for ours, theirs, _ in _STACKS:
    rows += _flax_blocks(ours, f'{root}/{theirs}/transformers_stack')
  for ours, theirs, _ in _NORMS:
    rows += _flax_norm(ours, f'{root}/{theirs}')
  return rows


def _prepare_flax(state: StateDict) -> StateDict:
  """Takes the stacks of blocks apart, and gives every array the axes of ours."""
  prepared = {'logit_scale': LazyArray.of(_LOGIT_SCALE)}
  for key, array in state.items():
    stack, separator, leaf = key.partition('/x_layers/')
    if separator and (blocks := array.blocks()):
      for number, block in enumerate(blocks):
        prepared[f'{stack}/x_layers/{number}/{leaf}'] = block
    elif key.endswith('/patch_projection/linear/kernel') and len(array.shape) == 2:
      side = math.isqrt(array.shape[0] // 3)
      is_square = 3 * side**2 == array.shape[0]
      prepared[key] = array.reshape(side, side, 3, array.shape[1]) if is_square else array
    else:
      prepared[key] = _without_axes(array, 0, 1) if key.endswith('/cls_emb') else array
  return prepared


def _without_axes(array: LazyArray, *axes: int) -> LazyArray:
  """Returns the array without some axes of length 1, or unchanged if it does not have them."""
  shape = array.shape
  if any(axis >= len(shape) or shape[axis] != 1 for axis in axes):
    return array
  return array.reshape(*(size for axis, size in enumerate(shape) if axis not in axes))


# Frames are resized to a square of 288 pixels; they are not normalized.
VIDEOPRISM = Format(
  name='videoprism',
  table=Table(_flax_rows()),
  markers=(
    'params/vision_encoder/spatial_pos_emb/emb_var',
    'params/contrastive_vision_pooler/pooling_attention_query',
  ),
  prepare=_prepare_flax,
  temporal='videoprism',
  tower_fields=types.MappingProxyType({'architecture': 'videoprism', 'context_length': 64}),
  normalization='none',
  preprocessing=Preprocessing(sampling='starts', resize='squash', templates=('a video of {}.',)),
)


def _hf_norm(ours: str, theirs: str) -> list[Row]:
  return _norm(ours, f'{theirs}.weight', f'{theirs}.bias')


def _hf_blocks(ours: str, theirs: str) -> list[Row]:
  ours, theirs = f'{ours}/resblocks/{{i}}', f'{theirs}.{{i}}'
  return [
    *_hf_norm(f'{ours}/ln_1', f'{theirs}.layernorm_before'),
    *projections(f'{ours}/attn', f'{theirs}.attention', 'o_proj'),
    *_hf_norm(f'{ours}/ln_2', f'{theirs}.layernorm_after'),
    *dense(f'{ours}/mlp/c_fc', f'{theirs}.mlp.fc1'),
    *dense(f'{ours}/mlp/c_proj', f'{theirs}.mlp.fc2'),
  ]


def _hf_rows() -> list[Row]:
  video, text = 'video_model', 'text_model'
  embeddings, head = f'{video}.vision_model', f'{video}.head'
  positions = 'embeddings.position_embeddings'
  patches = f'{embeddings}.spatial_embeddings.patch_embeddings.projection'
  rows = [
    ('logit_scale', 'logit_scale', SAME),
    ('visual/conv1/kernel', f'{patches}.weight', CONVOLUTION),
    ('visual/conv1/bias', f'{patches}.bias', SAME),
    ('visual/positional_embedding', f'{embeddings}.spatial_{positions}', SAME),
    ('visual/temporal_embedding', f'{embeddings}.temporal_{positions}', SAME),
    ('visual/attn_pool/probe', f'{head}.pooling_attention_query', BATCH_OF_ONE),
    *projections('visual/attn_pool/attn', head, 'o_proj'),
    ('visual/attn_pool/attn/query/per_dim_scale', f'{head}.per_dim_scale', SAME),
    *_hf_norm('visual/ln_post', f'{video}.head_layernorm'),
    ('text/token_embedding/embedding', f'{text}.embeddings.token_embedding.weight', SAME),
    ('text/class_embedding', f'{text}.embeddings.cls_emb', SAME),
    *_hf_blocks('text/transformer', f'{text}.layers'),
    *_hf_norm('text/ln_final', f'{text}.layernorm'),
  ]
  for ours, _, theirs in _STACKS:
    rows += _hf_blocks(ours, f'{video}.{theirs}')
  for ours, _, theirs in _NORMS:
    rows += _hf_norm(ours, f'{video}.{theirs}')
  return rows


# Axes of length 1 that our arrays do not have: the clip, and the time of a patch.
_HF_AXES = {'.projection.weight': (2,), '.position_embeddings': (0,), '.cls_emb': (0, 1)}


def _prepare_hf(state: StateDict) -> StateDict:
  """Removes the axes `_HF_AXES`."""
  prepared = {'logit_scale': LazyArray.of(_LOGIT_SCALE)}
  for key, array in state.items():
    axes = next((axes for suffix, axes in _HF_AXES.items() if key.endswith(suffix)), ())
    prepared[key] = _without_axes(array, *axes)
  return prepared


# What a model's config.json must say for our implementation to compute the same numbers.
_REQUIRED = {
  'attn_logit_softcapping': (50.0,),
  'layer_norm_eps': (1e-6,),
  'qkv_bias': (True,),
}
_ACTIVATIONS = {'vision_config': ('gelu_python', 'gelu'), 'text_config': ('relu',)}


def _read_config(path: pathlib.Path, config: dict[str, Any]) -> dict[str, Any]:
  """Reads the numbers of heads and of tokens from a config.json; see `Format.read_config`."""
  fields = {}
  for section, field in (('vision_config', 'image_heads'), ('text_config', 'text_heads')):
    settings = config.get(section) or {}
    for key, values in (_REQUIRED | {'hidden_act': _ACTIVATIONS[section]}).items():
      value = settings.get(key, values[0])
      if value not in values:
        raise UserError(
          f'{path}: {section}.{key} is {value!r}, but zsar_jax supports only {values[0]!r}; use'
          ' another model'
        )
    fields[field] = settings.get('num_attention_heads', 12)
  fields['context_length'] = (config.get('text_config') or {}).get('max_position_embeddings', 64)
  return fields


HF_VIDEOPRISM = dataclasses.replace(
  VIDEOPRISM,
  name='hf_videoprism',
  table=Table(_hf_rows()),
  markers=(
    'video_model.vision_model.spatial_embeddings.position_embeddings',
    'text_model.embeddings.cls_emb',
  ),
  # Positions, whose formula differs slightly from that of the authors; see `videoprism.sinusoids`.
  droppable=(r'text_model\.embeddings\.position_(embedding|ids)',),
  prepare=_prepare_hf,
  config_file='config.json',
  read_config=_read_config,
)
