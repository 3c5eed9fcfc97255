"""Infers the model from array shapes."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from zsar_jax.errors import UserError
from zsar_jax.models.presets import TowerSpec, VideoSpec
from zsar_jax.weights.formats import zsar
from zsar_jax.weights.formats.actionclip import ACTIONCLIP
from zsar_jax.weights.formats.read import TOKEN_EMBEDDING, MappedArray, Weights

# The number of frames of a clip if no parameter depends on it.
_DEFAULT_NUM_FRAMES = 8

# Fields of `TowerSpec` that are 0 or a name if a model has the usual ones.
_OPTIONAL_FIELDS = {'architecture', 'image_mlp', 'text_mlp'}


def infer_spec(weights: Weights) -> tuple[TowerSpec, VideoSpec]:
  """Returns the model of weights.

  Raises:
    UserError: if an array that shows a size is missing, or the model cannot be built.
  """
  if weights.format is zsar.ZSAR:
    if not weights.config:
      raise UserError(
        f'{weights.path}: {zsar.ZSAR.config_file}, which describes the model, is missing beside it;'
        ' restore that file'
      )
    spec, video, _ = zsar.from_json(weights.path, weights.config)
    return spec, video
  fields = tower_fields(weights)
  if 'vocab_size' not in fields:
    raise UserError(
      f'{weights.path}: has no token embedding; name the CLIP model that its training started from'
      f' in {weights.hints.tokens_from}'
    )
  missing = sorted(TowerSpec.__dataclass_fields__.keys() - fields.keys() - _OPTIONAL_FIELDS)
  if missing:
    raise UserError(
      f'{weights.path}: {", ".join(missing)} cannot be inferred, because arrays are missing or have'
      ' other shapes; fetch it again'
    )
  try:
    spec = TowerSpec(**fields)
  except UserError as error:
    raise UserError(f'{weights.path}: {error}; fetch it again') from None
  return spec, _video_spec(weights)


def tower_fields(weights: Weights) -> dict[str, Any]:
  """Returns the fields of `TowerSpec` that array shapes and files beside the weights show."""
  arrays = weights.arrays
  fields = {
    'embed_dim': _size(arrays, 'visual/proj/kernel', 2, 1),
    'patch': _size(arrays, 'visual/conv1/kernel', 4, 0),
    'image_width': _size(arrays, 'visual/class_embedding', 1, 0),
    'image_layers': _count(arrays, r'visual/transformer/resblocks/\d+/ln_1/scale'),
    'text_width': _size(arrays, 'text/ln_final/scale', 1, 0),
    'text_layers': _count(arrays, r'text/transformer/resblocks/\d+/ln_1/scale'),
    'context_length': _size(arrays, 'text/positional_embedding', 2, 0),
    'vocab_size': _size(arrays, TOKEN_EMBEDDING, 2, 0),
  }
  positions = _size(arrays, 'visual/positional_embedding', 2, 0)
  if positions and fields['patch']:
    fields['resolution'] = math.isqrt(positions - 1) * fields['patch']
  for tower, name in (('visual', 'image'), ('text', 'text')):
    # Only a layout with a separate axis shows the heads. In OpenAI's models they have width 64.
    heads = _size(arrays, f'{tower}/transformer/resblocks/0/attn/query/kernel', 3, 1)
    width = fields[f'{name}_width']
    if not heads and width % 64 and f'{name}_heads' not in weights.tower_fields:
      raise UserError(
        f'{weights.path}: the number of heads of the {name} tower is not given, and its width,'
        f' {width}, is not a multiple of 64; name a folder with the config.json or'
        ' open_clip_config.json of the model'
      )
    fields[f'{name}_heads'] = heads or width // 64
    mlp_width = _size(arrays, f'{tower}/transformer/resblocks/0/mlp/c_fc/kernel', 2, 1)
    fields[f'{name}_mlp'] = mlp_width if mlp_width != 4 * width else 0
  return {field: value for field, value in fields.items() if value} | weights.tower_fields


def fixes_num_frames(weights: Weights) -> bool:
  """Whether the weights are of a model for a certain number of frames."""
  if weights.format is zsar.ZSAR or 'num_frames' in weights.video_fields:
    return True
  # ActionCLIP always has 77 positions.
  return 'temporal/positional_embedding' in weights.arrays and weights.format is not ACTIONCLIP


def _video_spec(weights: Weights) -> VideoSpec:
  arrays = weights.arrays
  depths = [
    1 + _count(arrays, rf'{tower}/prompts/blocks/\d+')
    for tower in ('visual', 'text')
    if f'{tower}/prompts/inputs' in arrays
  ]
  if len(set(depths)) > 1:
    raise UserError(
      f'{weights.path}: {depths[0]} blocks of the image tower and {depths[1]} of the text tower'
      ' have prompts, but zsar_jax supports only equal numbers; use another model'
    )
  num_frames = _DEFAULT_NUM_FRAMES
  if 'temporal/positional_embedding' in arrays and fixes_num_frames(weights):
    num_frames = arrays['temporal/positional_embedding'].stored.shape[-2]
  fields: dict[str, Any] = dict(
    num_frames=num_frames,
    temporal=weights.format.temporal,
    temporal_layers=_count(arrays, r'temporal/transformer/resblocks/\d+/ln_1/scale')
    or VideoSpec.temporal_layers,
    image_prompts=_size(arrays, 'visual/prompts/inputs', 2, 0),
    text_prompts=_size(arrays, 'text/prompts/inputs', 2, 0),
    prompt_depth=depths[0] if depths else VideoSpec.prompt_depth,
    residual_distillation='distillation/visual/first/kernel' in arrays,
  )
  return VideoSpec(**fields | weights.video_fields)


def _size(arrays: Mapping[str, MappedArray], path: str, ndim: int, axis: int) -> int:
  """Returns the size of our array along an axis; 0 if there is no array with `ndim` axes."""
  array = arrays.get(path)
  if array is None or len(array.stored.shape) != ndim:
    return 0
  order = np.argsort(array.layout.order) if array.layout.order else range(ndim)
  return array.stored.shape[order[axis]]


def _count(arrays: Mapping[str, MappedArray], pattern: str) -> int:
  """Returns the number of our paths that a regex matches."""
  return sum(re.fullmatch(pattern, path) is not None for path in arrays)
