"""VideoPrism-LvT (arXiv 2402.13217) as its authors save it, and as transformers does.

The authors' .npz files have the blocks of a stack in one array, with a leading axis. Both formats
store the scale of a layer norm as its difference from 1.
"""

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from zsar_jax.errors import UserError
from zsar_jax.weights.formats.format import Format
from zsar_jax.weights.formats.key_tables import (
  BATCH_OF_ONE,
  HEADS_BIAS,
  HEADS_IN,
  HEADS_OUT,
  LINEAR,
  SAME,
  Layout,
  Row,
  Shape,
  Table,
)
from zsar_jax.weights.formats.lazy_arrays import LazyArray, StateDict
from zsar_jax.weights.formats.preprocessing import Preprocessing

# The files have no scale of the logits. The authors' demonstration divides cosines by 0.01
# (`videoprism_video_text_demo.ipynb`).
_LOGIT_SCALE = np.array(math.log(1 / 0.01), np.float32)

# Our stacks of blocks, with their names in the two formats.
_STACKS = (
  ('visual/transformer', 'vision_encoder/spatial_encoder', 'vision_model.spatial_layers'),
  ('visual/temporal_transformer', 'vision_encoder/temporal_encoder', 'vision_model.temporal_layers'),
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
# (P, P, 3, D) is (D, 3, P, P), see `_prepare_transformers`.
_CONVOLUTION = Layout(order=(3, 2, 0, 1))
# (D,) is (1, 1, D).
_TOKEN = Layout(lambda shape: (1, 1, *shape))


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
    ('text/class_embedding', f'{text}/cls_emb', _TOKEN),
    *_flax_blocks('text/transformer', f'{text}/unimodal_transformer'),
    *_flax_norm('text/ln_final', f'{text}/unimodal_ln'),
  ]
  for ours, theirs, _ in _STACKS:
    rows += _flax_blocks(ours, f'{root}/{theirs}/transformers_stack')
  for ours, theirs, _ in _NORMS:
    rows += _flax_norm(ours, f'{root}/{theirs}')
  return rows


def _prepare_flax(state: StateDict) -> StateDict:
  """Takes the stacks of blocks apart, and gives the patch embedding its axes."""
  prepared = {'logit_scale': LazyArray.of(_LOGIT_SCALE)}
  for key, array in state.items():
    if '/x_layers/' in key and array.shape:
      stack, leaf = key.split('/x_layers/')
      for number in range(array.shape[0]):
        block = array.part(number, array.shape[0]).reshape(*array.shape[1:])
        prepared[f'{stack}/x_layers/{number}/{leaf}'] = block
    elif key.endswith('/patch_projection/linear/kernel') and len(array.shape) == 2:
      side = math.isqrt(array.shape[0] // 3)
      is_square = 3 * side**2 == array.shape[0]
      prepared[key] = array.reshape(side, side, 3, array.shape[1]) if is_square else array
    else:
      prepared[key] = array
  return prepared


def _read_video(path: pathlib.Path, extras: Mapping[str, Any], state: StateDict) -> dict[str, Any]:
  """See `Format.read_video`."""
  del path, extras, state
  return {'temporal': 'videoprism'}


# The size that frames are resized to, without keeping their shape; frames are not normalized.
_PREPROCESSING = Preprocessing(
  interpolation='bilinear', resize='squash', templates=('a video of {}.',)
)

VIDEOPRISM = Format(
  name='videoprism',
  table=Table(_flax_rows()),
  markers=(
    'params/vision_encoder/spatial_pos_emb/emb_var',
    'params/contrastive_vision_pooler/pooling_attention_query',
  ),
  prepare=_prepare_flax,
  temporal='videoprism',
  read_video=_read_video,
  architecture='videoprism',
  normalization='none',
  preprocessing=_PREPROCESSING,
)


def _hf_norm(ours: str, theirs: str) -> list[Row]:
  return _norm(ours, f'{theirs}.weight', f'{theirs}.bias')


def _hf_dense(ours: str, theirs: str) -> list[Row]:
  return [
    (f'{ours}/kernel', f'{theirs}.weight', LINEAR),
    (f'{ours}/bias', f'{theirs}.bias', SAME),
  ]


def _hf_attention(ours: str, theirs: str) -> list[Row]:
  rows = [(f'{ours}/out/kernel', f'{theirs}.o_proj.weight', HEADS_OUT)]
  rows.append((f'{ours}/out/bias', f'{theirs}.o_proj.bias', SAME))
  for name in ('query', 'key', 'value'):
    rows.append((f'{ours}/{name}/kernel', f'{theirs}.{name[0]}_proj.weight', HEADS_IN))
    rows.append((f'{ours}/{name}/bias', f'{theirs}.{name[0]}_proj.bias', HEADS_BIAS))
  return rows


def _hf_blocks(ours: str, theirs: str) -> list[Row]:
  ours, theirs = f'{ours}/resblocks/{{i}}', f'{theirs}.{{i}}'
  return [
    *_hf_norm(f'{ours}/ln_1', f'{theirs}.layernorm_before'),
    *_hf_attention(f'{ours}/attn', f'{theirs}.attention'),
    *_hf_norm(f'{ours}/ln_2', f'{theirs}.layernorm_after'),
    *_hf_dense(f'{ours}/mlp/c_fc', f'{theirs}.mlp.fc1'),
    *_hf_dense(f'{ours}/mlp/c_proj', f'{theirs}.mlp.fc2'),
  ]
