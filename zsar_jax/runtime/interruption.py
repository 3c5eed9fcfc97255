"""Ctrl-C and SIGTERM: the program saves its work and ends within seconds.

Python runs signal handlers between two instructions of the main thread, which may not return for
minutes while XLA compiles. A second thread therefore hears of signals at once, and ends the process
if nothing is left to save and the main thread does not react in time.
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

# A second Ctrl-C that comes sooner, in seconds, is the first one, delivered twice.
_REPEAT_SECONDS = 2.0

MESSAGE = 'interrupted; the same command goes on'


class Interrupted(BaseException):
  """The run was interrupted and everything is saved; not an Exception, which code may handle.

  Attributes:
    status: the exit status: 0 after SIGTERM, since a preemption is no failure, and 130, the
      convention of shells, after Ctrl-C.
  """

  def __init__(self, message: str, status: int):
    super().__init__(message)
    self.status = status


class DeferredSignals:
  """A context manager in which SIGINT and SIGTERM only set `signal`; a second Ctrl-C ends at once.

  In blocks of `interruptible` they end the block, by an `Interrupted`.

  Attributes:
    signal: the first signal; None before it.
  """

  def __init__(self, on_signal: Callable[[int], None] = lambda number: None):
    """Handles no signal yet.

    Args:
      on_signal: is called with the first signal, in another thread.
    """
    self.signal: signal.Signals | None = None
    self._on_signal = on_signal
    self._time = 0.0
    self._can_exit: Callable[[], bool] | None = None
    self._previous_handlers: dict[int, Any] = {}
    self._closed = threading.Event()

  def __enter__(self) -> 'DeferredSignals':
    for number in _SIGNALS:
      self._previous_handlers[number] = signal.signal(number, self._handle)
    reader, self._writer = os.pipe()
    os.set_blocking(self._writer, False)
    self._previous_hook, sys.unraisablehook = sys.unraisablehook, self._handle_unraisable
    self._previous_fd = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
    threading.Thread(target=self._watch, args=(reader,), daemon=True).start()
    return self

  def __exit__(self, *exception: Any) -> None:
    signal.set_wakeup_fd(self._previous_fd)
    if sys.unraisablehook == self._handle_unraisable:
      sys.unraisablehook = self._previous_hook
    for number, handler in self._previous_handlers.items():
      signal.signal(number, handler)
    self._closed.set()
    os.close(self._writer)

  @property
  def status(self) -> int:
    """The exit status that belongs to the signal."""
    return exit_status(self.signal)

  def ignore_sigterm_afterwards(self) -> None:
    """Ignores SIGTERM after the context, instead of restoring the previous handler."""
    self._previous_handlers[signal.SIGTERM] = signal.SIG_IGN

  @contextlib.contextmanager
  def interruptible(self, can_exit: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """A block that a signal may end anywhere, because nothing in it has to be saved.

    Args:
      can_exit: whether the process may end although the main thread does not return from the
        block; it is asked in another thread, from `GRACE_SECONDS` after the signal on.

    Raises:
      Interrupted: when a signal comes, or has come before.
    """
    previous, self._can_exit = self._can_exit, can_exit
    try:
      if self.signal:
        raise Interrupted(MESSAGE, self.status)
      yield
    except Exception as error:
      # Libraries wrap an exception that is raised inside them, as Orbax does while it reads.
      if not _is_caused_by_interruption(error):
        raise
      raise Interrupted(MESSAGE, self.status) from None
    finally:
      self._can_exit = previous

  def _handle(self, number: int, frame: Any) -> None:
    del frame
    if self.signal:
      if number == signal.SIGINT and time.monotonic() - self._time > _REPEAT_SECONDS:
        raise KeyboardInterrupt
      return
    self.signal, self._time = signal.Signals(number), time.monotonic()
    if self._can_exit is not None:
      raise Interrupted(MESSAGE, self.status)

  def _handle_unraisable(self, unraisable: Any) -> None:
    """Prints nothing about an `Interrupted` that Python drops in a finalizer or a callback.

    The thread of `_watch` ends the process nevertheless.
    """
    if unraisable.exc_type is not Interrupted:
      self._previous_hook(unraisable)

  def _watch(self, reader: int) -> None:
    """Hears of signals at once, in a thread of its own."""
    # Open to the end: Python complains if nobody reads the pipe when a signal comes twice.
    with open(reader, 'rb', buffering=0) as signals:
      while (received := signals.read(1)) and received[0] not in _SIGNALS:
        pass
      if not received:
        return
      with contextlib.suppress(Exception):  # Ignore failures to notify the other processes.
        self._on_signal(received[0])
      if self._closed.wait(GRACE_SECONDS):
        return
      while not self._closed.wait(0.2):
        if self._can_exit is not None and self._can_exit():
          exit_now(exit_status(received[0]), MESSAGE)


@contextlib.contextmanager
def interruptible_program(on_signal: Callable[[int], None] = lambda number: None) -> Iterator[None]:
  """Runs a program; an interruption ends it with one line and the exit status of the signal.

  After an error the process ends within `GRACE_SECONDS`, whatever its threads do. After the block
  SIGTERM is ignored: the work is done, and the interpreter needs a while to end.

  Args:
    on_signal: as for `DeferredSignals`.
  """
  tolerate_closed_streams()
  signals = DeferredSignals(on_signal)
  try:
    with signals:
      signals.ignore_sigterm_afterwards()
      with signals.interruptible():
        yield
  except (Interrupted, KeyboardInterrupt) as end:
    print(end if str(end) else f'\n{MESSAGE}', file=sys.stderr)
    exit_after(GRACE_SECONDS, getattr(end, 'status', 130))
    raise SystemExit(getattr(end, 'status', 130)) from None
  except BaseException as error:
    status = error.code if isinstance(error, SystemExit) else 1
    if status:  # Threads whose write has failed would wait for minutes.
      exit_after(GRACE_SECONDS, status if isinstance(status, int) else 1)
    raise


def exit_with_parent(parent: int) -> None:
  """Sends this process SIGTERM when its parent, a process number, is gone."""

  def watch() -> None:
    while os.getppid() == parent:
      time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)

  threading.Thread(target=watch, daemon=True).start()


def exit_after(seconds: float, status: int) -> None:
  """Ends the process if it still runs by then, because a thread hangs."""

  def run() -> None:
    time.sleep(seconds)
    exit_now(status)

  threading.Thread(target=run, daemon=True).start()


def exit_status(number: int | None) -> int:
  """Returns the exit status that belongs to a signal."""
  return 130 if number == signal.SIGINT else 0


def exit_now(status: int, message: str | None = None) -> None:
  """Prints a message and ends the process, without what Python runs at the end of a program."""
  with contextlib.suppress(OSError, ValueError):
    if message:
      print(message, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
  os._exit(status)


def _is_caused_by_interruption(error: BaseException | None) -> bool:
  while error is not None and not isinstance(error, Interrupted):
    error = error.__cause__ or error.__context__
  return error is not None
