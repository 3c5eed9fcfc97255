"""Accounts for a run's wall time: every second belongs to exactly one part."""

import time

PREFIX = 'seconds/'

PARTS = (
  # Each of the first six lasts from the end of the part before it.
  'imports',  # The program starts and imports its packages.
  'devices',  # All processes join, and JAX finds the devices.
  'setup',  # Data sets are built or opened, texts are tokenized, the model is described.
  'weights',  # The state is drawn, read or restored; frozen class texts are encoded.
  'tracing',  # The train step is traced and lowered to StableHLO.
  'compile',  # It is compiled, or read from the cache.
  'data',  # Waiting for data while the devices are idle.
  'step',  # Training.
  'evaluation',  # Evaluation, including its compilation.
  'checkpoint',  # Waiting for checkpoints.
  'lost',  # Work after the last checkpoint of a process that died, which is repeated.
)


def measures_time(metric: str) -> bool:
  """Returns whether a metric measures time, and differs when the same run is repeated."""
  return metric.startswith(PREFIX) or metric in ('clips_per_second', 'goodput', 'mfu')


class Goodput:
  """Adds up the seconds of each of `PARTS`, over all starts of a run."""

  def __init__(self, started: float | None = None):
    """Starts the clock.

    Args:
      started: when the program started, by `time.monotonic`; None for now.
    """
    self._last = time.monotonic() if started is None else started
    self._seconds = dict.fromkeys(PARTS, 0.0)  # Of this start.
    self._earlier: dict[str, float] = {}  # Of earlier starts, by the name of the metric.

  def resume(self, kept: dict[str, float], written: dict[str, float]) -> None:
    """Adds the seconds of earlier starts.

    Earlier versions of this program had other parts, which stay as they are.

    Args:
      kept: the metrics at the step that the run resumes after.
      written: the last metrics that were written before the process ended.
    """
    self._earlier = {name: value for name, value in kept.items() if name.startswith(PREFIX)}
    spent = sum(value for name, value in written.items() if name.startswith(PREFIX))
    lost = max(spent - sum(self._earlier.values()), 0.0)
    self._earlier[f'{PREFIX}lost'] = self._earlier.get(f'{PREFIX}lost', 0.0) + lost

  def lap(self, part: str) -> None:
    """Assigns the time since the last call to `part`."""
    now = time.monotonic()
    self._seconds[part] += now - self._last
    self._last = now

  def describe_start(self, notes: dict[str, str]) -> str:
    """Returns the seconds of this start, such as '7.4 s: imports 1.2, compile 2.1 (cached), ...'.

    Args:
      notes: remarks on parts, which follow the seconds in brackets.
    """
    parts = [
      f'{part} {seconds:.1f}' + (f' ({notes[part]})' if part in notes else '')
      for part, seconds in self._seconds.items()
      if seconds or part in notes
    ]
    return f'{sum(self._seconds.values()):.1f} s: {", ".join(parts)}'

  def metrics(self) -> dict[str, float]:
    """Returns the seconds as metrics named 'seconds/PART', and 'goodput', the share of 'step'."""
    seconds = dict(self._earlier)
    for part, value in self._seconds.items():
      seconds[f'{PREFIX}{part}'] = seconds.get(f'{PREFIX}{part}', 0.0) + value
    total = sum(seconds.values())
    share = {'goodput': round(seconds[f'{PREFIX}step'] / total, 4)} if total else {}
    return {name: round(value, 3) for name, value in seconds.items()} | share
