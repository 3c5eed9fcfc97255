"""PyTorch's files, read without PyTorch and without running what is in them.

Three kinds: zip archives of a pickle and the storages that it refers to, as `torch.save` writes
them; TorchScript archives, which are the same with code beside it, as OpenAI publishes CLIP; and
the files of PyTorch before 1.6, a sequence of pickles with the storages behind them.
"""

import io
import math
import pathlib
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from zsar_jax.errors import UserError
from zsar_jax.weights.formats import pickles, wrappers
from zsar_jax.weights.formats.pickles import Storage, StridedTensor
from zsar_jax.weights.formats.tensors import Content, Tensor

# What goes wrong in a zip archive that is damaged.
_ZIP_ERRORS = (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError)
# The directory of an archive with a storage for each array of a large model takes 100 kB.
_MOST_DIRECTORY = 8 * 2**20

# The first pickle of a file of PyTorch before 1.6.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

# What a storage of a name holds, in its own type; a problem is a `UserError`.
ReadStorage = Callable[[Storage], np.ndarray]


class _Archive(io.BufferedReader):
  """A file that gives no more than a directory's length at a time, until it is `opened`."""

  opened = False

  def read(self, size: int = -1) -> bytes:
    if size > _MOST_DIRECTORY and not self.opened:
      raise zipfile.BadZipFile('its directory is too long')
    return super().read(size)


def read_zip(path: pathlib.Path) -> Content:
  """The weights in a zip archive, see the head of this file.

  Raises:
    UserError: for a file that is damaged or asks for anything but weights.
  """
  try:
    # It stays open for as long as its tensors are needed: the directory is read once.
    file = _Archive(io.FileIO(path))
    archive = zipfile.ZipFile(file)
    file.opened = True
    entries = {entry.filename: entry for entry in archive.infolist()}
    roots = [name[: -len('data.pkl')] for name in entries if name.endswith('/data.pkl')]
    if len(roots) != 1:
      raise UserError(f'{path}: a zip archive, but none of PyTorch; name a file of weights')
    root = roots[0]
    _check_entries(path, root, entries)
    if f'{root}byteorder' in entries and archive.read(f'{root}byteorder') != b'little':
      raise UserError(f'{path}: written on a big-endian machine; save it again on another')
    saved, _ = pickles.load(io.BytesIO(archive.read(f'{root}data.pkl')), path)
  except _ZIP_ERRORS as error:
    raise UserError(f'{path}: damaged ({error}); fetch it again') from None

  def read(storage: Storage) -> np.ndarray:
    try:
      return np.frombuffer(archive.read(f'{root}data/{storage.key}'), storage.dtype)
    except _ZIP_ERRORS as error:
      raise UserError(f'{path}: damaged ({error}); fetch it again') from None

  def size(storage: Storage) -> int:
    entry = entries.get(f'{root}data/{storage.key}')
    return -1 if entry is None else entry.file_size

  return _content(path, saved, size, read)


def _check_entries(path: pathlib.Path, root: str, entries: Mapping[str, zipfile.ZipInfo]) -> None:
  """Refuses archives whose data would be larger than the file."""
  needed = [
    entry
    for name, entry in entries.items()
    if name in (f'{root}data.pkl', f'{root}byteorder') or name.startswith(f'{root}data/')
  ]
  # PyTorch compresses no data. What is not compressed cannot grow.
  if any(entry.compress_type != zipfile.ZIP_STORED for entry in needed):
    raise UserError(f'{path}: its data are compressed, which PyTorch never does; fetch it again')
  if sum(entry.file_size for entry in needed) > path.stat().st_size:
    raise UserError(f'{path}: declares more data than it holds; fetch it again')


def read_legacy(path: pathlib.Path) -> Content:
  """The weights in a file of PyTorch before 1.6, see the head of this file.

  Raises:
    UserError: for a file that is damaged or asks for anything but weights.
  """
  length = path.stat().st_size
  places = {}
  with path.open('rb') as file:
    # The magic number, the protocol's version, a description of the machine.
    magic, _, machine = (pickles.load(file, path)[0] for _ in range(3))
    if magic != LEGACY_MAGIC:
      raise UserError(f'{path}: a pickle, but none of PyTorch; name a file of weights')
    if not isinstance(machine, dict) or machine.get('little_endian') is not True:
      raise UserError(f'{path}: written on a big-endian machine; save it again on another')
    saved, storages = pickles.load(file, path)
    keys, _ = pickles.load(file, path)
    for key in keys if isinstance(keys, list) else ():
      count = int.from_bytes(file.read(8), 'little')
      known = isinstance(key, str) and key in storages
      size = count * storages[key].dtype.itemsize if known else 0
      if not known or file.tell() + size > length:
        raise UserError(f'{path}: truncated or damaged; fetch it again')
      places[key] = (file.tell(), size)
      file.seek(size, 1)

  def read(storage: Storage) -> np.ndarray:
    start, size = places[storage.key]
    with path.open('rb') as file:
      file.seek(start)
      return np.frombuffer(file.read(size), storage.dtype)

  def size(storage: Storage) -> int:
    return places.get(storage.key, (0, -1))[1]

  return _content(path, saved, size, read)


def _content(
  path: pathlib.Path, saved: Any, size: Callable[[Storage], int], read: ReadStorage
) -> Content:
  """From what a pickle held to tensors whose places have been checked.

  Args:
    path: for errors.
    saved: the pickle's object.
    size: the bytes that the file has of a storage, -1 for one that it has not.
    read: reads a storage.
  """
  named, notes = wrappers.unwrap(path, saved)
  state = {name: _tensor(path, name, tensor, size, read) for name, tensor in named.items()}
  return Content(state, saved if isinstance(saved, dict) else {}, notes)


def _tensor(
  path: pathlib.Path,
  name: str,
  tensor: StridedTensor,
  size: Callable[[Storage], int],
  read: ReadStorage,
) -> Tensor:
  """A tensor, once what it claims fits what the file holds."""
  storage, offset, shape, strides = tensor.storage, tensor.offset, tensor.shape, tensor.strides
  numbers = [shape, strides]
  if not (
    isinstance(storage, Storage)
    and all(isinstance(one, tuple) for one in numbers)
    and len(shape) == len(strides) <= 32
    and all(type(n) is int and n >= 0 for n in (offset, *shape, *strides))
  ):
    raise UserError(f'{path}: {name} is no tensor; fetch it again')
  held = size(storage)
  if held != storage.count * storage.dtype.itemsize:
    raise UserError(
      f'{path}: {name} needs storage {storage.key!r} of {storage.count} x {storage.dtype}, and the'
      f' file {"has none" if held < 0 else f"has {held} bytes"}; fetch it again'
    )
  count = math.prod(shape)
  last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
  # An expanded tensor repeats its numbers; no weight does, and one could be of any size.
  if count > storage.count or count and last >= storage.count:
    raise UserError(f'{path}: {name} reaches beyond its storage; fetch it again')

  def read_view() -> np.ndarray:
    data = read(storage)
    width = data.itemsize
    return np.lib.stride_tricks.as_strided(
      data[offset:], shape, [stride * width for stride in strides], writeable=False
    )

  return Tensor(shape, storage.dtype, read_view)
