"""What a run tells: metrics.jsonl, TensorBoard, and the progress line."""

import json
import os
import pathlib
import sys
import tempfile
import time
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.runtime import distributed, file_systems, terminal


def write_file(path: pathlib.Path, text: str) -> None:
  """Writes a file that is there whole or not at all, also when the process dies meanwhile."""
  partial = path.with_name(f'{path.name}.tmp')
  partial.write_text(text, encoding='utf-8')
  file_systems.replace(partial, path)


def make_folder(folder: pathlib.Path, field: str) -> None:
  """Makes the folder that a program will write to, before it works for what it writes.

  Args:
    folder: may be there already.
    field: where it comes from, for errors.

  Raises:
    UserError: it cannot be made, or no file can be written in it.
  """
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(
      f'{field}: {folder} cannot be a folder ({error.strerror}); name another'
    ) from None
  try:
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError as error:
    raise UserError(
      f'{field}: {folder} cannot be written to ({error.strerror}); name another folder'
    ) from None


class MetricWriter:
  """Writes one JSON object a step to `workdir`/metrics.jsonl, and TensorBoard events if asked.

  A resumed run drops the lines that lie after its checkpoint, which it is about to write
  again: every step stands there once. Of several processes one writes.

  Attributes:
    last: the last line, as an object; {} where there is none.
    dropped: the last of the lines that were dropped, or `last`.
  """

  def __init__(self, workdir: pathlib.Path, first_step: int, tensorboard: bool):
    """Opens the files.

    Args:
      workdir: the run's folder.
      first_step: the step that the run resumes after; 0 begins anew.
      tensorboard: whether to write event files too.

    Raises:
      UserError: if TensorBoard is asked for and tensorboardX is not installed.
    """
    path = workdir / 'metrics.jsonl'
    lines = distributed.broadcast_from_main(lambda: _lines(path))
    kept = [line for line in lines if line['step'] <= first_step]
    self.last: dict[str, Any] = kept[-1] if kept else {}
    self.dropped: dict[str, Any] = lines[-1] if lines else {}
    self._file = self._events = None
    if distributed.is_main():
      write_file(path, ''.join(json.dumps(line) + '\n' for line in kept))
      self._file = path.open('r+b')
      self._file.seek(0, os.SEEK_END)
      self._start = self._file.tell() - (len(json.dumps(kept[-1])) + 1 if kept else 0)
      self._events = _open_events(workdir, first_step) if tensorboard else None

  def write(self, step: int, values: dict[str, float]) -> None:
    """Writes the values of one step, in one line that reaches the disk's cache at once.

    More values of the same step join its line.
    """
    again = self.last.get('step') == step
    self.last = self.last | values if again else {'step': step, **values}
    if self._file:
      if again:
        self._file.seek(self._start)
      self._start = self._file.tell()
      self._file.write(json.dumps(self.last).encode() + b'\n')
      self._file.flush()
      self._file.truncate()  # What the line that it replaces had more.
    if self._events:
      for name, value in values.items():
        self._events.add_scalar(name, value, step)

  def close(self) -> None:
    """Closes the files."""
    if self._file:
      self._file.close()
    if self._events:
      self._events.close()


def _lines(path: pathlib.Path) -> list[dict[str, Any]]:
  """The complete lines of a metrics file; a line cut short by a crash ends it."""
  lines = []
  if path.exists():
    for text in path.read_text().splitlines():
      try:
        line = json.loads(text)
        line['step'] + 0
      except (ValueError, TypeError, KeyError):
        break
      lines.append(line)
  return lines


def _open_events(workdir: pathlib.Path, first_step: int) -> Any:
  try:
    import tensorboardX
  except ImportError:
    raise UserError(
      "config.log.tensorboard: tensorboardX is not installed; pip install 'zsar_jax[tensorboard]'"
    ) from None
  return tensorboardX.SummaryWriter(str(workdir / 'tensorboard'), purge_step=first_step + 1)


class Progress:
  """One line on stderr that is written over on a terminal and repeated in a log file."""

  def __init__(self, total: int, done: int, unit: str, per_step: int, pause: float = 0.0):
    """Starts the clock.

    Args:
      total: steps in all.
      done: steps done before.
      unit: what a step is made of, such as 'clips'.
      per_step: how many of them.
      pause: in a log file, the least seconds between two lines; the last step is always shown.
    """
    self._total, self._first = total, done
    self._unit, self._per_step = unit, per_step
    self._start = time.monotonic()
    self._pause, self._next = pause, self._start + pause
    self._terminal = sys.stderr.isatty()
    self._open_line = False

  def rate(self, step: int) -> float:
    """Units in a second, since the start."""
    seconds = time.monotonic() - self._start
    return (step - self._first) * self._per_step / max(seconds, 1e-9)

  def restart(self, step: int) -> None:
    """Starts the clock anew, at `step`: compilation says nothing about the time left."""
    self._first, self._start = step, time.monotonic()

  def show(self, step: int, text: str) -> None:
    """Shows the step, `text`, the rate and the time left."""
    if not distributed.is_main():
      return
    if not self._terminal and time.monotonic() < self._next and step < self._total:
      return
    self._next = time.monotonic() + self._pause
    line = f'step {step}/{self._total}  {text}'
    rate = self.rate(step)
    if rate > 0:
      left = (self._total - step) * self._per_step / rate
      line += f'  {rate:.1f} {self._unit}/s  {clock(left)} left'
    if self._terminal:
      terminal.rewrite(line)
    else:
      print(line, file=sys.stderr, flush=True)
    self._open_line = self._terminal

  def close(self) -> None:
    """Leaves the line standing."""
    if self._open_line:
      print(file=sys.stderr)
    self._open_line = False


def clock(seconds: float) -> str:
  """Seconds as h:mm:ss or m:ss."""
  minutes, seconds = divmod(int(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours}:{minutes:02}:{seconds:02}' if hours else f'{minutes}:{seconds:02}'


def log(text: str) -> None:
  """A line about the run, for people, from one process; results go to stdout."""
  if distributed.is_main():
    print(text, file=sys.stderr, flush=True)
