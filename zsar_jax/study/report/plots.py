"""Drawings of a fixed size as inline SVG: lines over an axis, and long lists of gains.

They are narrow enough for a phone and stand beside each other where there is room.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from zsar_jax.study.report import scales, words
from zsar_jax.study.report.markup import Markup, element
from zsar_jax.study.report.results import Estimate

_WIDTH, _HEIGHT = 300, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 12, 8, 30


@dataclasses.dataclass(frozen=True)
class Line:
  """A line of a plot.

  Attributes:
    points: (x, y), in order; a y of None breaks the line.
    kind: CSS class.
    text: what it is, its tooltip.
    tips: a tooltip for each point, which is then drawn as a mark; empty for none.
    intervals: (low, high) for each point; empty for none.
  """

  points: Sequence[tuple[float, float | None]]
  kind: str
  text: str
  tips: Sequence[str] = ()
  intervals: Sequence[tuple[float | None, float | None]] = ()


def lines(
  drawn: Sequence[Line],
  across: scales.Axis,
  up: scales.Axis,
  titles: tuple[str, str],
  text: str,
  write_across: Callable[[float], str],
  write_up: Callable[[float], str],
  level: float | None = None,
) -> Markup:
  """Lines over a pair of axes.

  Args:
    drawn: the lines, the last on top.
    across, up: the axes.
    titles: of the axes; the second is read out, not drawn.
    text: the text alternative.
    write_across, write_up: how their numbers are written.
    level: where a dashed line marks the chance level, if anywhere.
  """
  right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

  def x(value: float) -> float:
    return _LEFT + (right - _LEFT) * across.place(value)

  def y(value: float) -> float:
    return bottom - (bottom - _TOP) * up.place(value)

  marks = [
    element(
      'g',
      element('line', x1=_LEFT, x2=right, y1=y(tick), y2=y(tick),
              class_='zero' if tick == up.low else 'grid'),
      element('text', write_up(tick), x=_LEFT - 5, y=y(tick) + 4, text_anchor='end'),
    )
    for tick in up.ticks
  ]  # fmt: skip
  marks += [
    element('text', write_across(tick), x=x(tick), y=bottom + 13, text_anchor='middle')
    for tick in across.ticks
  ]
  marks.append(
    element(
      'text', titles[0], x=(_LEFT + right) / 2, y=_HEIGHT - 3, text_anchor='middle', class_='axis'
    )
  )
  if level is not None:
    title = element('title', f'chance: {write_up(level)}')
    dashed = element('line', x1=_LEFT, x2=right, y1=y(level), y2=y(level), class_='chance')
    marks.append(element('g', title, dashed))
  for line in drawn:
    places = [(x(a), None if b is None else y(b)) for a, b in line.points]
    strokes = [element('path', d=path)] if (path := _path(places)) else []
    for (left, height), (low, high) in zip(places, line.intervals, strict=False):
      if None not in (height, low, high):
        strokes.append(element('line', x1=left, x2=left, y1=y(low), y2=y(high), class_='whisker'))
    for (left, height), tip in zip(places, line.tips, strict=False):
      if height is not None:
        strokes.append(
          element('g', element('title', tip), element('circle', cx=left, cy=height, r=3.5))
        )
    marks.append(element('g', element('title', line.text), strokes, class_=f'line {line.kind}'))
  return element(
    'svg', element('title', text), marks, viewBox=f'0 0 {_WIDTH} {_HEIGHT}', class_='plot',
    width=_WIDTH, height=_HEIGHT, role='img', aria_label=text,
  )  # fmt: skip


def _path(places: Sequence[tuple[float, float | None]]) -> str:
  """A path's `d` through the places, a new stroke after each gap."""
  parts, down = [], False
  for left, height in places:
    if height is not None:
      parts.append(f'{"L" if down else "M"}{left:.1f} {height:.1f}')
    down = height is not None
  return ''.join(parts)


def thinned(
  points: Sequence[tuple[float, float | None]], most: int
) -> list[tuple[float, float | None]]:
  """At most `most` points: means of equally many neighbors, those without a number left out."""
  points = [(x, y) for x, y in points if y is not None]
  if len(points) <= most:
    return points
  bounds = [len(points) * number // most for number in range(most + 1)]
  groups = [points[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]
  return [
    tuple(sum(column) / len(group) for column in zip(*group, strict=True)) for group in groups
  ]


# A list of gains: names to the left, bars about a line for 0, one class in this many pixels.
_GAINS_WIDTH, _NAMES, _ROW = 350, 164, 17


def gains(entries: Sequence[dict[str, Any]], axis: scales.Axis, text: str) -> Markup:
  """Gains of classes, one below the other, with intervals.

  Args:
    entries: of `classes_gain`.
    axis: holds all gains; shared by the lists that are to be compared.
    text: the text alternative.
  """

  def x(value: float) -> float:
    return _NAMES + 12 + (_GAINS_WIDTH - _NAMES - 32) * axis.place(value)

  height = _ROW * len(entries) + 16
  marks = [
    element('path', d=f'M{x(tick):.1f} 0V{height - 14}', class_='zero' if tick == 0 else 'grid')
    for tick in axis.ticks
  ]
  marks += [
    element('text', words.short_points(tick), x=x(tick), y=height - 3, text_anchor='middle')
    for tick in (axis.low, 0.0, axis.high)
    if tick == 0 or x(tick) < x(0) - 30 or x(tick) > x(0) + 30
  ]
  rows = [_gain(entry, entry['gain'], x, _ROW * place) for place, entry in enumerate(entries)]
  marks.append(element('g', rows, class_='gains'))
  return element(
    'svg', element('title', text), marks, viewBox=f'0 0 {_GAINS_WIDTH} {height}', class_='plot',
    width=_GAINS_WIDTH, height=height, role='img', aria_label=text,
  )  # fmt: skip


def _gain(entry: dict[str, Any], gain: Estimate, x, top: float) -> Markup:
  tip = (
    f'{words.isolated(entry["class"])}: {words.percent(entry["baseline"])}\u00a0% to'
    f' {words.percent(entry["accuracy"])}\u00a0%, {words.points(gain["value"])} points'
    f' ({words.interval(gain, words.points)}), {words.counted(entry["count"], "clip")}'
  )
  value = gain['value']
  parts = [
    element('title', tip),
    element(
      'text', f'{words.shortened(entry["class"], 21)} ({entry["count"]})', x=_NAMES, y=top + 12
    ),
  ]
  if value is None:
    parts.append(element('text', words.MISSING, x=x(0.0) + 18, y=top + 12))
    return element('g', parts)
  kind = 'unsure' if not words.certain(gain) else 'more' if value > 0 else 'less'
  parts.append(
    element('path', d=f'M{x(0.0):.0f} {top + 3}H{x(value):.0f}v11H{x(0.0):.0f}z', class_=kind)
  )
  if gain['low'] is not None and gain['high'] is not None:
    parts.append(element('path', d=f'M{x(gain["low"]):.0f} {top + 8.5}H{x(gain["high"]):.0f}'))
  return element('g', parts)
