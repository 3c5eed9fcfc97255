"""Makes what programs print safe for a terminal.

Names of classes, clips and files come from strangers. They may hold escape sequences, which move
the cursor, recolor the screen or set the clipboard. `escape_output` filters stdout and stderr, so
that code which prints needs no care; progress lines bypass the filter to move the cursor.
"""

import io
import re
import sys
from typing import Any

# Control characters except tab and newline, and what reverses the direction of text, see Unicode
# Standard Annex 9. A carriage return lets a name overwrite what stands before it.
_UNSAFE = re.compile('[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]')


def escape_control_chars(text: str) -> str:
  r"""Text with control characters written out, such as \x1b for an escape."""
  return _UNSAFE.sub(lambda match: match[0].encode('unicode_escape').decode(), text)


class _Visible:
  """A text stream to which only `escape_control_chars` text is written."""

  def __init__(self, stream: Any):
    self.stream = stream

  def write(self, text: str) -> int:
    self.stream.write(escape_control_chars(text))
    return len(text)

  def writelines(self, lines: Any) -> None:
    for line in lines:
      self.write(line)

  def __getattr__(self, name: str) -> Any:
    return getattr(self.stream, name)


def escape_output() -> None:
  """Filters stdout and stderr from here on; letters that they cannot encode are written out."""
  for name in ('stdout', 'stderr'):
    stream = getattr(sys, name)
    if stream is None or isinstance(stream, _Visible):
      continue
    if isinstance(stream, io.TextIOWrapper) and stream.errors == 'strict':
      stream.reconfigure(errors='backslashreplace')
    setattr(sys, name, _Visible(stream))


def raw_stderr() -> Any:
  """Stderr without the filter, for progress bars, which move the cursor."""
  return sys.stderr.stream if isinstance(sys.stderr, _Visible) else sys.stderr
