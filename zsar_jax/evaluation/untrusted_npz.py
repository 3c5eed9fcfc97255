"""Reads .npz files from untrusted sources within a bound on memory, and writes such files.

A megabyte of deflated zeros inflates to a gigabyte. The zip directory and the header of each array,
a few hundred bytes, state the inflated size; both are read and compared before any array is
inflated.

An array that is not compressed is mapped from the file instead of read, so that a study of many
runs does not hold all their logits in memory. A mapped array keeps its file open; if half of the
files that the process may have open are, further arrays are read.
"""

import contextlib
import dataclasses
import math
import os
import resource
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

import numpy as np

from zsar_jax.storage import buckets
from zsar_jax.storage.paths import as_path

# The arrays of a file may take this many bytes, plus a multiple of the file's size. Logits deflate
# by only a tenth; names, which are padded to the longest, and the NaN of clips that do not count
# deflate much further.
_FREE_BYTES = 512 * 2**20
_MAX_RATIO = 32

# NumPy's savez writes these; other methods may take any amount of memory to inflate.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

# Smaller arrays are read.
_MAPPED_BYTES = 2**20

# A local header in a zip file: its size, and where the lengths of its name and extra field are.
_LOCAL_HEADER = 30
_LENGTHS = slice(26, 30)

_CHUNK = 1 << 24


@dataclasses.dataclass(frozen=True)
class ArrayHeader:
  """The type and size of an array that is not read yet.

  Attributes:
    dtype: the dtype of its elements.
    shape: the shape of the array.
  """

  dtype: np.dtype
  shape: tuple[int, ...]

  @property
  def nbytes(self) -> int:
    """The array's size in memory."""
    return self.dtype.itemsize * math.prod(self.shape)


class NpzReader:
  """An open .npz file; close it, or use it in a `with` block."""

  def __init__(self, path: str | os.PathLike[str]):
    """Opens the file and reads its directory.

    Raises:
      OSError: the file does not exist, or is on a disk and cannot be read.
      UserError: it is in a bucket that cannot be read.
      Exception: almost any other, if it is damaged or no zip file.
    """
    with contextlib.ExitStack() as stack:
      file = as_path(path, 'the predictions')
      with buckets.reporting_errors(file):
        copy = stack.enter_context(buckets.local_copy(file))
      self._path = copy
      self._size = os.path.getsize(copy)
      self._zip = stack.enter_context(zipfile.ZipFile(copy))
      self._close = stack.pop_all().close

  def __enter__(self) -> 'NpzReader':
    return self

  def __exit__(self, *exception) -> None:
    self._close()

  def headers(self, names: Iterable[str]) -> dict[str, ArrayHeader]:
    """Reads the headers of the named arrays; names that the file lacks are left out.

    Raises:
      ValueError: an array occurs twice, has a header that contradicts its size or holds Python
        objects, or the arrays would inflate to more than a file of this size should.
    """
    headers = {}
    for name in names:
      members = [info for info in self._zip.infolist() if info.filename == f'{name}.npy']
      if len(members) > 1:
        raise ValueError(f'{name}: it occurs twice')
      if members:
        headers[name] = self._header(name, members[0])
    total = sum(header.nbytes for header in headers.values())
    if total > _FREE_BYTES + _MAX_RATIO * self._size:
      raise ValueError(
        f'its {self._size / 2**20:.1f} MiB would inflate to {total / 2**30:.1f} GiB, more than an'
        ' evaluation of this file size takes'
      )
    return headers

  def _header(self, name: str, member: zipfile.ZipInfo) -> ArrayHeader:
    if member.compress_type not in _METHODS:
      raise ValueError(f'{name}: it is compressed in a way that NumPy does not use')
    # Otherwise the checksum would cover only a part of a mapped array.
    if member.compress_type == zipfile.ZIP_STORED and member.compress_size != member.file_size:
      raise ValueError(f'{name}: it has two sizes')
    with self._zip.open(member) as file:
      # Headers of later versions have no bound on their length. NumPy writes them only for
      # structured types with long or non-ASCII field names.
      if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError(f'{name}: its header has another version than 1.0')
      shape, _, dtype = np.lib.format.read_array_header_1_0(file)
      header = ArrayHeader(dtype, shape)
      if dtype.hasobject:
        raise ValueError(f'{name}: it holds Python objects, which are not loaded')
      if min(shape, default=0) < 0 or file.tell() + header.nbytes != member.file_size:
        raise ValueError(f'{name}: its {member.file_size} bytes are no {dtype}{list(shape)}')
    return header

  def array(self, name: str) -> np.ndarray:
    """Reads or maps an array; check its header with `headers` first."""
    member = self._zip.getinfo(f'{name}.npy')
    with self._zip.open(member) as file:
      is_small = member.file_size < _MAPPED_BYTES
      if is_small or member.compress_type != zipfile.ZIP_STORED or not _may_map():
        return np.lib.format.read_array(file, allow_pickle=False)
      np.lib.format.read_magic(file)
      shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
      start = file.tell()
      while file.read(_CHUNK):  # Compares the checksum.
        pass
    with open(self._path, 'rb') as file:
      file.seek(member.header_offset)
      lengths = np.frombuffer(file.read(_LOCAL_HEADER)[_LENGTHS], '<u2')
    start += member.header_offset + _LOCAL_HEADER + int(lengths.sum())
    # Changes stay in memory.
    array = np.memmap(self._path, dtype, 'c', start, shape, 'F' if is_fortran else 'C')
    return array.view(np.ndarray)


def _may_map() -> bool:
  """Returns whether less than half of the files that this process may have open are open."""
  limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
  try:
    return limit == resource.RLIM_INFINITY or 2 * len(os.listdir('/dev/fd')) < limit
  except OSError:  # It cannot be counted.
    return False


def write_npz(file: BinaryIO, arrays: Mapping[str, Any], parts: Mapping[str, list[Any]]) -> None:
  """Writes arrays as `numpy.savez_compressed` does, but some without compression.

  Args:
    file: the file.
    arrays: those to compress, by name.
    parts: those to write as they are: each as a list of arrays to stack, which is not done in
      memory.
  """
  with zipfile.ZipFile(file, 'w') as archive:
    # First, where they are aligned in the file to the size of their elements.
    for name, rows in parts.items():
      header = {
        'descr': np.lib.format.dtype_to_descr(rows[0].dtype),
        'fortran_order': False,
        'shape': (len(rows), *rows[0].shape),
      }
      with archive.open(zipfile.ZipInfo(f'{name}.npy'), 'w', force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for row in rows:
          member.write(np.ascontiguousarray(row).data.cast('B'))
    for name, array in arrays.items():
      compressed = zipfile.ZipInfo(f'{name}.npy')
      compressed.compress_type = zipfile.ZIP_DEFLATED
      with archive.open(compressed, 'w', force_zip64=True) as member:
        np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
