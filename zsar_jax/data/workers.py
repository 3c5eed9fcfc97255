"""How a worker process starts: it answers signals as its parent wants and ends with it."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from typing import Any

import cv2

from zsar_jax.runtime.streams import tolerate_closed_streams


def initialize_worker(on_signal: Any) -> None:
  """To be called first in a worker process.

  Args:
    on_signal: what SIGINT and SIGTERM do, as for `signal.signal`: Ctrl-C reaches all the processes
      of a terminal at once, and a cluster's SIGTERM all those of a job.
  """
  tolerate_closed_streams()
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, on_signal)
  # The processes are the parallelism; a pool of threads in each would only get in the way.
  cv2.setNumThreads(0)
  parent = multiprocessing.parent_process()

  def end_with_parent() -> None:
    # A killed parent cannot tell its workers to stop.
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)

  if parent is not None:
    threading.Thread(target=end_with_parent, daemon=True).start()
