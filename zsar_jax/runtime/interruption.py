"""Ctrl-C and SIGTERM: what there is to save is saved, and the program ends within seconds.

Python runs signal handlers between two steps of the main thread, which may be minutes away while
XLA compiles. So a thread of its own hears of signals at once, and ends the process where nothing is
left to save and the main thread has not come round in time.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from zsar_jax.runtime.streams import tolerate_closed_streams

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

# Seconds for an orderly end, of the 30 that a preemption leaves.
GRACE_SECONDS = 10.0

# A second Ctrl-C sooner than that, in seconds, is the first one that came by another way.
_SAME = 2.0

MESSAGE = 'interrupted; the same command goes on'


class Interrupted(BaseException):
  """The run was interrupted and everything is saved. No error, which something might handle.

  Attributes:
    status: the exit status: 0 after SIGTERM, as preemption is nothing wrong, and 130, the
      shells' convention, after Ctrl-C.
  """

  def __init__(self, message: str, status: int):
    super().__init__(message)
    self.status = status


def exit_with_parent(parent: int) -> None:
  """Has this process get SIGTERM when its parent is gone, which then cannot pass one on."""

  def watch() -> None:
    while os.getppid() == parent:
      time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)

  threading.Thread(target=watch, daemon=True).start()


class DeferredSignals:
  """A context manager in which SIGINT and SIGTERM only set `signal`; a second Ctrl-C ends at once.

  In blocks of `interruptible` they end the block, by an `Interrupted`.
  """

  def __init__(self, tell: Callable[[int], None] = lambda number: None):
    """Prepares.

    Args:
      tell: is called with the first signal, in another thread.
    """
    self.signal: signal.Signals | None = None
    self._tell = tell
    self._since = 0.0
    self._ready: Callable[[], bool] | None = None
    self._afterwards: dict[int, Any] = {}
    self._closed = threading.Event()

  def __enter__(self) -> 'DeferredSignals':
    for number in _SIGNALS:
      self._afterwards[number] = signal.signal(number, self._note)
    hearing, heard = os.pipe()
    os.set_blocking(heard, False)
    self._heard = heard
    self._unraisable_before, sys.unraisablehook = sys.unraisablehook, self._swallowed
    self._wakeup_before = signal.set_wakeup_fd(heard, warn_on_full_buffer=False)
    threading.Thread(target=self._watch, args=(hearing,), daemon=True).start()
    return self

  def __exit__(self, *exception: Any) -> None:
    signal.set_wakeup_fd(self._wakeup_before)
    if sys.unraisablehook == self._swallowed:
      sys.unraisablehook = self._unraisable_before
    for number, handler in self._afterwards.items():
      signal.signal(number, handler)
    self._closed.set()
    os.close(self._heard)

  @property
  def status(self) -> int:
    """The exit status that goes with the signal."""
    return exit_status(self.signal)

  @contextlib.contextmanager
  def interruptible(self, ready: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """A block that may be left anywhere, as nothing in it has to be saved.

    Where the main thread does not come round, the process ends as soon as `ready` says that it can.

    Raises:
      Interrupted: when a signal comes, or has come.
    """
    before, self._ready = self._ready, ready
    try:
      if self.signal:
        raise Interrupted(MESSAGE, self.status)
      yield
    except Exception as error:
      # Libraries wrap what comes out of their midst: Orbax, of an array that it was reading.
      if not _behind(error):
        raise
      raise Interrupted(MESSAGE, self.status) from None
    finally:
      self._ready = before

  def _note(self, number: int, frame: Any) -> None:
    del frame
    if self.signal:
      if number == signal.SIGINT and time.monotonic() - self._since > _SAME:
        raise KeyboardInterrupt
      return
    self.signal, self._since = signal.Signals(number), time.monotonic()
    if self._ready is not None:
      raise Interrupted(MESSAGE, self.status)

  def _swallowed(self, found: Any) -> None:
    """Says nothing of an `Interrupted` that a finalizer or callback swallowed; see `_watch`."""
    if found.exc_type is not Interrupted:
      self._unraisable_before(found)

  def _watch(self, hearing: int) -> None:
    """The thread that hears of signals at once."""
    # Open to the end: Python complains of a pipe that nobody reads when a signal comes twice.
    with open(hearing, 'rb', buffering=0) as signals:
      while (heard := signals.read(1)) and heard[0] not in _SIGNALS:
        pass
      if not heard:
        return
      with contextlib.suppress(Exception):  # Others that cannot be told are no reason to stay.
        self._tell(heard[0])
      if self._closed.wait(GRACE_SECONDS):
        return
      while not self._closed.wait(0.2):
        if self._ready is not None and self._ready():
          exit_now(exit_status(heard[0]), MESSAGE)


@contextlib.contextmanager
def interruptible_program(tell: Callable[[int], None] = lambda number: None) -> Iterator[None]:
  """Of a program: an interruption inside the block ends it with one line and its exit status.

  After an error the process ends within `GRACE_SECONDS`, whatever its threads do.
  After the block SIGTERM is ignored: all is done, and the interpreter takes a while to end.

  Args:
    tell: as for `DeferredSignals`.
  """
  tolerate_closed_streams()
  interruption = DeferredSignals(tell)
  try:
    with interruption:
      interruption._afterwards[signal.SIGTERM] = signal.SIG_IGN
      with interruption.interruptible():
        yield
  except (Interrupted, KeyboardInterrupt) as end:
    print(end if str(end) else f'\n{MESSAGE}', file=sys.stderr)
    exit_after(GRACE_SECONDS, getattr(end, 'status', 130))
    raise SystemExit(getattr(end, 'status', 130)) from None
  except BaseException as error:
    status = error.code if isinstance(error, SystemExit) else 1
    if status:  # Threads of a write that has failed wait for minutes.
      exit_after(GRACE_SECONDS, status if isinstance(status, int) else 1)
    raise


def exit_after(seconds: float, status: int) -> None:
  """Ends the process if it has not ended by then: threads that hang would keep it for ever."""

  def end() -> None:
    time.sleep(seconds)
    exit_now(status)

  threading.Thread(target=end, daemon=True).start()


def _behind(error: BaseException | None) -> bool:
  """Whether an error came of an interruption."""
  while error is not None and not isinstance(error, Interrupted):
    error = error.__cause__ or error.__context__
  return error is not None


def exit_status(number: int | None) -> int:
  """The exit status that goes with a signal."""
  return 130 if number == signal.SIGINT else 0


def exit_now(status: int, message: str | None = None) -> None:
  """Ends the process, without anything that runs at the end of a program."""
  with contextlib.suppress(OSError, ValueError):
    if message:
      print(message, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
  os._exit(status)
