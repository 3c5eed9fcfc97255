"""CLIP models of open_clip: OpenAI's keys, described by an open_clip_config.json.

`preprocessor_config` reads the image preprocessing from the same file.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.weights.formats.openai import OPENAI

# Tower settings that the array shapes show or that `_read_config` reads. Any other setting changes
# the computation, and the model is not CLIP.
_IMAGE_KEYS = ('image_size', 'layers', 'width', 'patch_size', 'head_width', 'mlp_ratio')
_TEXT_KEYS = ('context_length', 'vocab_size', 'width', 'heads', 'layers')
# Settings that change nothing at these values, which are open_clip's defaults.
_IMAGE_DEFAULTS = {
  'ls_init_value': None,
  'attentional_pool': False,
  'no_ln_pre': False,
  'pos_embed_type': 'learnable',
  'final_ln_after_pool': False,
  'pool_type': 'tok',
}
_TEXT_DEFAULTS = {
  'hf_tokenizer_name': None,
  'ls_init_value': None,
  'mlp_ratio': 4.0,
  'embed_cls': False,
  'no_causal_mask': False,
  'pool_type': 'argmax',
  'proj_type': 'linear',
  'proj_bias': False,
}
# Settings that only matter in training.
_TRAINING_KEYS = ('patch_dropout', 'pad_id', 'output_tokens')

# Families that share the keys of CLIP's arrays but not its tokens: (setting, value, family, what
# zsar_jax lacks for it).
_OTHER_TOKENIZERS = (
  ('hf_tokenizer_name', 'bert-base-uncased', 'CLIPA', 'the WordPiece tokenizer of BERT'),
  ('hf_tokenizer_name', 'facebook/xlm-v-base', 'MetaCLIP 2', 'the tokenizer of XLM-V'),
  ('hf_tokenizer_name', 'google/mt5-base', 'MetaCLIP 2', 'the tokenizer of mT5'),
)


def _read_config(path: pathlib.Path, config: dict[str, Any]) -> dict[str, Any]:
  """Reads the activation and the numbers of heads; see `Format.read_config`."""
  model = config['model_cfg']
  image, text = model['vision_cfg'], model['text_cfg']
  for setting, value, family, lacking in _OTHER_TOKENIZERS:
    if text.get(setting) == value:
      raise UserError(
        f'{path}: a model of {family}, for whose texts zsar_jax lacks {lacking}; use another model'
      )
  unknown = [*_unknown(image, _IMAGE_KEYS, _IMAGE_DEFAULTS)]
  unknown += _unknown(text, _TEXT_KEYS, _TEXT_DEFAULTS)
  if unknown:
    raise UserError(
      f'{path}: zsar_jax does not support the setting {unknown[0]}, which makes the model differ'
      ' from CLIP; use another model'
    )
  return {
    'architecture': 'clip' if model.get('quick_gelu') else 'clip_gelu',
    'image_heads': image['width'] // image.get('head_width', 64),
    'text_heads': text['heads'],
  }


def _unknown(
  settings: dict[str, Any], known: Sequence[str], defaults: Mapping[str, Any]
) -> list[str]:
  """Returns the settings of a tower that are neither known nor at their defaults."""
  return [
    key
    for key, value in settings.items()
    if key not in (*known, *_TRAINING_KEYS) and not (key in defaults and value == defaults[key])
  ]


OPEN_CLIP = dataclasses.replace(
  OPENAI, name='open_clip', config_file='open_clip_config.json', read_config=_read_config
)
