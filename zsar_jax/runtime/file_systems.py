"""What some file systems lack: locks, replacing a file, fsync. The work goes on with a warning."""

import contextlib
import errno
import fcntl
import os
import pathlib
import sys
import tempfile
from typing import Any

from zsar_jax.runtime import distributed

# How a file system says that it lacks something: NFS without a lock service, FUSE, shares.
_LACKING = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
_NO_REPLACING = (*_LACKING, errno.EEXIST, errno.EPERM, errno.EACCES)

LOCKS, REPLACING, SYNCING = 'locks', 'renaming over a file', 'fsync'

_CONSEQUENCES = {
  LOCKS: 'nothing keeps two processes from working in one folder',
  REPLACING: 'a process that dies while it replaces a file may lose it',
  SYNCING: 'what was written last may be lost where the machine loses its power',
}

# Of each device.
_known: dict[int, frozenset[str]] = {}


def missing_features(folder: pathlib.Path) -> frozenset[str]:
  """What the file system of a folder lacks; it is tried, and said, once in a process.

  Args:
    folder: is there.

  Returns:
    Of `LOCKS`, `REPLACING` and `SYNCING` those that it lacks.
  """
  device = os.stat(folder).st_dev
  if device not in _known:
    _known[device] = _tried(folder)
    names = [name for name in _CONSEQUENCES if name in _known[device]]
    if names and distributed.is_main():
      print(
        f'warning: the file system of {folder} lacks {", ".join(names)}:'
        f' {"; ".join(_CONSEQUENCES[name] for name in names)}',
        file=sys.stderr,
        flush=True,
      )
  return _known[device]


def lock(file: Any, wait: bool) -> None:
  """Locks an open file until it is closed, where the file system has locks.

  Raises:
    BlockingIOError: if another process has locked it and this one is not to `wait`.
  """
  try:
    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
  except OSError as error:
    if error.errno not in _LACKING:
      raise


def replace(source: pathlib.Path, target: pathlib.Path) -> None:
  """Gives a file the name of another; that is deleted before where it cannot be replaced."""
  try:
    source.replace(target)
  except OSError as error:
    if error.errno not in _NO_REPLACING or not target.is_file():
      raise
    missing_features(target.parent)
    target.unlink()
    source.rename(target)


def sync(file: Any) -> None:
  """Has the system write an open file to the disk, where the file system can be told to."""
  try:
    os.fsync(file.fileno())
  except OSError as error:
    if error.errno not in _LACKING:
      raise


def _tried(folder: pathlib.Path) -> frozenset[str]:
  """What fails for two small files."""
  found = set()
  with contextlib.ExitStack() as stack:
    try:
      files = [
        stack.enter_context(tempfile.NamedTemporaryFile(dir=folder, delete=False)) for _ in range(2)
      ]
    except OSError:
      return frozenset()  # Whoever writes there will say why it cannot be.
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
        if error.errno in _NO_REPLACING:
          found.add(name)
    for path in (first, second):
      path.unlink(missing_ok=True)
  return frozenset(found)
