"""Checksums of a folder's files, kept beside them, which tell whether it came through whole.

Neither the file system nor the arrays' format says that bytes have changed on disk.
"""

import json
import os
import pathlib
import zlib
from collections.abc import Callable, Collection

from zsar_jax.runtime import file_systems

FILE = 'checksums.json'

_CHUNK = 1 << 24


def write(
  folder: pathlib.Path,
  exclude: Collection[str] = (),
  size_only: Callable[[str], bool] = lambda name: False,
) -> None:
  """Writes {path: [bytes, CRC-32]} of the folder's files into it, when they all are on the disk.

  Args:
    folder: which.
    exclude: names of files that are left out.
    size_only: whether of a file the size alone is noted, and null for its CRC-32.
  """
  sums = {}
  for path in sorted(folder.rglob('*')):
    if path.is_file() and path.name not in (FILE, *exclude):
      name = path.relative_to(folder).as_posix()
      sums[name] = _sum(path, size_only(name), durable=True)
  with (folder / FILE).open('w') as file:
    json.dump(sums, file)
    file.flush()
    file_systems.sync(file)


def find_damage(folder: pathlib.Path, names: Collection[str] | None = None) -> str | None:
  """What is wrong with a folder, in words; None where all is as it was written.

  A folder without checksums, which was written by something else, is taken as it is.

  Args:
    folder: which.
    names: of the files that are compared; None compares all.
  """
  try:
    sums = json.loads((folder / FILE).read_text())
    for name in sums if names is None else names:
      if name not in sums:
        return f'{FILE} does not list {name}'
      if not (folder / name).resolve().is_relative_to(folder.resolve()):
        return f'{FILE} lists {name!r}, which lies elsewhere'
      expected = sums[name]
      found = _sum(folder / name, size_only=expected[1] is None)
      if found[0] != expected[0]:
        return f'{name} has {found[0]} of {expected[0]} bytes'
      if found != expected:
        return f'{name} has other bytes than were written'
  except FileNotFoundError as error:
    name = pathlib.Path(error.filename).relative_to(folder).as_posix()
    return None if name == FILE else f'{name} is missing'
  except (OSError, ValueError, AttributeError, TypeError, LookupError) as error:
    return f'{FILE} or a file that it lists cannot be read ({error})'
  return None


def _sum(path: pathlib.Path, size_only: bool = False, durable: bool = False) -> list[int | None]:
  """[bytes, CRC-32] of a file; `durable` has the system write it to the disk first."""
  size = crc = 0
  with path.open('rb') as file:
    if durable:
      file_systems.sync(file)
    if size_only:
      return [os.fstat(file.fileno()).st_size, None]
    while chunk := file.read(_CHUNK):
      size, crc = size + len(chunk), zlib.crc32(chunk, crc)
  return [size, crc]
