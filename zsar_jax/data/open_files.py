"""Raises the limit of open files to what a run needs, before the run starts."""

import os
import resource

from zsar_jax.data.frame_table import MAX_OPEN_FILES
from zsar_jax.errors import UserError

# Measured numbers of open files, with some margin: those of Python, JAX and the run itself; and for
# each worker process 8 pipes and 3 blocks of shared memory with 2 files each, for training and an
# evaluation at once. TensorStore writes as many files of a checkpoint at once as there are cores.
# With four workers and any number of cores, the sum stays below 256, a common limit.
_PROGRAM_FILES = 40
_WORKER_FILES = 30
_MAX_CORES = 64


def raise_open_file_limit(workers: int) -> None:
  """Raises this process's limit of open files as far as the run needs.

  The number of open files of records does not depend on how many data sets and files there are.

  Args:
    workers: `config.data.workers`.

  Raises:
    UserError: if the system does not allow that many.
  """
  needed = _PROGRAM_FILES + min(os.cpu_count() or 1, _MAX_CORES)
  needed += max(2 * MAX_OPEN_FILES, _WORKER_FILES * workers)
  limit, max_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
  if limit == resource.RLIM_INFINITY or limit >= needed:
    return
  if max_limit != resource.RLIM_INFINITY and max_limit < needed:
    workers_dominate = _WORKER_FILES * workers > 2 * MAX_OPEN_FILES
    remedy = ', or lower config.data.workers' if workers_dominate else ''
    raise UserError(
      f'the run needs {needed} open files and the system allows {max_limit} (ulimit -n); raise that'
      f' to {needed}{remedy}'
    )
  resource.setrlimit(resource.RLIMIT_NOFILE, (needed, max_limit))
