"""Standard streams that never stop a program, whoever has closed them."""

import contextlib
import io
import os
import select
import sys
from typing import Any


class _Unbroken(io.FileIO):
  """A file that drops what it cannot write: its reader is gone, or the disk is full."""

  def write(self, content: Any) -> int:
    """Writes what it can, and waits where a pipe that does not block is full."""
    while True:
      try:
        written = super().write(content)
      except OSError:
        return len(content)
      if written is not None:
        return written
      select.select([], [self], [])


def tolerate_closed_streams() -> None:
  """Lets the program go on where stdout or stderr is closed, or its reader is gone.

  `tee` dies of the same Ctrl-C as the program that it logs, `head` when it has enough, a terminal
  with its window. Streams that are closed from the start become /dev/null: otherwise a file would
  get their number, and with it what libraries print. To be called before files are opened.
  """
  for number in range(3):
    try:
      os.fstat(number)
    except OSError:
      with contextlib.suppress(OSError):
        os.open(os.devnull, os.O_RDWR)  # It gets the lowest number that is free.
  for name in ('stdout', 'stderr'):
    stream = getattr(sys, name)
    if stream is not getattr(sys, f'__{name}__'):
      continue  # Replaced, here or by somebody who wants to have it.
    if stream is None:
      # Its number may be that of another file by now.
      setattr(sys, name, open(os.devnull, 'w'))  # noqa: SIM115
      continue
    stream.flush()
    raw = _Unbroken(stream.fileno(), 'w', closefd=False)
    kept = io.TextIOWrapper(
      io.BufferedWriter(raw),
      encoding=stream.encoding,
      errors=stream.errors,
      line_buffering=stream.line_buffering,
      write_through=stream.write_through,
    )
    setattr(sys, name, kept)
