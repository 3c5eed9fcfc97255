"""A run's sign of life: status.json in its workdir, which process 0 rewrites now and then."""

import contextlib
import json
import os
import pathlib
import socket
import sys
import threading
import time
from typing import Any

from zsar_jax.errors import error_reason, first_line
from zsar_jax.runtime import distributed
from zsar_jax.runtime.interruption import Interrupted
from zsar_jax.storage.files import write_file

STATUS = 'status.json'

# Seconds between two writes. Buckets limit how often an object is replaced, to once a second on
# Google Cloud Storage, and each write costs.
INTERVAL = 15.0

_MAX_BYTES = 2**20

# What a run does while it is alive, and how it ended.
STARTING, TRAINING, EVALUATING = ALIVE = ('starting', 'training', 'evaluating')
FINISHED, INTERRUPTED, FAILED = ENDED = ('finished', 'interrupted', 'failed')


def read_status(workdir: pathlib.Path) -> dict[str, Any] | None:
  """Returns the content of status.json, whatever its fields are; None if it is not readable."""
  try:
    with (workdir / STATUS).open('rb') as file:
      fields = json.loads(file.read(_MAX_BYTES))
  except (OSError, ValueError, RecursionError):
    return None
  return fields if isinstance(fields, dict) else None


class RunStatus:
  """Writes what a run does to status.json, in a thread, so that long steps show signs of life too.

  The file is a JSON object with 'state', one of `ALIVE` or `ENDED`; 'time', when it was written, in
  seconds since 1970; 'host' and 'pid' of process 0; and what `update` got. A file that cannot be
  written does not disturb the run: one warning says so. Processes other than 0 write nothing.
  """

  def __init__(self, workdir: pathlib.Path, interval: float = INTERVAL):
    """Writes the file for the first time.

    Args:
      workdir: the run's folder, which exists.
      interval: seconds between two writes.
    """
    self._path, self._interval = workdir / STATUS, interval
    # What the start before has reached is not lost if this one fails before its first step.
    earlier: dict[str, Any] = {}
    if distributed.is_main():
      with contextlib.suppress(Exception):  # Of a bucket's client; the run does not depend on it.
        earlier = read_status(workdir) or {}
    self._fields: dict[str, Any] = {
      **{name: earlier[name] for name in ('step', 'steps', 'evaluation') if name in earlier},
      **{'state': STARTING, 'host': socket.gethostname(), 'pid': os.getpid()},
    }
    self._lock, self._closed = threading.Lock(), threading.Event()
    self._warned = False
    self._thread: threading.Thread | None = None
    if distributed.is_main():
      self._thread = threading.Thread(target=self._keep_writing, name='status', daemon=True)
      self._thread.start()

  def update(self, **fields: Any) -> None:
    """Sets fields of the file, JSON values, which the next write contains."""
    with self._lock:
      self._fields.update(fields)

  def close(self, error: BaseException | None) -> None:
    """Writes how the run has ended.

    Args:
      error: ended the run; None if it has finished.
    """
    if error is None:
      self.update(state=FINISHED)
    elif isinstance(error, Interrupted | KeyboardInterrupt):
      self.update(state=INTERRUPTED)
    else:
      self.update(state=FAILED, error=first_line(error))
    self._closed.set()
    if self._thread:
      self._thread.join(INTERVAL)  # A bucket may not answer; the run must end.

  def _keep_writing(self) -> None:
    ending = False
    while not ending:
      ending = self._closed.is_set()
      with self._lock:
        text = json.dumps(self._fields | {'time': time.time()}, indent=1)
      try:
        write_file(self._path, text + '\n')
      except Exception as error:  # Whatever goes wrong, also in a bucket's client, the run goes on.
        if not self._warned:
          self._warned = True
          print(
            f'warning: {self._path} cannot be written ({error_reason(error)}), so zsar status does'
            ' not see that this run is alive',
            file=sys.stderr,
            flush=True,
          )
      if not ending:
        self._closed.wait(self._interval)
