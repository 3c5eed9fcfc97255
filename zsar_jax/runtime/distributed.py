"""Many hosts: finding each other, and what only one of them does.

Every process runs the same program on its own devices; the mesh has the devices of all. The first
of them, process 0, writes what is written once and tells what is told to people.

Where processes wait for each other they do so in Python, over `runtime.links`: there a signal ends
the wait at once, and a process that fails or is gone ends all the others with one sentence.

JAX is imported late: programs that have no use for it import this too.
"""

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from zsar_jax.errors import UserError, first_line
from zsar_jax.runtime.interruption import GRACE_SECONDS, MESSAGE, Interrupted, exit_now, exit_status
from zsar_jax.runtime.links import SILENCE, Links
from zsar_jax.runtime.relay import start_relay
from zsar_jax.runtime.reporting import user_message

T = TypeVar('T')

# What a launcher sets in the environment of its processes, and how many there are where it says:
# the first of these variables that is set. Of Slurm's, the first is of the step: the shell of an
# interactive allocation is a step of one task. JAX then finds the coordinator by itself.
_LAUNCHERS = {
  'Slurm': ('SLURM_PROCID', ('SLURM_STEP_NUM_TASKS', 'SLURM_NTASKS')),
  'Open MPI': ('OMPI_COMM_WORLD_RANK', ('OMPI_COMM_WORLD_SIZE',)),
  'Kubernetes': ('JOB_COMPLETION_INDEX', ()),
}

# Seconds until JAX's own service counts a process as gone and aborts the others: `links` is sooner.
_NEVER = 24 * 3600

# Seconds that a process has to end by its own sentence, where another one fails: often all of them
# find the same.
_OWN_WORDS = 3.0

# Seconds in which the reason of an error shows, where it is that another process is gone.
_REASON = 15.0

# Seconds that a process waits for the others at most after a signal.
SIGNAL_TIMEOUT = 300.0

_links: Links | None = None
_told: list[int] = []
_gone = threading.Event()
_ending = threading.Lock()


@contextlib.contextmanager
def process_group(
  coordinator_address: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
  timeout: float = 100.0,
) -> Iterator[None]:
  """A block that this process does together with the others, where there are any.

  To be entered before JAX looks for devices. Without arguments a launcher is looked for in the
  environment: Slurm, Open MPI, Kubernetes, Cloud TPU. A single process does nothing here. Of many,
  one that does not come to the end of the block ends within it, and so do all the others.

  Args:
    coordinator_address: HOST:PORT of process 0, the same in each process.
    num_processes: of them all.
    process_id: of this one, from 0.
    timeout: seconds to wait for the others at the start.

  Raises:
    UserError: where only a part of the arguments is given, or they cannot be.
  """
  global _links
  given = (coordinator_address, num_processes, process_id)
  if any(value is not None for value in given) and None in given:
    raise UserError(
      '--coordinator_address, --num_processes and --process_id: give all three, or none where'
      ' Slurm, Open MPI, Kubernetes or Cloud TPU starts the processes'
    )
  if coordinator_address is None and not _launched():
    yield
    return
  address, count, process, devices = _detected(*given)
  if count == 1:
    yield
    return
  # Whoever ends because of another leaves what Python's resource tracker cleans up, and tells.
  sys.warnoptions.append('ignore:resource_tracker:UserWarning')
  _links = Links(_host_and_port(address), count, process, _stop, _end_after_another)
  try:
    _links.gather(timeout)
    _initialize_jax(address, devices)
    yield
    wait_for_all('the end')
    _links.leave(SILENCE)
  except BaseException as error:
    _end_with_others(error)


def _detected(
  address: str | None, count: int | None, process: int | None
) -> tuple[str, int, int, Any]:
  """The coordinator's address, the number of processes, which this is, and its devices."""
  from jax._src import clusters

  try:
    address, count, process, devices = clusters.ClusterEnv.auto_detect_unset_distributed_params(
      address or os.environ.get('JAX_COORDINATOR_ADDRESS'),
      count if count is not None else _count('Slurm'),
      process,
      None,
      None,
      300,
    )
    if None in (address, count, process):
      raise ValueError('the launcher does not say where process 0 is')
  except Exception as error:  # Kubernetes' client has errors of its own.
    raise UserError(
      f'the processes do not find each other ({first_line(error)}); start them with srun, mpirun or'
      ' the like, or give --coordinator_address, --num_processes and --process_id, see docs/pods.md'
    ) from None
  if not 0 <= process < count:
    raise UserError(f'--process_id: {process} is none of the {count} processes, which count from 0')
  return address, count, process, None if 'JAX_LOCAL_DEVICE_IDS' in os.environ else devices


def _host_and_port(address: str) -> tuple[str, int]:
  host, _, port = address.rpartition(':')
  if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
    raise UserError(f'--coordinator_address: {address!r} is not HOST:PORT')
  return host.strip('[]'), int(port)


