"""Bars and dots as inline SVG, one drawing for each row of a chart.

Places along the axis are percentages of the drawing's width, so that a row fills whatever room
the page has while its text and strokes keep their size; labels and numbers stand beside it in
HTML. Colors come from the page's style by class. Every mark has a title, which browsers show as
a tooltip, and every drawing a text alternative.
"""

from collections.abc import Sequence

from zsar_jax.study.report import scales, words
from zsar_jax.study.report.markup import Markup, element
from zsar_jax.study.report.results import Estimate

# Half the width of what is written at the ends of an axis must fit beside it: all marks keep
# this share of the width free at either side.
_MARGIN = 0.03


def _x(axis: scales.Axis, value: float) -> str:
  return f'{100 * (_MARGIN + (1 - 2 * _MARGIN) * axis.place(value)):.2f}%'


def _width(axis: scales.Axis, low: float, high: float) -> str:
  return f'{100 * (1 - 2 * _MARGIN) * (axis.place(high) - axis.place(low)):.2f}%'


def _drawing(text: str, height: int, *marks: Markup | None) -> Markup:
  return element(
    'svg', element('title', text), *marks, class_='row', role='img', aria_label=text, height=height
  )


def _grid(axis: scales.Axis, height: int) -> list[Markup]:
  return [
    element(
      'line', x1=_x(axis, tick), x2=_x(axis, tick), y1=0, y2=height,
      class_='zero' if tick == 0 else 'grid',
    )
    for tick in axis.ticks
  ]  # fmt: skip


def _whisker(axis: scales.Axis, estimate: Estimate, y: float) -> list[Markup]:
  """The interval: a line with an end at either side."""
  if estimate['low'] is None or estimate['high'] is None:
    return []
  low, high = _x(axis, estimate['low']), _x(axis, estimate['high'])
  return [
    element('line', x1=low, x2=high, y1=y, y2=y, class_='whisker'),
    element('line', x1=low, x2=low, y1=y - 3, y2=y + 3, class_='whisker'),
    element('line', x1=high, x2=high, y1=y - 3, y2=y + 3, class_='whisker'),
  ]


def scale_row(axis: scales.Axis) -> Markup:
  """The axis itself: its numbers, for under the rows."""
  return element(
    'svg',
    [
      element('text', words.whole_percent(tick), x=_x(axis, tick), y=11, text_anchor='middle')
      for tick in axis.ticks
    ],
    class_='row scale',
    height=15,
    aria_hidden='true',
  )


def _chance(axis: scales.Axis, level: float | None, height: int) -> Markup | None:
  """A dashed line at the chance level."""
  if level is None:
    return None
  x = _x(axis, level)
  title = element('title', f'chance: {words.percent(level)}\u00a0%')
  return element('g', title, element('line', x1=x, x2=x, y1=0, y2=height, class_='chance'))


def bar(axis: scales.Axis, estimate: Estimate, text: str, kind: str) -> Markup:
  """A bar from 0 with its interval and its chance level.

  Args:
    axis: the axis.
    estimate: the number; nothing is drawn where it is missing.
    text: the tooltip and text alternative.
    kind: CSS class of the bar.
  """
  height, value = 20, estimate['value']
  if value is None:
    return _drawing(text, height, *_grid(axis, height))
  low, high = min(0.0, value), max(0.0, value)
  return _drawing(
    text,
    height,
    *_grid(axis, height),
    element('rect', x=_x(axis, low), width=_width(axis, low, high), y=4, height=12, class_=kind),
    _chance(axis, estimate['chance'], height),
    *_whisker(axis, estimate, 10),
  )


def dots(
  axis: scales.Axis,
  estimate: Estimate,
  per_seed: Sequence[float | None],
  seeds: Sequence[int],
  threshold: float,
) -> Markup:
  """A finding: its estimate as a diamond on its interval, a dot for each seed, the threshold."""
  height, middle = 56, 22
  marks = [
    *_grid(axis, height - 14),
    element(
      'g',
      element('title', f'threshold {words.points(threshold)} points'),
      element(
        'line', x1=_x(axis, threshold), x2=_x(axis, threshold), y1=2, y2=height - 14,
        class_='threshold',
      ),
    ),
    *_whisker(axis, estimate, middle),
  ]  # fmt: skip
  for place, value in enumerate(per_seed):
    if value is not None:
      name = words.seed(seeds, place)
      dot = element('circle', cx=_x(axis, value), cy=middle + 11, r=4)
      marks.append(
        element('g', element('title', f'{name}: {words.points(value)} points'), dot, class_='dot')
      )
  text = words.in_full(estimate, words.points, ' points')
  if estimate['value'] is not None:
    # A diamond is a square that stands on its corner; a nested drawing carries the percentage.
    marks.append(
      element(
        'svg',
        element('g', element('title', text), element('path', d='M0-7L7 0L0 7L-7 0Z')),
        x=_x(axis, estimate['value']), y=middle, overflow='visible', class_='diamond',
      )
    )  # fmt: skip
  marks += [
    element('text', words.short_points(tick), x=_x(axis, tick), y=height - 2, text_anchor='middle')
    for tick in axis.ticks
  ]
  seen = ', '.join(words.points(value) for value in per_seed)
  summary = f'{text}; threshold {words.points(threshold)} points; seeds {seen}'
  return _drawing(summary, height, *marks)


def stacked(shares: dict[str, float], text: str, height: int, write_least: float = 0.14) -> Markup:
  """A bar of parts one after the other; each part's CSS class is `part-NAME`.

  Args:
    shares: {name: share}, together at most 1.
    text: the text alternative.
    height: of the bar in pixels.
    write_least: the least share in which its number is written.
  """
  marks, start = [], 0.0
  for name, share in shares.items():
    label = f'{name}: {words.percent(share)}\u00a0%'
    parts = [
      element('title', label),
      element('rect', x=f'{100 * start:.2f}%', width=f'{100 * share:.2f}%', y=0, height=height),
    ]
    if share >= write_least and height >= 16:
      parts.append(
        element(
          'text', words.percent(share), x=f'{100 * (start + share / 2):.2f}%', y=height / 2 + 4,
          text_anchor='middle',
        )
      )  # fmt: skip
    marks.append(element('g', parts, class_=f'part-{name}'))
    start += share
  return _drawing(text, height, *marks)
