"""Line plots: accuracy by the size of the people, and the curves of the training."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from zsar_jax.study.report import axes, number_format, tables
from zsar_jax.study.report import drawing as draw
from zsar_jax.study.report.foreign_text import isolated

# Points of a curve that are drawn; more cannot be told apart at its size.
_CURVE_POINTS = 100

# Where a plot's axes begin and end, in pixels.
_X, _Y = (34, 308), (140, 8)

Point = tuple[float, float | None]


@dataclasses.dataclass(frozen=True)
class Mark:
  """A point of a line that is drawn as a circle, with its interval and its tooltip."""

  x: float
  y: float | None
  low: float | None
  high: float | None
  tooltip: str


@dataclasses.dataclass(frozen=True)
class Line:
  """A line of a plot.

  Attributes:
    points: (x, y), in order; a y of None breaks the line.
    look: a name in `drawing.LOOKS`.
    text: its tooltip.
    marks: circles on the line.
    mark_look: the look of the circles.
  """

  points: Sequence[Point]
  look: str
  text: str
  marks: Sequence[Mark] = ()
  mark_look: str = 'run'


@dataclasses.dataclass(frozen=True)
class Plot:
  """Lines over a pair of axes.

  Attributes:
    run: whose plot it is.
    text: the text alternative.
    lines: the last is on top.
    x_axis, y_axis: the axes.
    x_title: the title of the x axis.
    format_x, format_y: format the labels of the ticks.
    chance: the value that a dashed line marks, if any.
  """

  run: str
  text: str
  lines: Sequence[Line]
  x_axis: axes.Axis
  y_axis: axes.Axis
  x_title: str
  format_x: Callable[[float], str]
  format_y: Callable[[float], str]
  chance: float | None = None

  @property
  def drawing(self) -> draw.Drawing:
    """The plot, narrow enough for a phone."""
    marks: list[draw.Mark] = []
    for tick in self.y_axis.ticks:
      y = self._y(tick)
      marks.append(draw.line(_X[0], y, _X[1], y, 'grid' if tick != self.y_axis.low else 'zero'))
      marks.append(draw.Text(_X[0] - 5, y + 4, self.format_y(tick), anchor='end'))
    marks += [
      draw.Text(self._x(tick), 153, self.format_x(tick), anchor='middle')
      for tick in self.x_axis.ticks
    ]
    marks.append(draw.Text(sum(_X) / 2, 167, self.x_title, anchor='middle'))
    if self.chance is not None:
      y = self._y(self.chance)
      text = f'chance: {self.format_y(self.chance)}'
      marks.append(draw.Group(text, [draw.line(_X[0], y, _X[1], y, 'chance')]))
    marks += [draw.Group(line.text, self._line(line)) for line in self.lines]
    return draw.Drawing(draw.COLUMN, 172, self.text, marks)

  def _x(self, value: float) -> float:
    return self.x_axis.position(value, *_X)

  def _y(self, value: float) -> float:
    return self.y_axis.position(value, *_Y)

  def _line(self, line: Line) -> list[draw.Mark]:
    """The marks of a line; points without y break it."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, y in line.points:
      if y is None:
        pieces.append([])
      else:
        pieces[-1].append((self._x(x), self._y(y)))
    marks: list[draw.Mark] = [draw.Path(piece, line.look) for piece in pieces if len(piece) > 1]
    for mark in line.marks:
      if mark.y is None:
        continue
      x = self._x(mark.x)
      if mark.low is not None and mark.high is not None:
        marks.append(draw.line(x, self._y(mark.low), x, self._y(mark.high), line.look))
      circle = draw.Circle(x, self._y(mark.y), 3.5, line.mark_look)
      marks.append(draw.Group(mark.tooltip, [circle]))
    return marks


@dataclasses.dataclass(frozen=True)
class Plots:
  """Plots that belong together, one for each run.

  Attributes:
    title: the title of all plots.
    plots: the plots.
    numbers: their numbers, if the page lists them.
  """

  title: str
  plots: list[Plot]
  numbers: tables.Table | None = None


def coverage(experiment: dict[str, Any], dataset: dict[str, Any]) -> list[Plots] | None:
  """Top-1 by the people's share of the frame, on unpainted clips and on swapped backgrounds."""
  unpainted = _coverage_plots(experiment, dataset['coverage'], 'Top-1 of unpainted clips, %')
  swapped = _coverage_plots(
    experiment,
    dataset['coverage_swapped'],
    'SHAcc: top-1 in front of the background of another clip, %',
  )
  return [plots for plots in (unpainted, swapped) if plots] or None