def _initialize_jax(address: str, devices: Any) -> None:
  """Connects JAX, when all processes are there."""
  import jax

  # JAX's own service would take SIGTERM away from `zsar_jax.runtime.interruption`.
  jax.config.update('jax_enable_preemption_service', False)
  if _links.process:
    os.environ.update(no_grpc_proxy='127.0.0.1')
    address = f'127.0.0.1:{start_relay(_host_and_port(address))}'
  jax.config.update('jax_check_proxy_envs', False)
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    jax.distributed.initialize(
      address,
      _links.count,
      _links.process,
      devices,
      initialization_timeout=_NEVER,
      heartbeat_timeout_seconds=_NEVER,
      shutdown_timeout_seconds=10,  # Whoever ends has saved what there is.
    )


def _launched() -> bool:
  """Whether a launcher has started several processes, of which this is one."""
  for launcher, (rank, _) in _LAUNCHERS.items():
    if rank in os.environ and _count(launcher) != 1:
      return True
  # A slice's hosts: on Kubernetes by their names, on a virtual machine by what JAX has found there.
  if ',' in os.environ.get('TPU_WORKER_HOSTNAMES', ''):
    return True
  from jax._src import cloud_tpu_init

  return cloud_tpu_init.running_in_cloud_tpu_vm


def _count(launcher: str) -> int | None:
  """How many processes a launcher says that it has started; None where it does not say."""
  rank, sizes = _LAUNCHERS[launcher]
  given = [os.environ[size] for size in sizes if rank in os.environ and size in os.environ]
  return int(given[0]) if given and given[0].isdecimal() else None


def is_multiprocess() -> bool:
  """Whether this is one of several processes."""
  return _links is not None


def is_main() -> bool:
  """Whether this process writes what is written once."""
  # JAX's number, by which Orbax goes: on TPUs it need not be the number at the start.
  return not is_multiprocess() or sys.modules['jax'].process_index() == 0


def process_name(process: int) -> str:
  """A process, by its number at the start, with its host, for people."""
  return _links.name(process)


def exchange(name: str, value: Any = None) -> list[Any]:
  """What each process brings to the exchange `name`, in their order; JSON can write it."""
  return _links.exchange(name, value) if _links else [value]


def wait_for_all(name: str) -> None:
  """Returns when every process has come here."""
  exchange(name)


def broadcast_from_main(make: Callable[[], T], name: str = 'what process 0 knows') -> T:
  """What process 0 makes, in each process; JSON can write it."""
  return next(made[0] for made in exchange(name, [make()] if is_main() else None) if made)


def run_main_first(make: Callable[[], T]) -> T:
  """What `make` returns in each process, where process 0 writes files that the others find."""
  if is_main():
    made = make()
  wait_for_all('what process 0 makes')
  return made if is_main() else make()


def request_stop(number: int, waiting_for: str = '') -> None:
  """Sends a signal that this process got to all the others, once.

  Args:
    number: of the signal.
    waiting_for: what all processes still do, which is then printed.
  """
  if _links is not None and not _told:
    _told.append(number)
    if waiting_for:
      name = signal.Signals(number).name
      print(f'{name}: waiting for {waiting_for}, in all processes', file=sys.stderr, flush=True)
    _links.stop_all(number)
    _bound(number)


def _stop(number: int) -> None:
  """Signals this process, as another one was."""
  if not _told:
    _told.append(number)
    os.kill(os.getpid(), signal.Signals(number))
    _bound(number)


def _bound(number: int) -> None:
  """Ends this process when it still waits for the others long after a signal."""

  def end() -> None:
    time.sleep(SIGNAL_TIMEOUT)
    _end(
      exit_status(number),
      f'interrupted; the processes were not done with their step and its checkpoint within'
      f' {SIGNAL_TIMEOUT:.0f} seconds; the same command goes on from the newest checkpoint',
    )

  threading.Thread(target=end, daemon=True).start()


def _end_after_another(sentence: str, failed: bool) -> None:
  """Ends this process because another one failed or is gone."""

  def end() -> None:
    time.sleep(_OWN_WORDS if failed or _told else 0.5)
    if _told and not failed:
      _end(exit_status(_told[0]), f'interrupted; {sentence}')
    _end(2, f'error: {sentence}')

  if not failed:
    _gone.set()
  threading.Thread(target=end, daemon=True).start()


def _end_with_others(error: BaseException) -> None:
  """Ends this process, and all the others, because of what came out of the block."""
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: exit_now(2))
  if isinstance(error, (Interrupted, KeyboardInterrupt)):
    status = getattr(error, 'status', 130)
    request_stop(signal.SIGINT if status else signal.SIGTERM)
    _links.leave(GRACE_SECONDS if isinstance(error, Interrupted) else 0.0)
    _end(status, str(error) or f'\n{MESSAGE}')
  sentence = user_message(error)
  if _told and sentence is None:
    # What is computed with the others fails when they end.
    _end(exit_status(_told[0]), MESSAGE)
  # Where another process is gone, what is computed with it fails before that shows.
  if _gone.wait(_REASON if sentence is None else 0.0):
    time.sleep(_REASON)
  _ending.acquire()
  if sentence is None:
    traceback.print_exception(error)
    status, sentence = 1, f'{type(error).__name__}: {first_line(error)}'
  else:
    status = 2
    print(f'error: {sentence}', file=sys.stderr, flush=True)
  if _links.together:
    _links.fail(f'{_links.name(_links.process)} failed: {sentence}')
  exit_now(status)


def _end(status: int, message: str | None = None) -> None:
  """Ends the process, with the message of whoever comes first."""
  _ending.acquire()
  exit_now(status, message)
