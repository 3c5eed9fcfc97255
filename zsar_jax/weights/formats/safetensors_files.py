"""Reads safetensors files."""

import functools
import pathlib
import types

import numpy as np
from safetensors import SafetensorError, safe_open

from zsar_jax.errors import UserError
from zsar_jax.weights.formats.lazy_arrays import LazyArray, StateDict, check_count, check_key

# NumPy's names of the types in a header. Other types, such as float8, do not occur in CLIP weights.
_DTYPES = types.MappingProxyType(
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


def read_safetensors(path: pathlib.Path) -> StateDict:
  """Reads the header of a safetensors file; the file stays open to read the arrays.

  Raises:
    UserError: if the file is damaged or contains arrays of an unsupported type.
  """
  state = {}
  try:
    file = safe_open(path, framework='np')
    keys = file.keys()
    check_count(path, len(keys))
    for key in keys:
      check_key(path, key)
      view = file.get_slice(key)
      name = view.get_dtype()
      if name not in _DTYPES:
        raise UserError(
          f'{path}: {key} has the type {name}, which CLIP weights do not have; name weights of CLIP'
        )
      shape, dtype = tuple(view.get_shape()), np.dtype(_DTYPES[name])
      state[key] = LazyArray(shape, dtype, functools.partial(file.get_tensor, key))
  except (SafetensorError, OSError) as error:
    raise UserError(f'{path}: damaged ({error}); fetch it again') from None
  return state
