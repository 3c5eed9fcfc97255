"""How programs report errors that a user can correct."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

from zsar_jax.errors import UserError, first_line
from zsar_jax.runtime.streams import tolerate_closed_streams

# What is wrong with a disk or a path, or with the limits of the system, and not with a program.
_DISK = (
  *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
  *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
)
# Too many open files, of the process or of the system.
_HANDLES = (errno.EMFILE, errno.ENFILE)
_REMEDIES = {
  **dict.fromkeys(_DISK, 'make room, or choose another folder'),
  **dict.fromkeys(_HANDLES, 'raise the limit of open files (ulimit -n)'),
}


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
  """Turns a `UserError` inside the block into one line on stderr and exit status 2.

  A disk that is full or cannot be written to, a file where a folder should be, or too many open
  files, of which the place is not foreseen, is one too; so are devices that JAX does not find.
  """
  tolerate_closed_streams()
  try:
    yield
  except (UserError, OSError, AssertionError, RuntimeError) as error:
    sentence = user_message(error)
    if sentence is None:
      raise
    print(f'error: {sentence}', file=sys.stderr)
    raise SystemExit(2) from None


def user_message(error: BaseException) -> str | None:
  """The sentence for an error that a user can correct; None for a defect of this project."""
  if isinstance(error, UserError):
    return str(error)
  if isinstance(error, OSError) and error.errno in _REMEDIES:
    return (
      f'{error.filename or "a file"}: {error.strerror}; {_REMEDIES[error.errno]}, and the same'
      ' command goes on'
    )
  if isinstance(error, AssertionError | RuntimeError) and (failure := _failure_of_devices()):
    return (
      f'JAX_PLATFORMS={os.environ["JAX_PLATFORMS"]}: JAX has no such devices here'
      f' ({first_line(failure)}); unset it, correct it (cpu, cuda, tpu, ...), or install what JAX'
      " needs for them (pip install 'jax[cuda12]' or 'jax[tpu]')"
    )
  return None


def _failure_of_devices() -> Exception | None:
  """What JAX says where it does not find the devices that it is told to take.

  It is asked again: its error may be an assertion, with a traceback that does not lead to JAX.
  """
  if 'jax' in sys.modules and os.environ.get('JAX_PLATFORMS'):
    try:
      sys.modules['jax'].devices()
    except Exception as error:
      return error
  return None
