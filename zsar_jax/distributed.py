"""Many hosts: finding each other, and what only one of them does.

Every process runs the same program on its own devices; the mesh has the devices of all. The first
of them, process 0, writes what is written once and tells what is told to people.

JAX is imported late: programs that have no use for it import this too.
"""

import atexit
import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from zsar_jax.errors import UserError, first_line

T = TypeVar('T')

# What a launcher sets in the environment of its processes, and how many there are where it says.
# JAX then finds the coordinator by itself.
_LAUNCHERS = {
  'Slurm': ('SLURM_PROCID', 'SLURM_NTASKS'),
  'Open MPI': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE'),
  'Kubernetes': ('JOB_COMPLETION_INDEX', None),
}

# The key under which the first host that is told to stop tells the others.
_STOP = 'zsar_jax/stop'
_told = threading.Event()

# Seconds between two looks for that key.
_LOOK = 1.0
_ending = threading.Event()


def initialize(
  coordinator_address: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> None:
  """Joins the other processes, where there are any. To be called before JAX looks for devices.

  Without arguments a launcher is looked for in the environment: Slurm, Open MPI, Kubernetes, Cloud
  TPU. A single process does nothing.

  Args:
    coordinator_address: HOST:PORT of process 0, the same in each process.
    num_processes: of them all.
    process_id: of this one, from 0.

  Raises:
    UserError: where only a part of the arguments is given, or the others do not answer.
  """
  given = (coordinator_address, num_processes, process_id)
  if any(value is not None for value in given) and None in given:
    raise UserError(
      '--coordinator_address, --num_processes and --process_id: give all three, or none where'
      ' Slurm, Open MPI, Kubernetes or Cloud TPU starts the processes'
    )
  if coordinator_address is None and not _launched():
    return
  import jax

  # JAX's own service would take SIGTERM away from `zsar_jax.interruption`.
  jax.config.update('jax_enable_preemption_service', False)
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      jax.distributed.initialize(
        coordinator_address,
        num_processes,
        process_id,
        shutdown_timeout_seconds=10,  # Whoever ends has saved what there is.
      )
  except (RuntimeError, ValueError) as error:
    raise UserError(
      f'the processes do not find each other ({first_line(error)}); give --coordinator_address,'
      ' --num_processes and --process_id, or see docs/pods.md'
    ) from None
  listener = threading.Thread(target=_listen, daemon=True)
  listener.start()
  atexit.register(_end, listener)


def _launched() -> bool:
  """Whether a launcher has started several processes, of which this is one."""
  for rank, size in _LAUNCHERS.values():
    if rank in os.environ and (size is None or int(os.environ.get(size, '1')) > 1):
      return True
  # A slice's hosts: on Kubernetes by their names, on a virtual machine by what JAX has found there.
  if ',' in os.environ.get('TPU_WORKER_HOSTNAMES', ''):
    return True
  from jax._src import cloud_tpu_init

  return cloud_tpu_init.running_in_cloud_tpu_vm


def many() -> bool:
  """Whether this is one of several processes."""
  jax = sys.modules.get('jax')
  return jax is not None and jax.distributed.is_initialized()


def is_main() -> bool:
  """Whether this process writes what is written once."""
  return not many() or sys.modules['jax'].process_index() == 0


def wait_for_all(name: str) -> None:
  """Returns when every process has come here."""
  if many():
    import jax
    from jax.experimental import multihost_utils

    with jax.transfer_guard('allow'):
      multihost_utils.sync_global_devices(name)


def from_main(make: Callable[[], T]) -> T:
  """What process 0 makes, in each process; JSON can write it."""
  if not many():
    return make()
  import jax
  from jax.experimental import multihost_utils

  made = np.frombuffer(json.dumps(make()).encode() if is_main() else b'', np.uint8)
  with jax.transfer_guard('allow'):
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(made))))
    filled = made if is_main() else np.zeros(size, np.uint8)
    return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(filled)).tobytes())


def main_first(make: Callable[[], T]) -> T:
  """What `make` returns in each process, where process 0 writes files that the others find."""
  if is_main():
    made = make()
  wait_for_all('made')
  return made if is_main() else make()


def tell_to_stop(number: int) -> None:
  """Sends a signal that this process got to all the others, once; see `_listen`."""
  client = _client()
  if client is not None and not _told.is_set():
    _told.set()
    client.key_value_set(_STOP, str(number), allow_overwrite=True)


def _listen() -> None:
  """Waits until some process is told to stop, and then signals this one too."""
  while not _ending.wait(_LOOK) and not _told.is_set():
    try:
      number = int(_client().key_value_try_get(_STOP))
    except Exception as error:  # XlaRuntimeError: nobody has said anything, or the end has come.
      if 'NOT_FOUND' in str(error):
        continue
      return
    if not _told.is_set():
      _told.set()
      os.kill(os.getpid(), signal.Signals(number))


def _end(listener: threading.Thread) -> None:
  """Lets the listener end before the interpreter does.

  A thread that comes back from JAX's client into an interpreter that is ending aborts the process.
  """
  _ending.set()
  listener.join(10 * _LOOK)


def _client() -> Any:
  """The client of JAX's key-value store, None in a single process."""
  if not many():
    return None
  from jax._src import distributed

  return distributed.global_state.client
