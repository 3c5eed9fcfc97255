"""Works around features that some file systems lack: locks, replacing a file, fsync."""

import contextlib
import errno
import fcntl
import os
import pathlib
import sys
import tempfile
from typing import Any

from zsar_jax.runtime import distributed

# How file systems report a missing feature: NFS without a lock service, FUSE, network shares.
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
_CANNOT_REPLACE = (*_UNSUPPORTED, errno.EEXIST, errno.EPERM, errno.EACCES)

LOCKS, REPLACING, SYNCING = 'locks', 'renaming over a file', 'fsync'

_CONSEQUENCES = {
  LOCKS: 'nothing keeps two processes from working in one folder',
  REPLACING: 'a process that dies while it replaces a file may lose it',
  SYNCING: 'what was written last may be lost where the machine loses its power',
}

# Missing features, by device.
_missing: dict[int, frozenset[str]] = {}


def missing_features(folder: pathlib.Path) -> frozenset[str]:
  """Returns the features that a folder's file system lacks, among LOCKS, REPLACING and SYNCING.

  The first call for a file system tries them out, and warns if one is missing.

  Args:
    folder: must exist.
  """
  device = os.stat(folder).st_dev
  if device not in _missing:
    _missing[device] = _try_features(folder)
    names = [name for name in _CONSEQUENCES if name in _missing[device]]
    if names and distributed.is_main():
      print(
        f'warning: the file system of {folder} lacks {", ".join(names)}:'
        f' {"; ".join(_CONSEQUENCES[name] for name in names)}',
        file=sys.stderr,
        flush=True,
      )
  return _missing[device]


def lock(file: Any, wait: bool) -> None:
  """Locks an open file until it is closed; does nothing on file systems without locks.

  Raises:
    BlockingIOError: if another process holds the lock and `wait` is false.
  """
  try:
    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
  except OSError as error:
    if error.errno not in _UNSUPPORTED:
      raise


def replace(source: pathlib.Path, target: pathlib.Path) -> None:
  """Renames a file over another one; deletes that first on file systems that cannot replace."""
  try:
    source.replace(target)
  except OSError as error:
    if error.errno not in _CANNOT_REPLACE or not target.is_file():
      raise
    missing_features(target.parent)
    target.unlink()
    source.rename(target)


def sync(file: Any) -> None:
  """Flushes an open file to the disk; does nothing on file systems without fsync."""
  try:
    os.fsync(file.fileno())
  except OSError as error:
    if error.errno not in _UNSUPPORTED:
      raise


def _try_features(folder: pathlib.Path) -> frozenset[str]:
  """Returns the features that fail for two small files."""
  failed = set()
  with contextlib.ExitStack() as stack:
    try:
      files = [
        stack.enter_context(tempfile.NamedTemporaryFile(dir=folder, delete=False)) for _ in range(2)
      ]
    except OSError:
      return frozenset()  # Whoever writes to the folder will report it.
    first, second = (pathlib.Path(file.name) for file in files)
    attempts = {
      LOCKS: lambda: fcntl.flock(files[0], fcntl.LOCK_EX | fcntl.LOCK_NB),
      SYNCING: lambda: os.fsync(files[0].fileno()),
      REPLACING: lambda: first.replace(second),
    }
    for name, attempt in attempts.items():
      try:
        attempt()
      except OSError as error:
        if error.errno in _CANNOT_REPLACE:
          failed.add(name)
    for path in (first, second):
      path.unlink(missing_ok=True)
  return frozenset(failed)
