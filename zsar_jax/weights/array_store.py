"""Checks the store in which Orbax keeps the arrays of a checkpoint (OCDBT, by TensorStore)."""

import collections
import json
import math
import pathlib

import tensorstore

from zsar_jax.weights.orbax_runtime import key_value_store


def missing_parts(state: pathlib.Path, arrays: int) -> str | None:
  """Describes what is missing from a state that several processes wrote; None if it is complete.

  Every process writes its chunks into files of its own, and process 0 joins those that it sees.

  Args:
    state: the folder of the arrays.
    arrays: the number of arrays in the state.
  """
  base = key_value_store(state)
  store = tensorstore.KvStore.open({'driver': 'ocdbt', 'base': base}).result()
  keys = [key.decode() for key in store.list().result()]
  headers = [key for key in keys if key.endswith('/.zarray')]
  if len(headers) < arrays:
    return f'{arrays - len(headers)} of {arrays} arrays'
  chunks = collections.Counter(key.rpartition('/')[0] for key in keys)
  for header, content in [(header, store.read(header)) for header in headers]:
    layout, name = json.loads(content.result().value), header.rpartition('/')[0]
    count = math.prod(
      -(-size // chunk) for size, chunk in zip(layout['shape'], layout['chunks'], strict=True)
    )
    if chunks[name] < count + 1:  # The chunks and the header.
      return f'{count + 1 - chunks[name]} of {count} parts of {name}'
  return None
