"""Signals: what they do while Python runs, and while the main thread does not come round."""

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
  # A mutex that is locked twice: like XLA's compiler, nothing in it runs Python's handlers.
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

# As Orbax does around the reading of an array.
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

# Evaluation is compiled while a checkpoint is written: the process ends when that is done.
WHILE_SAVING = """
written = time.monotonic() + 0.8
with interruption.DeferredSignals() as one, one.interruptible(lambda: time.monotonic() > written):
  compile()
"""

# A hung thread does not keep an interrupted program.
HUNG_THREAD = """
with interruption.interruptible_program():
  threading.Thread(target=time.sleep, args=(600,)).start()
  print('ready', flush=True)
  time.sleep(600)
"""


def ended(script, number):
  """The exit status, stdout and stderr of a script that gets a signal when it is ready."""
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
def test_wherever_it_is_it_ends(script, number, status):
  returned, out, err = ended(script, number)
  assert returned == status, err
  assert 'interrupted; the same command goes on' in err
  assert ('in order' in out) == (script is IN_PYTHON)
  assert 'swallowed' not in out


@pytest.mark.parametrize(('error', 'status'), [('SystemExit(2)', 2), ('ValueError("own")', 1)])
def test_an_error_ends_the_program_whatever_its_threads_do(error, status):
  script = f"""
with interruption.interruptible_program():
  threading.Thread(target=time.sleep, args=(600,)).start()
  raise {error}
"""
  command = [sys.executable, '-c', BEGIN + script]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
  assert done.returncode == status
  assert ('own' in done.stderr) == (status == 1)


def test_when_all_is_done_a_termination_changes_nothing():
  """Until the interpreter has ended."""
  script = """
with interruption.interruptible_program():
  pass
print('ready', flush=True)
time.sleep(0.5)
print('to the end')
"""
  assert ended(script, signal.SIGTERM) == (0, 'to the end\n', '')


LOOP = """
told = []
with interruption.DeferredSignals(told.append) as one:
  print('ready', flush=True)
  for step in range(1000):
    time.sleep(0.01)
    if one.signal:
      break
  import os, signal
  os.kill(os.getpid(), signal.SIGTERM)  # A launcher may send it to a process twice.
  time.sleep(1)
  try:
    with one.interruptible():
      print('not here')
  except interruption.Interrupted as end:
    print('saved at', step < 999, set(told), end.status)
"""


def test_an_error_of_its_own_is_no_interruption():
  with (
    interruption.DeferredSignals() as one,
    pytest.raises(ValueError, match='own'),
    one.interruptible(),
  ):
    raise ValueError('own')


def test_a_loop_ends_by_itself():
  returned, out, err = ended(LOOP, signal.SIGTERM)
  assert (returned, err) == (0, '')
  assert out == f'saved at True {{{signal.SIGTERM.value}}} 0\n'


def test_an_interruption_in_a_finalizer_says_nothing(monkeypatch):
  """Python swallows it there, and would print its traceback; other errors are still told."""
  told = []
  monkeypatch.setattr(sys, 'unraisablehook', lambda found: told.append(found.exc_type))

  class Finalized:
    def __init__(self, error):
      self.error = error

    def __del__(self):
      raise self.error

  Finalized(interruption.Interrupted('before', 0))
  with interruption.DeferredSignals():
    Finalized(interruption.Interrupted('within', 0))
    Finalized(ValueError())
  assert told == [interruption.Interrupted, ValueError]
