"""The file handles that a run needs, looked at before it begins."""

import os
import resource

from zsar_jax.data.frame_table import MAX_OPEN_FILES
from zsar_jax.errors import UserError

# What a run was seen to have open, with some room: Python, JAX and the run's own files; and for
# each worker process pipes and blocks of shared memory, of training and an evaluation at once.
# TensorStore writes as many files of a checkpoint at once as there are cores.
_PROGRAM = 40
_WORKER = 40
_MOST_CORES = 64


def raise_open_file_limit(workers: int) -> None:
  """Raises the limit of this process's open files as far as the run needs.

  Files of records take a bounded number, whatever the number of data sets and of their files.

  Args:
    workers: `config.data.workers`.

  Raises:
    UserError: where the system does not allow as many.
  """
  needed = _PROGRAM + min(os.cpu_count() or 1, _MOST_CORES)
  needed += max(2 * MAX_OPEN_FILES, _WORKER * workers)
  limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
  if limit == resource.RLIM_INFINITY or limit >= needed:
    return
  if most != resource.RLIM_INFINITY and most < needed:
    remedy = ', or lower config.data.workers' if _WORKER * workers > 2 * MAX_OPEN_FILES else ''
    raise UserError(
      f'the run needs {needed} open files and the system allows {most} (ulimit -n); raise that to'
      f' {needed}{remedy}'
    )
  resource.setrlimit(resource.RLIMIT_NOFILE, (needed, most))
