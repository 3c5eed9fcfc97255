"""Recognizes the format of weights by their keys."""

import pathlib
import re
from collections.abc import Container, Mapping, Sequence
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.runtime.wording import pluralize
from zsar_jax.weights.formats import actionclip, wrappers
from zsar_jax.weights.formats.actionclip import ACTIONCLIP, MMACTION2
from zsar_jax.weights.formats.big_vision import BIG_VISION_SIGLIP
from zsar_jax.weights.formats.format import Format
from zsar_jax.weights.formats.hugging_face import HF_CLIP, HF_XCLIP
from zsar_jax.weights.formats.lazy_arrays import StateDict
from zsar_jax.weights.formats.open_clip import OPEN_CLIP
from zsar_jax.weights.formats.openai import FROSTER, OPEN_VCLIP, OPENAI
from zsar_jax.weights.formats.perception_encoder import PE_CORE
from zsar_jax.weights.formats.scenic import SCENIC
from zsar_jax.weights.formats.siglip import HF_SIGLIP
from zsar_jax.weights.formats.siglip_open_clip import OPEN_CLIP_SIGLIP
from zsar_jax.weights.formats.timm_towers import OPEN_CLIP_EVA02, OPEN_CLIP_PE_CORE
from zsar_jax.weights.formats.viclip import VICLIP
from zsar_jax.weights.formats.videoprism_files import HF_VIDEOPRISM, VIDEOPRISM
from zsar_jax.weights.formats.vifi_clip import VIFI_CLIP
from zsar_jax.weights.formats.xclip import XCLIP
from zsar_jax.weights.formats.zsar import ZSAR

# All formats. If several match, the first is chosen, so formats with more markers come first.
FORMATS = (
  FROSTER,
  OPEN_VCLIP,
  VIFI_CLIP,
  XCLIP,
  ACTIONCLIP,
  MMACTION2,
  PE_CORE,
  OPEN_CLIP,
  OPENAI,
  HF_XCLIP,
  HF_CLIP,
  VICLIP,
  VIDEOPRISM,
  HF_VIDEOPRISM,
  HF_SIGLIP,
  OPEN_CLIP_SIGLIP,
  BIG_VISION_SIGLIP,
  OPEN_CLIP_PE_CORE,
  OPEN_CLIP_EVA02,
  SCENIC,
  ZSAR,
)
# Names that stand for several formats.
FAMILIES = {'hf': (HF_XCLIP, HF_CLIP, HF_SIGLIP, HF_VIDEOPRISM)}

# An extra in files of PyTorch Lightning.
_LIGHTNING = 'pytorch-lightning_version'

_CLIP_REMEDY = 'use a CLIP with vision transformers'
_HEAD_REMEDY = (
  'use weights with the mean or the transformer over frames (meanP, Transf), the only heads that'
  ' zsar_jax supports'
)
# Keys of models that resemble CLIP but are not supported: (regex, name of the model, remedy).
_UNSUPPORTED = (
  (r'visual\.(layer1|attnpool)\..*', 'a CLIP whose image tower is a ResNet', _CLIP_REMEDY),
  (r'logit_bias', 'a CLIP that was trained with the sigmoid loss', _CLIP_REMEDY),
  (r'text_decoder\..*|visual\.attn_pool\.(query|ln_[qk]\..*)', 'CoCa', _CLIP_REMEDY),
  (
    r'visual\.trunk\.blocks\.\d+\.attn\.q_bias',
    'an EVA-CLIP of EVA01 or E/14, whose blocks differ from those of the other sizes',
    'use an EVA02-CLIP of size B/16 or L/14',
  ),
  (
    r'(visual\.)?transformer\.resblocks\.\d+\.ls_[12]\.gamma',
    'a PE-Lang or PE-Spatial, image towers without a text tower',
    'use a PE-Core',
  ),
  (
    r'blocks\.\d+\.attn\.(qkv|q_proj)\.weight',
    'an image tower of timm without a text tower',
    'use a model of images and texts',
  ),
  (
    r'params/patch_projection/.*|(vision_model\.)?spatial_embeddings\..*',
    'a VideoPrism without a text tower',
    'use a VideoPrism-LvT',
  ),
  (r'visual\.trunk\..*', 'an open_clip model with an image tower of timm', _CLIP_REMEDY),
  (
    r'(.*\.)?lora_.*',
    'adapters (LoRA), with or without the weights that they adapt',
    'merge them first (merge_and_unload of peft) and save the result',
  ),
  (rf'{actionclip.HEAD}\.lstm_visual\..*', 'ActionCLIP with an LSTM over frames', _HEAD_REMEDY),
  (rf'{actionclip.HEAD}\.shift\..*', 'ActionCLIP with Conv_1D over frames', _HEAD_REMEDY),
  (
    rf'{actionclip.HEAD}\.transformer\.(cls_token|pos_embed|transformer_enc\..*)',
    'ActionCLIP with Transf_cls over frames',
    _HEAD_REMEDY,
  ),
  (r'visual\.transformer\.resblocks\.\d+\.net\..*', 'ActionCLIP with TSM', _HEAD_REMEDY),
  (r'visual\.time_embedding', 'ActionCLIP with joint attention', _HEAD_REMEDY),
)
# Regexes of the keys of each tower.
_TOWERS = (
  (
    'image',
    r'(.*\.)?(visual|image_encoder|vision_model|vision_encoder|video_model)[./].*'
    r'|class_embedding|embeddings\.patch_embedding\..*',
  ),
  (
    'text',
    r'(.*\.)?(text_encoder|text_model|token_embedding)\..*|(model\.)?text_projection|text/.*',
  ),
)


