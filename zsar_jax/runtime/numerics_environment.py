"""What the last bits of a run's numbers depend on: noted beside each checkpoint."""

import os
from typing import Any

import jax


def current() -> dict[str, Any]:
  """The platform, JAX's version and, on a CPU, the threads that XLA shares its sums out over.

  XLA takes one thread for each core that the process may run on (`taskset` and Slurm restrict
  them), and another number of threads adds numbers up in another order.
  """
  platform = jax.default_backend()
  found = {'platform': platform, 'jax': jax.__version__}
  if platform == 'cpu':
    allowed = getattr(os, 'sched_getaffinity', None)
    found['threads'] = len(allowed(0)) if allowed else os.cpu_count()
  return found


def describe_changes(saved: Any, now: dict[str, Any]) -> str:
  """What of `current` is not as it was: 'threads: 1, and 2 before'; '' for nothing."""
  before = saved if isinstance(saved, dict) else {}
  return ', '.join(
    f'{name}: {value}, and {before[name]} before'
    for name, value in now.items()
    if name in before and before[name] != value
  )
