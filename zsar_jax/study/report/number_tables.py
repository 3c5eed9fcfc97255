"""Tables of numbers with their intervals, for readers without a pointer for tooltips."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from zsar_jax.study.report import number_format
from zsar_jax.study.report.study_file import Estimate

# Widths in rem for which style.css has classes, such as `from-20`.
_WIDTHS = (20, 25, 30, 35, 40, 45, 50, 60, 70, 80)


@dataclasses.dataclass(frozen=True)
class NumberTable:
  """A table of estimates.

  Attributes:
    groups: {name of a group of rows: [(name of the row, its estimate)]}.
    formatter: formats the values.
    unit: of all values.
    columns: (heading, text of a cell) of the columns after that of the values.
    width: the approximate width in rem, one of those in style.css.
  """

  groups: Mapping[str, Sequence[tuple[str, Estimate]]]
  formatter: number_format.Formatter
  unit: str
  columns: list[tuple[str, Callable[[Estimate], str]]]
  width: int


def number_table(
  groups: Mapping[str, Sequence[tuple[str, Estimate]]],
  formatter: number_format.Formatter = number_format.percent,
  unit: str = '%',
) -> NumberTable | None:
  """A table of estimates; its columns are those for which an estimate has data.

  Args:
    groups, formatter, unit: as in `NumberTable`.
  """
  estimates = [estimate for rows in groups.values() for _, estimate in rows]
  if not estimates:
    return None
  columns = []
  if any(len(estimate['per_seed']) > 1 for estimate in estimates):
    columns.append(
      ('seeds', lambda estimate: number_format.listed(estimate['per_seed'], formatter))
    )
  if any(estimate['count'] is not None for estimate in estimates):
    columns.append(('clips', _clips))
  if any(estimate.get('p') is not None for estimate in estimates):
    columns.append(('p', lambda estimate: number_format.p_value(estimate.get('p'))))
  if any(estimate.get('mcnemar') for estimate in estimates):
    columns.append(('McNemar p', _mcnemar))
  return NumberTable(groups, formatter, unit, columns, css_width(11 + 4 * len(columns)))


def css_width(width: float) -> int:
  """The smallest width of style.css that is at least `width`, in rem."""
  return next((step for step in _WIDTHS if step >= width), _WIDTHS[-1])


def _clips(estimate: Estimate) -> str:
  return number_format.MISSING if estimate['count'] is None else str(estimate['count'])


def _mcnemar(estimate: Estimate) -> str:
  return number_format.listed(estimate.get('mcnemar', ()), number_format.p_value)
