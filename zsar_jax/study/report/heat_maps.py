"""Heat maps of the train x validation matrix: tables with colored cells.

The colors are classes of style.css, which defines them for light and dark: `h0` to `h9`, and `d-5`
to `d5` for differences.
"""

import dataclasses
import math
from typing import Any

from zsar_jax.study.report import drawing as draw
from zsar_jax.study.report import metric_labels, number_format, study_file, tables
from zsar_jax.study.report.foreign_text import isolated
from zsar_jax.study.report.study_file import Estimate

# Colors of accuracies, and of gains or of losses.
_STEPS, _DIFFERENCE_STEPS = 10, 5

# Values that the color scale may end at.
_SCALE_ENDS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)

# Pixels of a figure: width of the names, height of the heads and of a cell.
_NAMES, _HEADS, _CELL_HEIGHT = 106, 96, 25

# Pixels that the cells of a row share where they fit, and the ends of the width of a cell. With the
# names, a row is as wide as the text of a page in LaTeX.
_ROW, _CELLS = 352, (32, 38)

# Colors on which text is light.
_DARK = ('h7', 'h8', 'h9', 'd5', 'd-5')

_Estimates = dict[tuple[str, str], Estimate]


@dataclasses.dataclass(frozen=True)
class Cell:
  """A cell of a heat map: its text, CSS classes and tooltip."""

  text: str
  css: str
  tooltip: str


@dataclasses.dataclass(frozen=True)
class HeatMap:
  """A heat map.

  Attributes:
    title: its caption.
    rows: the cells of each run, one for each recipe.
    counts: the number of clips of each recipe's cells.
    scale: CSS classes of the color scale.
    scale_ends: labels of the scale's low and high end.
    key: explains the marks.
    table: the map as a table with intervals.
    numbers: all numbers of the map.
  """

  title: str
  rows: dict[str, list[Cell]]
  counts: list[str]
  scale: list[str]
  scale_ends: tuple[str, str]
  key: str
  table: tables.Table
  numbers: tables.Table | None

  @property
  def drawing(self) -> draw.Drawing:
    """The map as a figure, for files; the page has it as a table."""
    columns = len(self.table.columns)
    width = min(_CELLS[1], max(_CELLS[0], _ROW / columns))
    right = _NAMES + width * columns
    marks: list[draw.Mark] = []
    for column, recipe in enumerate(self.table.columns):
      # Upward, on up to three lines beside each other.
      lines = draw.wrapped(recipe, _HEADS - 8, 3, 9.5)
      middle = _NAMES + width * (column + 0.5) + 3.5
      marks += [
        draw.Text(middle + 10 * (n - (len(lines) - 1) / 2), _HEADS - 5, line, 'small', upward=True)
        for n, line in enumerate(lines)
      ]
    for row, (run, cells) in enumerate(self.rows.items()):
      y = _HEADS + _CELL_HEIGHT * row
      marks += draw.label(0, y + _CELL_HEIGHT / 2, run, _NAMES - 6)
      for column, cell in enumerate(cells):
        x = _NAMES + width * column
        look = cell.css.split()[0]
        if look in draw.LOOKS:
          fill = 'quiet' if look == 'unsure' else look
          marks.append(draw.Rect(x + 1, y + 1, width - 2, _CELL_HEIGHT - 2, fill))
        color = 'on-dark' if look in _DARK else 'text' if look in ('unsure', 'none') else 'label'
        marks.append(draw.Text(x + width / 2, y + 16, cell.text, color, 'middle'))
    height = _HEADS + _CELL_HEIGHT * len(self.rows)
    return draw.Drawing(right, height, self.title, marks)


@dataclasses.dataclass(frozen=True)
class HeatMaps:
  """The heat maps of a data set.

  Attributes:
    accuracies: {metric: map}; the page shows one map at a time.
    difference: top-1 minus that of the baseline, if there are other runs.
    width: the approximate width of a map in rem, one of those in style.css.
  """

  accuracies: dict[str, HeatMap]
  difference: HeatMap | None
  width: int


def heat_maps(experiment: dict[str, Any], dataset: dict[str, Any]) -> HeatMaps | None:
  """The heat maps of a data set; None if nothing was evaluated."""
  accuracies = {}
  for metric, label in metric_labels.ACCURACIES.items():
    estimates = {
      (run, recipe): study_file.accuracy(dataset, run, recipe, metric)
      for run in experiment['runs']
      for recipe in experiment['recipes']
    }
    if any(estimate['value'] is not None for estimate in estimates.values()):
      accuracies[metric] = _accuracy_map(experiment, estimates, label)
  if not accuracies:
    return None
  difference = _difference_map(experiment, dataset) if dataset['difference'] else None
  width = tables.css_width(7.5 + 2.9 * len(experiment['recipes']))
  return HeatMaps(accuracies, difference, width)


