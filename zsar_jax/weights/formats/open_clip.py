"""open_clip's models that are CLIP: OpenAI's keys, and an open_clip_config.json beside them.

How frames are prepared, in the same file, `preprocessing` reads.
"""

import dataclasses
import pathlib
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.weights.formats.openai import OPENAI

# Settings of towers that the arrays show, or that are read here. With any other, a model is
# computed otherwise than CLIP.
_IMAGE_KEYS = ('image_size', 'layers', 'width', 'patch_size', 'head_width', 'mlp_ratio')
_TEXT_KEYS = ('context_length', 'vocab_size', 'width', 'heads', 'layers')


def _described(path: pathlib.Path, config: dict[str, Any]) -> dict[str, int]:
  """The numbers of heads; see `Format.described`."""
  model = config['model_cfg']
  image, text = model['vision_cfg'], model['text_cfg']
  if not model.get('quick_gelu'):
    raise UserError(
      f'{path}: the model was trained with GELU and zsar_jax has only quick GELU, with which its'
      ' numbers would be wrong; take one with "quick_gelu": true'
    )
  unknown = [key for key in image if key not in _IMAGE_KEYS]
  unknown += [key for key in text if key not in _TEXT_KEYS]
  if unknown:
    raise UserError(
      f'{path}: the setting {unknown[0]} makes another model than CLIP of it; take another'
    )
  heads = image['width'] // image.get('head_width', 64)
  return {'image_heads': heads, 'text_heads': text['heads']}


OPEN_CLIP = dataclasses.replace(
  OPENAI, name='open_clip', config='open_clip_config.json', described=_described
)
