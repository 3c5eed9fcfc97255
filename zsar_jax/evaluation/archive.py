"""Files of several NumPy arrays (.npz) from strangers, which may inflate to anything.

A megabyte of deflated zeros is a gigabyte of array. The zip directory and the header of each
array, of some hundred bytes, say how large it becomes; both are read and compared before any array
is inflated.
"""

import dataclasses
import math
import os
import zipfile
from collections.abc import Iterable

import numpy as np

from zsar_jax.runtime.wording import format_bytes

# What a file may inflate to: this much, and this often its own size. Logits are deflated by a
# tenth only; names, which are padded to the longest, and the NaN of clips that do not count by
# much more.
_FREE_BYTES = 512 * 2**20
_MOST_TIMES = 32

# What NumPy's savez writes; other methods may take any amount of memory to inflate.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclasses.dataclass(frozen=True)
class Header:
  """What an array will be.

  Attributes:
    dtype: of its elements.
    shape: of the array.
  """

  dtype: np.dtype
  shape: tuple[int, ...]

  @property
  def nbytes(self) -> int:
    """Its size in memory."""
    return self.dtype.itemsize * math.prod(self.shape)


class Archive:
  """An open .npz file; to be closed, or used in a `with` block."""

  def __init__(self, path: str | os.PathLike[str]):
    """Opens the file and reads its directory.

    Raises:
      OSError: where it cannot be read.
      Exception: almost any other, where it is damaged or no zip file.
    """
    self._size = os.path.getsize(path)
    self._zip = zipfile.ZipFile(path)

  def __enter__(self) -> 'Archive':
    return self

  def __exit__(self, *exception) -> None:
    self._zip.close()

  def headers(self, names: Iterable[str]) -> dict[str, Header]:
    """The headers of those of the named arrays that the file has.

    Raises:
      ValueError: where an array is there twice, has no header that fits its size, or holds Python
        objects; or where the arrays would inflate to more than a file of this size should.
    """
    headers = {}
    for name in names:
      members = [info for info in self._zip.infolist() if info.filename == f'{name}.npy']
      if len(members) > 1:
        raise ValueError(f'{name}: it is there twice')
      if members:
        headers[name] = self._header(name, members[0])
    total = sum(header.nbytes for header in headers.values())
    if total > _FREE_BYTES + _MOST_TIMES * self._size:
      raise ValueError(
        f'its {format_bytes(self._size)} would inflate to {format_bytes(total)}, more than an'
        ' evaluation of this file size takes'
      )
    return headers

  def _header(self, name: str, member: zipfile.ZipInfo) -> Header:
    if member.compress_type not in _METHODS:
      raise ValueError(f'{name}: it is compressed in a way that NumPy does not use')
    with self._zip.open(member) as file:
      # Headers of later versions may be of any length; NumPy writes them for named fields alone.
      if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError(f'{name}: its header is of another version than 1.0')
      shape, _, dtype = np.lib.format.read_array_header_1_0(file)
      header = Header(dtype, shape)
      if dtype.hasobject:
        raise ValueError(f'{name}: it holds Python objects, which are not loaded')
      if min(shape, default=0) < 0 or file.tell() + header.nbytes != member.file_size:
        raise ValueError(f'{name}: its {member.file_size} bytes are no {dtype}{list(shape)}')
    return header

  def array(self, name: str) -> np.ndarray:
    """An array whose header was looked at."""
    with self._zip.open(f'{name}.npy') as file:
      return np.lib.format.read_array(file, allow_pickle=False)
