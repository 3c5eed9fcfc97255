"""What the benchmarks of models share: both sides measured in turn, and compared."""

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

# The modules are imported in the sides' own processes: neither library has the other beside it.
_PEER_NEEDS = ('torch', 'transformers')


@dataclasses.dataclass(frozen=True)
class Comparison:
  """A ratio of two loops' times.

  Attributes:
    name: what it is.
    above: the loop whose time is divided.
    below: the loop that it is divided by.
    at_least: what is asked for, if anything.
    at_most: likewise.
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
    work: what is done.
    repeats: of each loop.
    per_turn: clips, or texts, that one turn is of.
    groups: of loops, 'ours/...' and 'peer/...', see `jax_loops.loops` and `torch_loops.loops`.
      Each group has processes of its own: what a large loop leaves of memory changes how fast
      others are.
    comparisons: of loops that were measured.
    same: pairs of loops whose first turn must have found the same number.

  Returns:
    What `turns.measure` found.

  Raises:
    RuntimeError: if two did not, so that they did not do the same work.
  """
  missing = [package for package in _PEER_NEEDS if importlib.util.find_spec(package) is None]
  with tempfile.TemporaryDirectory() as folder:
    work = dataclasses.replace(work, weights=str(pathlib.Path(folder) / 'weights'))
    sides = {'ours': (_ours, work)}
    if not missing:
      writer = turns.Child(_writer, work)
      writer.turn()
      writer.end()
      sides['peer'] = (_peer, work)
    found = {}
    for loops in groups:
      taking = [loop for loop in loops if loop.partition('/')[0] in sides]
      found |= turns.measure(sides, taking, repeats, work.cores)
  for one, other in same:
    if {'value'} <= found.get(one, {}).keys() & found.get(other, {}).keys():
      values = found[one]['value'], found[other]['value']
      if not math.isclose(*values, rel_tol=_tolerance(work), abs_tol=_tolerance(work)):
        raise RuntimeError(f'{one} and {other} found {values}: not the same work')
  settings, machine = work.settings(repeats), lines.machine()
  for loop in itertools.chain(*groups):
    line = found.get(loop) or {'skipped': f'{missing[0]} is not installed'}
    if 'seconds' in line:
      line = {'per_second': round(per_turn / line['seconds'], 3), **line}
    lines.show(name=loop, **line, **settings, **machine)
  for comparison in comparisons:
    lines.show(**compare(comparison, found))
  return found


def compare(comparison: Comparison, found: dict[str, dict[str, Any]]) -> dict[str, Any]:
  """The fields of a comparison's line, from what `turns.measure` returned.

  'ratio' is of the medians of the wall clock, 'ratio_fastest' of the least, and 'ratio_cpu' of the
  medians of processor time, which what else the machine does disturbs least.
  """
  above, below = (found.get(loop, {}) for loop in (comparison.above, comparison.below))
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


def _writer(work: Workload) -> Any:
  from . import jax_loops

  return jax_loops.write_weights(work)


def _ours(work: Workload) -> Any:
  from . import jax_loops

  keep_freed_memory()  # As every program here does.
  return jax_loops.loops(work)


def _peer(work: Workload) -> Any:
  from . import torch_loops

  return torch_loops.loops(work)
