"""The recorded environment, and the description of a changed one."""

import os

import jax
import pytest

from zsar_jax.runtime import numerics_environment


def test_the_threads_are_the_cores_that_the_process_may_use():
  cores = os.sched_getaffinity(0)
  assert numerics_environment.current() == {
    'platform': 'cpu',
    'jax': jax.__version__,
    'threads': len(cores),
  }
  try:
    os.sched_setaffinity(0, {min(cores)})
    assert numerics_environment.current()['threads'] == 1
  finally:
    os.sched_setaffinity(0, cores)


@pytest.mark.parametrize(
  ('saved', 'changes'),
  [
    ({'platform': 'cpu', 'threads': 2}, 'threads: 4, and 2 before'),
    ({'platform': 'gpu'}, 'platform: cpu, and gpu before'),
    ({'platform': 'cpu', 'jax': '0.1', 'threads': 4}, ''),
    # An old checkpoint without the record, or a damaged record.
    (None, ''),
    ([3], ''),
  ],
)
def test_changes(saved, changes):
  assert numerics_environment.describe_changes(saved, {'platform': 'cpu', 'threads': 4}) == changes
