"""Shows how runs are doing, a line for each.

    zsar status runs/pantomime gs://bucket/runs

Each argument is the folder of a run, or one with runs below it, such as that of a study. A run is
'silent' if it has not ended and its last sign of life is older than a minute: it was killed, its
machine is gone, or the folder cannot be written.
"""

import argparse
import contextlib
import json
import math
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

from zsar_jax.command_line import parse_arguments
from zsar_jax.errors import first_line
from zsar_jax.runtime.reporting import exit_on_user_error
from zsar_jax.runtime.wording import format_duration
from zsar_jax.storage.paths import as_path
from zsar_jax.training.run_status import ALIVE, ENDED, FINISHED, INTERVAL, STATUS, read_status

# A run without a sign of life for this many seconds is silent.
_SILENCE = 4 * INTERVAL

FIELDS = (
  *('run', 'state', 'step', 'steps', 'clips_per_second', 'seconds_left', 'evaluation', 'next'),
  *('seconds_since', 'host', 'error'),
)

# The files that a folder of a run has, and the depth to which folders are searched for runs:
# STUDY/runs/EXPERIMENT/RUN/SEED.
_FILES = (STATUS, 'metrics.jsonl', 'results.json')
_DEPTH = 4

# The bytes at the end of metrics.jsonl, and of another file, that are read.
_TAIL = 2**18
_MAX_BYTES = 2**24

# The most characters of an error in a line.
_ERROR = 80


