"""Starts worker processes: they handle signals as their parent wants, and end with it."""

import concurrent.futures
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import Any

import cv2

from zsar_jax.errors import UserError
from zsar_jax.runtime.streams import tolerate_closed_streams


@contextlib.contextmanager
def worker_pool(workers: int) -> Iterator[concurrent.futures.ProcessPoolExecutor]:
  """Opens a pool of worker processes for the block. Submit work to it within `hold_interrupts`.

  Ctrl-C ends the processes at once.

  Args:
    workers: the number of processes.

  Raises:
    UserError: if one of them was killed.
  """
  # JAX, PyTorch or threads may run in this process, so it must not be forked.
  pool = concurrent.futures.ProcessPoolExecutor(
    workers, multiprocessing.get_context('spawn'), initialize_worker, (signal.SIG_DFL,)
  )
  try:
    yield pool
  except concurrent.futures.process.BrokenProcessPool:
    raise UserError(
      'a worker process was killed, perhaps for lack of memory; give the same command with fewer'
      ' --workers'
    ) from None
  finally:
    # Python ends with a traceback, at times, if it is still shutting a pool down.
    pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def hold_interrupts() -> Iterator[None]:
  """Holds SIGINT back from this thread, and from the processes that it starts in the block.

  A process that is still importing its modules would answer Ctrl-C with a traceback. It gets the
  signal in `initialize_worker`, and this thread at the end of the block.
  """
  resource_tracker.ensure_running()  # Its start would end the hold.
  held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, held)


def initialize_worker(on_signal: Any) -> None:
  """Initializes a worker process; to be called first in it.

  Args:
    on_signal: the handler of SIGINT and SIGTERM, as for `signal.signal`. Ctrl-C reaches all the
      processes of a terminal at once, and a cluster's SIGTERM all those of a job.
  """
  tolerate_closed_streams()
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, on_signal)
  signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # See `hold_interrupts`.
  # The processes are the parallelism; a pool of threads in each of them would only add contention.
  cv2.setNumThreads(0)
  parent = multiprocessing.parent_process()

  def end_with_parent(sentinel: int) -> None:
    # A killed parent cannot ask its workers to stop.
    multiprocessing.connection.wait([sentinel])
    os._exit(1)

  if parent is not None:
    threading.Thread(target=end_with_parent, args=(parent.sentinel,), daemon=True).start()
