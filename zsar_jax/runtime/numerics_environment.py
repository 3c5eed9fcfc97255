"""The environment that determines the last bits of a run's numbers; checkpoints record it."""

import os
from typing import Any

import jax


def current() -> dict[str, Any]:
  """Returns the platform, JAX's version and, on a CPU, the number of XLA's threads.

  XLA starts one thread for each core that the process may use (`taskset` and Slurm restrict them).
  Sums are shared out over the threads, so that their number changes the order of additions.
  """
  platform = jax.default_backend()
  environment: dict[str, Any] = {'platform': platform, 'jax': jax.__version__}
  if platform == 'cpu':
    get_cores = getattr(os, 'sched_getaffinity', None)
    environment['threads'] = len(get_cores(0)) if get_cores else os.cpu_count()
  return environment


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
