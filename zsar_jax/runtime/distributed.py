"""Runs a program as several processes, one or more on each host.

Every process runs the same program on its own devices, and the mesh has the devices of all. Process
0 writes the files that are written once and prints what people read.

Processes wait for each other in Python (`zsar_jax.runtime.links`), where a signal ends the wait at
once, and where a process that fails or is gone ends all others with one sentence.

JAX is imported late, because programs that do not need it import this module too.
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
from zsar_jax.runtime import launchers
from zsar_jax.runtime.connections import SILENCE_TIMEOUT
from zsar_jax.runtime.interruption import (
  GRACE_SECONDS,
  MESSAGE,
  Interrupted,
  exit_now,
  exit_status,
)
from zsar_jax.runtime.links import Links
from zsar_jax.runtime.relay import start_relay
from zsar_jax.runtime.reporting import user_message

T = TypeVar('T')

# Seconds until JAX's own service aborts all processes because one is gone. The links notice it
# much earlier.
_JAX_TIMEOUT = 24 * 3600

# Seconds that a process has to end with its own error when another one has failed: often all
# processes find the same mistake.
_OWN_ERROR_TIMEOUT = 3.0

# Seconds in which it shows that an error was caused by another process that is gone.
_CAUSE_TIMEOUT = 15.0

# The most seconds that a process waits for the others after a signal.
SIGNAL_TIMEOUT = 300.0

_links: Links | None = None
_signals: list[int] = []  # The first signal that any process of the run got.
_process_gone = threading.Event()
_exit_lock = threading.Lock()  # Whoever takes it ends the process.


@contextlib.contextmanager
def process_group(
  coordinator_address: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
  timeout: float = 100.0,
) -> Iterator[None]:
  """A block that all processes of a run execute together; it does nothing for a single process.

  Enter it before JAX looks for devices. Without arguments the environment says what a launcher has
  started: Slurm, Open MPI, Kubernetes, Cloud TPU. A process of several that does not reach the end
  of the block ends inside it, and so do all others.

  Args:
    coordinator_address: HOST:PORT of process 0, the same in each process.
    num_processes: the number of processes.
    process_id: the number of this one, from 0.
    timeout: seconds to wait for the others at the start.

  Raises:
    UserError: if only some arguments are given, or their values are impossible.
  """
  global _links
  arguments = (coordinator_address, num_processes, process_id)
  if any(value is not None for value in arguments) and None in arguments:
    raise UserError(
      '--coordinator_address, --num_processes and --process_id: give all three, or none where'
      ' Slurm, Open MPI, Kubernetes or Cloud TPU starts the processes'
    )
  if coordinator_address is None and not launchers.is_multiprocess_launch():
    yield
    return
  group = launchers.detect(*arguments)
  if group.num_processes == 1:
    yield
    return
  # A process that ends because of another one leaves resources to Python's resource tracker,
  # which would print a warning about each.
  sys.warnoptions.append('ignore:resource_tracker:UserWarning')
  address = launchers.parse_address(group.address)
  _links = Links(address, group.num_processes, group.process, _pass_signal, _exit_after_another)
  try:
    _links.join(timeout)
    _initialize_jax(group)
    yield
    wait_for_all('the end')
    _links.leave(SILENCE_TIMEOUT)
  except BaseException as error:
    _exit_with_others(error)


def _initialize_jax(group: launchers.ProcessGroup) -> None:
  """Connects JAX's own service, after all processes have joined."""
  import jax

  # JAX's preemption service would take SIGTERM away from `zsar_jax.runtime.interruption`.
  jax.config.update('jax_enable_preemption_service', False)
  address = group.address
  if group.process:
    os.environ.update(no_grpc_proxy='127.0.0.1')
    address = f'127.0.0.1:{start_relay(launchers.parse_address(address))}'
  jax.config.update('jax_check_proxy_envs', False)
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    jax.distributed.initialize(
      address,
      group.num_processes,
      group.process,
      group.devices,
      initialization_timeout=_JAX_TIMEOUT,
      heartbeat_timeout_seconds=_JAX_TIMEOUT,
      shutdown_timeout_seconds=10,  # A process that ends has saved its work.
    )


def is_multiprocess() -> bool:
  """Returns whether this is one of several processes."""
  return _links is not None


