"""Weights under our paths: what `files` opened, recognized and renamed."""

import dataclasses
import math
import pathlib
import re
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.runtime.wording import pluralize
from zsar_jax.weights.formats import actionclip, preprocessing, weight_files, wrappers, zsar
from zsar_jax.weights.formats.actionclip import ACTIONCLIP, MMACTION2
from zsar_jax.weights.formats.hints import CONFIG, Hints
from zsar_jax.weights.formats.hugging_face import HF_CLIP, HF_XCLIP
from zsar_jax.weights.formats.key_tables import Format, Layout
from zsar_jax.weights.formats.open_clip import OPEN_CLIP
from zsar_jax.weights.formats.openai import FROSTER, OPEN_VCLIP, OPENAI
from zsar_jax.weights.formats.scenic import SCENIC
from zsar_jax.weights.formats.tensors import State, Tensor
from zsar_jax.weights.formats.usage import Usage
from zsar_jax.weights.formats.vifi_clip import VIFI_CLIP
from zsar_jax.weights.formats.xclip import XCLIP
from zsar_jax.weights.formats.zsar import ZSAR

# The order in which they are recognized: what holds more markers comes first.
FORMATS = (
  FROSTER,
  OPEN_VCLIP,
  VIFI_CLIP,
  XCLIP,
  ACTIONCLIP,
  MMACTION2,
  OPEN_CLIP,
  OPENAI,
  HF_XCLIP,
  HF_CLIP,
  SCENIC,
  ZSAR,
)

# Names of several formats, of which the keys decide.
FAMILIES = {'hf': (HF_XCLIP, HF_CLIP)}

TOKENS = 'text/token_embedding/embedding'

# What PyTorch Lightning saves with weights.
_LIGHTNING = 'pytorch-lightning_version'

