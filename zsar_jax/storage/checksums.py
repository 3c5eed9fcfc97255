"""Checksums of a folder's files, kept in the folder, which show whether a file has changed.

Neither the file system nor the format of the arrays notices bytes that change on the disk.
"""

import json
import os
import pathlib
import zlib
from collections.abc import Callable, Collection, Mapping

from zsar_jax.runtime import bucket_errors
from zsar_jax.storage import buckets, file_systems
from zsar_jax.storage.files import write_file

FILE = 'checksums.json'

_CHUNK = 1 << 24


def write(
  folder: pathlib.Path,
  exclude: Collection[str] = (),
  size_only: Callable[[str], bool] = lambda name: False,
) -> None:
  """Flushes a folder's files to the disk, then writes {path: [bytes, CRC-32]} into the folder.

  Args:
    folder: has all its files.
    exclude: names of files to leave out.
    size_only: whether to record only a file's size, with null for its CRC-32.
  """
  sums = {}
  for path in sorted(folder.rglob('*')):
    if path.is_file() and path.name not in (FILE, *exclude):
      name = path.relative_to(folder).as_posix()
      sums[name] = checksum(path, size_only(name), durable=not buckets.is_remote(folder))
  if buckets.is_remote(folder):
    write_file(folder / FILE, json.dumps(sums))
    return
  with (folder / FILE).open('w') as file:
    json.dump(sums, file)
    file.flush()
    file_systems.sync(file)


def identity(folder: pathlib.Path) -> int | None:
  """Returns a number that tells a folder's files from others at the same path.

  Times do not, as on some file systems they are whole seconds. Without readable checksums, returns
  None.

  Args:
    folder: has been written with `write`.
  """
  try:
    return zlib.crc32((folder / FILE).read_bytes())
  except OSError:
    return None


def find_damage(
  folder: pathlib.Path,
  names: Collection[str] | None = None,
  sizes: Mapping[str, int] | None = None,
) -> str | None:
  """Returns what is wrong with a folder, in words; None if every file is as it was written.

  A folder without checksums was written by another program and passes.

  Args:
    folder: has been written with `write`.
    names: the files to compare; None compares all.
    sizes: the sizes of files, by name, where `folder` is a copy that lacks those files of which
      only the size is compared.

  Raises:
    OSError: if the folder is in a bucket that does not answer; that is no damage.
  """
  name = FILE
  try:
    sums = json.loads((folder / FILE).read_text())
    for name in sums if names is None else names:
      if name not in sums:
        return f'{FILE} does not list {name}'
      if not (folder / name).resolve().is_relative_to(folder.resolve()):
        return f'{FILE} lists {name!r}, which lies elsewhere'
      expected = sums[name]
      actual: list[int | None]
      if sizes is not None and expected[1] is None:
        if name not in sizes:
          return f'{name} is missing'
        actual = [sizes[name], None]
      else:
        actual = checksum(folder / name, size_only=expected[1] is None)
      if actual[0] != expected[0]:
        return f'{name} has {actual[0]} of {expected[0]} bytes'
      if actual != expected:
        return f'{name} has other bytes than were written'
  except FileNotFoundError:
    return None if name == FILE else f'{name} is missing'
  except (OSError, ValueError, AttributeError, TypeError, LookupError) as error:
    if bucket_errors.describe(error):
      raise
    return f'{FILE} or a file that it lists cannot be read ({error})'
  return None


def checksum(
  path: pathlib.Path, size_only: bool = False, durable: bool = False
) -> list[int | None]:
  """Returns [bytes, CRC-32] of a file; `durable` flushes it to the disk first."""
  size = crc = 0
  with path.open('rb') as file:
    if durable:
      file_systems.sync(file)
    if size_only:
      return [file.seek(0, os.SEEK_END), None]
    while chunk := file.read(_CHUNK):
      size, crc = size + len(chunk), zlib.crc32(chunk, crc)
  return [size, crc]
