"""Reads .npy files that contain a pickled state dict, as Scenic's CLIP files do."""

import pathlib
from typing import IO, Any

import numpy as np

from zsar_jax.errors import UserError
from zsar_jax.weights.formats import pickles
from zsar_jax.weights.formats.lazy_arrays import LazyArray, StateDict, printable
from zsar_jax.weights.formats.pickled_objects import PickledArray, PickledDtype

_HEADER_READERS = {
  (1, 0): np.lib.format.read_array_header_1_0,
  (2, 0): np.lib.format.read_array_header_2_0,
}
_DTYPE_CODES = ('f2', 'f4', 'f8', 'i4', 'i8')


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
  """Reads the header of a .npy file: the shape, whether its order is Fortran's, the dtype.

  Raises:
    ValueError, KeyError: if it is damaged or of an unknown version.
  """
  return _HEADER_READERS[np.lib.format.read_magic(file)](file)


def read_numpy(path: pathlib.Path) -> StateDict:
  """Reads an array of one object, a dictionary of arrays, without unpickling it.

  Raises:
    UserError: if the file is damaged or contains anything else.
  """
  with path.open('rb') as file:
    try:
      shape, _, dtype = read_header(file)
    except (ValueError, KeyError) as error:
      raise UserError(f'{path}: damaged ({error}); fetch it again') from None
    if shape != () or dtype != np.dtype(object):
      raise UserError(
        f'{path}: an array of numbers instead of a pickled state dict; name a file of weights'
      )
    saved, _ = pickles.load(file, path)
  objects = saved.state[4] if _is_complete(saved) else None
  if not (isinstance(objects, list) and len(objects) == 1 and isinstance(objects[0], dict)):
    raise UserError(f'{path}: holds no state dict; fetch it again')
  return {str(key): _array(path, str(key), value) for key, value in objects[0].items()}


def _is_complete(value: Any) -> bool:
  return (
    isinstance(value, PickledArray) and isinstance(value.state, tuple) and len(value.state) == 5
  )


def _array(path: pathlib.Path, key: str, value: Any) -> LazyArray:
  """Converts the pickled state of an array of numbers."""
  try:
    _, shape, dtype, is_fortran, data = value.state
    if not isinstance(dtype, PickledDtype) or not isinstance(data, bytes):
      raise TypeError
    if dtype.code not in _DTYPE_CODES or dtype.order not in ('<', '='):
      raise TypeError
    array = np.frombuffer(data, dtype.code).reshape(shape, order='F' if is_fortran else 'C')
  except (AttributeError, OverflowError, TypeError, ValueError):
    raise UserError(
      f'{path}: {printable(key)} is not an array of numbers; fetch it again'
    ) from None
  return LazyArray.of(array)
