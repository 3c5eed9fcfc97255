"""Makes what programs print safe for a terminal.

Names of classes, clips and files come from strangers. They may hold escape sequences, which move
the cursor, recolor the screen or set the clipboard. `escape_output` filters stdout and stderr, so
that code which prints needs no care; progress lines bypass the filter to move the cursor.
"""

import io
import re
import sys
from typing import Any

# Control characters except tab and newline, and those that reverse the direction of text (Unicode
# Standard Annex 9). A carriage return would let a name overwrite the text before it.
_UNSAFE = re.compile('[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]')


def escape_control_chars(text: str) -> str:
  r"""Returns a text with its control characters written out, such as \x1b for an escape."""
  return _UNSAFE.sub(lambda match: match[0].encode('unicode_escape').decode(), text)


class _EscapingStream:
  """A text stream that escapes control characters."""

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
  """Filters stdout and stderr; also writes out letters that their encoding lacks."""
  for name in ('stdout', 'stderr'):
    stream = getattr(sys, name)
    if stream is None or isinstance(stream, _EscapingStream):
      continue
    if isinstance(stream, io.TextIOWrapper) and stream.errors == 'strict':
      stream.reconfigure(errors='backslashreplace')
    setattr(sys, name, _EscapingStream(stream))


def raw_stderr() -> Any:
  """Returns stderr without the filter, for progress lines, which move the cursor."""
  return sys.stderr.stream if isinstance(sys.stderr, _EscapingStream) else sys.stderr
