"""Reads PyTorch's files without PyTorch and without running their code.

There are three kinds. `torch.save` writes zip archives of a pickle and the storages that it refers
to. TorchScript archives, in which OpenAI publishes CLIP, contain the same and code. PyTorch before
1.6 writes a sequence of pickles, followed by the storages.
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
from zsar_jax.weights.formats.lazy_arrays import Content, LazyArray
from zsar_jax.weights.formats.pickled_objects import Storage, StridedTensor

# Exceptions of `zipfile` for damaged archives.
ZIP_ERRORS = (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError)
# The longest directory of an archive. With a storage for each array of a large model it has 100 kB.
_MAX_DIRECTORY_BYTES = 8 * 2**20

# The first pickle of a file of PyTorch before 1.6.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

# Reads the elements of a storage, in its dtype; raises a `UserError` on failure.
ReadStorage = Callable[[Storage], np.ndarray]


class _Archive(io.BufferedReader):
  """A file that limits the length of a read until the directory of the archive has been read."""

  directory_read = False

  def read(self, size: int | None = -1) -> bytes:
    if size is not None and size > _MAX_DIRECTORY_BYTES and not self.directory_read:
      raise zipfile.BadZipFile('its directory is too long')
    return super().read(size)


def open_archive(path: pathlib.Path) -> zipfile.ZipFile:
  """Opens a zip archive, if its directory is not too long; raises one of `ZIP_ERRORS` otherwise."""
  file = _Archive(io.FileIO(path))
  archive = zipfile.ZipFile(file)
  file.directory_read = True
  return archive


def read_zip(path: pathlib.Path) -> Content:
  """Reads a zip archive.

  Raises:
    UserError: if the file is damaged or refused.
  """
  try:
    # The archive stays open to read tensors later, so that its directory is read only once.
    archive = open_archive(path)
    entries = {entry.filename: entry for entry in archive.infolist()}
    roots = [name[: -len('data.pkl')] for name in entries if name.endswith('/data.pkl')]
    if len(roots) != 1:
      raise UserError(f'{path}: a zip archive, but not of PyTorch; name a file of weights')
    root = roots[0]
    _check_entries(path, root, entries)
    if f'{root}byteorder' in entries and archive.read(f'{root}byteorder') != b'little':
      raise UserError(f'{path}: written on a big-endian machine; save it again on another')
    saved, _ = pickles.load(io.BytesIO(archive.read(f'{root}data.pkl')), path)
  except ZIP_ERRORS as error:
    raise UserError(f'{path}: damaged ({error}); fetch it again') from None

  def read(storage: Storage) -> np.ndarray:
    try:
      return np.frombuffer(archive.read(f'{root}data/{storage.key}'), storage.dtype)
    except ZIP_ERRORS as error:
      raise UserError(f'{path}: damaged ({error}); fetch it again') from None

  def stored_size(storage: Storage) -> int:
    entry = entries.get(f'{root}data/{storage.key}')
    return -1 if entry is None else entry.file_size

  return _content(path, saved, stored_size, read)


def _check_entries(path: pathlib.Path, root: str, entries: Mapping[str, zipfile.ZipInfo]) -> None:
  """Refuses archives whose data would expand to more than the file's size."""
  needed = [
    entry
    for name, entry in entries.items()
    if name in (f'{root}data.pkl', f'{root}byteorder') or name.startswith(f'{root}data/')
  ]
  # PyTorch does not compress, and uncompressed data do not expand.
  if any(entry.compress_type != zipfile.ZIP_STORED for entry in needed):
    raise UserError(f'{path}: its data are compressed, which PyTorch never does; fetch it again')
  if sum(entry.file_size for entry in needed) > path.stat().st_size:
    raise UserError(f'{path}: declares more data than it holds; fetch it again')


def read_legacy(path: pathlib.Path) -> Content:
  """Reads a file of PyTorch before 1.6.

  Raises:
    UserError: if the file is damaged or refused.
  """
  length = path.stat().st_size
  extents = {}  # Position and size of each storage, in bytes.
  with path.open('rb') as file:
    # The magic number, the version of the protocol, and a description of the machine.
    magic, _, machine = (pickles.load(file, path)[0] for _ in range(3))
    if magic != LEGACY_MAGIC:
      raise UserError(f'{path}: a pickle, but not of PyTorch; name a file of weights')
    if not isinstance(machine, dict) or machine.get('little_endian') is not True:
      raise UserError(f'{path}: written on a big-endian machine; save it again on another')
    saved, storages = pickles.load(file, path)
    keys, _ = pickles.load(file, path)
    for key in keys if isinstance(keys, list) else ():
      count = int.from_bytes(file.read(8), 'little')
      is_valid = isinstance(key, str) and key in storages
      size = count * storages[key].dtype.itemsize if is_valid else 0
      if not is_valid or file.tell() + size > length:
        raise UserError(f'{path}: truncated or damaged; fetch it again')
      extents[key] = (file.tell(), size)
      file.seek(size, 1)

  def read(storage: Storage) -> np.ndarray:
    start, size = extents[storage.key]
    with path.open('rb') as file:
      file.seek(start)
      return np.frombuffer(file.read(size), storage.dtype)

  def stored_size(storage: Storage) -> int:
    return extents.get(storage.key, (0, -1))[1]

  return _content(path, saved, stored_size, read)


def _content(
  path: pathlib.Path, saved: Any, size: Callable[[Storage], int], read: ReadStorage
) -> Content:
  """Checks that the tensors of a pickle lie in their storages, and wraps them.

  Args:
    path: the file, for errors.
    saved: the object in the pickle.
    size: returns the size of a storage in the file, in bytes; -1 if it is missing.
    read: reads a storage.
  """
  tensors, notes = wrappers.unwrap(path, saved)
  state = {key: _tensor(path, key, tensor, size, read) for key, tensor in tensors.items()}
  return Content(state, saved if isinstance(saved, dict) else {}, notes)


def _tensor(
  path: pathlib.Path,
  key: str,
  tensor: StridedTensor,
  size: Callable[[Storage], int],
  read: ReadStorage,
) -> LazyArray:
  """Checks that a tensor lies in its storage, and wraps it."""
  storage, offset, shape, strides = tensor.storage, tensor.offset, tensor.shape, tensor.strides
  if not (
    isinstance(storage, Storage)
    and isinstance(shape, tuple)
    and isinstance(strides, tuple)
    and len(shape) == len(strides) <= 32
    and all(type(n) is int and n >= 0 for n in (offset, *shape, *strides))
  ):
    raise UserError(f'{path}: {key} is not a valid tensor; fetch it again')
  stored_bytes = size(storage)
  if stored_bytes != storage.count * storage.dtype.itemsize:
    raise UserError(
      f'{path}: {key} needs storage {storage.key!r} of {storage.count} x {storage.dtype}, and the'
      f' file {"has none" if stored_bytes < 0 else f"has {stored_bytes} bytes"}; fetch it again'
    )
  count = math.prod(shape)
  last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
  # An expanded tensor repeats elements of its storage and could have any size. Weights do not.
  if count > storage.count or count and last >= storage.count:
    raise UserError(f'{path}: {key} reaches beyond its storage; fetch it again')

  def read_view() -> np.ndarray:
    data = read(storage)
    byte_strides = [stride * data.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(data[offset:], shape, byte_strides, writeable=False)

  return LazyArray(shape, storage.dtype, read_view)
