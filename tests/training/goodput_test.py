"""Every second belongs to one part, over all starts of a run."""

import time

from zsar_jax.training import goodput


def seconds_of(metrics):
  return {name: value for name, value in metrics.items() if name.startswith(goodput.PREFIX)}


def test_seconds_add_up(monkeypatch):
  now = [100.0]
  monkeypatch.setattr(time, 'monotonic', lambda: now[0])
  clock = goodput.Goodput(90.0)

  def pass_time(seconds, part):
    now[0] += seconds
    clock.lap(part)

  clock.lap('setup')
  pass_time(5, 'compile')
  pass_time(2, 'data')
  pass_time(3, 'step')
  kept = clock.metrics()
  assert sum(seconds_of(kept).values()) == 20
  assert kept['goodput'] == 3 / 20
  pass_time(4, 'step')
  pass_time(1, 'checkpoint')
  written = clock.metrics()

  # The next start resumes from the metrics of the checkpoint.
  clock = goodput.Goodput()
  pass_time(6, 'setup')
  clock.resume(kept, written)
  pass_time(1, 'compile')
  metrics = clock.metrics()
  seconds = seconds_of(metrics)
  assert sum(seconds.values()) == 32
  # Of the 7 seconds of steps, 4 are lost.
  assert metrics['goodput'] == round(3 / 32, 4)
  assert seconds['seconds/lost'] == 5
  assert seconds['seconds/setup'] == 16
  assert clock.describe_start({'compile': 'cached'}) == '7.0 s: setup 6.0, compile 1.0 (cached)'


def test_parts_of_earlier_versions_count(monkeypatch):
  monkeypatch.setattr(time, 'monotonic', lambda: 0.0)
  clock = goodput.Goodput(-4.0)
  clock.lap('setup')
  kept = {'loss': 1.0, 'seconds/start': 7.0, 'seconds/lost': 1.0}
  clock.resume(kept, kept | {'seconds/start': 9.0})
  seconds = {name: value for name, value in seconds_of(clock.metrics()).items() if value}
  assert seconds == {'seconds/start': 7.0, 'seconds/lost': 3.0, 'seconds/setup': 4.0}
