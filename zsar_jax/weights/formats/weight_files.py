"""Opens what users have of weights: a file, a folder, a name on a hub, a run of this project.

What a file is, its content says, not its name. Nothing in it is executed.
"""

import dataclasses
import functools
import json
import pathlib
import types
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
from safetensors import SafetensorError, safe_open

from zsar_jax.errors import UserError, first_line
from zsar_jax.runtime.paths import local_path
from zsar_jax.weights import checkpoint, runs
from zsar_jax.weights.formats import hub, pickles, torch_files
from zsar_jax.weights.formats.pickles import PickledArray, PickledDtype
from zsar_jax.weights.formats.preprocessing import PREPROCESSOR, PROCESSOR
from zsar_jax.weights.formats.tensors import FLOATS, MOST_ARRAYS, Content, State, Tensor, shown

# What describes the model beside its weights: of Hugging Face, of open_clip, of this project.
CONFIGS = ('config.json', PREPROCESSOR, PROCESSOR, 'open_clip_config.json', 'spec.json')
# The longest, an index of shards, has a line for each array.
_MOST_JSON = 16 * 2**20
# A model's tree in Flax has fewer, a file's keys are shorter.
_MOST_ENTRIES = 100_000
_LONGEST_KEY = 300

# What a folder's weights may be called, the first that is there counts.
_WEIGHTS = (
  'model.safetensors.index.json',
  'model.safetensors',
  'open_clip_model.safetensors',
  'pytorch_model.bin.index.json',
  'pytorch_model.bin',
  'open_clip_pytorch_model.bin',
)

# What a folder of LoRA's has.
_ADAPTER = 'adapter_config.json'

# The extensions of msgpack that Flax writes.
_FLAX_ARRAY, _FLAX_SCALAR = 1, 3

# As a header names them; what else there is, such as float8, is no weight of CLIP.
_SAFETENSORS_TYPES = types.MappingProxyType(
  {
    'BF16': 'bfloat16',
    'BOOL': 'bool',
    'F16': 'float16',
    'F32': 'float32',
    'F64': 'float64',
    'I16': 'int16',
    'I32': 'int32',
    'I64': 'int64',
    'I8': 'int8',
    'U8': 'uint8',
  }
)


@dataclasses.dataclass(frozen=True)
class Source:
  """Weights that have been opened.

  Attributes:
    path: the file or folder, for errors.
    content: the arrays, as they are named there, and what else a file holds.
    configs: what reads the JSON objects beside them, by the names of `CONFIGS`; raises a
      `UserError` where it is none, which it may be where it describes something else.
    folder: where a tokenizer's files may lie.
  """

  path: pathlib.Path
  content: Content
  configs: dict[str, Callable[[], dict[str, Any]]]
  folder: pathlib.Path


def open_source(name: str, field: str) -> Source:
  """Opens weights; most of their numbers are not read yet.

  Args:
    name: a file, a folder, or 'hf://OWNER/NAME' with '@REVISION' behind it if need be.
    field: where `name` comes from, for errors.

  Raises:
    UserError: where there are no weights, or they are damaged or refused.
  """
  path = hub.fetch(name) if name.startswith(hub.PREFIX) else pathlib.Path(local_path(name, field))
  if not path.exists():
    raise UserError(f'{field}: {path} does not exist; name a file, a folder or {hub.PREFIX}NAME')
  if (path / checkpoint.FOLDER).is_dir():
    run = runs.read_run(path)
    state = {name: Tensor.of(array) for name, array in run.arrays.items()}
    content = Content(state, notes=run.notes)
    return Source(path, content, {'spec.json': lambda: run.spec}, run.folder)
  if path.is_file():
    return Source(path, read_file(path), _configs(path.parent), path.parent)
  weights = [path / name for name in _WEIGHTS if (path / name).is_file()]
  if not weights and (path / _ADAPTER).is_file():
    raise UserError(
      f'{path}: holds adapters (LoRA) without the model that they adapt; merge them into it first'
      ' (merge_and_unload of peft), and name the folder of the result'
    )
  if not weights:
    raise UserError(
      f'{field}: {path} holds none of {", ".join(_WEIGHTS)} and is no run of this project; name'
      ' the file of weights itself'
    )
  return Source(path, read_file(weights[0]), _configs(path), path)


