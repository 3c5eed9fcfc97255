"""How programs report errors that a user can correct."""

import contextlib
import errno
import sys
from collections.abc import Iterator

from zsar_jax.errors import UserError
from zsar_jax.runtime import bucket_errors
from zsar_jax.runtime.device_errors import (
  describe_lack_of_memory,
  describe_missing_devices,
  shorten_plugin_failures,
)
from zsar_jax.runtime.streams import tolerate_closed_streams

# Errors of a disk, of a path or of the system's limits, which are no defects of a program.
_DISK = (
  *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
  *(errno.EFBIG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
)
_OPEN_FILES = (errno.EMFILE, errno.ENFILE)  # Too many, in the process or in the system.
_REMEDIES = {
  **dict.fromkeys(_DISK, 'make room, or choose another folder'),
  **dict.fromkeys(_OPEN_FILES, 'raise the limit of open files (ulimit -n)'),
}


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
  """Turns a `UserError` inside the block into one line on stderr and exit status 2.

  Also reports file-system errors that the code does not handle (a full or read-only disk, a file
  in the place of a folder, too many open files), errors of buckets, devices that JAX does not find,
  and devices without enough memory.
  """
  tolerate_closed_streams()
  shorten_plugin_failures()
  try:
    yield
  except Exception as error:
    sentence = user_message(error)
    if sentence is None:
      raise
    print(f'error: {sentence}', file=sys.stderr)
    raise SystemExit(2) from None


def user_message(error: BaseException) -> str | None:
  """Returns the sentence for an error that a user can correct; None for a defect."""
  if isinstance(error, UserError):
    return str(error)
  if described := bucket_errors.describe(error):
    return f'a bucket: {described[0]}; {described[1]}'
  if isinstance(error, OSError) and error.errno in _REMEDIES:
    return (
      f'{error.filename or "a file"}: {error.strerror}; {_REMEDIES[error.errno]}, and the same'
      ' command goes on'
    )
  if isinstance(error, AssertionError | RuntimeError):
    return describe_lack_of_memory(error) or describe_missing_devices()
  return None
