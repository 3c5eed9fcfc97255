"""Copies of files in buckets that are kept on this machine, for what reads a file by its name."""

import atexit
import contextlib
import errno
import functools
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable, Collection
from typing import Any

from zsar_jax.runtime.progress import log
from zsar_jax.runtime.wording import format_bytes
from zsar_jax.storage import bucket_requests, buckets, locks
from zsar_jax.storage.paths import cache_folder

# Copies that no program has used for this long are deleted, in seconds.
_MAX_AGE = 7 * 86400

# Downloads from this size on are announced, in bytes.
_LARGE = 2**26

# How much of a file is read in one request, and in how many at once.
_PART_BYTES = 2**24
_PARTS = 8


def fetch(path: pathlib.Path, choose: Callable[[Collection[str]], Collection[str]]) -> pathlib.Path:
  """Returns a local copy of a file, or of a folder's files; the path itself if it is local.

  The copy is kept in the user's cache folder, and used until the objects change; without such a
  folder, until the process ends. Processes that need the same copy wait for the first of them.

  Args:
    path: a file, or a folder, whose subfolders are left out.
    choose: given the names of the files in the folder, or of those beside the file, returns which
      are copied. The file itself always is.

  Raises:
    FileNotFoundError: if the path does not exist.
    UnreachableError: if the bucket fails for too long.
  """
  if not buckets.is_remote(path):
    return path
  folder: Any = path
  entries = bucket_requests.list_folder(folder)
  # A file is listed as itself.
  is_file = path.name in entries and entries[path.name]['name'].strip('/') == folder.path.strip('/')
  if is_file:
    folder = path.parent
    entries |= bucket_requests.list_folder(folder)
  if not entries:
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
  names = sorted({*choose(entries), *((path.name,) if is_file else ())})
  versions = [
    [name, entries[name]['size'], bucket_requests.version(entries[name])] for name in names
  ]
  key = hashlib.sha256(json.dumps([str(folder), versions]).encode()).hexdigest()[:32]
  home = _copies_folder() / key
  # The name of the folder is kept, for messages.
  name_of_copy = folder.name or 'bucket'
  copy = home / 'complete' / name_of_copy
  with locks.lock_folder(home):
    if not copy.is_dir():
      size = sum(entries[name]['size'] for name in names)
      if size >= _LARGE:
        log(f'{path}: copying {format_bytes(size)} to {copy}')
      partial = home / 'partial'
      shutil.rmtree(partial, ignore_errors=True)
      (partial / name_of_copy).mkdir(parents=True)
      for name in names:
        _download(folder / name, entries[name]['size'], partial / name_of_copy / name)
      partial.rename(copy.parent)
    os.utime(home)
  return copy / path.name if is_file else copy


def _download(path: Any, size: int, file: pathlib.Path) -> None:
  """Copies an object of `size` bytes to a file."""
  parts = [(path, begin, min(begin + _PART_BYTES, size)) for begin in range(0, size, _PART_BYTES)]
  with file.open('wb') as stream:
    for first in range(0, len(parts), _PARTS):
      stream.writelines(bucket_requests.read_ranges(parts[first : first + _PARTS]))


@functools.cache
def _copies_folder() -> pathlib.Path:
  """Returns the folder of kept copies, after deleting those that were not used for long."""
  folder = cache_folder() / 'copies'
  try:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError:  # The home folder is not writable.
    folder = pathlib.Path(tempfile.mkdtemp(prefix='zsar_jax-'))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
  for home in folder.iterdir():
    with contextlib.suppress(OSError):  # Another process may delete it at the same moment.
      if home.lstat().st_mtime < time.time() - _MAX_AGE:
        shutil.rmtree(home, ignore_errors=True)
  return folder
