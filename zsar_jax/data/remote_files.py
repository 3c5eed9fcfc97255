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
from zsar_jax.runtime import bucket_errors, bucket_requests

# Ranges with at most so many bytes between them are read in one request. A connection that waits
# 30 ms for another answer could have received about as many.
_MAX_GAP = 1 << 16

_Range = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class RemoteFile:
  """A file in a bucket, some of whose bytes may be in memory already.

  Attributes:
    path: where it is.
    length: its size in bytes.
    cache: what keeps its bytes on a local disk, if anything.
    parts: (begin, bytes) of the ranges in memory, in order.
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
    """Returns the part that has a range."""
    number = bisect.bisect_right(self.parts, begin, key=lambda part: part[0]) - 1
    if number >= 0:
      start, content = self.parts[number]
      if end <= start + len(content):
        return self.parts[number]
    return None

  def missing(self, ranges: Sequence[_Range]) -> list[_Range]:
    """Returns ranges to read so that these are in memory: neighbors joined, in order."""
    joined: list[_Range] = []
    for begin, end in sorted(ranges):
      end = min(end, self.length)
      if begin >= end or self._part(begin, end):
        continue
      if joined and begin - joined[-1][1] <= _MAX_GAP:
        joined[-1] = joined[-1][0], max(end, joined[-1][1])
      else:
        joined.append((begin, end))
    return joined


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
    """
    self.path = path
    entries = bucket_requests.list_folder(path)
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
    return RemoteFile(self.path / name, self.sizes[name], self._cache)

  def copy(self, names: Iterable[str], folder: pathlib.Path) -> None:
    """Copies those of some files that exist to a folder on this machine, all at once."""
    files = [self.open(name) for name in names if name in self.sizes]
    contents = _fetch([(file, [(0, file.length)] if file.length else []) for file in files])
    for file, parts in zip(files, contents, strict=True):
      (folder / file.path.name).write_bytes(b''.join(content for _, content in parts))


def read_ahead(requests: Sequence[tuple[RemoteFile, Sequence[_Range]]]) -> list[RemoteFile]:
  """Reads ranges of several files, all at once.

  Args:
    requests: (file, ranges), each range as (begin, end) in bytes.

  Returns:
    The files, with these ranges in memory.

  Raises:
    OSError, UserError: as `bucket_requests.read_ranges` does.
  """
  missing = [(file, file.missing(ranges)) for file, ranges in requests]
  return [
    dataclasses.replace(file, parts=tuple(sorted((*file.parts, *parts)))) if parts else file
    for (file, _), parts in zip(missing, _fetch(missing), strict=True)
  ]


def _fetch(
  requests: Sequence[tuple[RemoteFile, Sequence[_Range]]],
) -> list[list[tuple[int, bytes]]]:
  """Returns (begin, bytes) of ranges of several files, from their caches or the bucket."""
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
  except OSError as error:
    if not (isinstance(error, PermissionError) or bucket_errors.is_for_lack_of_rights(error)):
      raise
    # Credentials that have expired are no damage of a clip.
    raise bucket_requests.UnreachableError(
      f'{first.path.parent}: access is denied ({error_reason(error)}); see to the credentials and'
      ' the rights, and the same command goes on'
    ) from None
  results = iter(contents)
  return [[(begin, next(results)) for begin, _ in ranges] for _, ranges in requests]
