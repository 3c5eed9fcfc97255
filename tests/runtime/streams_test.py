"""Programs whose stdout or stderr is closed or full, or whose reader is gone."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]

# Ends like training: on a signal it prints a line, saves, and prints another line.
SCRIPT = """
import os, pathlib, sys, time
from zsar_jax.runtime import interruption
with interruption.interruptible_program():
  out = pathlib.Path(sys.argv[1])
  with open(out / 'first', 'w') as file:
    if sys.argv[2] == 'closed':
      os.write(2, b'of a library')
    file.write('kept')
  with interruption.DeferredSignals() as signals:
    print('ready', flush=True)
    while len(sys.argv) > 3 and not signals.signal:
      time.sleep(0.01)
    for stream in (sys.stdout, sys.stderr):
      print('stopping', file=stream, flush=True)
      print('x' * 100000, end='', file=stream)
  (out / 'saved').touch()
  if signals.signal:
    raise interruption.Interrupted('saved', signals.status)
"""


@pytest.mark.parametrize('how', ['dead', 'full', 'closed'])
def test_a_program_saves_and_keeps_its_status(tmp_path, how):
  command = [sys.executable, '-c', SCRIPT, str(tmp_path), how]
  if how == 'dead':  # As with `2>&1 | tee log`, after Ctrl-C.
    process = subprocess.Popen(
      [*command, 'wait'], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout.readline() == b'ready\n'
    process.stdout.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
  else:
    redirected = {'full': '>/dev/full 2>&1', 'closed': '<&- >&- 2>&-'}[how]
    shell = ['sh', '-c', f'exec "$@" {redirected}', 'sh', *command]
    assert subprocess.run(shell, cwd=ROOT, timeout=60).returncode == 0
  assert (tmp_path / 'saved').exists()
  # A file does not get the number of a closed stream.
  assert (tmp_path / 'first').read_text() == 'kept'


def test_a_program_works_without_a_reader():
  read, write = os.pipe()
  os.close(read)
  script = """
from zsar_jax.runtime.reporting import exit_on_user_error
with exit_on_user_error():
  print('x')
  raise SystemExit(3)
"""
  command = [sys.executable, '-c', script]
  run = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, timeout=60)
  os.close(write)
  assert (run.returncode, run.stderr) == (3, b'')