def remove_prefix(
  path: pathlib.Path, state: StateDict, extras: Mapping[str, Any], format_name: str
) -> tuple[StateDict, tuple[str, ...]]:
  """Removes the prefix of the model, unless the keys match a format already.

  Args:
    path: the file, for errors.
    state: the arrays.
    extras: the other objects in the file.
    format_name: a format or family, or 'auto'.

  Returns:
    The arrays, and notes for the user; see `wrappers.remove_prefix`.
  """
  candidates = _candidates(format_name, extras)
  if any(_matches(fmt, state, extras) for fmt in candidates):
    return state, ()
  # Open-VCLIP and FROSTER are OpenAI's CLIP with a certain prefix. With another prefix the model
  # is OpenAI's CLIP, so their markers are used only if the user names one of them.
  anchors = {
    fmt.markers[0] for fmt in candidates if len(candidates) == 1 or fmt.temporal != 'window'
  }
  return wrappers.remove_prefix(path, state, anchors)


def recognize(
  path: pathlib.Path,
  state: StateDict,
  extras: Mapping[str, Any],
  configs: Container[str],
  format_name: str = 'auto',
) -> Format:
  """Returns the format of weights.

  Args:
    path: the file, for errors.
    state: the arrays.
    extras: the other objects in the file.
    configs: the names in `weight_files.CONFIGS` of the files beside it.
    format_name: a format or family, or 'auto'.

  Raises:
    UserError: if the format is unknown, unsupported or not the named one.
  """
  matches = [fmt for fmt in _candidates('auto', extras) if _matches(fmt, state, extras)]
  # The markers of other families, and of this project, tell them from models that resemble CLIP.
  if all(fmt is not ZSAR and 'architecture' not in fmt.tower_fields for fmt in matches):
    for pattern, model, remedy in _UNSUPPORTED:
      if any(re.fullmatch(pattern, key) for key in state):
        raise UserError(f'{path}: {model}, which zsar_jax does not support; {remedy}')
  if format_name != 'auto':
    for fmt in _candidates(format_name, extras):
      if _matches(fmt, state, extras):
        return fmt
    actual = f'the format is {matches[0].name}' if matches else 'the format is unknown'
    raise UserError(f'{path}: its keys are not those of {format_name}; {actual}')
  towers = [tower for tower, keys in _TOWERS if any(re.fullmatch(keys, key) for key in state)]
  if len(towers) == 1:
    raise UserError(
      f'{path}: holds only the {towers[0]} tower of a CLIP model; name the complete model'
    )
  # The keys of open_clip are those of OpenAI; its config tells them apart.
  matches = [fmt for fmt in matches if fmt is not OPEN_CLIP or fmt.config_file in configs]
  if not matches:
    example = f', such as {min(state)!r}' if state else ''
    raise UserError(
      f'{path}: of an unknown format ({pluralize(len(state), "array")}{example}); the formats are'
      f' {", ".join(fmt.name for fmt in FORMATS)}'
    )
  return matches[0]


def _candidates(format_name: str, extras: Mapping[str, Any]) -> Sequence[Format]:
  """Returns the formats that a name stands for; for 'auto', all formats that are possible."""
  if format_name == 'auto':
    # Lightning often prefixes keys with 'model.' like Open-VCLIP, which is not trained with it.
    excluded = (OPEN_VCLIP, FROSTER) if _LIGHTNING in extras else ()
    return [fmt for fmt in FORMATS if fmt not in excluded]
  return FAMILIES.get(format_name) or [fmt for fmt in FORMATS if fmt.name == format_name]


def _matches(fmt: Format, state: StateDict, extras: Mapping[str, Any]) -> bool:
  return all(marker in state or marker in extras for marker in fmt.markers)
