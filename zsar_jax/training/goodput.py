"""Where a run's wall time went: every second belongs to one part."""

import time

PREFIX = 'seconds/'

# Until the first step is compiled; compilation of the train step; waiting for data while the
# devices have nothing to do; training; evaluation with its compilation; waiting for checkpoints;
# and what was done by a process that died after its last checkpoint, and is done again.
PARTS = ('start', 'compile', 'data', 'step', 'evaluation', 'checkpoint', 'lost')


class Goodput:
  """Adds up the seconds of each of `PARTS`, over all the starts of a run."""

  def __init__(self, started: float | None = None):
    """Starts the clock.

    Args:
      started: when the program started, by `time.monotonic`; None for now.
    """
    self._last = self.started = time.monotonic() if started is None else started
    self._seconds = dict.fromkeys(PARTS, 0.0)

  def resume(self, kept: dict[str, float], written: dict[str, float]) -> None:
    """Adds what earlier starts have spent.

    Args:
      kept: the metrics at the step that the run goes on from.
      written: the metrics that were written last, before the process ended.
    """
    spent = sum(written.get(f'{PREFIX}{part}', 0.0) for part in PARTS)
    for part in PARTS:
      self._seconds[part] += kept.get(f'{PREFIX}{part}', 0.0)
      spent -= kept.get(f'{PREFIX}{part}', 0.0)
    self._seconds['lost'] += max(spent, 0.0)

  def lap(self, part: str) -> float:
    """The time since the last call belongs to `part`; returns it."""
    now = time.monotonic()
    elapsed, self._last = now - self._last, now
    self._seconds[part] += elapsed
    return elapsed

  def metrics(self) -> dict[str, float]:
    """Seconds by 'seconds/PART'."""
    return {f'{PREFIX}{part}': round(value, 3) for part, value in self._seconds.items()}
