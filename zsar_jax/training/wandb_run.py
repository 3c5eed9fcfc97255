"""Shows a run on Weights & Biases (W&B): a copy of metrics.jsonl, with tables and pictures.

W&B ignores rows whose step is not above that of the row before, and cannot replace a row. So a row
is sent once, when its step is complete. When a run resumes, W&B is asked for the last step that it
has, and gets the lines of metrics.jsonl after it: also those that were lost on the way when the
process or its machine died, and all of them if W&B is switched on later. Steps that are repeated
after an older checkpoint are not sent again, as they have the same values.
"""

import itertools
import json
import os
import pathlib
import secrets
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from zsar_jax.errors import UserError, first_line
from zsar_jax.runtime.progress import log
from zsar_jax.storage import buckets
from zsar_jax.storage.files import write_file

# The file in the workdir that keeps the run's id, and the project without WANDB_PROJECT.
ID_FILE = 'wandb.json'
_PROJECT = 'zsar_jax'

# Seconds for what is still to be sent when the run ends. A preemption leaves 30.
_FINISH_TIMEOUT = 15.0

# The format of W&B's files: that of LevelDB's log after a header of 7 bytes.
_HEADER, _BLOCK = 7, 2**15
_RECORD = struct.Struct('<IHB')  # Checksum, length, kind.
_FULL, _LAST = 1, 4


def import_wandb() -> Any:
  """Returns the package; raises a `UserError` if it is not installed."""
  try:
    import wandb
  except ImportError:
    raise UserError(
      "config.log.wandb: wandb is not installed; pip install 'zsar_jax[wandb]'"
    ) from None
  return wandb


class WandbRun:
  """A `metric_writer.Mirror` that sends metrics to W&B, or keeps them for `wandb sync` if offline.

  W&B's own environment variables count, such as WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY and
  WANDB_DIR. Once the run has started, no failure of W&B ends it: a warning says what failed, and
  the next start sends what is missing.
  """

  def __init__(
    self,
    workdir: pathlib.Path,
    config: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
    more: bool,
    draw: Callable[[], Mapping[str, Any]],
  ):
    """Starts the run on W&B or resumes it, and sends the lines that it lacks.

    Args:
      workdir: the run's folder.
      config: its config, of JSON values.
      lines: the lines of metrics.jsonl, up to the step that the run resumes after.
      more: whether other values of the last line's step will follow.
      draw: returns pictures by name, which W&B shows with step 0; it is called for a new run only.

    Raises:
      UserError: if wandb is not installed or not configured.
    """
    wandb = import_wandb()
    self._wandb, self._run, self._sent = wandb, None, -1
    self._pending: dict[str, Any] = {}
    try:
      self._run = _start(wandb, workdir, config)
      self._sent = _last_step(self._run)
    except wandb.errors.UsageError as error:  # No API key, or a variable with an impossible value.
      raise UserError(
        f'config.log.wandb: Weights & Biases does not start ({first_line(error)}); run wandb login,'
        ' set WANDB_MODE=offline, or set config.log.wandb to False'
      ) from None
    except Exception as error:  # The service or the network; the run does not depend on them.
      self._give_up(error)
    if self._sent < 0:
      self._send(0, lambda: _draw(draw))
    for line in lines:
      self.write(line['step'], dict(line), more=more and line is lines[-1])

  def write(self, step: int, values: Mapping[str, Any], more: bool) -> None:
    """Sends a step once it is complete; see `metric_writer.Mirror`."""
    same_step = self._pending.get('step') == step
    self._pending = (self._pending if same_step else {'step': step}) | dict(values)
    if not more:
      row = {name: value for name, value in self._pending.items() if name != 'step'}
      self._send(step, lambda: row | self._tables(row))

  def close(self, failed: bool) -> None:
    """Ends the run on W&B; see `metric_writer.Mirror`. What is not sent within seconds is kept."""
    try:
      if self._run:
        self._run.finish(exit_code=int(failed))
    except Exception as error:
      self._give_up(error)

  def _send(self, step: int, row: Callable[[], Mapping[str, Any]]) -> None:
    if self._run is None or step <= self._sent:
      return
    try:
      self._run.log(dict(row()), step=step, commit=True)
      self._sent = step
    except Exception as error:
      self._give_up(error)

  def _tables(self, row: Mapping[str, float]) -> dict[str, Any]:
    """Returns the figures 'DATASET/RECIPE/FIGURE' of a row as a table; {} if there are none."""
    by_recipe: dict[tuple[str, str], dict[str, float]] = {}
    for name, value in row.items():
      if name.count('/') > 1:
        dataset, recipe, figure = name.split('/', 2)
        by_recipe.setdefault((dataset, recipe), {})[figure] = value
    if not by_recipe:
      return {}
    figures = list(dict.fromkeys(itertools.chain(*by_recipe.values())))
    data = [[*key, *map(of_recipe.get, figures)] for key, of_recipe in by_recipe.items()]
    return {'evaluation': self._wandb.Table(columns=['data set', 'recipe', *figures], data=data)}

  def _give_up(self, error: Exception) -> None:
    self._run = None
    print(
      f'warning: Weights & Biases fails ({first_line(error)}); the run goes on without it, and the'
      ' next start sends what is missing',
      file=sys.stderr,
      flush=True,
    )


