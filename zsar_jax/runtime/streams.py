"""Standard streams that never stop a program, even if they are closed or nobody reads them."""

import contextlib
import io
import os
import select
import sys
from typing import Any


class _LossyFile(io.FileIO):
  """A file that drops what it cannot write, because its reader is gone or the disk is full."""

  def write(self, content: Any) -> int:
    """Writes what it can; waits while a non-blocking pipe is full."""
    while True:
      try:
        written = super().write(content)
      except OSError:
        return len(content)
      if written is not None:
        return written
      select.select([], [self], [])


def tolerate_closed_streams() -> None:
  """Makes writing to stdout and stderr succeed although they are closed or their reader is gone.

  `tee` dies of the same Ctrl-C as the program that it logs, `head` when it has enough lines, a
  terminal with its window. Streams that are closed from the start become /dev/null; otherwise a
  file would get their number, and what libraries print would go into it. Call it before files are
  opened.
  """
  for number in range(3):
    try:
      os.fstat(number)
    except OSError:
      with contextlib.suppress(OSError):
        os.open(os.devnull, os.O_RDWR)  # It gets the lowest free number.
  for name in ('stdout', 'stderr'):
    stream = getattr(sys, name)
    if stream is not getattr(sys, f'__{name}__'):
      continue  # Replaced already, here or by someone who reads it.
    if stream is None:
      # Its number may belong to another file by now.
      setattr(sys, name, open(os.devnull, 'w'))  # noqa: SIM115
      continue
    stream.flush()
    raw = _LossyFile(stream.fileno(), 'w', closefd=False)
    lossy = io.TextIOWrapper(
      io.BufferedWriter(raw),
      encoding=stream.encoding,
      errors=stream.errors,
      line_buffering=stream.line_buffering,
      write_through=stream.write_through,
    )
    setattr(sys, name, lossy)
