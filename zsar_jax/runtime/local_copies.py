"""Copies of files in buckets that are kept on this machine, for what reads a file by its name."""

import atexit
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from zsar_jax.runtime import buckets, locks
from zsar_jax.runtime.paths import cache_folder
from zsar_jax.runtime.progress import log
from zsar_jax.runtime.wording import format_bytes

# Copies that no program has used for this long are deleted, in seconds.
_MAX_AGE = 7 * 86400

# Downloads from this size on are announced, in bytes.
_LARGE = 2**26

# What object stores call the version of an object: S3, GCS, and others.
_VERSIONS = ('ETag', 'etag', 'generation', 'md5Hash', 'LastModified', 'mtime', 'created')


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
    OSError: if an object is read incompletely.
  """
  if not buckets.is_remote(path):
    return path
  remote: Any = path
  is_folder = path.is_dir()
  folder: Any = path if is_folder else path.parent
  entries = {
    entry['name'].rpartition('/')[2]: entry
    for entry in remote.fs.ls(folder.path, detail=True)
    if entry['type'] == 'file'
  }
  if not is_folder and path.name not in entries:
    raise FileNotFoundError(2, 'No such file', str(path))
  names = sorted({*choose(entries), *(() if is_folder else (path.name,))})
  versions = [
    [name, *(str(entries[name].get(key)) for key in ('size', *_VERSIONS))] for name in names
  ]
  key = hashlib.sha256(json.dumps([str(folder), versions]).encode()).hexdigest()[:32]
  home = _copies_folder() / key
  # The name of the folder is kept, for messages.
  copy = home / (folder.name or 'bucket')
  with locks.lock_folder(home):
    if not copy.is_dir():
      size = sum(entries[name].get('size') or 0 for name in names)
      if size >= _LARGE:
        log(f'{path}: copying {format_bytes(size)} to {copy}')
      partial = home / 'partial'
      shutil.rmtree(partial, ignore_errors=True)
      partial.mkdir()
      _download(remote.fs, [entries[name] for name in names], partial)
      partial.rename(copy)
    os.utime(home)
  return copy if is_folder else copy / path.name


def _download(fs: Any, entries: Sequence[dict[str, Any]], folder: pathlib.Path) -> None:
  """Downloads files into a folder.

  Raises:
    OSError: if a file has another size then.
  """
  files = [folder / entry['name'].rpartition('/')[2] for entry in entries]
  if files:
    fs.get([entry['name'] for entry in entries], [os.fspath(file) for file in files])
  for entry, file in zip(entries, files, strict=True):
    if entry.get('size') is not None and file.stat().st_size != entry['size']:
      raise OSError(5, f'read {file.stat().st_size} of {entry["size"]} bytes', entry['name'])


def _copies_folder() -> pathlib.Path:
  """Returns the folder of kept copies, after deleting those that were not used for long."""
  folder = cache_folder() / 'copies'
  try:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.access(folder, os.W_OK):
      for home in folder.iterdir():
        if home.stat().st_mtime < time.time() - _MAX_AGE:
          shutil.rmtree(home, ignore_errors=True)
      return folder
  except OSError:
    pass  # The home folder is not writable, or another process deletes the same copy.
  folder = pathlib.Path(tempfile.mkdtemp(prefix='zsar_jax-'))
  atexit.register(shutil.rmtree, folder, ignore_errors=True)
  return folder
