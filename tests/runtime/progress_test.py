"""The progress line, on a terminal and in a log file."""

import contextlib
import fcntl
import io
import pty
import struct
import sys
import termios

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


def test_upcoming_events_are_shown_in_order_with_the_time_until_they_come(monkeypatch, clock):
  stream = io.StringIO()
  monkeypatch.setattr(sys, 'stderr', stream)
  line = progress.Progress(1000, 100, 'clips', 8)
  clock[0] = 50.0  # Two steps a second.
  line.show(200, 'text', {'evaluation': 2000, 'checkpoint': 560})
  line.show(300, 'text', {'checkpoint': 400, 'evaluation': 400})
  first, second = stream.getvalue().splitlines()
  assert first.endswith('left  checkpoint in 3 min, evaluation in 15 min')
  assert second.endswith('left  checkpoint and evaluation in 25 s')


def test_a_line_is_not_wider_than_the_terminal(monkeypatch, clock):
  """A wider one would wrap, so that each rewriting would begin another line."""
  reader, writer = pty.openpty()
  fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 40, 0, 0))
  written = b''
  with open(writer, 'w') as stream:
    monkeypatch.setattr(sys, 'stderr', stream)
    line = progress.Progress(1000, 0, 'clips', 8)
    clock[0] = 1.0
    line.show(2, 'loss 1.2345  accuracy 0.512', {'checkpoint': 400})
    line.show(3, 'loss 1.2345  accuracy 0.512', {'checkpoint': 400})
  with open(reader, 'rb', buffering=0) as received, contextlib.suppress(OSError):
    while True:  # A terminal whose other end is closed raises after the last byte.
      written += received.read(1000)
  assert written.decode() == '\r' + '\r'.join(
    f'step {step}/1000  loss 1.2345  accuracy 0.512'[:39] for step in (2, 3)
  )
