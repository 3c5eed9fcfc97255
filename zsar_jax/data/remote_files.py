"""Files of a data set in a bucket, of which ranges are read, neighbors in one request."""

import bisect
import dataclasses
import errno
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from zsar_jax.data.shard_cache import CacheSettings, ShardCache
from zsar_jax.errors import UserError, error_reason
from zsar_jax.runtime import bucket_errors
from zsar_jax.storage import bucket_requests
from zsar_jax.storage.files import naming

# Ranges with at most so many bytes between them are read in one request. A connection that waits
# 30 ms for another answer could have received about as many.
_MAX_GAP = 1 << 16

# A joined range that has more bytes is followed by another one, as several connections are faster.
_MAX_JOINED = 1 << 20

_Range = tuple[int, int]

# A file, and ranges of it to have in memory.
RangeRequest = tuple['RemoteFile', Sequence[_Range]]


@dataclasses.dataclass(frozen=True)
class RemoteFile:
  """A file in a bucket, some of whose bytes may be in memory already.

  Attributes:
    path: where it is.
    length: its size in bytes.
    cache: what keeps its bytes on a local disk, if anything.
    parts: (begin, bytes) of the ranges in memory.
  """

  path: Any
  length: int
  cache: ShardCache | None = None
  parts: tuple[tuple[int, bytes], ...] = ()

  @property
  def name(self) -> str:
    """The URL."""
    return str(self.path)

  def size(self) -> int:
    """Returns the size in bytes."""
    return self.length

  def read(self, start: int, size: int) -> bytes:
    """Reads `size` bytes from `start` on, from memory if they are there.

    Raises:
      UserError: if the file has fewer.
      OSError, UnreachableError: as `bucket_requests.read_ranges` does.
    """
    if start + size > self.length:
      raise UserError(f'{self.name} is cut short; copy it again or build the data set again')
    part = self._part(start, start + size)
    if part is None:
      ((part,),) = _fetch([(self, [(start, start + size)])])
    begin, content = part
    return content[start - begin : start - begin + size]

  def _part(self, begin: int, end: int) -> tuple[int, bytes] | None:
    """Returns a part that has a range."""
    for part in self.parts:
      start, content = part
      if start <= begin and end <= start + len(content):
        return part
    return None

  def missing(self, ranges: Sequence[_Range]) -> list[_Range]:
    """Returns those of the ranges that are not in memory, cut at the end of the file."""
    return [
      (begin, min(end, self.length))
      for begin, end in ranges
      if begin < min(end, self.length) and not self._part(begin, min(end, self.length))
    ]


class RemoteFolder:
  """The folder of a data set in a bucket, as it was when this object was made.

  Attributes:
    path: the folder.
    sizes: the sizes of its files in bytes, by name.
    versions: texts that differ for another content of a file, by name.
  """

  def __init__(self, path: Any, cache: CacheSettings | None):
    """Lists the folder.

    Args:
      path: the folder.
      cache: what keeps the bytes that are read.

    Raises:
      OSError, UnreachableError: if it cannot be listed.
      UserError: if it is on a server that tells no sizes of files.
    """
    self.path = path
    self._files: dict[str, RemoteFile] = {}
    entries = bucket_requests.list_folder(path)
    if any(entry['size'] is None for entry in entries.values()):  # Of web servers.
      raise UserError(
        f'{path}: a data set is not read from {path.protocol}://, which tells no sizes of files;'
        ' copy it to a bucket or a disk'
      )
    self.sizes = {name: int(entry['size']) for name, entry in entries.items()}
    self.versions = {name: bucket_requests.version(entry) for name, entry in entries.items()}
    self._cache = None
    if cache:
      files = {name: (size, self.versions[name]) for name, size in self.sizes.items()}
      self._cache = ShardCache(cache, str(path), files)

  def open(self, name: str) -> RemoteFile:
    """Returns a file, of which nothing is read yet; raises `OSError` if there is none."""
    if name not in self.sizes:
      raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path / name))
    file = self._files.get(name)
    if file is None:
      file = self._files[name] = RemoteFile(self.path / name, self.sizes[name], self._cache)
    return file

  def copy(self, names: Iterable[str], folder: pathlib.Path) -> None:
    """Copies those of some files that exist to a folder on this machine, all at once."""
    files = [self.open(name) for name in names if name in self.sizes]
    contents = _fetch([(file, [(0, file.length)] if file.length else []) for file in files])
    for file, parts in zip(files, contents, strict=True):
      copy = folder / file.path.name
      with naming(copy):
        copy.write_bytes(b''.join(content for _, content in parts))


def read_ahead(requests: Sequence[RangeRequest]) -> list[RemoteFile]:
  """Reads ranges of files, all at once, and ranges of the same file that are neighbors in one.

  Args:
    requests: (file, ranges), each range as (begin, end) in bytes. A file may be in several.

  Returns:
    The file of each request, with its ranges in memory.

  Raises:
    OSError: if an object does not exist.
    UnreachableError: if the bucket fails for too long, or denies access.
  """
  missing = [(file, file.missing(ranges)) for file, ranges in requests]
  by_file: dict[Any, tuple[RemoteFile, list[_Range]]] = {}
  for file, ranges in missing:
    by_file.setdefault(file.path, (file, []))[1].extend(ranges)
  joined = [(file, _join(ranges)) for file, ranges in by_file.values()]
  parts = dict(zip(by_file, _fetch(joined), strict=True))
  return [_add_parts(file, ranges, parts[file.path]) for file, ranges in missing]


def _join(ranges: Sequence[_Range]) -> list[_Range]:
  """Returns fewer ranges that contain these, in order of their beginnings."""
  joined: list[_Range] = []
  for begin, end in sorted(ranges):
    if joined:
      first, last = joined[-1]
      if end <= last or (begin - last <= _MAX_GAP and end - first <= _MAX_JOINED):
        joined[-1] = first, max(end, last)
        continue
    joined.append((begin, end))
  return joined


def _add_parts(
  file: RemoteFile, ranges: Sequence[_Range], parts: Sequence[tuple[int, bytes]]
) -> RemoteFile:
  """Returns a file with those of the parts in memory that contain some of the ranges."""
  if not ranges:
    return file
  begins = [begin for begin, _ in parts]
  numbers = sorted({bisect.bisect_right(begins, begin) - 1 for begin, _ in ranges})
  added = (parts[number] for number in numbers)
  return dataclasses.replace(file, parts=(*file.parts, *added))


def _fetch(requests: Sequence[RangeRequest]) -> list[list[tuple[int, bytes]]]:
  """Returns (begin, bytes) of ranges of several files, from their cache or the bucket."""
  items = [(file, *item) for file, ranges in requests for item in ranges]
  if not items:
    return [[] for _ in requests]
  first = items[0][0]
  try:
    if first.cache:  # Of the data set that all of the files belong to.
      contents = first.cache.read(
        [(file.path, file.length, begin, end) for file, begin, end in items]
      )
    else:
      contents = bucket_requests.read_ranges(
        [(file.path, begin, end) for file, begin, end in items]
      )
  except Exception as error:  # Each package for buckets raises classes of its own.
    if not (isinstance(error, PermissionError) or bucket_errors.is_for_lack_of_rights(error)):
      raise
    # Credentials that have expired are no damage of a clip.
    raise bucket_requests.UnreachableError(
      f'{first.path.parent}: access is denied ({error_reason(error)}); see to the credentials and'
      ' the rights, and the same command goes on'
    ) from None
  results = iter(contents)
  return [[(begin, next(results)) for begin, _ in ranges] for _, ranges in requests]
