"""CLIP models of open_clip: OpenAI's keys, described by an open_clip_config.json.

`preprocessor_config` reads the image preprocessing from the same file.
"""

import dataclasses
import pathlib
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.weights.formats.openai import OPENAI

# Tower settings that the array shapes show or that `_read_config` reads. Any other setting changes
# the computation, and the model is not CLIP.
_IMAGE_KEYS = ('image_size', 'layers', 'width', 'patch_size', 'head_width', 'mlp_ratio')
_TEXT_KEYS = ('context_length', 'vocab_size', 'width', 'heads', 'layers')


def _read_config(path: pathlib.Path, config: dict[str, Any]) -> dict[str, int]:
  """Reads the numbers of heads; see `Format.read_config`."""
  model = config['model_cfg']
  image, text = model['vision_cfg'], model['text_cfg']
  if not model.get('quick_gelu'):
    raise UserError(
      f'{path}: the model was trained with GELU, but zsar_jax has only quick GELU, with which it'
      ' would compute wrong numbers; use a model with "quick_gelu": true'
    )
  unknown = [key for key in image if key not in _IMAGE_KEYS]
  unknown += [key for key in text if key not in _TEXT_KEYS]
  if unknown:
    raise UserError(
      f'{path}: zsar_jax does not support the setting {unknown[0]}, which makes the model differ'
      ' from CLIP; use another model'
    )
  heads = image['width'] // image.get('head_width', 64)
  return {'image_heads': heads, 'text_heads': text['heads']}


OPEN_CLIP = dataclasses.replace(
  OPENAI, name='open_clip', config_file='open_clip_config.json', read_config=_read_config
)
