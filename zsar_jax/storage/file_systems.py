"""Works around features that some file systems lack: locks, replacing a file, fsync.

Renaming a folder, which makes a checkpoint or a data set complete, cannot be worked around.
"""

import contextlib
import errno
import fcntl
import os
import pathlib
import shutil
import sys
import tempfile
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.runtime import distributed
from zsar_jax.storage import buckets

# How file systems report a missing feature: NFS without a lock service, FUSE, network shares.
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
_CANNOT_REPLACE = (*_UNSUPPORTED, errno.EEXIST, errno.EPERM, errno.EACCES)
# gcsfuse reports more files in the folder than it is allowed to rename as EMFILE.
_CANNOT_MOVE = (*_CANNOT_REPLACE, errno.EMFILE, errno.EXDEV)

LOCKS, REPLACING, SYNCING = 'locks', 'renaming over a file', 'fsync'
MOVING = 'renaming a folder'

# The suffix of a file that is about to be replaced, where that takes two steps.
_REPLACED = '.replaced'

_CONSEQUENCES = {
  LOCKS: 'nothing keeps two processes from working in one folder',
  REPLACING: 'for a moment, other programs do not find a file that is being replaced',
  SYNCING: 'what was written last may be lost where the machine loses its power',
}

# Missing features, by device.
_missing: dict[int, frozenset[str]] = {}


def missing_features(folder: pathlib.Path) -> frozenset[str]:
  """Returns the features that a folder's file system lacks, among the constants above.

  The first call for a file system tries them out, and warns if one of the first three is missing.

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
  """Renames a file over another one, in two steps on file systems that cannot replace.

  If the process dies between them, the old file has another name; see `restore_replaced`.
  """
  try:
    source.replace(target)
  except OSError as error:
    if error.errno not in _CANNOT_REPLACE or not target.is_file():
      raise
    missing_features(target.parent)
    old = target.with_name(target.name + _REPLACED)
    old.unlink(missing_ok=True)
    target.rename(old)
    source.rename(target)
    old.unlink()


def restore_replaced(folder: pathlib.Path) -> None:
  """Gives the files in a folder that `replace` had moved when its process died their names back."""
  for old in folder.glob(f'*{_REPLACED}'):
    target = old.with_name(old.name.removesuffix(_REPLACED))
    if target.exists():
      old.unlink()
    else:
      old.rename(target)


def check_moving(folder: pathlib.Path, field: str) -> None:
  """Raises a `UserError` if the file system of a folder cannot rename folders.

  Args:
    folder: must exist. In a bucket, nothing is renamed.
    field: the flag that names it.
  """
  if not buckets.is_remote(folder) and MOVING in missing_features(folder):
    raise UserError(
      f'{field}: the file system of {folder} cannot rename a folder, which is how checkpoints and'
      ' data sets become complete; name a folder elsewhere (or, for a bucket that gcsfuse mounts,'
      ' its gs:// URL or the option --rename-dir-limit)'
    )


def sync(file: Any) -> None:
  """Flushes an open file to the disk; does nothing on file systems without fsync."""
  try:
    os.fsync(file.fileno())
  except OSError as error:
    if error.errno not in _UNSUPPORTED:
      raise


def _try_features(folder: pathlib.Path) -> frozenset[str]:
  """Returns the features that fail for two small files, or for a folder with one of them."""
  failed = set()
  with contextlib.ExitStack() as stack:
    try:
      files = [
        stack.enter_context(tempfile.NamedTemporaryFile(dir=folder, delete=False)) for _ in range(2)
      ]
    except OSError:
      return frozenset()  # Whoever writes to the folder will report it.
    first, second = (pathlib.Path(file.name) for file in files)
    parent, moved = first.with_suffix('.folder'), first.with_suffix('.moved')
    attempts = {
      LOCKS: lambda: fcntl.flock(files[0], fcntl.LOCK_EX | fcntl.LOCK_NB),
      SYNCING: lambda: os.fsync(files[0].fileno()),
      REPLACING: lambda: first.replace(second),
      MOVING: lambda: parent.rename(moved),
    }
    with contextlib.suppress(OSError):
      parent.mkdir()
      (parent / 'file').touch()
    for name, attempt in attempts.items():
      try:
        attempt()
      except OSError as error:
        if error.errno in (_CANNOT_MOVE if name == MOVING else _CANNOT_REPLACE):
          failed.add(name)
    for path in (first, second):
      path.unlink(missing_ok=True)
    for path in (parent, moved):
      shutil.rmtree(path, ignore_errors=True)
  return frozenset(failed)
