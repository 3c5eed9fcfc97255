"""Keeps on a local disk what was read of a data set in a bucket.

    {folder}/zsar_jax-{key}/    one data set: the key is a hash of its URL, and of the names, sizes
                                and versions of its files, so that builds are never mixed
      url.txt                   its URL; touched while it is in use
      {file}                    the blocks of a file that were read, each where it is in the file
      {file}.crc                u32 per block: its checksum, or 0 for a block that is not there

The files are filled while they are read, by any number of processes at once. A block is written
before its checksum, and compared with it at each reading. So a process may be killed at any moment,
and a disk may lose or damage blocks: they are read from the bucket again.

If the folder is full, data sets that were not used for longest are deleted, and then nothing more
is added. Random access to a data set larger than the cache would replace each block before it is
read again.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import struct
import sys
import threading
import time
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

from zsar_jax.errors import error_reason
from zsar_jax.storage import bucket_requests

BLOCK = 1 << 16

_PREFIX = 'zsar_jax-'
_URL_FILE = 'url.txt'

# Before a process has written this share of the free space, it measures the space again. So up to
# as many processes at once stay within the limit.
_SHARE_WRITTEN = 64
_MAX_WRITTEN = 1 << 24

# The most consecutive blocks that are read in one request and then written: 1 MiB.
_MAX_RUN = 16

# Bytes of the disk that the cache leaves free, for checkpoints and other programs.
_LEFT_FREE = 1 << 30

# Seconds between touches of the URL's file, and after which a data set counts as unused.
_TOUCH_SECONDS = 300.0
_UNUSED_SECONDS = 3600.0

# Seconds for which a full cache is not measured again.
_FULL_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class CacheSettings:
  """Where data of buckets is kept, and how much: `config.data.cache` and `cache_gib`.

  Attributes:
    folder: a folder on this machine, which other processes and runs may use at once.
    limit: the size of everything in it, in bytes.
  """

  folder: pathlib.Path
  limit: int


def cache_settings(data: Any) -> CacheSettings | None:
  """Returns the cache of `config.data`; None if it has none."""
  if not data.cache:
    return None
  return CacheSettings(pathlib.Path(data.cache).absolute(), int(data.cache_gib * 2**30))


@dataclasses.dataclass
class _State:
  """What this process knows about a cache, or about a data set in it."""

  lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
  allowance: int = 0  # Bytes that may be written before the space is measured again.
  full_until: float = 0.0
  touched: float = float('-inf')
  failed: bool = False


class ShardCache:
  """The part of a cache that has one data set."""

  def __init__(self, settings: CacheSettings, url: str, files: dict[str, tuple[int, str]]):
    """Creates nothing yet.

    Args:
      settings: the cache.
      url: the data set's folder.
      files: {name: (size, version)} of its files.
    """
    key = hashlib.sha256(json.dumps([url, sorted(files.items())]).encode()).hexdigest()[:24]
    self._settings, self._url = settings, url
    self.folder = settings.folder / f'{_PREFIX}{key}'

  def read(self, ranges: Sequence[tuple[Any, int, int, int]]) -> list[bytes]:
    """Reads ranges of the data set's files; from the bucket what is not in the cache.

    Args:
      ranges: (path, size of the file, begin, end) in bytes.

    Raises:
      OSError, UnreachableError: as `bucket_requests.read_ranges` does.
    """
    self._touch()
    paths = {path.name: (path, size) for path, size, _, _ in ranges}
    needed: dict[str, set[int]] = {name: set() for name in paths}
    for path, _, begin, end in ranges:
      needed[path.name].update(range(begin // BLOCK, -(-end // BLOCK)))
    blocks: dict[tuple[str, int], bytes] = {}
    missing: list[tuple[str, int, int]] = []
    for name, numbers in needed.items():
      cached = self._load(name, sorted(numbers), paths[name][1])
      blocks.update({(name, number): block for number, block in cached.items()})
      missing += [(name, *run) for run in _runs(numbers - cached.keys())]
    requests = []
    for name, first, last in missing:
      path, size = paths[name]
      requests.append((path, first * BLOCK, min(size, (last + 1) * BLOCK)))
    contents = bucket_requests.read_ranges(requests) if requests else []
    for (name, first, _), content in zip(missing, contents, strict=True):
      new = {
        first + start // BLOCK: content[start : start + BLOCK]
        for start in range(0, len(content), BLOCK)
      }
      blocks.update({(name, number): block for number, block in new.items()})
      self._store(name, new)
    return [
      b''.join(
        blocks[path.name, number][max(0, begin - number * BLOCK) : max(0, end - number * BLOCK)]
        for number in range(begin // BLOCK, -(-end // BLOCK))
      )
      for path, _, begin, end in ranges
    ]

  def _load(self, name: str, numbers: Sequence[int], size: int) -> dict[int, bytes]:
    """Returns those of the blocks of a file that are in the cache and whole."""
    cached = {}
    try:
      with contextlib.ExitStack() as stack:
        sums, data = (
          stack.enter_context(open(path, 'rb', buffering=0)).fileno() for path in self._files(name)
        )
        for number in numbers:
          (expected,) = struct.unpack('<I', os.pread(sums, 4, 4 * number) or bytes(4))
          if expected:
            block = os.pread(data, min(BLOCK, size - number * BLOCK), number * BLOCK)
            if _checksum(block, number) == expected:
              cached[number] = block
    except (OSError, struct.error):  # Not there, deleted meanwhile, or a disk that fails.
      pass
    return cached

  def _store(self, name: str, blocks: dict[int, bytes]) -> None:
    """Adds blocks of a file, if there is room."""
    if not self._may_write(sum(map(len, blocks.values()))):
      return
    try:
      self.folder.mkdir(parents=True, exist_ok=True)
      with contextlib.ExitStack() as stack:
        sums, data = (_open(stack, path) for path in self._files(name))
        for number, block in blocks.items():
          _write(data, block, number * BLOCK)
          _write(sums, struct.pack('<I', _checksum(block, number)), 4 * number)
    except OSError as error:
      self._give_up(error)

  def _files(self, name: str) -> tuple[pathlib.Path, pathlib.Path]:
    """Returns the paths of a file's checksums and blocks."""
    return self.folder / f'{name}.crc', self.folder / name

  def _touch(self) -> None:
    """Marks the data set as used, once in a while."""
    state = _state(self.folder)
    now = time.monotonic()
    if _state(self._settings.folder).failed or now - state.touched < _TOUCH_SECONDS:
      return
    state.touched = now
    try:
      self.folder.mkdir(parents=True, exist_ok=True)
      (self.folder / _URL_FILE).write_text(self._url)
    except OSError as error:
      self._give_up(error)

  def _may_write(self, size: int) -> bool:
    """Returns whether there is room for `size` more bytes."""
    state = _state(self._settings.folder)
    with state.lock:
      if state.failed:
        return False
      if state.allowance < size:
        if time.monotonic() < state.full_until:
          return False
        try:
          free = self._free()
        except OSError as error:
          self._give_up(error)
          return False
        state.allowance = max(0, min(_MAX_WRITTEN, free // _SHARE_WRITTEN))
        if state.allowance < size:
          state.full_until = time.monotonic() + _FULL_SECONDS
          return False
      state.allowance -= size
      return True

  def _free(self) -> int:
    """Returns how many bytes may be added; deletes unused data sets if there is no room."""
    folder, limit = self._settings.folder, self._settings.limit
    used = {path: _used_bytes(path) for path in folder.glob(f'{_PREFIX}*')}
    space = shutil.disk_usage(folder).free - _LEFT_FREE
    free = min(limit - sum(used.values()), space)
    for path in _unused(used.keys() - {self.folder}):
      if free // _SHARE_WRITTEN >= _MAX_RUN * BLOCK:
        break
      shutil.rmtree(path, ignore_errors=True)
      free += used[path] - _used_bytes(path)  # Those of another user may stay.
    return free

  def _give_up(self, error: OSError) -> None:
    """Stops adding to the cache."""
    state = _state(self._settings.folder)
    if not state.failed:
      state.failed = True
      print(
        f'config.data.cache: {self._settings.folder} cannot be written ({error_reason(error)});'
        ' going on without keeping more',
        file=sys.stderr,
        flush=True,
      )


_states: dict[pathlib.Path, _State] = {}


def _state(folder: pathlib.Path) -> _State:
  """Returns what this process knows about a cache, or about a data set in it."""
  return _states.setdefault(folder, _State())


def _checksum(block: bytes, number: int) -> int:
  """Returns the checksum of a block; it is never 0, and another one in another place."""
  return zlib.crc32(block, number) or 1


def _runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
  """Returns the first and the last of each run of at most `_MAX_RUN` consecutive numbers."""
  runs: list[tuple[int, int]] = []
  for number in sorted(numbers):
    if runs and runs[-1][1] == number - 1 and number - runs[-1][0] < _MAX_RUN:
      runs[-1] = runs[-1][0], number
    else:
      runs.append((number, number))
  return runs


def _open(stack: contextlib.ExitStack, path: pathlib.Path) -> int:
  """Opens a file for writing anywhere in it."""
  descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
  stack.callback(os.close, descriptor)
  return descriptor


def _write(descriptor: int, content: bytes, start: int) -> None:
  if os.pwrite(descriptor, content, start) != len(content):
    raise OSError(None, 'the disk is full')


def _used_bytes(folder: pathlib.Path) -> int:
  """Returns the disk space of a folder's files, which have holes."""
  used = 0
  with contextlib.suppress(OSError), os.scandir(folder) as entries:
    for entry in entries:
      with contextlib.suppress(OSError):
        used += 512 * entry.stat().st_blocks
  return used


def _unused(folders: Iterable[pathlib.Path]) -> list[pathlib.Path]:
  """Returns those data sets that no process uses, the longest unused first."""
  unused = []
  for folder in folders:
    try:
      age = time.time() - (folder / _URL_FILE).stat().st_mtime
    except OSError:
      continue
    if age > _UNUSED_SECONDS:
      unused.append((-age, folder))
  return [folder for _, folder in sorted(unused)]
