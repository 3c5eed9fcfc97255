"""A shared value arrives in another process as it is, in a few bytes and without copies."""

import concurrent.futures
import contextlib
import gc
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest

from zsar_jax.data.shared_value import SharedValue

ROOT = pathlib.Path(__file__).parents[2]

needs_memory_files = pytest.mark.skipif(
  not hasattr(os, 'memfd_create'), reason='Linux has files in memory'
)

# Prints the sum of the arrays of a pickled value, and whether they can be written and are mapped.
READER = """
import pathlib, pickle, sys
value = pickle.loads(bytes.fromhex(sys.argv[1])).value
maps = pathlib.Path('/proc/self/maps').read_text()
print(value['a'].sum(), value['b'].sum(), value['name'], value['a'].flags.writeable)
print('shared value' in maps)
"""


def make_value():
  return {'a': np.arange(300_000), 'b': np.linspace(0, 1, 7), 'name': 'of 300,000 clips'}


def files_in_memory():
  """Returns the number of this process's open files in memory."""
  count = 0
  for path in pathlib.Path('/proc/self/fd').iterdir():
    with contextlib.suppress(OSError):  # Threads of other tests close theirs meanwhile.
      count += os.readlink(path).startswith('/memfd:')
  return count


@needs_memory_files
def test_another_process_maps_the_arrays():
  value = make_value()
  shared = SharedValue(value)
  pickled = pickle.dumps(shared)
  assert len(pickled) < 200
  output = subprocess.run(
    [sys.executable, '-c', READER, pickled.hex()], cwd=ROOT, check=True, capture_output=True
  ).stdout.decode()
  sums = f'{value["a"].sum()} {value["b"].sum()}'
  assert output == f'{sums} of 300,000 clips False\nTrue\n'


@needs_memory_files
def test_threads_that_pickle_at_once_share_one_file_which_ends_with_the_value():
  before = files_in_memory()
  shared = SharedValue(make_value())
  with concurrent.futures.ThreadPoolExecutor(16) as pool:
    pickles = set(pool.map(pickle.dumps, [shared] * 64))
  assert len(pickles) == 1
  assert files_in_memory() == before + 1
  copy = pickle.loads(pickles.pop())
  del shared
  gc.collect()
  np.testing.assert_array_equal(copy.value['a'], np.arange(300_000))  # The mapping stays.
  assert copy.value['a'].ctypes.data % 64 == copy.value['b'].ctypes.data % 64 == 0
  assert files_in_memory() <= before + 1  # Python's mmap has a file of its own.
  del copy
  gc.collect()
  assert files_in_memory() == before


def test_without_files_in_memory_the_pickle_has_the_value(monkeypatch):
  monkeypatch.delattr(os, 'memfd_create', raising=False)
  copy = pickle.loads(pickle.dumps(SharedValue(make_value())))
  np.testing.assert_array_equal(copy.value['a'], np.arange(300_000))
