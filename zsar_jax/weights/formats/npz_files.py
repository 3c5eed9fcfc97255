"""Reads .npz files, as `numpy.savez` writes them: zip archives of arrays of numbers."""

import functools
import math
import pathlib
import zipfile

import numpy as np

from zsar_jax.errors import UserError
from zsar_jax.weights.formats import numpy_files, torch_files
from zsar_jax.weights.formats.lazy_arrays import LazyArray, StateDict, printable

_SUFFIX = '.npy'
# A zip archive repeats the name of an entry before its data, after this many bytes.
_LOCAL_HEADER = 30


def is_npz(path: pathlib.Path) -> bool:
  """Whether the first entry of a zip archive is an array; archives of PyTorch have none.

  Args:
    path: a file that starts with 'PK'.
  """
  with path.open('rb') as file:
    header = file.read(_LOCAL_HEADER)
    name = file.read(int.from_bytes(header[26:28], 'little'))
  return name.endswith(_SUFFIX.encode())


def read_npz(path: pathlib.Path) -> StateDict:
  """Reads the headers of the arrays; each array is mapped to memory when it is read.

  Raises:
    UserError: if the file is damaged, compressed, or contains anything but arrays of numbers.
  """
  try:
    with torch_files.open_archive(path) as archive:
      return {
        entry.filename.removesuffix(_SUFFIX): _array(path, archive, entry)
        for entry in archive.infolist()
      }
  except torch_files.ZIP_ERRORS as error:
    raise UserError(f'{path}: damaged ({error}); fetch it again') from None


def _array(path: pathlib.Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> LazyArray:
  """Returns an array of an archive; its data must lie in the file as they are."""
  name = f'{path}: {printable(entry.filename)}'
  if not entry.filename.endswith(_SUFFIX):
    raise UserError(f'{name} is no array; name a file of weights')
  if entry.compress_type != zipfile.ZIP_STORED:
    raise UserError(f'{name} is compressed; write the file again with numpy.savez')
  with archive.open(entry) as file:
    try:
      shape, is_fortran, dtype = numpy_files.read_header(file)
    except (ValueError, KeyError) as error:
      raise UserError(f'{name} is damaged ({error}); fetch it again') from None
    header_length = file.tell()
  if (
    dtype.kind not in 'biufV'  # NumPy saves bfloat16 as bytes, 'V'.
    or dtype.hasobject
    or dtype.fields
    or dtype.subdtype
    # NumPy reads any integers, also negative ones and True.
    or any(type(size) is not int or size < 0 for size in shape)
    or entry.file_size != header_length + (math.prod(shape) * dtype.itemsize)
  ):
    raise UserError(f'{name} is not an array of numbers; fetch the file again')
  with path.open('rb') as file:
    file.seek(entry.header_offset)
    local = file.read(_LOCAL_HEADER)
  lengths = (int.from_bytes(local[start : start + 2], 'little') for start in (26, 28))
  offset = entry.header_offset + _LOCAL_HEADER + sum(lengths) + header_length
  if offset + math.prod(shape) * dtype.itemsize > path.stat().st_size:
    raise UserError(f'{name} reaches beyond the end of the file; fetch it again')
  order = 'F' if is_fortran else 'C'
  if not math.prod(shape):  # An empty array cannot be mapped.
    return LazyArray.of(np.zeros(shape, dtype))
  read = functools.partial(np.memmap, path, dtype, 'r', offset, shape, order)
  return LazyArray(shape, dtype, read)