_ONLY_CLIP = 'only CLIP with vision transformers is read'
_ONLY_HEADS = 'of its heads only the mean and the transformer (meanP, Transf) are read'
# What models that look like CLIP have and CLIP has not.
_OTHERS = (
  (r'visual\.(layer1|attnpool)\..*', 'a CLIP whose image tower is a ResNet', _ONLY_CLIP),
  (r'logit_bias|vision_model\.head\..*', 'SigLIP', _ONLY_CLIP),
  (r'text_decoder\..*|visual\.attn_pool\..*', 'CoCa', _ONLY_CLIP),
  (r'visual\.trunk\..*', 'an open_clip model with an image tower of timm', _ONLY_CLIP),
  (r'text\.transformer\..*', 'an open_clip model with a text tower of its own', _ONLY_CLIP),
  (
    r'(.*\.)?lora_.*',
    'adapters (LoRA) beside the weights that they adapt, or without them',
    'merge them first (merge_and_unload of peft) and save the result',
  ),
  (rf'{actionclip.HEAD}\.lstm_visual\..*', 'ActionCLIP with an LSTM over frames', _ONLY_HEADS),
  (rf'{actionclip.HEAD}\.shift\..*', 'ActionCLIP with Conv_1D over frames', _ONLY_HEADS),
  (
    rf'{actionclip.HEAD}\.transformer\.(cls_token|pos_embed|transformer_enc\..*)',
    'ActionCLIP with Transf_cls over frames',
    _ONLY_HEADS,
  ),
  (r'visual\.transformer\.resblocks\.\d+\.net\..*', 'ActionCLIP with TSM', _ONLY_HEADS),
  (r'visual\.time_embedding', 'ActionCLIP with joint attention', _ONLY_HEADS),
)
# Keys of image towers, and of text towers.
_TOWERS = (
  (
    'image',
    r'(.*\.)?(visual|image_encoder|vision_model)[./].*|class_embedding|embeddings\.patch_embedding\..*',
  ),
  (
    'text',
    r'(.*\.)?(text_encoder|text_model|token_embedding)\..*|(model\.)?text_projection|text/.*',
  ),
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
    others: what the format has no path for, by its keys.
    described: the fields of `ClipSpec` that the format and files beside the weights tell.
    video: the fields of `VideoSpec` that the file tells.
    silent: whether nothing tells the activation and the heads.
    usage: how it is used.
    config: what that file holds; empty where there is none.
    folder: where a tokenizer's files may lie.
    notes: what a user should know.
    hints: what settings are called where the user sets them.
  """

  path: pathlib.Path
  format: Format
  arrays: dict[str, Array]
  others: State
  described: dict[str, Any]
  video: dict[str, Any]
  silent: bool
  usage: Usage
  config: dict[str, Any]
  folder: pathlib.Path
  notes: tuple[str, ...]
  hints: Hints


def read_weights(
  name: str,
  field: str,
  format_name: str = 'auto',
  tokens_from: str = '',
  hints: Hints = CONFIG,
) -> Weights:
  """Opens and recognizes weights; most of their numbers are not read yet.

  Args:
    name: see `files.open_source`.
    field: where `name` comes from, for errors.
    format_name: one of `FORMATS` or `FAMILIES`; 'auto' recognizes it.
    tokens_from: as `name`: weights whose token embedding is taken where these have none.
    hints: what settings are called where the user sets them, for errors.

  Raises:
    UserError: where there are none, or they are damaged, refused or of no known format.
  """
  source = weight_files.open_source(name, field)
  content, path = source.content, source.path
  state = wrappers.without_parts(path, content.state)
  if state and not any(math.prod(tensor.shape) for tensor in state.values()):
    raise UserError(
      f'{path}: its arrays are empty, as where DeepSpeed (ZeRO-3) keeps the numbers in other files;'
      ' join them with its zero_to_fp32.py first'
    )
  candidates = _candidates(format_name, content.beside)
  state, notes = _without_prefix(path, state, content.beside, candidates)
  form = recognize(path, state, content.beside, source.configs, format_name)
  video = form.video(path, content.beside, state)
  arrays, others = {}, {}
  for key, tensor in form.prepare(state).items():
    found = form.table.to_ours(key)
    if found:
      arrays[found[0]] = Array(key, tensor, found[1], path)
    else:
      others[key] = tensor
  notes = [*content.notes, *notes]
  if tokens_from and TOKENS not in arrays:
    arrays[TOKENS] = _tokens(tokens_from, hints)
    notes.append(f'token embedding: from {tokens_from}')
  elif tokens_from:
    notes.append(f'token embedding: its own, and not that of {tokens_from}')
  if 'temporal' in video and form in (OPEN_VCLIP, FROSTER):
    sees = 'see each other' if video['temporal'] == 'window' else 'do not see each other'
    notes.append(f'its own settings say that frames {sees}')
  elif form is OPEN_VCLIP:
    notes.append(
      'taken for Open-VCLIP, whose frames see each other; what is plain CLIP under these keys,'
      ' zsar convert --from=openai converts'
    )
  config = source.configs.get(form.config, dict)()
  described, usage = _described(source, form, config)
  shapes = {path: array.tensor.shape for path, array in arrays.items()}
  usage = dataclasses.replace(usage, **form.usage_of_arrays(shapes))
  silent = bool(form.config) and not config and form is not ZSAR
  return Weights(
    path=path,
    format=form,
    arrays=arrays,
    others=others,
    described=described,
    video=video,
    silent=silent or form is OPENAI and not others,
    usage=usage,
    config=config,
    folder=source.folder,
    notes=tuple(notes),
    hints=hints,
  )


def _described(
  source: weight_files.Source, form: Format, config: dict[str, Any]
) -> tuple[dict[str, Any], Usage]:
  """The fields of `ClipSpec` that are told, and the usage."""
  folder = source.path if source.path.is_dir() else source.path.parent
  path = folder / form.config
  told, usage = {'normalization': form.normalization}, form.usage
  try:
    if config:
      told |= form.described(path, config)
    if form is ZSAR:
      return told, zsar.from_json(path, config)[2] if config else usage
    if form in (HF_CLIP, HF_XCLIP):
      path, settings = _image_processor(folder, source.configs)
      read = preprocessing.from_transformers
    else:
      # Formats of other programs have no such settings.
      settings = config.get('preprocess_cfg') if form is OPEN_CLIP else None
      read = preprocessing.from_open_clip
    if settings is not None:
      told['normalization'], changes = read(path, settings)
      usage = dataclasses.replace(usage, **changes)
    return told, usage
  except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
    raise UserError(
      f'{path}: describes no model of {form.name} ({error!r}); fetch it again'
    ) from None


def _image_processor(
  folder: pathlib.Path, configs: dict[str, Callable[[], dict[str, Any]]]
) -> tuple[pathlib.Path, dict[str, Any] | None]:
  """The file with the settings of a folder's image processor, and these.

  Where both files have them, that of the newer transformers counts, as it does there.
  """
  name = preprocessing.PROCESSOR
  settings = configs[name]().get('image_processor') if name in configs else None
  if settings is None and preprocessing.PREPROCESSOR in configs:
    name = preprocessing.PREPROCESSOR
    settings = configs[name]()
  return folder / name, settings


def _candidates(name: str, beside: Mapping[str, Any]) -> Sequence[Format]:
  """The formats that a name on the command line stands for; of 'auto' all that the file may be."""
  if name == 'auto':
    # Lightning's name for a model is often that of Open-VCLIP, which PySlowFast trains.
    other = (OPEN_VCLIP, FROSTER) if _LIGHTNING in beside else ()
    return [form for form in FORMATS if form not in other]
  return FAMILIES.get(name) or [form for form in FORMATS if form.name == name]


def _fits(form: Format, state: State, beside: Mapping[str, Any]) -> bool:
  return all(marker in state or marker in beside for marker in form.markers)


def _without_prefix(
  path: pathlib.Path, state: State, beside: Mapping[str, Any], candidates: Sequence[Format]
) -> tuple[State, tuple[str, ...]]:
  """The arrays as a model's own code calls them; see `wrappers.without_prefix`."""
  if any(_fits(form, state, beside) for form in candidates):
    return state, ()
  # Open-VCLIP and FROSTER are OpenAI's CLIP with a prefix: under another one it is only that.
  anchors = {
    form.markers[0] for form in candidates if len(candidates) == 1 or form.temporal != 'window'
  }
  return wrappers.without_prefix(path, state, anchors)


def recognize(
  path: pathlib.Path,
  state: State,
  beside: Mapping[str, Any],
  configs: Container[str],
  name: str = 'auto',
) -> Format:
  """The format of weights.

  Args:
    path: for errors.
    state: the arrays.
    beside: what else the file holds.
    configs: which of `files.CONFIGS` lie beside it.
    name: a format or family that the user names, or 'auto'.

  Raises:
    UserError: they are of no known format, or not of the one that is named.
  """
  for pattern, what, remedy in _OTHERS:
    if any(re.fullmatch(pattern, key) for key in state):
      raise UserError(f'{path}: {what}; {remedy}')
  fitting = [form for form in _candidates('auto', beside) if _fits(form, state, beside)]
  if name != 'auto':
    named = [form for form in _candidates(name, beside) if _fits(form, state, beside)]
    if not named:
      is_one = f'the format is {fitting[0].name}' if fitting else 'the format is none that is known'
      raise UserError(f'{path}: its keys are not those of {name}; {is_one}')
    return named[0]
  towers = [tower for tower, keys in _TOWERS if any(re.fullmatch(keys, key) for key in state)]
  if len(towers) == 1:
    raise UserError(
      f'{path}: holds the {towers[0]} tower of a CLIP model alone; name the model that it is a part'
      ' of'
    )
  # By its keys, open_clip's is OpenAI's.
  fitting = [form for form in fitting if form is not OPEN_CLIP or OPEN_CLIP.config in configs]
  if not fitting:
    example = min(state, default='none at all')
    raise UserError(
      f'{path}: of no known format ({pluralize(len(state), "array")}, such as {example!r}); the'
      f' formats are {", ".join(form.name for form in FORMATS)}'
    )
  return fitting[0]


def _tokens(name: str, hints: Hints) -> Array:
  weights = read_weights(name, hints.tokens_from, hints=hints)
  if TOKENS not in weights.arrays:
    raise UserError(
      f'{hints.tokens_from}: {weights.path} has no token embedding; name a CLIP model'
    )
  return weights.arrays[TOKENS]
