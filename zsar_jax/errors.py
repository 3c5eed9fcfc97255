"""Errors that a user can mend, and how the command-line programs report them."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

from zsar_jax.streams import keep_streams

# What is wrong with a disk or a path, or with the limits of the system, and not with a program.
_DISK = (
  *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
  *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
)
_HANDLES = (errno.EMFILE, errno.ENFILE)
_REMEDIES = {
  **dict.fromkeys(_DISK, 'make room, or choose another folder'),
  **dict.fromkeys(_HANDLES, 'raise the limit of open files (ulimit -n)'),
}

# The longest reason that a sentence quotes, in characters.
_REASON = 200


class UserError(Exception):
  """Bad input: one sentence that names the file or the field and the remedy.

  Programs print it without a traceback and exit with status 2. Everything else that
  is raised is a defect of this project and keeps its traceback.
  """


def first_line(error: BaseException) -> str:
  """The first line of what an error of a library says, for a sentence; cut between words."""
  line = (str(error).strip() or type(error).__name__).splitlines()[0]
  if len(line) <= _REASON:
    return line
  return f'{line[: _REASON + 1].rpartition(" ")[0] or line[:_REASON]} ...'


@contextlib.contextmanager
def reported() -> Iterator[None]:
  """Turns a `UserError` inside the block into one line on stderr and exit status 2.

  A disk that is full or cannot be written to, a file where a folder should be, or too many open
  files, of which the place is not foreseen, is one too; so are devices that JAX does not find.
  """
  keep_streams()
  try:
    yield
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    raise SystemExit(2) from None
  except OSError as error:
    if error.errno not in _REMEDIES:
      raise
    print(
      f'error: {error.filename or "a file"}: {error.strerror}; {_REMEDIES[error.errno]}, and the'
      ' same command goes on',
      file=sys.stderr,
    )
    raise SystemExit(2) from None
  except (AssertionError, RuntimeError):
    failure = _failure_of_devices()
    if failure is None:
      raise
    print(
      f'error: JAX_PLATFORMS={os.environ["JAX_PLATFORMS"]}: JAX has no such devices here'
      f' ({first_line(failure)}); unset it, correct it (cpu, cuda, tpu, ...), or install what JAX'
      " needs for them (pip install 'jax[cuda12]' or 'jax[tpu]')",
      file=sys.stderr,
    )
    raise SystemExit(2) from None


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
