"""Weights under our paths: what `files` opened, recognised and renamed."""

import dataclasses
import pathlib
import re
from collections.abc import Container
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.interop import files, hugging_face, zsar
from zsar_jax.interop.actionclip import ACTIONCLIP
from zsar_jax.interop.hugging_face import HF_CLIP, HF_XCLIP
from zsar_jax.interop.open_clip import OPEN_CLIP
from zsar_jax.interop.openai import FROSTER, OPEN_VCLIP, OPENAI
from zsar_jax.interop.scenic import SCENIC
from zsar_jax.interop.tables import Format, Layout
from zsar_jax.interop.tensors import State, Tensor
from zsar_jax.interop.usage import Usage
from zsar_jax.interop.vifi_clip import VIFI_CLIP
from zsar_jax.interop.xclip import XCLIP
from zsar_jax.interop.zsar import ZSAR

# The order in which they are recognised: what holds more markers comes first.
FORMATS = (
  FROSTER,
  OPEN_VCLIP,
  VIFI_CLIP,
  XCLIP,
  ACTIONCLIP,
  OPEN_CLIP,
  OPENAI,
  HF_XCLIP,
  HF_CLIP,
  SCENIC,
  ZSAR,
)

TOKENS = 'text/token_embedding/embedding'

# What models that look like CLIP have and CLIP has not.
_OTHERS = (
  (r'visual\.(layer1|attnpool)\..*', 'a CLIP whose image tower is a ResNet'),
  (r'logit_bias|vision_model\.head\..*', 'SigLIP'),
  (r'text_decoder\..*|visual\.attn_pool\..*', 'CoCa'),
  (r'visual\.trunk\..*', 'an open_clip model with an image tower of timm'),
  (r'text\.transformer\..*', 'an open_clip model with a text tower of its own'),
)


@dataclasses.dataclass(frozen=True)
class Array:
  """An array of a file that we have a path for.

  Attributes:
    key: its name in the file.
    tensor: the array.
    layout: how it is laid out there.
    path: the file or folder.
  """

  key: str
  tensor: Tensor
  layout: Layout
  path: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Weights:
  """Weights under our paths.

  Attributes:
    path: the file or folder, for errors.
    format: what it was taken for.
    arrays: by our paths.
    others: the keys that the format has no path for.
    described: the fields of `ClipSpec` that the format and files beside the weights tell.
    usage: how it is used.
    config: what that file holds; empty where there is none.
    folder: where a tokenizer's files may lie.
    notes: what a user should know.
  """

  path: pathlib.Path
  format: Format
  arrays: dict[str, Array]
  others: tuple[str, ...]
  described: dict[str, Any]
  usage: Usage
  config: dict[str, Any]
  folder: pathlib.Path
  notes: tuple[str, ...]


def read_weights(
  name: str, field: str, format_name: str = 'auto', tokens_from: str = ''
) -> Weights:
  """Opens and recognises weights; most of their numbers are not read yet.

  Args:
    name: see `files.open_source`.
    field: where `name` comes from, for errors.
    format_name: one of `FORMATS`; 'auto' recognises it.
    tokens_from: as `name`: weights whose token embedding is taken where these have none.

  Raises:
    UserError: where there are none, or they are damaged, refused or of no known format.
  """
  source = files.open_source(name, field)
  state = _without_prefix(source.state)
  if format_name == OPENAI.name:
    # As PyTorch Lightning names a module's parts, and as Open-VCLIP does.
    state = {key.removeprefix('model.'): tensor for key, tensor in state.items()}
  form = recognise(source.path, state, source.configs, format_name)
  arrays, others = {}, []
  for key, tensor in form.prepare(state).items():
    found = form.table.to_ours(key)
    if found:
      arrays[found[0]] = Array(key, tensor, found[1], source.path)
    else:
      others.append(key)
  notes = list(source.notes)
  if tokens_from and TOKENS not in arrays:
    arrays[TOKENS] = _tokens(tokens_from)
    notes.append(f'token embedding: from {tokens_from}')
  elif tokens_from:
    notes.append(f'token embedding: its own, and not that of {tokens_from}')
  if form is OPEN_VCLIP:
    notes.append(
      'taken for Open-VCLIP, whose frames see each other; what is plain CLIP under these keys,'
      ' zsar convert --from=openai converts'
    )
  config = source.configs.get(form.config, dict)()
  described, usage = _described(source, form, config)
  silent = form.config and not config and form is not ZSAR
  if silent or form is OPENAI and not others:
    notes.append("nothing tells the activation: quick GELU is assumed, as in OpenAI's weights")
  return Weights(
    path=source.path,
    format=form,
    arrays=arrays,
    others=tuple(others),
    described=described,
    usage=usage,
    config=config,
    folder=source.folder,
    notes=tuple(notes),
  )


def _described(
  source: files.Source, form: Format, config: dict[str, Any]
) -> tuple[dict[str, Any], Usage]:
  """The fields of `ClipSpec` that are told, and the usage."""
  folder = source.path if source.path.is_dir() else source.path.parent
  path = folder / form.config
  told, usage = {'normalization': form.normalization}, form.usage
  try:
    if config:
      told |= form.described(path, config)
    if form is ZSAR:
      usage = zsar.from_json(path, config)[2] if config else usage
    elif hugging_face.PREPROCESSOR in source.configs and form in (HF_CLIP, HF_XCLIP):
      path = folder / hugging_face.PREPROCESSOR
      normalization, changes = hugging_face.preprocessing(path, source.configs[path.name]())
      told['normalization'] = normalization
      usage = dataclasses.replace(usage, **changes)
    return told, usage
  except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
    raise UserError(
      f'{path}: describes no model of {form.name} ({error!r}); fetch it again'
    ) from None


def recognise(
  path: pathlib.Path, state: State, configs: Container[str], name: str = 'auto'
) -> Format:
  """The format of weights.

  Args:
    path: for errors.
    state: the arrays.
    configs: which of `files.CONFIGS` lie beside them.
    name: a format that the user names, or 'auto'.

  Raises:
    UserError: they are of no known format, or not of the one that is named.
  """
  for pattern, what in _OTHERS:
    if any(re.fullmatch(pattern, key) for key in state):
      raise UserError(f'{path}: {what}; only CLIP with vision transformers is read')
  fitting = [form for form in FORMATS if all(marker in state for marker in form.markers)]
  if name != 'auto':
    if not any(form.name == name for form in fitting):
      found = fitting[0].name if fitting else 'none that is known'
      raise UserError(f'{path}: its keys are not those of {name}; the format is {found}')
    return next(form for form in fitting if form.name == name)
  # By its keys, open_clip's is OpenAI's.
  fitting = [form for form in fitting if form is not OPEN_CLIP or OPEN_CLIP.config in configs]
  if not fitting:
    example = min(state, default='none at all')
    raise UserError(
      f'{path}: of no known format ({len(state)} arrays, such as {example!r}); the formats are'
      f' {", ".join(form.name for form in FORMATS)}'
    )
  return fitting[0]


def _without_prefix(state: State) -> State:
  """The arrays as they are called before training on several devices renames them."""
  return {re.sub(r'^(\w+_state_dict\.)?module\.', r'\1', key): state[key] for key in state}


def _tokens(name: str) -> Array:
  weights = read_weights(name, 'tokens_from')
  if TOKENS not in weights.arrays:
    raise UserError(f'tokens_from: {weights.path} has no token embedding; name a CLIP model')
  return weights.arrays[TOKENS]