def is_main() -> bool:
  """Returns whether this process writes the files that are written once."""
  # Orbax goes by JAX's number, which on TPUs may differ from the number at the start.
  return not is_multiprocess() or sys.modules['jax'].process_index() == 0


def process_name(process: int) -> str:
  """Returns 'process N (HOST)', for messages; N is the number at the start."""
  assert _links is not None, 'this is the only process'
  return _links.name(process)


def exchange(name: str, value: Any = None) -> list[Any]:
  """Returns what each process contributes to the exchange `name`, as JSON, in their order."""
  return _links.exchange(name, value) if _links else [value]


def wait_for_all(name: str) -> None:
  """Returns when every process has called it with the same name."""
  exchange(name)


def broadcast_from_main(make: Callable[[], T], name: str = 'what process 0 knows') -> T:
  """Returns in each process what `make`, called in process 0, returns, as JSON."""
  # A list, since `make` may return None.
  answers = exchange(name, [make()] if is_main() else None)
  return next(answer[0] for answer in answers if answer)


def run_main_first(make: Callable[[], T]) -> T:
  """Calls `make` in process 0, which writes files, then in the others, which read them."""
  if is_main():
    result = make()
  wait_for_all('what process 0 makes')
  return result if is_main() else make()


def request_stop(number: int, waiting_for: str = '') -> None:
  """Sends a signal that this process got to all others, once.

  Args:
    number: of the signal.
    waiting_for: what all processes finish first; it is printed.
  """
  if _links is not None and not _signals:
    _signals.append(number)
    if waiting_for:
      name = signal.Signals(number).name
      print(f'{name}: waiting for {waiting_for}, in all processes', file=sys.stderr, flush=True)
    _links.send_signal(number)
    _limit_wait(number)


def _pass_signal(number: int) -> None:
  """Sends this process the signal that another one got."""
  if not _signals:
    _signals.append(number)
    os.kill(os.getpid(), signal.Signals(number))
    _limit_wait(number)


def _limit_wait(number: int) -> None:
  """Ends this process if it still waits for the others `SIGNAL_TIMEOUT` after a signal."""

  def run() -> None:
    time.sleep(SIGNAL_TIMEOUT)
    _exit(
      exit_status(number),
      f'interrupted; the processes were not done with their step and its checkpoint within'
      f' {SIGNAL_TIMEOUT:.0f} seconds; the same command goes on from the newest checkpoint',
    )

  threading.Thread(target=run, daemon=True).start()


def _exit_after_another(sentence: str, failed: bool) -> None:
  """Ends this process because another one has failed or is gone."""

  def run() -> None:
    time.sleep(_OWN_ERROR_TIMEOUT if failed or _signals else 0.5)
    if _signals and not failed:
      _exit(exit_status(_signals[0]), f'interrupted; {sentence}')
    _exit(2, f'error: {sentence}')

  if not failed:
    _process_gone.set()
  threading.Thread(target=run, daemon=True).start()


def _exit_with_others(error: BaseException) -> None:
  """Ends this process and all others because of an exception from the block."""
  assert _links is not None
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: exit_now(2))
  if isinstance(error, (Interrupted, KeyboardInterrupt)):
    status = getattr(error, 'status', 130)
    request_stop(signal.SIGINT if status else signal.SIGTERM)
    _links.leave(GRACE_SECONDS if isinstance(error, Interrupted) else 0.0)
    _exit(status, str(error) or f'\n{MESSAGE}')
  sentence = user_message(error)
  if _signals and sentence is None:
    # A computation with the other processes fails when they end.
    _exit(exit_status(_signals[0]), MESSAGE)
  # If another process is gone, a computation with it fails before the links notice it; the thread
  # of `_exit_after_another` then ends this process with a better message.
  if _process_gone.wait(_CAUSE_TIMEOUT if sentence is None else 0.0):
    time.sleep(_CAUSE_TIMEOUT)
  _exit_lock.acquire()
  if sentence is None:
    traceback.print_exception(error)
    status, sentence = 1, f'{type(error).__name__}: {first_line(error)}'
  else:
    status = 2
    print(f'error: {sentence}', file=sys.stderr, flush=True)
  if _links.all_joined:
    _links.fail(f'{_links.name(_links.process)} failed: {sentence}')
  exit_now(status)


def _exit(status: int, message: str | None = None) -> None:
  """Ends the process, with the message of the thread that comes first."""
  _exit_lock.acquire()
  exit_now(status, message)
