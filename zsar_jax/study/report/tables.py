"""Tables: one description of a table for the page, for CSV files and for LaTeX.

To add a table, write a function that returns a `Table`. A template shows it and links its files so:

    {% import 'tables.html' as tables %}
    {{ tables.table(content.table) }}{{ paper.files(block.stem ~ '-NAME', content.table) }}
"""

import csv
import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence

from zsar_jax.study.report import number_format
from zsar_jax.study.report.foreign_text import clean, undirected
from zsar_jax.study.report.study_file import Estimate

# Widths in rem for which style.css has classes, such as `from-20`.
_WIDTHS = (20, 25, 30, 35, 40, 45, 50, 60, 70, 80)

# Significant digits of a number in a CSV file.
_DIGITS = 9


@dataclasses.dataclass(frozen=True)
class Unit:
  """The unit of a value.

  Attributes:
    name: as it stands behind a number; '' for none.
    scale: a value of 1 in this unit.
    text: formats a value without its unit.
  """

  name: str
  scale: float
  text: number_format.Formatter


PERCENT = Unit('%', 100, number_format.percent)
POINTS = Unit('points', 100, number_format.points)
NUMBER = Unit('', 1, number_format.decimal)


@dataclasses.dataclass(frozen=True)
class Value:
  """A cell with a number and its interval.

  Attributes:
    estimate: the number; one without a value cannot be computed.
    unit: its unit.
    bold: whether the cell stands out, such as the best of a column.
  """

  estimate: Estimate
  unit: Unit = PERCENT
  bold: bool = False

  @property
  def text(self) -> str:
    """The value, without its unit."""
    return self.unit.text(self.estimate['value'])

  @property
  def ends(self) -> tuple[str, str] | None:
    """The ends of the interval; None without one."""
    low, high = self.estimate['low'], self.estimate['high']
    if None in (self.estimate['value'], low, high):
      return None
    return self.unit.text(low), self.unit.text(high)

  @property
  def interval(self) -> str:
    """The interval; empty without one."""
    return '\u00a0to\u00a0'.join(self.ends or ())

  @property
  def tooltip(self) -> str:
    """The value with all that is known about it."""
    unit = {'%': '\u00a0%', '': ''}.get(self.unit.name, f' {self.unit.name}')
    return number_format.full_text(self.estimate, self.unit.text, unit)


# None is shown as a dash: it cannot be computed, or does not exist.
Cell = Value | str | int | None


@dataclasses.dataclass(frozen=True)
class Table:
  """A table.

  Attributes:
    caption: what it shows, with the unit of its values.
    columns: headings of the cells.
    groups: {name of a group of rows: [(name of the row, its cells)]}; a table without groups has
      one, whose name is empty.
    corner: heading of the names of the rows.
  """

  caption: str
  columns: Sequence[str]
  groups: Mapping[str, Sequence[tuple[str, Sequence[Cell]]]]
  corner: str = ''

  @property
  def has_tooltips(self) -> bool:
    """Whether the page shows tooltips of the values; other columns may say the same."""
    return all(
      isinstance(cell, Value | None)
      for rows in self.groups.values()
      for _, row in rows
      for cell in row
    )

  @property
  def width(self) -> int:
    """The approximate width in rem, one of those in style.css."""
    return css_width(7 + 4 * len(self.columns))


def estimate_table(
  caption: str,
  groups: Mapping[str, Sequence[tuple[str, Estimate]]],
  unit: Unit = PERCENT,
) -> Table | None:
  """Returns a table of estimates; its columns are those for which an estimate has data.

  Args:
    caption: what it shows.
    groups: {name of a group of rows: [(name of the row, its estimate)]}.
    unit: the unit of all values.
  """
  estimates = [estimate for rows in groups.values() for _, estimate in rows]
  if not estimates:
    return None
  remarks = {}
  if any(len(estimate['per_seed']) > 1 for estimate in estimates):
    remarks['seeds'] = lambda estimate: number_format.listed(estimate['per_seed'], unit.text)
  if any(estimate['count'] is not None for estimate in estimates):
    remarks['clips'] = lambda estimate: estimate['count']
  if any(estimate.get('p') is not None for estimate in estimates):
    remarks['p'] = lambda estimate: number_format.p_value(estimate.get('p'))
  if any(estimate.get('mcnemar') for estimate in estimates):
    remarks['McNemar p'] = lambda estimate: number_format.listed(
      estimate.get('mcnemar', ()), number_format.p_value
    )
  return Table(
    caption,
    [f'{unit.name}, 95\u00a0% interval', *remarks],
    {
      group: [
        (name, [Value(estimate, unit), *(text(estimate) for text in remarks.values())])
        for name, estimate in rows
      ]
      for group, rows in groups.items()
    },
  )


def css_width(width: float) -> int:
  """The smallest width of style.css that is at least `width`, in rem."""
  return next((step for step in _WIDTHS if step >= width), _WIDTHS[-1])


def to_csv(table: Table) -> str:
  """Returns the table as CSV (RFC 4180): values in their unit, not rounded, each in three columns.

  The columns of a value are the value and the ends of its interval. A number that cannot be
  computed is an empty field. A text that a spreadsheet would take for a formula begins with a
  space.
  """
  rows = [row for group in table.groups.values() for row in group]
  with_interval = [
    any(isinstance(cells[index], Value) for _, cells in rows) for index in range(len(table.columns))
  ]
  grouped = any(table.groups)
  head = ['group'] if grouped else []
  head.append(table.corner or 'row')
  for column, values in zip(table.columns, with_interval, strict=True):
    head += [column, f'{column}: low', f'{column}: high'] if values else [column]
  file = io.StringIO()
  writer = csv.writer(file, lineterminator='\n')
  writer.writerow(map(_plain, head))
  for group, rows in table.groups.items():
    for name, cells in rows:
      fields = [_plain(group)] if grouped else []
      fields.append(_plain(name))
      for cell, values in zip(cells, with_interval, strict=True):
        fields += _fields(cell, values)
      writer.writerow(fields)
  return file.getvalue()


def _fields(cell: Cell, with_interval: bool) -> Iterator[str]:
  """The fields of a cell, three in a column of values."""
  if isinstance(cell, Value):
    for end in ('value', 'low', 'high'):
      number = cell.estimate[end]
      yield '' if number is None else f'{number * cell.unit.scale:.{_DIGITS}g}'
    return
  yield '' if cell is None else str(cell) if isinstance(cell, int) else _plain(cell)
  yield from ['', ''] if with_interval else []


def _plain(text: str) -> str:
  """A text on one line, with the hyphens and spaces that programs read."""
  text = undirected(clean(text)).replace('\u2212', '-')
  text = ' '.join(text.split())  # Also no-break spaces.
  number = text.replace('.', '').replace('-', '').replace('+', '').isdigit()
  return f' {text}' if text[:1] in ('=', '+', '-', '@') and not number else text
