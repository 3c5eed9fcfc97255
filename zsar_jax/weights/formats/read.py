"""Reads weights of any format under our parameter paths."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Container, Mapping
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.weights.formats import (
  preprocessor_config,
  recognition,
  weight_files,
  wrappers,
  zsar,
)
from zsar_jax.weights.formats.format import Format
from zsar_jax.weights.formats.hints import CONFIG, Hints
from zsar_jax.weights.formats.key_tables import Layout
from zsar_jax.weights.formats.lazy_arrays import LazyArray, StateDict
from zsar_jax.weights.formats.openai import FROSTER, OPEN_VCLIP, OPENAI
from zsar_jax.weights.formats.preprocessing import Preprocessing
from zsar_jax.weights.formats.zsar import ZSAR

TOKEN_EMBEDDING = 'text/token_embedding/embedding'


@dataclasses.dataclass(frozen=True)
class MappedArray:
  """An array of a file that belongs to one of our paths.

  Attributes:
    key: its key in the file.
    stored: the array in the file.
    layout: the layout of the stored array.
    path: the file or folder of the weights.
  """

  key: str
  stored: LazyArray
  layout: Layout
  path: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Weights:
  """Weights under our paths.

  Attributes:
    path: the file or folder, for errors.
    format: the format of the file.
    arrays: the arrays by our paths.
    unmapped: the arrays without a path of ours, by their keys in the file.
    tower_fields: the fields of `TowerSpec` that the format and the files beside the weights give.
    video_fields: the fields of `VideoSpec` that the file gives.
    lacks_description: whether neither the weights nor the files beside them give the activation
      and the number of heads.
    preset: the name of a preset that the user says the weights have; '' if the user names none.
    preprocessing: the preprocessing that the weights expect.
    config: the content of the JSON file that describes the model; empty if it is missing.
    folder: the folder that may contain a tokenizer's files.
    notes: sentences for the user.
    hints: the names of settings for errors.
  """

  path: pathlib.Path
  format: Format
  arrays: dict[str, MappedArray]
  unmapped: StateDict
  tower_fields: dict[str, Any]
  video_fields: dict[str, Any]
  lacks_description: bool
  preset: str
  preprocessing: Preprocessing
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
  preset: str = '',
) -> Weights:
  """Opens weights and recognizes their format; most values are read later.

  Args:
    name: see `weight_files.open_source`.
    field: the setting that contains `name`, for errors.
    format_name: the name of one of `recognition.FORMATS` or `FAMILIES`; 'auto' recognizes it.
    tokens_from: weights whose token embedding is used if these have none, in the form of `name`.
    hints: the names of settings for errors.
    preset: the name of a preset, see `Weights`.

  Raises:
    UserError: if the weights do not exist, are damaged, refused or of an unknown format.
  """
  source = weight_files.open_source(name, field)
  content, path = source.content, source.path
  state = wrappers.remove_wrapper_parts(path, content.state)
  if state and not any(math.prod(array.shape) for array in state.values()):
    raise UserError(
      f'{path}: its arrays are empty; if DeepSpeed (ZeRO-3) wrote it, the values are in other'
      ' files: join them with its zero_to_fp32.py first'
    )
  state, prefix_notes = recognition.remove_prefix(path, state, content.extras, format_name)
  fmt = recognition.recognize(path, state, content.extras, source.configs, format_name)
  video_fields = fmt.read_video(path, content.extras, state)
  arrays, unmapped = _map_arrays(path, fmt, state)
  notes = [*content.notes, *prefix_notes]
  if tokens_from:
    if TOKEN_EMBEDDING in arrays:
      notes.append(f'token embedding: its own; that of {tokens_from} is not used')
    else:
      arrays[TOKEN_EMBEDDING] = _read_token_embedding(tokens_from, hints)
      notes.append(f'token embedding: from {tokens_from}')
  notes += _attention_notes(fmt, video_fields)
  config = source.configs.get(fmt.config_file, dict)()
  tower_fields, preprocessing = _read_configs(source, fmt, config, arrays)
  shapes = {our_path: array.stored.shape for our_path, array in arrays.items()}
  preprocessing = dataclasses.replace(preprocessing, **fmt.preprocessing_from_shapes(shapes))
  lacks_config = bool(fmt.config_file) and not config and fmt is not ZSAR
  return Weights(
    path=path,
    format=fmt,
    arrays=arrays,
    unmapped=unmapped,
    tower_fields=tower_fields,
    video_fields=video_fields,
    # OpenAI's archives contain their sizes, which are unmapped; a bare state dict does not.
    lacks_description='architecture' not in tower_fields
    and (lacks_config or fmt is OPENAI and not unmapped),
    preset=preset,
    preprocessing=preprocessing,
    config=config,
    folder=source.folder,
    notes=tuple(notes),
    hints=hints,
  )


def _map_arrays(
  path: pathlib.Path, fmt: Format, state: StateDict
) -> tuple[dict[str, MappedArray], StateDict]:
  """Returns the mapped arrays by our paths, and the unmapped arrays by their keys."""
  arrays, unmapped = {}, {}
  for key, array in fmt.prepare(state).items():
    if match := fmt.table.to_ours(key):
      our_path, layout = match
      arrays[our_path] = MappedArray(key, array, layout, path)
    else:
      unmapped[key] = array
  return arrays, unmapped


def _read_token_embedding(name: str, hints: Hints) -> MappedArray:
  """Returns the token embedding of other weights."""
  weights = read_weights(name, hints.tokens_from, hints=hints)
  if TOKEN_EMBEDDING not in weights.arrays:
    raise UserError(
      f'{hints.tokens_from}: {weights.path} has no token embedding; name a CLIP model'
    )
  return weights.arrays[TOKEN_EMBEDDING]


def _attention_notes(fmt: Format, video_fields: Mapping[str, Any]) -> list[str]:
  """Returns a note on whether frames attend to their neighbors, for Open-VCLIP and FROSTER."""
  if fmt in (OPEN_VCLIP, FROSTER) and 'temporal' in video_fields:
    attend = 'attend' if video_fields['temporal'] == 'window' else 'do not attend'
    return [f'according to the settings in the file, frames {attend} to their neighbors']
  if fmt is OPEN_VCLIP:
    return [
      'read as Open-VCLIP, whose frames attend to their neighbors; convert a plain CLIP with these'
      ' keys with zsar convert --from=openai'
    ]
  return []


def _read_configs(
  source: weight_files.Source, fmt: Format, config: dict[str, Any], paths: Container[str]
) -> tuple[dict[str, Any], Preprocessing]:
  """Reads the fields of `TowerSpec` and the preprocessing from the files beside the weights."""
  folder = source.path if source.path.is_dir() else source.path.parent
  path = folder / fmt.config_file
  tower_fields = {'normalization': fmt.normalization, **fmt.tower_fields, **fmt.read_tower(paths)}
  preprocessing = fmt.preprocessing
  try:
    if config:
      tower_fields |= fmt.read_config(path, config)
    if fmt is ZSAR:
      return tower_fields, zsar.from_json(path, config)[2] if config else preprocessing
    if fmt.config_file == 'config.json':
      path, settings = _image_processor(folder, source.configs)
      settings = settings and {**fmt.processor_defaults, **settings}
      read_settings = preprocessor_config.from_transformers
    else:
      # Only open_clip's file has settings of the preprocessing.
      settings = config.get('preprocess_cfg')
      read_settings = preprocessor_config.from_open_clip
    if settings is not None:
      tower_fields['normalization'], fields = read_settings(path, settings)
      preprocessing = dataclasses.replace(preprocessing, **fields)
    return tower_fields, preprocessing
  except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
    raise UserError(
      f'{path}: does not describe a model of {fmt.name} ({error!r}); fetch it again'
    ) from None


def _image_processor(
  folder: pathlib.Path, configs: Mapping[str, Callable[[], dict[str, Any]]]
) -> tuple[pathlib.Path, dict[str, Any] | None]:
  """Returns the settings of transformers' image processor, and the file that contains them.

  If both files contain settings, those of the newer file are used, as in transformers.
  """
  name = preprocessor_config.PROCESSOR
  settings = configs[name]().get('image_processor') if name in configs else None
  if settings is None and preprocessor_config.PREPROCESSOR in configs:
    name = preprocessor_config.PREPROCESSOR
    settings = configs[name]()
  return folder / name, settings
