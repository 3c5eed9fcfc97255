"""Copies of files in buckets that are kept on this machine, for what reads a file by its name."""

import atexit
import contextlib
import errno
import functools
import hashlib
import json
import os
import pathlib
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Collection
from typing import Any

from zsar_jax.errors import UserError, error_reason
from zsar_jax.runtime.progress import log
from zsar_jax.runtime.wording import format_bytes
from zsar_jax.storage import bucket_requests, buckets, locks, web_files
from zsar_jax.storage.paths import cache_folder

# Copies that no program has used for this long are deleted, in seconds.
_MAX_AGE = 7 * 86400

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
    UserError: if the bucket fails for too long, or there is no room for the copy.
  """
  if not buckets.is_remote(path):
    return path
  folder, entries, file = _find_files(path)
  names = sorted({*choose(entries), *((file,) if file else ())})
  # What has no version is copied anew each time.
  versions = [
    (entry['size'], bucket_requests.version(entry) or secrets.token_hex(8))
    for entry in (entries[name] for name in names)
  ]
  identity = json.dumps([str(folder), names, versions])
  home = _copies_folder() / hashlib.sha256(identity.encode()).hexdigest()[:32]
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
          _download(folder / name, entries[name]['size'], partial / name_of_copy)
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
  return copy / web_files.file_name(path) if file else copy


def _find_files(path: Any) -> tuple[Any, dict[str, dict[str, Any]], str]:
  """Finds a file, with those beside it, or the files of a folder.

  Returns:
    The folder; what is said about each of its files, by name; the name of the file, or '' if the
    path is a folder.
  """
  if web_files.is_on_web(path):
    return path.parent, {path.name: web_files.find_file(path)}, path.name
  entries = bucket_requests.list_folder(path)
  # A file is listed as itself.
  if path.name in entries and entries[path.name]['name'].strip('/') == path.path.strip('/'):
    return path.parent, entries | bucket_requests.list_folder(path.parent), path.name
  if not entries and not path.is_dir():  # Nor a folder of folders.
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
  return path, entries, ''


def _download(path: Any, size: int | None, folder: pathlib.Path) -> None:
  """Copies a file of `size` bytes, which web servers may not tell, to a folder."""
  file = folder / web_files.file_name(path)
  if web_files.is_on_web(path):
    web_files.download(path, size, file)
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
