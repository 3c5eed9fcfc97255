"""Ctrl-C and SIGTERM: the step under way is finished and a checkpoint is written."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Any


class Interrupted(Exception):
  """The run was interrupted and everything is saved.

  Attributes:
    status: the exit status: 0 after SIGTERM, as preemption is nothing wrong, and 130, the
      shells' convention, after Ctrl-C.
  """

  def __init__(self, message: str, status: int):
    super().__init__(message)
    self.status = status


class Interruption:
  """A context manager in which SIGINT and SIGTERM only set `signal`; a second one ends at once."""

  def __init__(self) -> None:
    self.signal: signal.Signals | None = None
    self._before: dict[int, Any] = {}

  def __enter__(self) -> 'Interruption':
    for number in (signal.SIGINT, signal.SIGTERM):
      self._before[number] = signal.signal(number, self._note)
    return self

  def __exit__(self, *exception: Any) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  @property
  def status(self) -> int:
    """The exit status that goes with the signal."""
    return 130 if self.signal == signal.SIGINT else 0

  def _note(self, number: int, frame: Any) -> None:
    del frame
    if self.signal:
      raise KeyboardInterrupt
    self.signal = signal.Signals(number)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
  """Of a program: an interruption inside the block ends it with one line and its exit status."""
  try:
    yield
  except Interrupted as interrupted:
    print(interrupted, file=sys.stderr)
    raise SystemExit(interrupted.status) from None
  except KeyboardInterrupt:
    print('\ninterrupted; the same command goes on', file=sys.stderr)
    raise SystemExit(130) from None
