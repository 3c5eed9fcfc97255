"""Errors that a user can mend, and how the command-line programs report them."""

import contextlib
import sys
from collections.abc import Iterator


class UserError(Exception):
  """Bad input: one sentence that names the file or the field and the remedy.

  Programs print it without a traceback and exit with status 2. Everything else that
  is raised is a defect of this project and keeps its traceback.
  """


@contextlib.contextmanager
def reported() -> Iterator[None]:
  """Turns a `UserError` inside the block into one line on stderr and exit status 2."""
  try:
    yield
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    raise SystemExit(2) from None
