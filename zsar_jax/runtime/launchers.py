"""Detects what a launcher says about the processes of a run: Slurm, Open MPI, Kubernetes, TPUs."""

import os
from typing import Any, NamedTuple

from zsar_jax.errors import UserError, first_line

# By launcher, the environment variable with a process's number, and those with the number of
# processes, of which the first that is set counts. Slurm's first one is the step's: the shell of
# an interactive allocation is a step of one task.
_LAUNCHERS = {
  'Slurm': ('SLURM_PROCID', ('SLURM_STEP_NUM_TASKS', 'SLURM_NTASKS')),
  'Open MPI': ('OMPI_COMM_WORLD_RANK', ('OMPI_COMM_WORLD_SIZE',)),
  'Kubernetes': ('JOB_COMPLETION_INDEX', ()),
}

_DETECTION_TIMEOUT = 300  # Seconds.


class ProcessGroup(NamedTuple):
  """The processes of a run, as one of them sees them.

  Attributes:
    address: HOST:PORT of process 0.
    num_processes: the number of processes.
    process: the number of this one.
    devices: the local devices that JAX may take; None for all.
  """

  address: str
  num_processes: int
  process: int
  devices: Any


def is_multiprocess_launch() -> bool:
  """Returns whether a launcher has started several processes, of which this is one."""
  for launcher, (rank, _) in _LAUNCHERS.items():
    if rank in os.environ and _process_count(launcher) != 1:
      return True
  # The hosts of a TPU slice: GKE sets their names; on a TPU's virtual machine JAX knows.
  if ',' in os.environ.get('TPU_WORKER_HOSTNAMES', ''):
    return True
  from jax._src import cloud_tpu_init

  return cloud_tpu_init.running_in_cloud_tpu_vm


def detect(address: str | None, count: int | None, process: int | None) -> ProcessGroup:
  """Completes what the user gave with what the launcher says.

  Raises:
    UserError: if the launcher does not say enough, or the process's number is out of range.
  """
  from jax._src import clusters

  try:
    address, count, process, devices = clusters.ClusterEnv.auto_detect_unset_distributed_params(
      address or os.environ.get('JAX_COORDINATOR_ADDRESS'),
      count if count is not None else _process_count('Slurm'),
      process,
      None,
      None,
      _DETECTION_TIMEOUT,
    )
    if address is None or count is None or process is None:
      raise ValueError('the launcher does not say where process 0 is')
  except Exception as error:  # The Kubernetes client raises errors of its own.
    raise UserError(
      f'the processes do not find each other ({first_line(error)}); start them with srun, mpirun or'
      ' the like, or give --coordinator_address, --num_processes and --process_id, see docs/pods.md'
    ) from None
  if not 0 <= process < count:
    raise UserError(f'--process_id: {process} is none of the {count} processes, which count from 0')
  devices = None if 'JAX_LOCAL_DEVICE_IDS' in os.environ else devices
  return ProcessGroup(address, count, process, devices)


def parse_address(address: str) -> tuple[str, int]:
  """Parses HOST:PORT.

  Raises:
    UserError: if it is written differently.
  """
  host, _, port = address.rpartition(':')
  if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
    raise UserError(f'--coordinator_address: {address!r} is not HOST:PORT')
  return host.strip('[]'), int(port)


def _process_count(launcher: str) -> int | None:
  """Returns how many processes a launcher has started; None if it does not say."""
  rank, variables = _LAUNCHERS[launcher]
  counts = [os.environ[name] for name in variables if rank in os.environ and name in os.environ]
  return int(counts[0]) if counts and counts[0].isdecimal() else None
