"""Makes files of this process behave as on weak, read-only or full file systems.

The functions of the system are replaced by those of faulty_files.c, because TensorStore and
ArrayRecord call them directly. A test module whose programs need this runs in a process of its own,
in which that library is loaded first; see `run_cases`.
"""

import contextlib
import ctypes
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parent.parent

_VARIABLE = 'FAULTY_FILES_LIBRARY'

needs_compiler = pytest.mark.skipif(
  not shutil.which('cc') or sys.platform != 'linux', reason='compiles a library for Linux'
)


def run_cases(module: str, folder: pathlib.Path) -> None:
  """Runs the tests of a file whose name pytest does not know, with the library; they must pass.

  Args:
    module: the path of the file, below tests/.
    folder: an empty one.
  """
  library = folder / 'faulty_files.so'
  source = ROOT / 'tests' / 'faulty_files.c'
  subprocess.run(['cc', '-O1', '-shared', '-fPIC', '-o', library, source, '-ldl'], check=True)
  # A thread of Orbax that waits for a checkpoint that failed would keep Python from ending.
  run = 'import os, pytest, sys; status = pytest.main(); sys.stdout.flush(); os._exit(status)'
  done = subprocess.run(
    [sys.executable, '-c', run, '-q', '-x', '-p', 'no:xdist', '-p', 'no:cacheprovider']
    + ['-o', 'addopts=', f'--basetemp={folder / "cases"}', '--noconftest', '--durations=0']
    + [ROOT / 'tests' / module],
    cwd=ROOT,
    env=os.environ
    | {
      'LD_PRELOAD': str(library),
      _VARIABLE: str(library),
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': '--xla_backend_optimization_level=0',
      # All runs of the cases share their compiled programs.
      'JAX_COMPILATION_CACHE_DIR': str(folder / 'compiled'),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    },
    capture_output=True,
    text=True,
    timeout=900,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  assert ' passed' in done.stdout


@contextlib.contextmanager
def faults(*rules: str) -> Iterator[None]:
  """Has the rules of faulty_files.c inside the block, such as '/data/* change 30'."""
  library = ctypes.CDLL(os.environ[_VARIABLE])
  library.set_faults('\n'.join(rules).encode())
  try:
    yield
  finally:
    library.set_faults(b'')
