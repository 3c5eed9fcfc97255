"""Worker processes that die or hang: they are named, and the run ends or they are started anew."""

import dataclasses
import os
import pathlib
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from zsar_jax.errors import UserError

CHOICES = ('stop', 'restart')

# So often in a row the workers are started anew for the same batch.
_ATTEMPTS = 3

# Seconds for the batch under way, when the run is to stop.
_STOPPING = 5.0


class Batches(Protocol):
  """An iterator over batches, with a `close`."""

  def __next__(self) -> dict[str, Any]: ...
  def close(self) -> None: ...


@dataclasses.dataclass(frozen=True)
class Guard:
  """What happens where workers fail; the fields of `config.data` of these names.

  Attributes:
    patience: a worker that has given no batch for so many seconds, when it was its turn, hangs.
    on_worker_failure: 'stop' ends the run, 'restart' starts the workers anew.
    stopping: says whether the run is to end; then the patience is short.
  """

  patience: float = 600.0
  on_worker_failure: str = 'stop'
  stopping: Callable[[], Any] = lambda: False


UNHURRIED = Guard()


class WatchedBatches:
  """Batches from worker processes under a `Guard`.

  What is read in threads of this process cannot be ended; that it takes long is said.
  """

  def __init__(
    self, start: Callable[[int, pathlib.Path], Batches], workers: int, guard: Guard
  ) -> None:
    """Starts the workers.

    Args:
      start: the batches from a number on. Each worker calls `sign_in` with the folder.
      workers: how many processes.
      guard: when a worker counts as failed, and what happens then.
    """
    self._start, self._workers, self._guard = start, workers, guard
    self._given = self._first = self._failures = 0
    # When the wait for a batch began; None while nobody waits.
    self._since: float | None = None
    self._hung: str | None = None
    self._closed = threading.Event()
    self._folder = tempfile.TemporaryDirectory(prefix='zsar_jax')
    self._batches = start(0, pathlib.Path(self._folder.name))
    threading.Thread(target=self._watch, daemon=True).start()

  def __iter__(self) -> 'WatchedBatches':
    return self

  def __next__(self) -> dict[str, Any]:
    while True:
      self._since = time.monotonic()
      try:
        batch = next(self._batches)
      except RuntimeError as error:  # Grain's, where a worker has died.
        failure = self._hung or self._named(str(error))
        stopping = self._guard.stopping()
        if self._guard.on_worker_failure == 'stop' or self._failures == _ATTEMPTS or stopping:
          remedy = 'a smaller config.data.workers needs less memory'
          if self._guard.on_worker_failure == 'stop':
            remedy += ', and --config.data.on_worker_failure=restart goes on without ending'
          raise UserError(f'{failure}; the same command goes on; {remedy}') from None
      else:
        self._given, self._failures = self._given + 1, 0
        return batch
      finally:
        self._since = None
      print(f'{failure}; the workers are started anew', file=sys.stderr, flush=True)
      self._failures += 1
      self._end_workers()
      self._batches.close()
      self._hung, self._first = None, self._given
      self._batches = self._start(self._given, pathlib.Path(self._folder.name))

  def close(self) -> None:
    """Ends the workers."""
    if not self._closed.is_set():
      self._closed.set()
      if self._hung:
        self._end_workers()  # They would be waited for.
      self._batches.close()
      self._folder.cleanup()

  def _watch(self) -> None:
    """The thread that ends workers which are waited for too long."""
    said = None
    while not self._closed.wait(0.2):
      since = self._since
      if since is None:
        continue
      waited = time.monotonic() - since
      hopeless = waited > (_STOPPING if self._guard.stopping() else self._guard.patience)
      if hopeless and self._workers and not self._hung:
        turn = (self._given - self._first) % self._workers
        pid = self._signed_in().get(turn)
        who = f'worker process {turn} (pid {pid})' if pid else f'worker process {turn}'
        self._hung = f'{who} has given no batch for {waited:.0f} seconds'
        self._end_workers()
      elif hopeless and not self._workers and said != since:
        said = since
        print(
          f'no batch for {waited:.0f} seconds: is the disk with the data set still there?',
          file=sys.stderr,
          flush=True,
        )

  def _signed_in(self) -> dict[int, int]:
    """The process of each worker."""
    found = {}
    for path in pathlib.Path(self._folder.name).glob('*'):
      worker, _, pid = path.name.partition('-')
      found[int(worker)] = int(pid)
    return found

  def _end_workers(self) -> None:
    for path in pathlib.Path(self._folder.name).glob('*'):
      pid = int(path.name.partition('-')[2])
      if _child(pid):
        os.kill(pid, signal.SIGKILL)
      path.unlink()

  def _named(self, error: str) -> str:
    """Says which workers are gone, and how the one that Grain has noticed has ended."""
    gone = [f'{n} (pid {pid})' for n, pid in sorted(self._signed_in().items()) if not _child(pid)]
    code = re.search(r'exit code (-?\d+)', error)
    if not code:
      return f'a worker process failed ({error.splitlines()[0][:200]})'
    number = -int(code[1])
    names = {one.value: one.name for one in signal.Signals}
    how = f'ended by {names.get(number, number)}' if number > 0 else f'ended with status {code[1]}'
    return f'worker process {", ".join(gone) or "?"} was {how}'


def sign_in(folder: pathlib.Path, worker: int) -> None:
  """To be called in a worker process, so that it can be named."""
  # The folder is gone where the run has ended meanwhile.
  if folder.is_dir():
    (folder / f'{worker}-{os.getpid()}').touch()


def _child(pid: int) -> bool:
  """Whether a process lives and is a child of this one: numbers are given out again."""
  try:
    status = pathlib.Path('/proc', str(pid), 'stat').read_text().rpartition(')')[2].split()
  except OSError:
    if pathlib.Path('/proc/self').exists():
      return False
    return _answers(pid)
  return status[0] != 'Z' and int(status[1]) == os.getpid()


def _answers(pid: int) -> bool:
  """Of a system without /proc."""
  try:
    os.kill(pid, 0)
  except OSError:
    return False
  return True
