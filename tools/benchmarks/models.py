"""Measures both sides of a benchmark of models in turn, and compares them."""

import dataclasses
import importlib.util
import itertools
import math
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

from zsar_jax.runtime.host_memory import keep_freed_memory

from . import lines, turns
from .workload import Workload

# Each side's libraries are imported in its own process only, so that they do not interfere.
_PEER_NEEDS = ('torch', 'transformers')


@dataclasses.dataclass(frozen=True)
class Comparison:
  """A ratio of two loops' times.

  Attributes:
    name: the name of the ratio.
    above: the loop whose time is divided.
    below: the loop by whose time it is divided.
    at_least: the required lower bound, if any.
    at_most: the required upper bound, if any.
  """

  name: str
  above: str
  below: str
  at_least: float | None = None
  at_most: float | None = None


def run(
  work: Workload,
  repeats: int,
  per_turn: int,
  groups: Sequence[Sequence[str]],
  comparisons: Sequence[Comparison],
  same: Sequence[tuple[str, str]] = (),
) -> dict[str, dict[str, Any]]:
  """Measures loops in turn and prints their lines, and those of comparisons.

  Args:
    work: the sizes.
    repeats: the number of repeats of each loop.
    per_turn: the number of clips, or texts, in a turn.
    groups: groups of loops, 'ours/...' and 'peer/...', see `jax_loops.loops` and
      `torch_loops.loops`. Each group has its own processes, because the memory that a large loop
      leaves behind changes how fast other loops are. On a GPU each loop has, because both sides
      keep the memory that they once had, and a loop may need all of it.
    comparisons: the comparisons of measured loops.
    same: pairs of loops whose first turns must return the same number.

  Returns:
    The results of `turns.measure`.

  Raises:
    RuntimeError: if a pair of loops in `same` did not do the same work.
  """
  missing = [package for package in _PEER_NEEDS if importlib.util.find_spec(package) is None]
  with tempfile.TemporaryDirectory() as folder:
    work = dataclasses.replace(work, weights=str(pathlib.Path(folder) / 'weights'))
    sides = {'ours': (_make_ours, work)}
    if not missing:
      writer = turns.Worker(_make_writer, work)
      writer.call()
      writer.close()
      sides['peer'] = (_make_peer, work)
    results = {}
    if lines.gpu():
      groups = [[loop] for loops in groups for loop in loops]
    for loops in groups:
      available = [loop for loop in loops if loop.partition('/')[0] in sides]
      results |= turns.measure(sides, available, repeats, work.cores)
  for first, second in same:
    if {'value'} <= results.get(first, {}).keys() & results.get(second, {}).keys():
      values = results[first]['value'], results[second]['value']
      if not math.isclose(*values, rel_tol=_tolerance(work), abs_tol=_tolerance(work)):
        raise RuntimeError(f'{first} and {second} returned {values}: not the same work')
  settings, machine = work.settings(repeats), lines.machine()
  for loop in itertools.chain(*groups):
    line = results.get(loop) or {'skipped': f'{missing[0]} is not installed'}
    if 'seconds' in line:
      line = {'per_second': round(per_turn / line['seconds'], 3), **line}
    lines.show(name=loop, **line, **settings, **machine)
  for comparison in comparisons:
    lines.show(**compare(comparison, results))
  return results


def compare(comparison: Comparison, results: dict[str, dict[str, Any]]) -> dict[str, Any]:
  """Returns the fields of a comparison's line, from the results of `turns.measure`.

  'ratio' compares the medians of the wall clock, 'ratio_fastest' the fastest turns, and 'ratio_cpu'
  the medians of processor time, which other work of the machine affects least.
  """
  above, below = (results.get(loop, {}) for loop in (comparison.above, comparison.below))
  if 'seconds' not in above or 'seconds' not in below:
    return {'name': comparison.name, 'skipped': 'one of the two was not measured'}
  ratio = round(above['seconds'] / below['seconds'], 4)
  line = {
    'name': comparison.name,
    'ratio': ratio,
    'ratio_fastest': round(min(above['seconds_each']) / min(below['seconds_each']), 4),
    'ratio_cpu': round(above['cpu_seconds'] / max(below['cpu_seconds'], 1e-9), 4),
  }
  if comparison.at_least is not None:
    line |= {'at_least': comparison.at_least, 'met': ratio >= comparison.at_least}
  if comparison.at_most is not None:
    line |= {'at_most': comparison.at_most, 'met': ratio <= comparison.at_most}
  return line


def _tolerance(work: Workload) -> float:
  return 1e-3 if work.precision == 'float32' else 5e-2


def _make_writer(work: Workload) -> Any:
  from . import jax_loops

  return jax_loops.write_weights(work)


def _make_ours(work: Workload) -> Any:
  from . import jax_loops

  keep_freed_memory()  # As in every program of this project.
  return jax_loops.loops(work)


def _make_peer(work: Workload) -> Any:
  from . import torch_loops

  return torch_loops.loops(work)
