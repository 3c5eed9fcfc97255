"""Reads arrays of masks from .npy and .npz files, one frame at a time.

A whole array is never allocated, because the header of a damaged or malicious file may claim any
size. Frames are read from the file when they are needed, also where it is compressed.
"""

import contextlib
import dataclasses
import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterator
from typing import IO

import numpy as np

from zsar_jax.data.records import ClipError
from zsar_jax.recipes.regions import REGION_BITS
from zsar_jax.storage.paths import as_path

# Ten hours of video; an array that claims more frames is not read.
_MAX_FRAMES = 1 << 20

# The exceptions that zipfile and NumPy raise for files that are damaged, cut short, or malicious.
_DAMAGED = (
  OSError,
  ValueError,
  EOFError,
  SyntaxError,
  KeyError,
  TypeError,
  RuntimeError,
  OverflowError,
  MemoryError,
  NotImplementedError,
  tokenize.TokenError,
  zipfile.BadZipFile,
  zlib.error,
)


@dataclasses.dataclass(frozen=True)
class ArrayReader:
  """An array in an open file.

  Attributes:
    stream: the file, open for reading.
    start: the position of the array's values in it, in bytes.
    shape: [N, H, W].
    dtype: bool or an integer type.
    where: the array, for errors.
  """

  stream: IO[bytes]
  start: int
  shape: tuple[int, int, int]
  dtype: np.dtype
  where: str

  def frame(self, number: int) -> np.ndarray:
    """Reads the [H, W] values of a frame; raises a `ClipError` if the file ends before them."""
    size = math.prod(self.shape[1:]) * self.dtype.itemsize
    try:
      self.stream.seek(self.start + number * size)
      values = self.stream.read(size)
    except _DAMAGED as error:
      raise ClipError(f'{self.where} cannot be read ({error}); save it again') from None
    if len(values) != size:
      raise ClipError(f'{self.where} ends within frame {number}; save it again')
    return np.frombuffer(values, self.dtype).reshape(self.shape[1:])


def array_names(path: str) -> set[str]:
  """Returns the names of the arrays in an .npz file; empty if it cannot be read."""
  with (
    contextlib.suppress(OSError, zipfile.BadZipFile),
    as_path(path, '--masks').open('rb') as file,
    zipfile.ZipFile(file) as archive,
  ):
    return {member.removesuffix('.npy') for member in archive.namelist()}
  return set()


@contextlib.contextmanager
def open_array_file(path: str, regions: tuple[str, ...]) -> Iterator[dict[str, ArrayReader]]:
  """Opens the arrays of a file.

  Args:
    path: an .npy or .npz file.
    regions: the names that the arrays must have; empty if the file must have a single array.

  Yields:
    The arrays by name. The array of an .npy file has the name ''.

  Raises:
    ClipError: The file cannot be read, or has other arrays.
  """
  with contextlib.ExitStack() as stack:
    try:
      if path.endswith('.npy'):
        streams: dict[str, tuple[IO[bytes], int]] = {
          '': (stack.enter_context(open(path, 'rb')), os.path.getsize(path))
        }
      else:
        archive = stack.enter_context(zipfile.ZipFile(path))
        streams = {
          member.filename.removesuffix('.npy'): (
            stack.enter_context(archive.open(member)),
            member.file_size,
          )
          for member in archive.infolist()
        }
      _check_names(streams, regions, path)
      arrays = {
        name: _read_header(stream, size, f'{path}: {name}' if name else path)
        for name, (stream, size) in streams.items()
      }
    except _DAMAGED as error:
      raise ClipError(f'{path} cannot be read ({error}); save it again') from None
    yield arrays


def _check_names(names: Collection[str], regions: tuple[str, ...], path: str) -> None:
  listed = ', '.join(names) or 'none'
  if regions and set(names) != set(regions):
    raise ClipError(
      f'{path} must have the arrays {", ".join(regions)}, as the first file does, and has {listed}'
    )
  if not regions and len(names) != 1:
    raise ClipError(
      f'{path} has the arrays {listed}; save a single array, or name all of them after regions: '
      f'{", ".join(REGION_BITS)}'
    )


def _read_header(stream: IO[bytes], size: int, where: str) -> ArrayReader:
  """Reads the header of an array from a stream that claims to have `size` bytes."""
  version = np.lib.format.read_magic(stream)
  if version == (1, 0):
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
  elif version == (2, 0):
    shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
  else:
    raise ClipError(f'{where} is of NumPy format {version}; save a plain array')
  if dtype.hasobject:
    raise ClipError(f'{where} holds pickled objects, which are not read; save an array of bool')
  if dtype.kind not in 'biu':
    raise ClipError(f'{where} is of {dtype}; apply the threshold and save an array of bool')
  if len(shape) != 3 or fortran:
    order = ' in Fortran order' if fortran else ''
    raise ClipError(
      f'{where} is {dtype}{list(shape)}{order}; save [frames, height, width] in C order'
    )
  if not 0 <= shape[0] <= _MAX_FRAMES:
    raise ClipError(f'{where} states {shape[0]} frames; save [frames, height, width]')
  start = stream.tell()
  if min(shape) < 0 or math.prod(shape) * dtype.itemsize != size - start:
    raise ClipError(f'{where} states {list(shape)} values and has {size - start} bytes; save again')
  return ArrayReader(stream, start, shape, dtype, where)