def read_file(path: pathlib.Path) -> Content:
  """What a file holds, see the head of this file.

  Raises:
    UserError: for a file of no known kind, or a damaged one.
  """
  try:
    with path.open('rb') as file:
      start = file.read(16)
  except OSError as error:
    raise UserError(f'{path}: not readable ({error.strerror})') from None
  content = _reader(path, start)(path)
  if isinstance(content, dict):
    content = Content(content)
  _check_count(path, len(content.state))
  for key in content.state:
    _check_key(path, key)
  return content


def _check_count(path: pathlib.Path, count: int) -> None:
  """Refuses more arrays than a model has."""
  if count > MOST_ARRAYS:
    raise UserError(f'{path}: holds {count:,} arrays; name weights of CLIP')


def _check_key(path: pathlib.Path, key: str) -> None:
  """Refuses what is no name of an array."""
  if len(key) > _LONGEST_KEY or not key.isprintable():
    raise UserError(f'{path}: an array is called {shown(key)}; name weights of CLIP')


def _reader(path: pathlib.Path, start: bytes) -> Callable[[pathlib.Path], Content | State]:
  if path.name.endswith('.index.json'):
    return _read_shards
  if start.startswith(b'PK'):
    return torch_files.read_zip
  if start.startswith(b'\x93NUMPY'):
    return _read_numpy
  if start[8:9] == b'{':
    return _read_safetensors
  if start[:1] == b'\x80':
    return torch_files.read_legacy
  if start and start[0] in (*range(0x81, 0x90), 0xDE, 0xDF):  # A map that is not empty.
    return _read_msgpack
  raise UserError(
    f'{path}: neither safetensors, PyTorch, a pickled .npy nor Flax msgpack; is it whole?'
  )


def _configs(folder: pathlib.Path) -> dict[str, Callable[[], dict[str, Any]]]:
  return {
    name: functools.partial(read_json, folder / name)
    for name in CONFIGS
    if (folder / name).is_file()
  }


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """A JSON object.

  Raises:
    UserError: it is none.
  """
  try:
    if path.stat().st_size > _MOST_JSON:
      raise ValueError(f'more than {_MOST_JSON >> 20} MiB')
    value = json.loads(path.read_text(encoding='utf-8'))
  except (OSError, ValueError, RecursionError) as error:
    raise UserError(f'{path}: not readable as JSON ({error}); fetch it again') from None
  if not isinstance(value, dict):
    raise UserError(f'{path}: holds no JSON object; fetch it again')
  return value


def _read_safetensors(path: pathlib.Path) -> State:
  state = {}
  try:
    # It stays open for as long as its arrays are needed: the header is read once.
    file = safe_open(path, framework='np')
    keys = file.keys()
    _check_count(path, len(keys))
    for key in keys:
      _check_key(path, key)
      view = file.get_slice(key)
      kind = view.get_dtype()
      if kind not in _SAFETENSORS_TYPES:
        raise UserError(f'{path}: {key} is {kind}, which is no type of CLIP weights')
      dtype = np.dtype(_SAFETENSORS_TYPES[kind])
      state[key] = Tensor(tuple(view.get_shape()), dtype, lambda key=key: file.get_tensor(key))
  except (SafetensorError, OSError) as error:
    raise UserError(f'{path}: damaged ({error}); fetch it again') from None
  return state


def _read_shards(path: pathlib.Path) -> State:
  places = read_json(path).get('weight_map')
  if not isinstance(places, dict) or not places:
    raise UserError(f'{path}: has no weight_map; fetch it again')
  shards = {}
  for name in sorted(set(map(str, places.values()))):
    if pathlib.PurePath(name).name != name or '\\' in name or name == path.name:
      raise UserError(f'{path}: {name!r} is no file beside it, and was not opened')
    if name.endswith('.index.json'):
      raise UserError(f'{path}: its part {shown(name)} is an index too; fetch it again')
    if not (path.parent / name).is_file():
      raise UserError(f'{path}: its part {shown(name)} is missing; fetch it as well')
    shards[name] = read_file(path.parent / name).state
  for key, name in places.items():
    if key not in shards[str(name)]:
      raise UserError(f'{path.parent / str(name)}: lacks {shown(key)}; fetch it again')
  return {key: shards[str(name)][key] for key, name in places.items()}


