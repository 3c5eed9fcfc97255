"""Opens weights: a file, a folder, a name on a hub, or a run of this project.

The kind of a file is recognized by its content, not by its name. Nothing in a file is executed.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Collection
from typing import Any

from zsar_jax.errors import UserError, error_reason
from zsar_jax.storage import buckets, local_copies, web_files
from zsar_jax.storage.paths import as_path
from zsar_jax.text.tokenizers import FILES as TOKENIZER_FILES
from zsar_jax.weights import checkpoint, runs
from zsar_jax.weights.formats import hub, torch_files
from zsar_jax.weights.formats.lazy_arrays import (
  Content,
  LazyArray,
  StateDict,
  check_count,
  check_key,
  printable,
)
from zsar_jax.weights.formats.msgpack_files import read_msgpack
from zsar_jax.weights.formats.npz_files import is_npz, read_npz
from zsar_jax.weights.formats.numpy_files import read_numpy
from zsar_jax.weights.formats.preprocessor_config import PREPROCESSOR, PROCESSOR
from zsar_jax.weights.formats.safetensors_files import read_safetensors

# Files that describe a model beside its weights: of Hugging Face, open_clip and this project.
CONFIGS = ('config.json', PREPROCESSOR, PROCESSOR, 'open_clip_config.json', 'spec.json')
# The longest JSON file. An index of shards has a line for each array.
_MAX_JSON_BYTES = 16 * 2**20

# File names of weights in a folder, in order of preference.
_WEIGHTS = (
  'model.safetensors.index.json',
  'model.safetensors',
  'open_clip_model.safetensors',
  'pytorch_model.bin.index.json',
  'pytorch_model.bin',
  'open_clip_pytorch_model.bin',
)
# The description of LoRA adapters in a folder.
_ADAPTER = 'adapter_config.json'
# The small files that are read beside weights; README.md states their license.
_DESCRIPTIONS = (*CONFIGS, _ADAPTER, *TOKENIZER_FILES, 'README.md')


@dataclasses.dataclass(frozen=True)
class Source:
  """Opened weights.

  Attributes:
    path: the file or folder that the user named, for errors.
    content: the arrays under their keys in the file, and the other content of the file.
    configs: for each existing file of `CONFIGS`, a function that reads its JSON object. It raises a
      `UserError` for invalid JSON. (The file may describe something else, and is read only if the
      format needs it.)
    folder: the folder that may contain a tokenizer's files.
  """

  path: pathlib.Path
  content: Content
  configs: dict[str, Callable[[], dict[str, Any]]]
  folder: pathlib.Path


def open_source(name: str, field: str) -> Source:
  """Opens weights; most values are read later.

  Args:
    name: a file, a folder or a run's workdir, on this machine or in a bucket; 'hf://OWNER/NAME' or
      'hf://OWNER/NAME@REVISION'.
    field: the setting that contains `name`, for errors.

  Raises:
    UserError: if the weights do not exist, are damaged or are refused.
  """
  path = hub.fetch(name) if name.startswith(hub.PREFIX) else as_path(name, field)
  with buckets.reporting_errors(path, field):
    if not web_files.exists(path):
      raise UserError(f'{field}: {path} does not exist; name a file, a folder or {hub.PREFIX}NAME')
    is_run = (path / checkpoint.FOLDER).is_dir()
  if is_run:
    run = runs.read_run(path)
    state = {name: LazyArray.of(array) for name, array in run.arrays.items()}
    content = Content(state, notes=run.notes)
    return Source(path, content, {'spec.json': lambda: run.spec}, run.folder)
  copy = local_copies.fetch(path, functools.partial(_needed_files, path.name))
  if copy.is_file():
    return Source(path, read_file(copy), _configs(copy.parent), copy.parent)
  weights = [copy / name for name in _WEIGHTS if (copy / name).is_file()]
  # VideoPrism's and PE-Core's files have the names of their models.
  named = [*copy.glob('*.npz'), *copy.glob('*.pt')]
  if not weights and len(named) == 1:
    weights = named
  if not weights and (copy / _ADAPTER).is_file():
    raise UserError(
      f'{path}: holds adapters (LoRA) without the model that they adapt; merge them into it first'
      ' (merge_and_unload of peft), and name the folder of the result'
    )
  if not weights:
    raise UserError(
      f'{field}: {path} holds none of {", ".join(_WEIGHTS)} and is not a run of this project; name'
      ' the file of weights itself'
    )
  return Source(path, read_file(weights[0]), _configs(copy), copy)


def _needed_files(name: str, names: Collection[str]) -> list[str]:
  """Returns which files of a folder, or beside a file of weights, are read.

  Args:
    name: the name of the folder, or of the file.
    names: those of the files in the folder, or of the file and those beside it.
  """
  weights = [known for known in (name, *_WEIGHTS) if known in names][:1]
  if not weights:
    weights = [known for known in names if known.endswith(('.npz', '.pt'))]
  if len(weights) > 1:
    weights = []  # `open_source` refuses several.
  for index in [known for known in weights if known.endswith('.index.json')]:
    suffix = pathlib.PurePath(index.removesuffix('.index.json')).suffix
    weights += [known for known in names if known.endswith(suffix) and known not in _WEIGHTS]
  return weights + [known for known in names if known in _DESCRIPTIONS]


def _configs(folder: pathlib.Path) -> dict[str, Callable[[], dict[str, Any]]]:
  return {
    name: functools.partial(read_json, folder / name)
    for name in CONFIGS
    if (folder / name).is_file()
  }


def read_file(path: pathlib.Path) -> Content:
  """Reads a file of weights; most values are read later.

  Raises:
    UserError: if the file is damaged or of an unknown kind.
  """
  try:
    with path.open('rb') as file:
      start = file.read(16)
  except OSError as error:
    raise UserError(f'{path}: not readable ({error_reason(error)})') from None
  content = _reader(path, start)(path)
  if isinstance(content, dict):
    content = Content(content)
  check_count(path, len(content.state))
  for key in content.state:
    check_key(path, key)
  return content


def _reader(path: pathlib.Path, start: bytes) -> Callable[[pathlib.Path], Content | StateDict]:
  """Returns the function that reads a file whose first 16 bytes are `start`."""
  if path.name.endswith('.index.json'):
    return _read_shards
  if start.startswith(b'PK'):
    return read_npz if is_npz(path) else torch_files.read_zip
  if start.startswith(b'\x93NUMPY'):
    return read_numpy
  if start[8:9] == b'{':
    return read_safetensors
  if start[:1] == b'\x80':
    return torch_files.read_legacy
  if start and start[0] in (*range(0x81, 0x90), 0xDE, 0xDF):  # A non-empty map.
    return read_msgpack
  raise UserError(
    f'{path}: neither safetensors, PyTorch, .npz, a pickled .npy nor Flax msgpack; name a file of'
    ' weights, or fetch it again if it is truncated'
  )


def _read_shards(path: pathlib.Path) -> StateDict:
  """Reads the shards that an index lists."""
  weight_map = read_json(path).get('weight_map')
  if not isinstance(weight_map, dict) or not weight_map:
    raise UserError(f'{path}: has no weight_map; fetch it again')
  shards = {}
  for name in sorted(set(map(str, weight_map.values()))):
    if pathlib.PurePath(name).name != name or '\\' in name or name == path.name:
      raise UserError(f'{path}: {name!r} is not a file in the same folder, and was not opened')
    if name.endswith('.index.json'):
      raise UserError(f'{path}: its part {printable(name)} is an index too; fetch it again')
    if not (path.parent / name).is_file():
      raise UserError(f'{path}: its part {printable(name)} is missing; fetch it as well')
    shards[name] = read_file(path.parent / name).state
  for key, name in weight_map.items():
    if key not in shards[str(name)]:
      raise UserError(f'{path.parent / str(name)}: lacks {printable(key)}; fetch it again')
  return {key: shards[str(name)][key] for key, name in weight_map.items()}


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """Reads a JSON object.

  Raises:
    UserError: if the file does not contain one.
  """
  try:
    if path.stat().st_size > _MAX_JSON_BYTES:
      raise ValueError(f'more than {_MAX_JSON_BYTES >> 20} MiB')
    value = json.loads(path.read_text(encoding='utf-8'))
  except (OSError, ValueError, RecursionError) as error:
    raise UserError(f'{path}: not readable as JSON ({error}); fetch it again') from None
  if not isinstance(value, dict):
    raise UserError(f'{path}: does not hold a JSON object; fetch it again')
  return value
