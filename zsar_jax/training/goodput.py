"""Accounts for a run's wall time: every second belongs to exactly one part."""

import time

PREFIX = 'seconds/'

PARTS = (
  'start',  # Before the compilation of the train step.
  'compile',  # Compilation of the train step.
  'data',  # Waiting for data while the devices are idle.
  'step',  # Training.
  'evaluation',  # Evaluation, including its compilation.
  'checkpoint',  # Waiting for checkpoints.
  'lost',  # Work after the last checkpoint of a process that died, which is repeated.
)


class Goodput:
  """Adds up the seconds of each of `PARTS`, over all starts of a run."""

  def __init__(self, started: float | None = None):
    """Starts the clock.

    Args:
      started: when the program started, by `time.monotonic`; None for now.
    """
    self._last = self.started = time.monotonic() if started is None else started
    self._seconds = dict.fromkeys(PARTS, 0.0)

  def resume(self, kept: dict[str, float], written: dict[str, float]) -> None:
    """Adds the seconds of earlier starts.

    Args:
      kept: the metrics at the step that the run resumes after.
      written: the last metrics that were written before the process ended.
    """
    spent = sum(written.get(f'{PREFIX}{part}', 0.0) for part in PARTS)
    for part in PARTS:
      self._seconds[part] += kept.get(f'{PREFIX}{part}', 0.0)
      spent -= kept.get(f'{PREFIX}{part}', 0.0)
    self._seconds['lost'] += max(spent, 0.0)

  def lap(self, part: str) -> float:
    """Assigns the time since the last call to `part`, and returns it in seconds."""
    now = time.monotonic()
    elapsed, self._last = now - self._last, now
    self._seconds[part] += elapsed
    return elapsed

  def metrics(self) -> dict[str, float]:
    """Returns the seconds as metrics named 'seconds/PART'."""
    return {f'{PREFIX}{part}': round(value, 3) for part, value in self._seconds.items()}
