"""Lines about the progress of a run, on stderr; results go to stdout."""

import contextlib
import os
import sys
import time
from collections.abc import Mapping

import tqdm
import tqdm.utils

from zsar_jax.runtime import distributed, terminal
from zsar_jax.runtime.wording import format_duration


def log(text: str) -> None:
  """Prints a line on stderr, in process 0 only."""
  if distributed.is_main():
    print(text, file=sys.stderr, flush=True)


class StatusLine:
  """One line on stderr, which a terminal shows in place and a log file repeats.

  Attributes:
    in_place: whether stderr is a terminal.
  """

  def __init__(self):
    """Writes nothing yet."""
    self.in_place = sys.stderr.isatty()
    self._rewrite = tqdm.tqdm.status_printer(terminal.raw_stderr()) if self.in_place else None
    self._is_open = False

  def show(self, text: str) -> None:
    """Shows a text instead of the previous one."""
    if self._rewrite:
      text = terminal.escape_control_chars(text)
      # A line that wraps could not be rewritten. Streams that are no terminal have no width.
      with contextlib.suppress(OSError, ValueError):
        width = os.get_terminal_size(terminal.raw_stderr().fileno()).columns
        text = tqdm.utils.disp_trim(text, width - 1) if width else text
      self._rewrite(text)
      self._is_open = True
    else:
      print(text, file=sys.stderr, flush=True)

  def close(self) -> None:
    """Ends the line, so that the next output starts below it."""
    if self._is_open:
      print(file=sys.stderr)
    self._is_open = False


class Progress:
  """The status line of a loop over steps: the step, a text, the rate and the time left."""

  def __init__(self, total: int, done: int, unit: str, per_step: int, log_interval: float = 0.0):
    """Starts the clock.

    Args:
      total: the number of the last step.
      done: the number of steps that were done before.
      unit: what a step processes, such as 'clips'.
      per_step: how many units a step processes.
      log_interval: in a log file, the seconds between two lines at least; the last step is always
        shown.
    """
    self._total, self._first = total, done
    self._unit, self._per_step = unit, per_step
    self._start = time.monotonic()
    self._log_interval, self._next = log_interval, self._start + log_interval
    self._line = StatusLine()

  def rate(self, step: int) -> float:
    """Returns the units per second since the start."""
    seconds = time.monotonic() - self._start
    return (step - self._first) * self._per_step / max(seconds, 1e-9)

  def restart(self, step: int) -> None:
    """Restarts the clock at `step`, so that compilation does not count in the time left."""
    self._first, self._start = step, time.monotonic()

  def show(self, step: int, text: str, upcoming: Mapping[str, int] | None = None) -> None:
    """Shows the step, `text`, the rate, the time left, and the time until upcoming events.

    Args:
      step: the last step.
      text: what is shown after it.
      upcoming: {event: the step at which it comes}, such as {'checkpoint': 500}.
    """
    if not distributed.is_main():
      return
    now = time.monotonic()
    if not self._line.in_place and now < self._next and step < self._total:
      return
    self._next = now + self._log_interval
    line = f'step {step}/{self._total}  {text}'
    if step > self._first:
      line = tqdm.tqdm.format_meter(
        step * self._per_step,
        self._total * self._per_step,
        max(now - self._start, 1e-9),
        prefix=line,
        bar_format=f'{{desc}}  {{rate_noinv:.1f}} {self._unit}/s  {{remaining}} left',
        initial=self._first * self._per_step,
      )
      line += _describe_upcoming(upcoming or {}, step, (now - self._start) / (step - self._first))
    self._line.show(line)

  def close(self) -> None:
    """Ends the line."""
    self._line.close()


def _describe_upcoming(upcoming: Mapping[str, int], step: int, seconds_per_step: float) -> str:
  """Returns '  checkpoint in 3 min, evaluation in 12 min'; '' if nothing comes."""
  events: dict[int, list[str]] = {}
  for event, at in upcoming.items():
    events.setdefault(at, []).append(event)
  texts = [
    f'{" and ".join(names)} in {format_duration((at - step) * seconds_per_step)}'
    for at, names in sorted(events.items())
  ]
  return f'  {", ".join(texts)}' if texts else ''
