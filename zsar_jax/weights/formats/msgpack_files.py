"""Reads parameter trees that Flax saved as msgpack."""

import pathlib
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np

from zsar_jax.errors import UserError, first_line
from zsar_jax.weights.formats.lazy_arrays import FLOATS, LazyArray, StateDict, check_key

# An upper bound for the entries of all dictionaries in a file.
_MAX_ENTRIES = 100_000
# The msgpack extensions that Flax writes.
_ARRAY_EXTENSION, _SCALAR_EXTENSION = 1, 3
_DTYPES = {dtype.name: dtype for dtype in (*FLOATS, *map(np.dtype, ('int32', 'int64', 'uint32')))}


def read_msgpack(path: pathlib.Path) -> StateDict:
  """Reads a tree of parameters; keys are joined by '/'.

  Raises:
    UserError: if the file is damaged or contains anything but arrays.
  """
  try:
    # msgpack has only strings, numbers, lists and dictionaries: nothing that can run. Flax is not
    # used for arrays, since it interprets their bytes as addresses if the dtype is object.
    tree = msgpack.unpackb(
      path.read_bytes(),
      ext_hook=_array,
      object_pairs_hook=_dictionary_factory(_MAX_ENTRIES),
      max_map_len=_MAX_ENTRIES,
      max_array_len=0,
    )
  except Exception as error:  # msgpack raises almost anything for damaged files.
    raise UserError(f'{path}: damaged ({first_line(error)}); fetch it again') from None
  state, remaining = {}, [('', tree.get('params', tree) if isinstance(tree, dict) else tree)]
  while remaining:
    prefix, node = remaining.pop()
    check_key(path, prefix)
    if isinstance(node, dict):
      remaining += [
        (f'{prefix}/{key}' if prefix else str(key), child) for key, child in node.items()
      ]
    elif isinstance(node, np.ndarray):
      state[prefix] = LazyArray.of(node)
    else:
      raise UserError(
        f'{path}: {prefix or "the file"} is not an array; name a file with a tree of parameters'
      )
  return state


def _dictionary_factory(max_entries: int) -> Callable[[list[tuple[Any, Any]]], dict[Any, Any]]:
  """Returns a function that builds dictionaries, with at most `max_entries` entries in all."""
  left = max_entries

  def build(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    nonlocal left
    left -= 1 + len(pairs)
    if left < 0:
      raise ValueError(f'more than {max_entries:,} entries')
    return dict(pairs)

  return build


def _array(code: int, data: bytes) -> np.ndarray:
  """Decodes an array or scalar of `flax.serialization`: shape, name of the dtype, bytes."""
  if code not in (_ARRAY_EXTENSION, _SCALAR_EXTENSION):
    raise ValueError(f'an extension of type {code}')
  shape, name, content = msgpack.unpackb(data)
  if name not in _DTYPES:
    raise ValueError(f'an array of {str(name)[:30]}')
  return np.frombuffer(content, _DTYPES[name]).reshape(shape)