def _draw(draw: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
  try:
    return draw()
  except Exception as error:  # The metrics do not depend on the pictures.
    print(f'warning: no pictures on Weights & Biases ({first_line(error)})', file=sys.stderr)
    return {}


def read_rows(path: pathlib.Path) -> Iterator[dict[str, Any]]:
  """Yields the rows of a W&B file (.wandb) as {name: value}, up to where it is cut off.

  Args:
    path: the file, of W&B's header and records in the format of LevelDB's log: blocks of 32 KiB
      with fragments of records, each after its checksum, length and kind.
  """
  from wandb.proto import wandb_internal_pb2

  data = path.read_bytes()
  position, record = _HEADER, b''
  while True:
    left = _BLOCK - position % _BLOCK
    if left < _RECORD.size:  # The rest of a block is too small for another fragment.
      position += left
    if position + _RECORD.size > len(data):
      return
    _, length, kind = _RECORD.unpack_from(data, position)
    position += _RECORD.size + length
    if not kind or position > len(data):
      return
    record += data[position - length : position]
    if kind in (_FULL, _LAST):
      message = wandb_internal_pb2.Record.FromString(record)
      record = b''
      if message.HasField('history'):
        yield {
          item.key or '/'.join(item.nested_key): json.loads(item.value_json)
          for item in message.history.item
        }


def _start(wandb: Any, workdir: pathlib.Path, config: Mapping[str, Any]) -> Any:
  """Returns W&B's run, which is the same at each start of the run in a workdir."""
  path = workdir / ID_FILE
  is_new = not path.exists()
  if is_new:
    write_file(path, json.dumps({'id': secrets.token_hex(4)}) + '\n')
  has_name = not is_new or os.environ.get('WANDB_NAME')  # People rename runs on W&B.
  run = wandb.init(
    project=os.environ.get('WANDB_PROJECT') or _PROJECT,
    id=json.loads(path.read_text())['id'],
    resume='allow',
    name=None if has_name else workdir.name,
    config=dict(config),
    allow_val_change=True,
    dir=None if os.environ.get('WANDB_DIR') or buckets.is_remote(workdir) else str(workdir),
    settings=wandb.Settings(silent=True, console='off', finish_timeout=_FINISH_TIMEOUT),
  )
  where = f'offline, for wandb sync {run.settings.sync_dir}' if run.offline else run.url
  log(f'Weights & Biases: {where}')
  return run


def _last_step(run: Any) -> int:
  """Returns the last step that W&B has of a run; -1 if it has none."""
  if not run.offline:
    return run.starting_step - 1
  # Each start has its own folder, with a number behind the id if two begin in the same second.
  files = pathlib.Path(run.settings.wandb_dir).glob(f'*run-*-{run.id}*/run-{run.id}.wandb')
  return max((row['_step'] for file in files for row in read_rows(file)), default=-1)