def _read_numpy(path: pathlib.Path) -> State:
  """Scenic's CLIP files: a pickled dictionary of arrays in an array of one object."""
  with path.open('rb') as file:
    try:
      version = np.lib.format.read_magic(file)
      read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
      }[version]
      shape, _, dtype = read_header(file)
    except (ValueError, KeyError) as error:
      raise UserError(f'{path}: damaged ({error}); fetch it again') from None
    if shape != () or dtype != np.dtype(object):
      raise UserError(f'{path}: one array of numbers; name a file with a pickled state dict')
    saved, _ = pickles.load(file, path)
  content = saved.state[4] if _is_array(saved) else None
  if not (isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict)):
    raise UserError(f'{path}: holds no state dict; fetch it again')
  return {str(key): _pickled(path, str(key), value) for key, value in content[0].items()}


def _is_array(value: Any) -> bool:
  return (
    isinstance(value, PickledArray) and isinstance(value.state, tuple) and len(value.state) == 5
  )


def _pickled(path: pathlib.Path, key: str, value: Any) -> Tensor:
  """An array of numbers from its pickled state."""
  try:
    _, shape, dtype, fortran, data = value.state
    if not isinstance(dtype, PickledDtype) or not isinstance(data, bytes):
      raise TypeError
    if dtype.code not in ('f2', 'f4', 'f8', 'i4', 'i8') or dtype.order not in ('<', '='):
      raise TypeError
    array = np.frombuffer(data, dtype.code).reshape(shape, order='F' if fortran else 'C')
  except (AttributeError, OverflowError, TypeError, ValueError):
    raise UserError(f'{path}: {shown(key)} is no array of numbers; fetch it again') from None
  return Tensor.of(array)


def _read_msgpack(path: pathlib.Path) -> State:
  """Flax's trees of parameters."""
  try:
    # Texts, numbers, lists and dictionaries: msgpack knows nothing that runs. Flax's own reading of
    # arrays is not used, for it takes their bytes for addresses where they say they hold objects.
    tree = msgpack.unpackb(
      path.read_bytes(),
      ext_hook=_flax_array,
      object_pairs_hook=_limited(_MOST_ENTRIES),
      max_map_len=_MOST_ENTRIES,
      max_array_len=0,
    )
  except Exception as error:  # Of damaged files it raises almost anything.
    raise UserError(f'{path}: damaged ({first_line(error)}); fetch it again') from None
  state, waiting = {}, [('', tree.get('params', tree) if isinstance(tree, dict) else tree)]
  while waiting:
    prefix, value = waiting.pop()
    _check_key(path, prefix)
    if isinstance(value, dict):
      waiting += [(f'{prefix}/{key}' if prefix else str(key), part) for key, part in value.items()]
    elif isinstance(value, np.ndarray):
      state[prefix] = Tensor.of(value)
    else:
      raise UserError(f'{path}: {prefix or "the file"} is no array; name a tree of parameters')
  return state


def _limited(most: int) -> Callable[[list[tuple[Any, Any]]], dict[Any, Any]]:
  """What makes dictionaries of pairs, of which there are at most `most` in all."""
  left = most

  def make(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    nonlocal left
    left -= 1 + len(pairs)
    if left < 0:
      raise ValueError(f'more than {most:,} entries')
    return dict(pairs)

  return make


def _flax_array(code: int, data: bytes) -> np.ndarray:
  """An array, or a scalar, as `flax.serialization` writes it: shape, name of the type, bytes."""
  if code not in (_FLAX_ARRAY, _FLAX_SCALAR):
    raise ValueError(f'an extension of type {code}')
  shape, name, content = msgpack.unpackb(data)
  dtypes = {dtype.name: dtype for dtype in (*FLOATS, *map(np.dtype, ('int32', 'int64', 'uint32')))}
  if name not in dtypes:
    raise ValueError(f'an array of {str(name)[:30]}')
  return np.frombuffer(content, dtypes[name]).reshape(shape)
