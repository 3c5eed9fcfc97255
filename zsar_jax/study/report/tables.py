"""Tables of numbers with their intervals, for readers without a pointer, and wide tables."""

import math
from collections.abc import Sequence

from zsar_jax.study.report import words
from zsar_jax.study.report.markup import Markup, breakable, element
from zsar_jax.study.report.results import Estimate

# {name of the group: [(name of the row, its number)]}
Groups = dict[str, Sequence[tuple[str, Estimate]]]

# Widths in rem from which a screen may be too narrow for a table: the steps of the style sheet.
_WIDTHS = (20, 25, 30, 35, 40, 45, 50, 60, 70, 80)


def step(width: float) -> int:
  """The first step of the style sheet that is as wide, in rem."""
  return next((step for step in _WIDTHS if step >= width), _WIDTHS[-1])


def scrolling(table: Markup, width: float, columns: int) -> Markup:
  """A table that scrolls sideways where there is no room, and then says so.

  Args:
    table: the table.
    width: about what it needs, in rem.
    columns: how many there are to see.
  """
  text = f'Scroll the table sideways to see all {columns} columns.'
  hint = element('p', text, class_=f'hint below-{step(width)}')
  return element('div', hint, element('div', table, class_='scroll', tabindex='0'), class_='wide')


def numbers(groups: Groups, write=words.percent, unit: str = '%') -> Markup | None:
  """A folded table: each number with its interval, seeds, clips and p-values.

  Args:
    groups: the numbers.
    write: writes one.
    unit: of all of them.
  """
  everything = [estimate for rows in groups.values() for _, estimate in rows]
  if not everything:
    return None
  # (heading, cell); the columns that nothing is known for are left out.
  columns = [(f'{unit}, 95\u00a0% interval', lambda estimate: _value(estimate, write))]
  if any(len(estimate['per_seed']) > 1 for estimate in everything):
    columns.append(('seeds', lambda estimate: ', '.join(map(write, estimate['per_seed']))))
  if any(estimate['count'] is not None for estimate in everything):
    columns.append(
      (
        'clips',
        lambda estimate: words.MISSING if estimate['count'] is None else str(estimate['count']),
      )
    )
  if any(estimate['p'] is not None for estimate in everything):
    columns.append(('p', lambda estimate: _p(estimate['p'])))
  if any(estimate['mcnemar'] for estimate in everything):
    columns.append(('McNemar p', lambda estimate: ', '.join(map(_p, estimate['mcnemar']))))
  head = element(
    'tr', [element('th', name, scope='col') for name in ('', *(n for n, _ in columns))]
  )
  bodies = []
  for group, rows in groups.items():
    title = element(
      'th', element('bdi', breakable(group)), scope='rowgroup', colspan=len(columns) + 1
    )
    bodies.append(
      element(
        'tbody',
        element('tr', title, class_='group') if group else None,
        [
          element(
            'tr',
            element('th', element('bdi', breakable(name)), scope='row'),
            [element('td', cell(estimate)) for _, cell in columns],
          )
          for name, estimate in rows
        ],
      )
    )
  table = element('table', element('thead', head), bodies, class_='numbers')
  width = 7 + 4 * len(columns)
  summary = element('summary', 'All numbers with intervals')
  return element('details', summary, scrolling(table, width, len(columns)), class_='all')


def _value(estimate: Estimate, write) -> list[Markup | str]:
  between = words.interval(estimate, write) if estimate['value'] is not None else ''
  return [write(estimate['value']), element('small', between) if between else '']


def _p(value: float | None) -> str:
  return words.MISSING if value is None or math.isnan(value) else f'{value:.2g}'
