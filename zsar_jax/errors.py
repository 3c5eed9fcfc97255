"""The error that a user can correct, and quoting other errors in messages."""

import errno
import os

# The most characters of an error's text that a message quotes.
_MAX_QUOTED = 200


class UserError(Exception):
  """Bad input: one sentence that names the file or the field and the remedy.

  Programs print it without a traceback and exit with status 2. Every other exception is a defect
  of this project and keeps its traceback.
  """


def first_line(error: BaseException) -> str:
  """Returns the first line of an error's text, cut between words, to quote it in a message."""
  line = (str(error).strip() or type(error).__name__).splitlines()[0]
  if len(line) <= _MAX_QUOTED:
    return line
  return f'{line[: _MAX_QUOTED + 1].rpartition(" ")[0] or line[:_MAX_QUOTED]} ...'


def error_reason(error: BaseException) -> str:
  """Returns why an operation failed: an `OSError`'s text without the path, or the first line."""
  if isinstance(error, FileNotFoundError):
    return os.strerror(errno.ENOENT)  # Packages for buckets give the path alone.
  return getattr(error, 'strerror', None) or first_line(error)