def _coverage_plots(
  experiment: dict[str, Any], by_run: dict[str, list[dict[str, Any]]], quantity: str
) -> Plots | None:
  """A plot for each run, with the baseline behind it."""
  by_run = {run: by_run[run] for run in experiment['runs'] if by_run.get(run)}
  if not by_run:
    return None
  bins = [row for rows in by_run.values() for row in rows]
  chance = number_format.shared_chance(row['top1'] for row in bins)
  ends = [row['top1'][end] for row in bins for end in ('value', 'high')]
  x_axis = axes.axis([row['high'] for row in bins], ticks=5)
  y_axis = axes.axis([*ends, chance], min_span=0.1)
  base = experiment['baseline']
  plots = []
  for run, rows in by_run.items():
    lines = [_coverage_line(run, rows, 'base' if run == base else 'run')]
    if run != base and base in by_run:
      lines.insert(0, _coverage_line(base, by_run[base], 'base'))
    plots.append(
      Plot(
        run=run,
        text=f"{quantity}, by the people's share of the frame, {isolated(run)}",
        lines=lines,
        x_axis=x_axis,
        y_axis=y_axis,
        x_title="people's share of the frame, %",
        format_x=number_format.integer_percent,
        format_y=number_format.integer_percent,
        chance=chance,
      )
    )
  title = f'{quantity}. Gray: the baseline. Vertical lines: 95\u00a0% intervals.'
  if chance is not None:
    title += f' Dashed: chance, {number_format.percent(chance)}\u00a0%.'
  groups = {
    run: [(f'people cover {_span(row)}\u00a0%', row['top1']) for row in rows]
    for run, rows in by_run.items()
  }
  table = tables.estimate_table(f"{quantity}, by the people's share of the frame", groups)
  return Plots(title, plots, table)


def _coverage_line(run: str, rows: list[dict[str, Any]], look: str) -> Line:
  marks = [
    Mark(
      x=(row['low'] + row['high']) / 2,
      y=row['top1']['value'],
      low=row['top1']['low'],
      high=row['top1']['high'],
      tooltip=(
        f'{isolated(run)}, people on {_span(row)}\u00a0% of the frame:'
        f' {number_format.full_text(row["top1"])}'
      ),
    )
    for row in rows
  ]
  points = [(mark.x, mark.y) for mark in marks]
  return Line(points, f'line-{look}', isolated(run), marks, look)


def _span(row: dict[str, Any]) -> str:
  return f'{number_format.percent(row["low"])} to {number_format.percent(row["high"])}'


@dataclasses.dataclass(frozen=True)
class Curves:
  """The training curves of an experiment.

  Attributes:
    seeds: the seeds in the order of their colors.
    figures: plots of the loss and of the accuracy.
  """

  seeds: list[str]
  figures: list[Plots]


def curves(experiment: dict[str, Any]) -> Curves | None:
  """Loss and accuracy in training: a plot for each run, a line for each seed."""
  seeds = list(dict.fromkeys(seed for run in experiment['runs'].values() for seed in run['curves']))
  figures = []
  for field, title, format_y in (
    ('loss', 'Loss', number_format.short_decimal),
    ('accuracy', 'Accuracy in training, %', number_format.integer_percent),
  ):
    by_run = {
      run: lines
      for run, entry in experiment['runs'].items()
      if (lines := list(_curve_lines(entry, field, seeds)))
    }
    points = [point for lines in by_run.values() for line in lines for point in line.points]
    x_axis, y_axis = axes.axis([x for x, _ in points]), axes.axis([y for _, y in points])
    plots = [
      Plot(
        run=run,
        text=f'{title} of {isolated(run)}',
        lines=lines,
        x_axis=x_axis,
        y_axis=y_axis,
        x_title='step',
        format_x=number_format.short_decimal,
        format_y=format_y,
      )
      for run, lines in by_run.items()
    ]
    if plots:
      figures.append(Plots(title, plots))
  return Curves(seeds, figures) if figures else None


def _curve_lines(run: dict[str, Any], field: str, seeds: list[str]) -> Iterator[Line]:
  for seed, curve in run['curves'].items():
    if points := thinned(list(zip(curve['step'], curve[field], strict=True)), _CURVE_POINTS):
      yield Line(points, f'seed{seeds.index(seed) % 4}', f'seed {seed}')


def thinned(points: Sequence[Point], limit: int) -> Sequence[Point]:
  """Drops points without y and averages neighbors, so that at most `limit` points are left."""
  points = [(x, y) for x, y in points if y is not None]
  if len(points) <= limit:
    return points
  bounds = [len(points) * number // limit for number in range(limit + 1)]
  groups = [points[start:end] for start, end in zip(bounds, bounds[1:], strict=False)]
  return [
    tuple(sum(column) / len(group) for column in zip(*group, strict=True)) for group in groups
  ]