def _accuracy_map(experiment: dict[str, Any], estimates: _Estimates, label: str) -> HeatMap:
  recipes = experiment['recipes']
  values = {key: estimate['value'] or 0.0 for key, estimate in estimates.items()}
  chance = number_format.shared_chance(estimates.values())
  scale_end = _scale_end(max([*values.values(), chance or 0.0]))
  best = {recipe: max(values[run, recipe] for run in experiment['runs']) for recipe in recipes}

  def step(value: float) -> int:
    return min(_STEPS - 1, max(0, int(_STEPS * value / scale_end)))

  def cell(run: str, recipe: str) -> Cell:
    estimate = estimates[run, recipe]
    value = estimate['value']
    tooltip = _tooltip(run, recipe, number_format.full_text(estimate))
    if value is None:
      return Cell(number_format.MISSING, 'none', tooltip)
    mark = ' best' if value and value == best[recipe] else ''
    return Cell(number_format.percent(value), f'h{step(value)}{mark}', tooltip)

  scale = [f'h{number}' for number in range(_STEPS)]
  key = 'bold: best of a column'
  if chance is not None:
    scale[step(chance)] += ' at-chance'
    key += f'; framed color: chance, {number_format.percent(chance)}\u00a0%'
  counts, title = _counts(experiment, estimates), f'Accuracy, {label}, %'
  return HeatMap(
    title=title,
    rows={run: [cell(run, recipe) for recipe in recipes] for run in experiment['runs']},
    counts=counts,
    scale=scale,
    scale_ends=('0', number_format.integer_percent(scale_end)),
    key=key + _counts_remark(counts),
    table=_table(experiment, title, estimates, tables.PERCENT, best),
    numbers=tables.estimate_table(title, _groups(experiment, estimates)),
  )


def _difference_map(experiment: dict[str, Any], dataset: dict[str, Any]) -> HeatMap:
  """Top-1 minus that of the baseline, in points; without color if the interval includes 0."""
  recipes = experiment['recipes']
  estimates = {
    (run, recipe): study_file.difference(dataset, run, recipe)
    for run in experiment['runs']
    if run in dataset['difference']
    for recipe in recipes
  }
  values = [estimate['value'] or 0.0 for estimate in estimates.values()]
  scale_end = _scale_end(max(map(abs, values), default=0.0))

  def cell(run: str, recipe: str) -> Cell:
    if run not in dataset['difference']:
      return Cell('\u00b7', 'none', 'the baseline itself')
    estimate = estimates[run, recipe]
    value = estimate['value']
    text = number_format.points(value)
    full_text = number_format.full_text(estimate, number_format.points, ' points')
    tooltip = _tooltip(run, recipe, full_text)
    if value is None:
      return Cell(text, 'none', tooltip)
    if not number_format.interval_excludes_zero(estimate):
      return Cell(text, 'unsure', f'{tooltip}; the interval includes 0')
    step = max(1, min(_DIFFERENCE_STEPS, math.ceil(_DIFFERENCE_STEPS * abs(value) / scale_end)))
    return Cell(text, f'd{step}' if value > 0 else f'd-{step}', tooltip)

  counts, title = _counts(experiment, estimates), 'Top-1 minus the baseline, points'
  return HeatMap(
    title=title,
    rows={run: [cell(run, recipe) for recipe in recipes] for run in experiment['runs']},
    counts=counts,
    scale=[f'd{step}' for step in range(-_DIFFERENCE_STEPS, _DIFFERENCE_STEPS + 1) if step],
    scale_ends=(number_format.short_points(-scale_end), number_format.short_points(scale_end)),
    key='gray: the interval includes 0' + _counts_remark(counts),
    table=_table(experiment, title, estimates, tables.POINTS, {}),
    numbers=tables.estimate_table(title, _groups(experiment, estimates), tables.POINTS),
  )


def _tooltip(run: str, recipe: str, text: str) -> str:
  return f'{isolated(run)} under {isolated(recipe)}: {text}'


def _scale_end(value: float) -> float:
  """The smallest of `_SCALE_ENDS` that is at least `value`; or else the value itself."""
  return next((end for end in _SCALE_ENDS if value <= end), value)


def _counts(experiment: dict[str, Any], estimates: _Estimates) -> list[str]:
  """The number of clips of each recipe's estimates; empty if none is known."""
  counts = [
    number_format.clip_range(
      estimate for (_, column), estimate in estimates.items() if column == recipe
    )
    for recipe in experiment['recipes']
  ]
  return counts if any(counts) else []


def _counts_remark(counts: list[str]) -> str:
  if len(set(counts)) <= 1:
    return ''
  return (
    '; the columns cover different clips, because some clips have no masks or no partner: compare'
    ' down a column, not along a row'
  )


def _groups(
  experiment: dict[str, Any], estimates: _Estimates
) -> dict[str, list[tuple[str, Estimate]]]:
  """The estimates as rows of a `NumberTable`, grouped by run."""
  groups: dict[str, list[tuple[str, Estimate]]] = {}
  for (run, recipe), estimate in estimates.items():
    groups.setdefault(run, []).append((recipe, estimate))
  return groups


def _table(
  experiment: dict[str, Any],
  title: str,
  estimates: _Estimates,
  unit: tables.Unit,
  best: dict[str, float],
) -> tables.Table:
  """The map as a table with intervals, with the best of each column in bold."""
  rows: list[tuple[str, list[tables.Cell]]] = []
  for run in experiment['runs']:
    cells: list[tables.Cell] = []
    for recipe in experiment['recipes']:
      estimate = estimates.get((run, recipe))
      if estimate is None:  # The baseline has no difference to itself.
        cells.append(None)
        continue
      bold = bool(estimate['value']) and estimate['value'] == best.get(recipe)
      cells.append(tables.Value(estimate, unit, bold))
    rows.append((run, cells))
  return tables.Table(title, experiment['recipes'], {'': rows}, 'run')
