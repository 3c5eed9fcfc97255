"""The environment that determines the last bits of a run's numbers; checkpoints record it."""

import importlib.metadata
import os
from typing import Any

import jax

# The libraries whose kernels compute products and attention on NVIDIA GPUs, with the packages that
# JAX installs them from for CUDA 12 and 13.
_GPU_LIBRARIES = {
  'cublas': ('nvidia-cublas-cu12', 'nvidia-cublas'),
  'cudnn': ('nvidia-cudnn-cu12', 'nvidia-cudnn-cu13'),
}


def current() -> dict[str, Any]:
  """Returns the platform, the number of devices, JAX's version, and what else counts there.

  On a CPU that is the number of XLA's threads. XLA starts one thread for each core that the process
  may use (`taskset` and Slurm restrict them). Sums are shared out over the threads, so that their
  number changes the order of additions.

  On a GPU it is the kind of GPU and the versions of the libraries that bring the kernels, as far as
  they are installed as Python packages.
  """
  device = jax.devices()[0]
  environment: dict[str, Any] = {
    'platform': device.platform,
    'devices': jax.device_count(),
    'jax': jax.__version__,
  }
  if device.platform == 'cpu':
    get_cores = getattr(os, 'sched_getaffinity', None)
    environment['threads'] = len(get_cores(0)) if get_cores else os.cpu_count()
  if device.platform == 'gpu':
    environment['device'] = device.device_kind
    for library, packages in _GPU_LIBRARIES.items():
      environment[library] = next(filter(None, map(_version, packages)), None)
  return environment


def _version(package: str) -> str | None:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None


def describe_changes(saved: Any, environment: dict[str, Any]) -> str:
  """Returns what differs from a saved environment: 'threads: 1, and 2 before'; '' if nothing.

  Args:
    saved: what `current` returned in an earlier run; anything else compares as empty.
    environment: what `current` returns.
  """
  before = saved if isinstance(saved, dict) else {}
  return ', '.join(
    f'{name}: {value}, and {before[name]} before'
    for name, value in environment.items()
    if name in before and before[name] != value
  )
