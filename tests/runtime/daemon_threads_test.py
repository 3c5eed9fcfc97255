"""Threads that end with the program: started when they are needed, and no more than allowed."""

import threading

import pytest

from zsar_jax.runtime.daemon_threads import DaemonThreads


def count(name):
  return sum(thread.name == name for thread in threading.enumerate())


def test_threads_are_started_only_if_all_others_are_busy():
  pool = DaemonThreads(3, 'counted')
  assert count('counted') == 0
  assert pool.submit(divmod, 7, 3).result() == (2, 1)
  assert count('counted') == 1
  release = threading.Event()
  waiting = [pool.submit(release.wait) for _ in range(5)]
  late = pool.submit(int, '7')
  assert count('counted') == 3
  assert not late.done()
  release.set()
  assert late.result() == 7
  assert all(future.result() for future in waiting)
  assert count('counted') == 3


def test_errors_reach_the_future_and_the_thread_goes_on():
  pool = DaemonThreads(1, 'failing')
  with pytest.raises(ValueError, match='invalid literal'):
    pool.submit(int, 'x').result()
  assert pool.submit(int, '1').result() == 1
  assert count('failing') == 1


def test_a_task_that_is_canceled_while_it_waits_is_not_run():
  pool = DaemonThreads(1, 'canceled')
  release, ran = threading.Event(), []
  first = pool.submit(release.wait)
  second = pool.submit(ran.append, 2)
  third = pool.submit(ran.append, 3)
  assert second.cancel()
  release.set()
  third.result()
  assert first.result()
  assert ran == [3]
