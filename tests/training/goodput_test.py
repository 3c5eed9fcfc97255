"""Every second belongs to one part, over all starts of a run."""

import time

from zsar_jax.training import goodput


def test_seconds_add_up(monkeypatch):
  now = [100.0]
  monkeypatch.setattr(time, 'monotonic', lambda: now[0])
  clock = goodput.Goodput(90.0)

  def pass_time(seconds, part):
    now[0] += seconds
    clock.lap(part)

  clock.lap('start')
  pass_time(5, 'compile')
  pass_time(2, 'data')
  pass_time(3, 'step')
  kept = clock.metrics()
  assert sum(kept.values()) == 20
  pass_time(4, 'step')
  pass_time(1, 'checkpoint')
  written = clock.metrics()

  # The next start resumes from the metrics of the checkpoint.
  clock = goodput.Goodput()
  clock.resume(kept, written)
  pass_time(6, 'start')
  seconds = clock.metrics()
  assert sum(seconds.values()) == 31
  assert seconds['seconds/lost'] == 5
  assert seconds['seconds/start'] == 16
