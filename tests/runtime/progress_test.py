"""The progress line, on a terminal and in a log file."""

import io
import sys

import pytest

from zsar_jax.runtime import progress, terminal


class Terminal(io.StringIO):
  def isatty(self):
    return True


@pytest.fixture
def clock(monkeypatch):
  """A clock that the test sets: [seconds]."""
  seconds = [0.0]
  monkeypatch.setattr(progress.time, 'monotonic', lambda: seconds[0])
  return seconds


def test_a_terminal_shows_one_line_and_no_control_characters(monkeypatch, clock):
  stream = Terminal()
  monkeypatch.setattr(sys, 'stderr', stream)
  terminal.escape_output()
  line = progress.Progress(100, 10, 'clips', 8)
  line.show(10, 'loss 2.0')
  clock[0] = 10.0
  line.show(20, 'loss \x1b[2J')
  line.close()
  assert stream.getvalue() == (
    '\rstep 10/100  loss 2.0\rstep 20/100  loss \\x1b[2J  8.0 clips/s  01:20 left\n'
  )


def test_a_log_file_gets_a_line_now_and_then_and_the_last_step(monkeypatch, clock):
  stream = io.StringIO()
  monkeypatch.setattr(sys, 'stderr', stream)
  line = progress.Progress(4, 0, 'clips', 8, log_interval=10)
  for step in range(1, 5):
    clock[0] += 6
    line.show(step, 'text')
    if step == 1:
      line.restart(1)
  line.close()
  assert stream.getvalue() == (
    'step 2/4  text  1.3 clips/s  00:12 left\nstep 4/4  text  1.3 clips/s  00:00 left\n'
  )
