"""Checks each step's outputs, one step late, so that the devices do not wait.

Every host sees the same outputs of the global batch: whether the step failed, which clips did not
decode, and whether a signal asks some host to stop. So all hosts decide alike, at the same step.
"""

import contextlib
import functools
import json
import pathlib
from typing import NoReturn

import jax
import numpy as np

from zsar_jax.data.clip_loader import ClipLoader
from zsar_jax.errors import UserError
from zsar_jax.runtime import distributed
from zsar_jax.runtime.progress import log
from zsar_jax.storage.files import naming, write_file
from zsar_jax.training.losses import Metrics

BAD_CLIPS = 'bad_clips.jsonl'
FAILED_BATCH = 'failed_batch.json'


class StepMonitor:
  """Checks the outputs of each step once they are computed.

  Attributes:
    stop: whether a signal asked some host to stop; the same on all hosts.
  """

  def __init__(
    self,
    loader: ClipLoader,
    workdir: pathlib.Path,
    max_bad_clips: float,
    out: pathlib.Path | None = None,
  ):
    """Reads the list of clips that did not decode in earlier starts.

    Args:
      loader: loads the training clips.
      workdir: the run's folder.
      max_bad_clips: the largest share of the clips that may fail to decode.
      out: where to write the list, see `OutputFolder.path`; None for `workdir`.
    """
    self.stop = False
    self._loader, self._workdir, self._max_bad_clips = loader, workdir, max_bad_clips
    self._pending: tuple[int, Metrics] | None = None
    self._list = (out or workdir) / BAD_CLIPS
    self._bad = set(
      distributed.broadcast_from_main(lambda: _read_bad_clips(workdir / BAD_CLIPS, self._list))
    )

  @property
  def busy(self) -> bool:
    """Whether the devices still compute the step that was submitted last."""
    # The stubs of JAX lack `is_ready`.
    return self._pending is not None and not self._pending[1]['loss'].is_ready()  # type: ignore[attr-defined]

  def submit(self, step: int, outputs: Metrics) -> None:
    """Takes the outputs of a dispatched step, and checks those of the step before.

    Args:
      step: its number.
      outputs: from `step.with_monitor_outputs`.

    Raises:
      UserError: if the step before failed, or too many clips do not decode.
    """
    self.flush()
    self._pending = step, outputs

  def flush(self) -> None:
    """Waits for the step that was submitted last and checks it; raises as `submit` does."""
    if self._pending is None:
      return
    (step, outputs), self._pending = self._pending, None
    outputs = jax.device_get(outputs)
    self.stop |= bool(outputs['stop'])
    self._check_clips(step, outputs['replaced'])
    figures = {name: float(outputs[name]) for name in ('loss', 'gradient_norm')}
    if not np.isfinite(list(figures.values())).all():
      self._fail(step, figures, outputs['clip'])

  def _check_clips(self, step: int, replaced: np.ndarray) -> None:
    """Lists clips that did not decode for the first time; too many are an error."""
    subset = self._loader.subset
    for position in np.unique(replaced[replaced >= 0]).tolist():
      name = subset.clip_id(position)
      if name in self._bad:
        continue
      self._bad.add(name)
      describe = functools.partial(self._loader.describe_damage, position)
      reason = distributed.broadcast_from_main(describe)
      if distributed.is_main():
        with naming(self._list), self._list.open('a', encoding='utf-8') as file:
          file.write(json.dumps({'clip': name, 'step': step, 'reason': reason}) + '\n')
      share = len(self._bad) / len(subset)
      if share > self._max_bad_clips:
        raise UserError(
          f'{subset.dataset.name}, clip {name}: {reason}; {len(self._bad)} of {len(subset)} clips'
          f' do not decode (see {self._workdir / BAD_CLIPS}), which is more than'
          f' config.data.max_bad_clips, {self._max_bad_clips:g}, allows'
        )
      log(f'clip {name} does not decode and is replaced by another: {reason}')

  def _fail(self, step: int, figures: dict[str, float], clips: np.ndarray) -> NoReturn:
    """Writes the clips of a failed step to a file, and raises."""
    path = self._workdir / FAILED_BATCH
    if distributed.is_main():
      ids = [self._loader.subset.clip_id(position) for position in clips.tolist()]
      # The figures are text because JSON has no NaN.
      report = {'step': step} | {name: str(value) for name, value in figures.items()}
      write_file(path, json.dumps(report | {'clips': ids}, indent=1) + '\n')
    failed = next(name for name, value in figures.items() if not np.isfinite(value))
    raise UserError(
      f'{self._workdir}: the {failed.replace("_", " ")} is {figures[failed]} at step {step}; its'
      f' clips are in {path}; lower config.optim.lr, or look at the data'
    )


def _read_bad_clips(path: pathlib.Path, out: pathlib.Path) -> list[str]:
  """Returns the clips that a file lists; writes it to `out` without a line that a crash cut."""
  if not path.exists():
    return []
  lines = []
  for text in path.read_text(encoding='utf-8', errors='replace').splitlines():
    with contextlib.suppress(ValueError, TypeError, KeyError):
      line = json.loads(text)
      lines.append((str(line['clip']), json.dumps(line)))
  write_file(out, ''.join(f'{line}\n' for _, line in lines))
  return [clip for clip, _ in lines]
