"""Signals while Python runs, and while the main thread does not return to Python."""

import pathlib
import signal
import subprocess
import sys

import pytest

from zsar_jax.runtime import interruption

ROOT = pathlib.Path(__file__).parents[2]

BEGIN = """
import ctypes, threading, time
from zsar_jax.runtime import interruption
interruption.GRACE_SECONDS = 0.3

def compile():
  # Locks a mutex twice: like XLA's compiler, this does not run Python's signal handlers.
  mutex = ctypes.create_string_buffer(64)
  ctypes.CDLL(None).pthread_mutex_lock(mutex)
  threading.Timer(0.3, print, ['ready'], dict(flush=True)).start()
  ctypes.CDLL(None).pthread_mutex_lock(mutex)

"""

IN_PYTHON = """
with interruption.interruptible_program():
  try:
    print('ready', flush=True)
    time.sleep(600)
  finally:
    print('in order', flush=True)
"""

SWALLOWED = """
with interruption.interruptible_program():
  print('ready', flush=True)
  while True:
    try:
      time.sleep(600)
    except Exception:
      print('swallowed')
"""

# As Orbax does when it reads an array.
WRAPPED = """
with interruption.interruptible_program():
  try:
    print('ready', flush=True)
    time.sleep(600)
  except BaseException as error:
    raise Exception('while reading') from error
"""

COMPILING = """
with interruption.interruptible_program():
  compile()
"""

# Evaluation is compiled while a checkpoint is written; the process ends when that is done.
WHILE_SAVING = """
written = time.monotonic() + 0.8
with interruption.DeferredSignals() as signals:
  with signals.interruptible(lambda: time.monotonic() > written):
    compile()
"""

# A thread that hangs does not keep the program from ending.
HUNG_THREAD = """
with interruption.interruptible_program():
  threading.Thread(target=time.sleep, args=(600,)).start()
  print('ready', flush=True)
  time.sleep(600)
"""


def run_until_signal(script, number):
  """Returns the exit status, stdout and stderr of a script that gets a signal when it is ready."""
  process = subprocess.Popen(
    [sys.executable, '-c', BEGIN + script],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == 'ready\n', process.communicate()
  process.send_signal(number)
  out, err = process.communicate(timeout=200)
  return process.returncode, out, err


@pytest.mark.skipif(sys.platform == 'win32', reason='POSIX signals')
@pytest.mark.parametrize(
  'script', [IN_PYTHON, SWALLOWED, WRAPPED, COMPILING, WHILE_SAVING, HUNG_THREAD]
)
@pytest.mark.parametrize(('number', 'status'), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_the_program_anywhere(script, number, status):
  returned, out, err = run_until_signal(script, number)
  assert returned == status, err
  assert 'interrupted; the same command goes on' in err
  assert ('in order' in out) == (script is IN_PYTHON)
  assert 'swallowed' not in out


@pytest.mark.parametrize(('error', 'status'), [('SystemExit(2)', 2), ('ValueError("own")', 1)])
def test_an_error_ends_a_program_with_hanging_threads(error, status):
  script = f"""
with interruption.interruptible_program():
  threading.Thread(target=time.sleep, args=(600,)).start()
  raise {error}
"""
  command = [sys.executable, '-c', BEGIN + script]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
  assert done.returncode == status
  assert ('own' in done.stderr) == (status == 1)


def test_sigterm_is_ignored_when_the_work_is_done():
  script = """
with interruption.interruptible_program():
  pass
print('ready', flush=True)
time.sleep(0.5)
print('to the end')
"""
  assert run_until_signal(script, signal.SIGTERM) == (0, 'to the end\n', '')


LOOP = """
notified = []
with interruption.DeferredSignals(notified.append) as signals:
  print('ready', flush=True)
  for step in range(1000):
    time.sleep(0.01)
    if signals.signal:
      break
  import os, signal
  os.kill(os.getpid(), signal.SIGTERM)  # A launcher may send it to a process twice.
  time.sleep(1)
  try:
    with signals.interruptible():
      print('not here')
  except interruption.Interrupted as end:
    print('saved at', step < 999, set(notified), end.status)
"""


def test_an_error_in_an_interruptible_block_stays_an_error():
  with (
    interruption.DeferredSignals() as signals,
    pytest.raises(ValueError, match='own'),
    signals.interruptible(),
  ):
    raise ValueError('own')


def test_a_loop_sees_the_signal_and_ends():
  returned, out, err = run_until_signal(LOOP, signal.SIGTERM)
  assert (returned, err) == (0, '')
  assert out == f'saved at True {{{signal.SIGTERM.value}}} 0\n'


def test_an_interruption_in_a_finalizer_says_nothing(monkeypatch):
  """Python drops it there and would print its traceback; other errors are still printed."""
  printed = []
  monkeypatch.setattr(sys, 'unraisablehook', lambda error: printed.append(error.exc_type))

  class Finalized:
    def __init__(self, error):
      self.error = error

    def __del__(self):
      raise self.error

  Finalized(interruption.Interrupted('before', 0))
  with interruption.DeferredSignals():
    Finalized(interruption.Interrupted('within', 0))
    Finalized(ValueError())
  assert printed == [interruption.Interrupted, ValueError]
