"""What is noted of the machine, and what is said where it is another."""

import os

import jax
import pytest

from zsar_jax.runtime import numerics_environment


def test_the_threads_are_the_cores_that_the_process_may_use():
  whole = os.sched_getaffinity(0)
  found = numerics_environment.current()
  assert found == {'platform': 'cpu', 'jax': jax.__version__, 'threads': len(whole)}
  try:
    os.sched_setaffinity(0, {min(whole)})
    assert numerics_environment.current()['threads'] == 1
  finally:
    os.sched_setaffinity(0, whole)


@pytest.mark.parametrize(
  ('saved', 'said'),
  [
    ({'platform': 'cpu', 'threads': 2}, 'threads: 4, and 2 before'),
    ({'platform': 'gpu'}, 'platform: cpu, and gpu before'),
    ({'platform': 'cpu', 'jax': '0.1', 'threads': 4}, ''),
    # A checkpoint from before it was noted, or a damaged note.
    (None, ''),
    ([3], ''),
  ],
)
def test_what_has_changed(saved, said):
  assert numerics_environment.describe_changes(saved, {'platform': 'cpu', 'threads': 4}) == said
