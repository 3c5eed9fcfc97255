"""Findings: a drawing of each, and a table of all."""

from typing import Any

from zsar_jax.study.report import axes, number_format, tables
from zsar_jax.study.report import drawing as draw


def finding(finding: dict[str, Any], seeds: list[int]) -> draw.Drawing:
  """Draws the estimate as a diamond on its interval, a circle for each seed, and the threshold."""
  estimate, threshold = finding['estimate'], finding['threshold']
  ends = [estimate[end] for end in ('value', 'low', 'high')]
  axis = axes.axis([*ends, threshold, *finding['per_seed']], min_span=0.02)

  def x(value: float) -> float:
    return axis.position(value, 14, draw.COLUMN - 14)

  points, text = (
    number_format.points,
    number_format.full_text(estimate, number_format.points, ' points'),
  )
  marks: list[draw.Mark] = [
    draw.line(x(tick), 0, x(tick), 42, 'grid' if tick else 'zero') for tick in axis.ticks
  ]
  marks.append(
    draw.Group(
      f'threshold {points(threshold)} points',
      [draw.line(x(threshold), 2, x(threshold), 42, 'threshold')],
    )
  )
  if None not in (estimate['low'], estimate['high']):
    marks += draw.horizontal_whisker(x(estimate['low']), x(estimate['high']), 22)
  for number, value in enumerate(finding['per_seed']):
    if value is not None:
      name = f'{number_format.seed_name(seeds, number)}: {points(value)} points'
      marks.append(draw.Group(name, [draw.Circle(x(value), 33, 4, 'dot')]))
  if estimate['value'] is not None:
    middle = x(estimate['value'])
    corners = ((middle, 15), (middle + 7, 22), (middle, 29), (middle - 7, 22))
    marks.append(draw.Group(text, [draw.Path(corners, 'diamond', closed=True)]))
  marks += [
    draw.Text(x(tick), 54, number_format.short_points(tick), anchor='middle') for tick in axis.ticks
  ]
  seed_points = number_format.listed(finding['per_seed'], points)
  return draw.Drawing(
    draw.COLUMN, 58, f'{text}; threshold {points(threshold)} points; seeds {seed_points}', marks
  )


def table(findings: list[dict[str, Any]]) -> tables.Table | None:
  """Returns the table of the findings; None without any."""
  if not findings:
    return None
  rows = [
    (
      entry['statement'],
      [
        entry['verdict'],
        tables.Value(entry['estimate'], tables.POINTS),
        number_format.points(entry['threshold']),
        entry['estimate']['count'],
      ],
    )
    for entry in findings
  ]
  columns = ['verdict', 'points', 'threshold', 'clips']
  return tables.Table('Findings, with 95\u00a0% intervals', columns, {'': rows}, 'finding')
