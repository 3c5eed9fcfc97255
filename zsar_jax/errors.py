"""The error that a user can correct, and how messages quote other errors."""

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
