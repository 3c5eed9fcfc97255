"""Runs a program of the user's, and ends it with the process that wants its output.

    python -I supervisor.py FOLDER PROGRAM ARGUMENT ...

Whoever starts this file keeps the other end of its standard input open. When that end closes, even
because the process was killed, the program, its children and FOLDER are removed. The file is run
by its path and imports the standard library alone, so that it starts in milliseconds.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading


def main() -> int:
  """Runs the program; returns its exit status, or 128 plus the signal that ended it."""
  folder, *command = sys.argv[1:]
  try:
    # The session makes a group of the program and its children, which can be killed at once.
    program = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
  except OSError as error:
    print(f'{command[0]} cannot be started ({error.strerror})', file=sys.stderr)
    return 127
  ending = threading.Lock()  # The first thread to take it decides how this process ends.

  def kill() -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
      os.killpg(program.pid, signal.SIGKILL)

  def watch() -> None:
    os.read(sys.stdin.fileno(), 1)
    ending.acquire()
    kill()
    program.wait()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)

  threading.Thread(target=watch, daemon=True).start()
  status = program.wait()
  ending.acquire()
  kill()  # Children that the program has left behind.
  return status if status >= 0 else 128 - status


if __name__ == '__main__':
  sys.exit(main())