def main() -> None:
  """Runs the program; see the module's documentation."""
  parser = argparse.ArgumentParser(
    'zsar status', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('workdirs', nargs='+', metavar='WORKDIR', help='folders of runs, or URLs')
  parser.add_argument('--json', action='store_true', help='print a JSON object for each run')
  parser.add_argument('--watch', type=float, metavar='SECONDS', help='repeat until Ctrl-C')
  args = parse_arguments(parser)
  with exit_on_user_error(), contextlib.suppress(KeyboardInterrupt):
    folders = [as_path(text, 'WORKDIR') for text in args.workdirs]
    while True:
      runs = [run for folder in folders for run in describe_below(folder)]
      lines = map(json.dumps, runs) if args.json else format_lines(runs)
      print(*lines, sep='\n', flush=True)
      if args.watch is None:
        return
      time.sleep(max(args.watch, 1))
      print()


def describe_below(folder: pathlib.Path) -> list[dict[str, Any]]:
  """Describes each run at or below a folder, or the folder if there is none."""
  reached = folder
  try:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
      (folder / STATUS).stat()  # Unlike the listing of a bucket, this fails if it is not reachable.
    runs = []
    for reached in find_runs(folder) or [folder]:
      runs.append(describe(reached, time.time()))
    return runs
  except Exception as error:  # What cannot be read does not hide the runs of other folders.
    unreadable = {'run': str(reached), 'state': 'unreadable', 'error': first_line(error)}
    return [dict.fromkeys(FIELDS) | unreadable]


def find_runs(folder: pathlib.Path, depth: int = _DEPTH) -> list[pathlib.Path]:
  """Returns the folders of the runs at or below a folder, sorted by name.

  Args:
    folder: may be missing.
    depth: the number of levels below it that are searched.

  Raises:
    OSError: if the folder cannot be read; those below it are left out then.
  """
  try:
    children = sorted(folder.iterdir())
  except (FileNotFoundError, NotADirectoryError):
    return []
  if any(child.name in _FILES for child in children):
    return [folder]
  runs = []
  for child in children if depth else ():
    with contextlib.suppress(OSError):
      runs += find_runs(child, depth - 1) if child.is_dir() else []
  return runs


def describe(workdir: pathlib.Path, now: float) -> dict[str, Any]:
  """Returns what the files of a run say about it.

  Runs of earlier versions have no status.json; the time of their files is their sign of life.

  Args:
    workdir: the run's folder, on a disk or in a bucket.
    now: the time, in seconds since 1970.

  Returns:
    The `FIELDS`. 'run' is the folder; 'state' one of `run_status.ALIVE` and `ENDED`, or 'silent',
    'unknown' (a run of an earlier version) or 'no run'. The others are None where they are not
    known. 'evaluation' is {'step', 'top1': {data set: {recipe: accuracy}}}, 'next' is
    {event: step}, and 'seconds_since' the age of the last sign of life.
  """
  status = read_status(workdir) or {}
  metrics = _read_tail(workdir / 'metrics.jsonl')
  last = metrics[-1] if metrics else {}
  step = _number(status.get('step', last.get('step')))
  steps = _number(status.get('steps', _steps_of_config(workdir)))
  seen = _number(status.get('time'))
  state = status.get('state')
  if state not in (*ALIVE, *ENDED):
    finished = step is not None and step == steps and (workdir / 'results.json').exists()
    state = FINISHED if finished else 'unknown'
  if seen is None:
    seen = max(filter(None, (_time(workdir / name) for name in _FILES)), default=None)
    state = 'no run' if seen is None else state
  age = None if seen is None else max(now - seen, 0.0)
  if state in ALIVE and (age is None or age > _SILENCE):
    state = 'silent'
  known = {'run': str(workdir), 'state': state, 'step': step, 'steps': steps, 'seconds_since': age}
  known['evaluation'] = _last_evaluation(workdir, status, metrics)
  known['host'] = _text(status.get('host'))
  if state in ALIVE:
    known['clips_per_second'] = _number(status.get('clips_per_second'))
    known['seconds_left'] = _seconds_left(status, now)
    known['next'] = status['next'] if isinstance(status.get('next'), dict) else None
  elif state in ENDED:
    known['error'] = _text(status.get('error'))
  return dict.fromkeys(FIELDS) | known


def format_lines(runs: Sequence[dict[str, Any]]) -> list[str]:
  """Returns a line for each run, in columns."""
  table = [list(_cells(run)) for run in runs]
  widths = [max(map(len, column)) for column in zip(*table, strict=True)]
  return [
    '  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width).rstrip()
    for row in table
  ]


def _cells(run: dict[str, Any]) -> Iterator[str]:
  """Yields run, state, step, rate, time left, last evaluation, last sign of life and error."""
  step, steps, rate, left = (
    run[name] for name in ('step', 'steps', 'clips_per_second', 'seconds_left')
  )
  yield run['run']
  yield run['state']
  yield '' if step is None else f'step {step:.0f}' + ('' if steps is None else f'/{steps:.0f}')
  yield '' if rate is None else f'{rate:.1f} clips/s'
  yield '' if left is None else f'{format_duration(left)} left'
  yield _describe_evaluation(run['evaluation'])
  since = run['seconds_since']
  yield '' if since is None else f'{format_duration(since)} ago'
  yield (run['error'] or '')[:_ERROR]


def _describe_evaluation(evaluation: dict[str, Any] | None) -> str:
  """Returns such as 'test none 41.2 % (+3)': the first accuracy, and how many there are more."""
  figures = [
    (name, recipe, accuracy)
    for name, by_recipe in ((evaluation or {}).get('top1') or {}).items()
    for recipe, accuracy in by_recipe.items()
  ]
  if not figures:
    return ''
  name, recipe, accuracy = figures[0]
  more = f' (+{len(figures) - 1})' if len(figures) > 1 else ''
  return f'{name} {recipe} {100 * accuracy:.1f} %{more}'


def _last_evaluation(
  workdir: pathlib.Path, status: dict[str, Any], metrics: list[dict[str, Any]]
) -> dict[str, Any] | None:
  """Returns the last evaluation: by status.json, metrics.jsonl or else results.json."""
  of_status = status.get('evaluation')
  if isinstance(of_status, dict) and (top1 := _accuracies(of_status.get('top1'))):
    return {'step': _number(of_status.get('step')), 'top1': top1}
  for line in reversed(metrics):
    names = [name.split('/') for name in line if name.endswith('/top1') and name.count('/') == 2]
    tree: dict[str, dict[str, Any]] = {}
    for name, recipe, figure in names:
      tree.setdefault(name, {})[recipe] = line[f'{name}/{recipe}/{figure}']
    if top1 := _accuracies(tree):
      return {'step': _number(line.get('step')), 'top1': top1}
  results = _read_json(workdir / 'results.json')
  if isinstance(results, dict):
    tree = {
      name: {recipe: figures.get('top1') for recipe, figures in by_recipe.items()}
      for name, by_recipe in results.items()
      if isinstance(by_recipe, dict) and all(isinstance(x, dict) for x in by_recipe.values())
    }
    if top1 := _accuracies(tree):
      return {'step': None, 'top1': top1}
  return None


def _accuracies(tree: Any) -> dict[str, dict[str, float]]:
  """Returns {data set: {recipe: accuracy}} without whatever else a broken file holds."""
  by_name = tree.items() if isinstance(tree, dict) else ()
  result = {
    str(name): {
      str(recipe): accuracy
      for recipe, value in by_recipe.items()
      if (accuracy := _number(value)) is not None
    }
    for name, by_recipe in by_name
    if isinstance(by_recipe, dict)
  }
  return {name: by_recipe for name, by_recipe in result.items() if by_recipe}


def _seconds_left(status: dict[str, Any], now: float) -> float | None:
  step, steps, seconds, at = (
    _number(status.get(name)) for name in ('step', 'steps', 'seconds_per_step', 'step_time')
  )
  if step is None or steps is None or seconds is None or at is None:
    return None
  return max((steps - step) * seconds - (now - at), 0.0)


def _steps_of_config(workdir: pathlib.Path) -> Any:
  config = _read_json(workdir / 'config.json')
  return config.get('steps') if isinstance(config, dict) else None


def _read_tail(path: pathlib.Path) -> list[dict[str, Any]]:
  """Returns the last lines of metrics.jsonl that are readable, the newest last."""
  lines = []
  try:
    with path.open('rb') as file:
      size = file.seek(0, 2)
      file.seek(max(size - _TAIL, 0))
      texts = file.read(_TAIL).splitlines()
  except (OSError, ValueError):
    return []
  for text in texts:
    # The first may be cut off, and the last not yet complete.
    with contextlib.suppress(ValueError, RecursionError):
      line = json.loads(text)
      if isinstance(line, dict) and _number(line.get('step')) is not None:
        lines.append(line)
  return lines


def _read_json(path: pathlib.Path) -> Any:
  try:
    with path.open('rb') as file:
      return json.loads(file.read(_MAX_BYTES))
  except (OSError, ValueError, RecursionError):
    return None


def _time(path: pathlib.Path) -> float | None:
  """Returns when a file was written; None if it is not there."""
  try:
    return path.stat().st_mtime
  except OSError:
    return None


def _number(value: Any) -> float | None:
  """Returns a finite number; None for anything else."""
  if isinstance(value, bool) or not isinstance(value, int | float):
    return None
  return value if abs(value) < 1e15 and math.isfinite(value) else None


def _text(value: Any) -> str | None:
  return value if isinstance(value, str) else None


if __name__ == '__main__':
  main()
