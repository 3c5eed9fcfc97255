"""The model that weights are of, as far as the shapes of their arrays tell."""

import math
import re
from typing import Any

import numpy as np

from zsar_jax.errors import UserError
from zsar_jax.models.presets import TowerSpec, VideoSpec
from zsar_jax.weights.formats import zsar
from zsar_jax.weights.formats.actionclip import ACTIONCLIP
from zsar_jax.weights.formats.read import TOKENS, Weights

# Frames of a clip where no parameter tells their number.
_NUM_FRAMES = 8


def infer_spec(weights: Weights) -> tuple[TowerSpec, VideoSpec]:
  """The model that weights are of.

  Raises:
    UserError: where an array that tells of it is missing, or it is none that can be built.
  """
  if weights.format is zsar.ZSAR:
    if not weights.config:
      raise UserError(
        f'{weights.path}: nothing describes the model, for {zsar.ZSAR.config} is missing beside it;'
        ' restore that file'
      )
    spec, video, _ = zsar.from_json(weights.path, weights.config)
    return spec, video
  fields = tower_fields(weights)
  if 'vocab_size' not in fields:
    raise UserError(
      f'{weights.path}: has no token embedding; name the CLIP model that its training began from'
      f' in {weights.hints.tokens_from}'
    )
  missing = sorted(TowerSpec.__dataclass_fields__.keys() - fields.keys())
  if missing:
    raise UserError(
      f'{weights.path}: does not show its {", ".join(missing)}, for arrays are missing or of other'
      ' shapes; fetch it again'
    )
  try:
    spec = TowerSpec(**fields)
  except UserError as error:
    raise UserError(f'{weights.path}: {error}; fetch it again') from None
  return spec, _video(weights)


def tower_fields(weights: Weights) -> dict[str, Any]:
  """The fields of `TowerSpec` that weights and what describes them tell."""
  fields = {
    'embed_dim': _size(weights, 'visual/proj/kernel', 2, 1),
    'patch': _size(weights, 'visual/conv1/kernel', 4, 0),
    'image_width': _size(weights, 'visual/class_embedding', 1, 0),
    'image_layers': _count(weights, r'visual/transformer/resblocks/\d+/ln_1/scale'),
    'text_width': _size(weights, 'text/ln_final/scale', 1, 0),
    'text_layers': _count(weights, r'text/transformer/resblocks/\d+/ln_1/scale'),
    'context_length': _size(weights, 'text/positional_embedding', 2, 0),
    'vocab_size': _size(weights, TOKENS, 2, 0),
  }
  positions = _size(weights, 'visual/positional_embedding', 2, 0)
  if positions and fields['patch']:
    fields['resolution'] = math.isqrt(positions - 1) * fields['patch']
  for tower, name in (('visual', 'image'), ('text', 'text')):
    # Heads show only where queries keep them apart; they are 64 wide in OpenAI's models.
    heads = _size(weights, f'{tower}/transformer/resblocks/0/attn/query/kernel', 3, 1)
    width = fields[f'{name}_width']
    if not heads and width % 64 and f'{name}_heads' not in weights.described:
      raise UserError(
        f'{weights.path}: nothing tells the heads of the {name} tower, whose width, {width}, is no'
        ' multiple of 64; name a folder with the config.json or open_clip_config.json of the model'
      )
    fields[f'{name}_heads'] = heads or width // 64
  return {field: value for field, value in fields.items() if value} | weights.described


def _video(weights: Weights) -> VideoSpec:
  depths = [
    1 + _count(weights, rf'{tower}/prompts/blocks/\d+')
    for tower in ('visual', 'text')
    if f'{tower}/prompts/inputs' in weights.arrays
  ]
  if len(set(depths)) > 1:
    raise UserError(
      f'{weights.path}: {depths[0]} blocks of images and {depths[1]} of texts have prompts;'
      ' zsar_jax has them in as many of both'
    )
  positions = weights.arrays.get('temporal/positional_embedding')
  told = positions and weights.format is not ACTIONCLIP
  fields = dict(
    num_frames=positions.tensor.shape[-2] if told else _NUM_FRAMES,
    temporal=weights.format.temporal,
    temporal_layers=_count(weights, r'temporal/transformer/resblocks/\d+/ln_1/scale')
    or VideoSpec.temporal_layers,
    image_prompts=_size(weights, 'visual/prompts/inputs', 2, 0),
    text_prompts=_size(weights, 'text/prompts/inputs', 2, 0),
    prompt_depth=depths[0] if depths else VideoSpec.prompt_depth,
    residual_distillation='distillation/visual/first/kernel' in weights.arrays,
  )
  return VideoSpec(**fields | weights.video)


def _size(weights: Weights, path: str, axes: int, axis: int) -> int:
  """The size of our array along an axis; 0 where there is no array of so many axes."""
  array = weights.arrays.get(path)
  if array is None or len(array.tensor.shape) != axes:
    return 0
  order = np.argsort(array.layout.order) if array.layout.order else range(axes)
  return array.tensor.shape[order[axis]]


def _count(weights: Weights, pattern: str) -> int:
  return sum(re.fullmatch(pattern, path) is not None for path in weights.arrays)
