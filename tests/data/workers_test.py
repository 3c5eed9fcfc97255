"""Worker processes and Ctrl-C."""

import os
import pathlib
import signal
import subprocess
import sys
import time

_SCRIPT = """
import concurrent.futures, multiprocessing, pathlib, signal, sys, time
from zsar_jax.data.workers import hold_interrupts, initialize_worker
if __name__ != '__main__':
  pathlib.Path(sys.argv[1]).touch()
  time.sleep(1)  # As a module that is slow to import.
else:
  # A shell may have started the tests with SIGINT ignored.
  signal.signal(signal.SIGINT, signal.default_int_handler)
  pool = concurrent.futures.ProcessPoolExecutor(
    1, multiprocessing.get_context('spawn'), initialize_worker, (signal.SIG_DFL,)
  )
  with hold_interrupts():
    future = pool.submit(abs, -1)
  try:
    future.result()
  except KeyboardInterrupt:
    print('interrupted')
  finally:
    pool.shutdown(cancel_futures=True)
"""


def test_ctrl_c_during_the_start_of_a_worker_leaves_no_traceback(tmp_path):
  script, started = tmp_path / 'run.py', tmp_path / 'started'
  script.write_text(_SCRIPT)
  process = subprocess.Popen(
    [sys.executable, str(script), str(started)],
    env=os.environ | {'PYTHONPATH': str(pathlib.Path(__file__).parents[2])},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    start_new_session=True,
    text=True,
  )
  for _ in range(600):
    if started.exists() or process.poll() is not None:
      break
    time.sleep(0.05)
  os.killpg(process.pid, signal.SIGINT)  # As a terminal does.
  output, _ = process.communicate()
  assert output == 'interrupted\n'
