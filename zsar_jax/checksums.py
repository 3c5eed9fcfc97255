"""Checksums of a folder's files, kept beside them, which tell whether it came through whole.

Neither the file system nor the arrays' format says that bytes have changed on disk.
"""

import json
import os
import pathlib
import zlib
from collections.abc import Collection

FILE = 'checksums.json'

_CHUNK = 1 << 24


def write(folder: pathlib.Path, but: Collection[str] = ()) -> None:
  """Writes {path: [bytes, CRC-32]} of the folder's files into it, when they all are on the disk.

  Args:
    folder: which.
    but: names of files that are left out.
  """
  sums = {}
  for path in sorted(folder.rglob('*')):
    if path.is_file() and path.name not in (FILE, *but):
      sums[path.relative_to(folder).as_posix()] = _sum(path, durable=True)
  with (folder / FILE).open('w') as file:
    json.dump(sums, file)
    file.flush()
    os.fsync(file.fileno())


def damage(folder: pathlib.Path) -> str | None:
  """What is wrong with a folder, in words; None where all is as it was written.

  A folder without checksums, which was written by something else, is taken as it is.
  """
  try:
    sums = json.loads((folder / FILE).read_text())
    for name, expected in sums.items():
      if not (folder / name).resolve().is_relative_to(folder.resolve()):
        return f'{FILE} lists {name!r}, which lies elsewhere'
      found = _sum(folder / name)
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


def _sum(path: pathlib.Path, durable: bool = False) -> list[int]:
  """[bytes, CRC-32] of a file; `durable` has the system write it to the disk first."""
  size = crc = 0
  with path.open('rb') as file:
    if durable:
      os.fsync(file.fileno())
    while chunk := file.read(_CHUNK):
      size, crc = size + len(chunk), zlib.crc32(chunk, crc)
  return [size, crc]
