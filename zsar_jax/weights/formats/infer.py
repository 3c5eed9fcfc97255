"""Infers the model from array shapes."""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from zsar_jax.errors import UserError
from zsar_jax.models import presets
from zsar_jax.models.presets import TowerSpec, VideoSpec
from zsar_jax.weights.formats import zsar
from zsar_jax.weights.formats.actionclip import ACTIONCLIP
from zsar_jax.weights.formats.read import TOKEN_EMBEDDING, MappedArray, Weights

# The number of frames of a clip if no parameter depends on it.
_DEFAULT_NUM_FRAMES = 8

# The widest tower of OpenAI's models, all of whose heads have the same width.
_OPENAI_WIDTH = 1024
_OPENAI_HEAD = 64

# Fields of `TowerSpec` that are 0 or a name if a model has the usual ones.
_OPTIONAL_FIELDS = {'architecture', 'image_mlp', 'text_mlp', 'time_layers', 'auxiliary_layers'}


def infer_spec(weights: Weights) -> tuple[TowerSpec, VideoSpec]:
  """Returns the model of weights.

  Raises:
    UserError: if an array that shows a size is missing, the model cannot be built or is another one
      than the preset that the user names, or nothing gives the number of heads.
  """
  if weights.format is zsar.ZSAR:
    if not weights.config:
      raise UserError(
        f'{weights.path}: {zsar.ZSAR.config_file}, which describes the model, is missing beside it;'
        ' restore that file'
      )
    spec, video, _ = zsar.from_json(weights.path, weights.config)
    _compare_with_preset(weights, dataclasses.asdict(spec))
    return spec, video
  fields = tower_fields(weights)
  fields = _compare_with_preset(weights, fields) | _published_heads(weights, fields) | fields
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
  except (UserError, TypeError, ZeroDivisionError) as error:  # From a config that is no model's.
    raise UserError(f'{weights.path}: {error}; fetch it again') from None
  return spec, _video_spec(weights)


def _compare_with_preset(weights: Weights, fields: dict[str, Any]) -> dict[str, Any]:
  """Returns the fields of the preset that the user names, if any, and compares it with others."""
  if not weights.preset:
    return {}
  setting = weights.hints.preset
  try:
    named = dataclasses.asdict(presets.preset(weights.preset))
  except UserError as error:
    raise UserError(f'{setting}: {str(error).removeprefix("preset: ")}') from None
  for field, expected in named.items():
    value = fields.get(field, expected)
    # These may be chosen freely, for a model of any preset.
    if field not in ('resolution', 'normalization') and value != expected:
      raise UserError(
        f'{setting}: {weights.path}: {field} is {value}, and {expected} in the preset'
        f' {weights.preset!r}; name the preset of these weights'
      )
  return named


def _published_heads(weights: Weights, fields: dict[str, Any]) -> dict[str, int]:
  """Returns the numbers of heads that are not in `fields`, as in the published models."""
  heads = {}
  for tower in ('image', 'text'):
    width, published = fields.get(f'{tower}_width', 0), weights.format.heads
    if weights.preset or not width or f'{tower}_heads' in fields:
      continue
    if width not in published and (published or width % _OPENAI_HEAD or width > _OPENAI_WIDTH):
      raise UserError(
        f'{weights.path}: the number of heads of the {tower} tower is not given, and its width,'
        f' {width}, is not that of {"a published model" if published else "a model of OpenAI"};'
        f' name the model in {weights.hints.preset}, or a folder with its config.json or'
        ' open_clip_config.json'
      )
    heads[f'{tower}_heads'] = published.get(width, width // _OPENAI_HEAD)
  return heads


def tower_fields(weights: Weights) -> dict[str, Any]:
  """Returns the fields of `TowerSpec` that array shapes and files beside the weights show."""
  arrays = weights.arrays
  fields = {
    'embed_dim': _size(arrays, 'visual/proj/kernel', 2, 1)
    or _size(arrays, 'text/text_projection/kernel', 2, 1)
    or _size(arrays, 'text/class_embedding', 1, 0),
    'patch': _size(arrays, 'visual/conv1/kernel', 4, 0),
    'image_width': _size(arrays, 'visual/conv1/kernel', 4, 3),
    'image_layers': _count(arrays, r'visual/transformer/resblocks/\d+/ln_1/scale'),
    'time_layers': _count(arrays, r'visual/temporal_transformer/resblocks/\d+/ln_1/scale'),
    'auxiliary_layers': _count(arrays, r'visual/auxiliary_transformer/resblocks/\d+/ln_1/scale'),
    'text_width': _size(arrays, 'text/ln_final/scale', 1, 0),
    'text_layers': _count(arrays, r'text/transformer/resblocks/\d+/ln_1/scale'),
    'context_length': _size(arrays, 'text/positional_embedding', 2, 0),
    'vocab_size': _size(arrays, TOKEN_EMBEDDING, 2, 0),
  }
  positions = _size(arrays, 'visual/positional_embedding', 2, 0)
  if positions and fields['patch']:
    patches = positions - int('visual/class_embedding' in arrays)
    fields['resolution'] = math.isqrt(patches) * fields['patch']
  for tower, name in (('visual', 'image'), ('text', 'text')):
    width = fields[f'{name}_width']
    # Only a layout with a separate axis shows the heads.
    fields[f'{name}_heads'] = _size(
      arrays, f'{tower}/transformer/resblocks/0/attn/query/kernel', 3, 1
    )
    mlp_width = _size(arrays, f'{tower}/transformer/resblocks/0/mlp/c_fc/kernel', 2, 1)
    fields[f'{name}_mlp'] = mlp_width if mlp_width != 4 * width else 0
  fields = {field: value for field, value in fields.items() if value}
  # The widths of MLPs are 0 if they are the usual ones.
  return dict.fromkeys(('image_mlp', 'text_mlp'), 0) | fields | weights.tower_fields


def fixes_num_frames(weights: Weights) -> bool:
  """Whether the weights are of a model for a certain number of frames."""
  if weights.format is zsar.ZSAR or 'num_frames' in weights.video_fields:
    return True
  return _frame_positions(weights) is not None


def _frame_positions(weights: Weights) -> MappedArray | None:
  """Returns the positional embedding of a clip's frames; None if nothing shows their number."""
  if weights.format is ACTIONCLIP:  # It always has 77 positions.
    return None
  for path in ('temporal/positional_embedding', 'visual/temporal_embedding'):
    if path in weights.arrays:
      return weights.arrays[path]
  return None


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
  if (positions := _frame_positions(weights)) is not None:
    num_frames = positions.stored.shape[-2]
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
