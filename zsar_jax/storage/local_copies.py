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

from zsar_jax.errors import UserError, error_reason
from zsar_jax.runtime.progress import log
from zsar_jax.runtime.wording import format_bytes
from zsar_jax.storage import bucket_requests, buckets, locks
from zsar_jax.storage.paths import cache_folder

# Copies that no program has used for this long are deleted, in seconds.
_MAX_AGE = 7 * 86400

_WEB = ('http', 'https')

# Downloads from this size on are announced, in bytes.
_LARGE = 2**26

# How much of a file is read in one request, and in how many at once, which share the network.
_PART_BYTES = 2**22
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
  if folder.protocol in _WEB:
    # A web server lists no folder, and not what is beside a file.
    is_file, entries = True, {path.name: folder.fs.info(folder.path)}
    folder = path.parent
  else:
    entries = bucket_requests.list_folder(folder)
    # A file is listed as itself.
    is_file = path.name in entries and entries[path.name]['name'].strip('/') == folder.path.strip(
      '/'
    )
    if is_file:
      folder = path.parent
      entries |= bucket_requests.list_folder(folder)
    elif not entries and not path.is_dir():  # Nor a folder of folders.
      raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
  names = sorted({*choose(entries), *((path.name,) if is_file else ())})
  versions = [
    [name, entries[name]['size'], bucket_requests.version(entries[name])] for name in names
  ]
  key = hashlib.sha256(json.dumps([str(folder), versions]).encode()).hexdigest()[:32]
  home = _copies_folder() / key
  # The names are kept, for messages and for what they say of the content.
  name_of_copy = folder.name or 'bucket'
  copy = home / 'complete' / name_of_copy
  with locks.lock_folder(home):
    if not copy.is_dir():
      size = sum(entries[name]['size'] or 0 for name in names)
      if size >= _LARGE:
        log(f'{path}: copying {format_bytes(size)} to {copy}')
      partial = home / 'partial'
      shutil.rmtree(partial, ignore_errors=True)
      try:
        (partial / name_of_copy).mkdir(parents=True)
        for name in names:
          _download(folder / name, entries[name]['size'], partial / name_of_copy / _local(name))
      except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
          raise UserError(
            f'{path} cannot be copied to {home} ({error_reason(error)}); make room there, or set'
            ' XDG_CACHE_HOME to another folder'
          ) from None
        raise
      partial.rename(copy.parent)
    os.utime(home)
  return copy / _local(path.name) if is_file else copy


def _local(name: str) -> str:
  """Returns the name of an object's copy: without the query of a web address."""
  return name.partition('?')[0]


def _download(path: Any, size: int | None, file: pathlib.Path) -> None:
  """Copies an object of `size` bytes to a file; None on web servers that do not tell it."""
  if path.protocol in _WEB:  # Not all of them read ranges.
    path.fs.get_file(path.path, str(file))
    return
  assert size is not None, f'{path} has no size'
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
