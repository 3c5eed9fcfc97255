"""Heat maps of the train x validation matrix: tables whose cells are colored.

A table, because its numbers can be read, copied and read out; the colors are classes of the
page's style (`h0` to `h9`, and `d-5` to `d5` for differences), which has them for light and dark.
"""

import math
from typing import Any

from zsar_jax.study.report import results as studies
from zsar_jax.study.report import tables, words
from zsar_jax.study.report.markup import Markup, breakable, element, join

_STEPS, _SIDES = 10, 5


def heat_map(experiment: dict[str, Any], dataset: dict[str, Any], metric: str) -> Markup:
  """The accuracies: a row for each run, a column for each validation recipe."""
  cells = {
    (run, recipe): studies.matrix_cell(dataset, run, recipe, metric)
    for run in experiment['runs']
    for recipe in experiment['recipes']
  }
  chance = words.chance_of(cells.values())
  top = _round_up(max([*(cell['value'] or 0.0 for cell in cells.values()), chance or 0.0]))
  best = {
    recipe: max(cells[run, recipe]['value'] or 0.0 for run in experiment['runs'])
    for recipe in experiment['recipes']
  }

  def step_of(value: float) -> int:
    return min(_STEPS - 1, max(0, int(_STEPS * value / top)))

  def cell(run: str, recipe: str) -> Markup:
    estimate = cells[run, recipe]
    value = estimate['value']
    tip = f'{_place(run, recipe)}: {words.in_full(estimate)}'
    if value is None:
      return element('td', words.MISSING, class_='none', title=tip)
    kind = f'h{step_of(value)} best' if value and value == best[recipe] else f'h{step_of(value)}'
    return element('td', words.percent(value), class_=kind, title=tip)

  title = f'Accuracy, {words.ACCURACIES[metric]}, %'
  remark = 'bold: best of a column'
  marked = None if chance is None else step_of(chance)
  if chance is not None:
    remark += f'; framed color: chance, {words.percent(chance)}\u00a0%'
  legend = [
    element('span', class_=f'h{step} at-chance' if step == marked else f'h{step}')
    for step in range(_STEPS)
  ]
  table = _table(experiment, title, cell, cells, ['0', legend, words.whole_percent(top)], remark)
  return element('div', table, tables.numbers(_groups(experiment, cells)), class_='map')


def difference_map(experiment: dict[str, Any], dataset: dict[str, Any]) -> Markup:
  """Top-1 minus the baseline's, in points; uncertain ones without color."""
  runs = [run for run in experiment['runs'] if run in dataset['difference']]
  cells = {
    (run, recipe): studies.difference_cell(dataset, run, recipe)
    for run in runs
    for recipe in experiment['recipes']
  }
  top = _round_up(max((abs(cell['value'] or 0.0) for cell in cells.values()), default=0.0))

  def cell(run: str, recipe: str) -> Markup:
    if run not in dataset['difference']:
      return element('td', '\u00b7', class_='none', title='the baseline itself')
    estimate = cells[run, recipe]
    value = estimate['value']
    tip = f'{_place(run, recipe)}: {words.in_full(estimate, words.points, " points")}'
    if value is None:
      return element('td', words.MISSING, class_='none', title=tip)
    if not words.certain(estimate):
      tip += '; the interval includes 0'
      return element('td', words.points(value), class_='unsure', title=tip)
    step = max(1, min(_SIDES, math.ceil(_SIDES * abs(value) / top)))
    kind = f'd{step}' if value > 0 else f'd-{step}'
    return element('td', words.points(value), class_=kind, title=tip)

  legend = [element('span', class_=f'd{step}') for step in range(-_SIDES, _SIDES + 1) if step]
  ends = [words.short_points(-top), legend, words.short_points(top)]
  title = 'Top-1 minus the baseline, points'
  table = _table(experiment, title, cell, cells, ends, 'grey: the interval includes 0')
  groups = _groups(experiment, cells)
  return element('div', table, tables.numbers(groups, words.points, 'points'), class_='map')


def _groups(experiment: dict[str, Any], cells: dict[tuple[str, str], Any]) -> tables.Groups:
  """The cells as `tables.numbers` takes them: those of a run below its name."""
  return {
    run: [(recipe, cells[run, recipe]) for recipe in experiment['recipes']]
    for run in experiment['runs']
    if all((run, recipe) in cells for recipe in experiment['recipes'])
  }


def _place(run: str, recipe: str) -> str:
  return f'{words.isolated(run)} under {words.isolated(recipe)}'


def _round_up(value: float) -> float:
  """The next of 5, 10, 20, 40, 60, 80, 100 %, or the value itself above that."""
  return next((mark for mark in (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0) if value <= mark), value)


def _table(experiment: dict[str, Any], title: str, cell, cells, legend, remark: str) -> Markup:
  """A heat map; the last row says how many clips the cells of each column are of."""
  recipes = experiment['recipes']
  head = element(
    'tr',
    element('th', 'run \\ validation recipe', class_='corner', scope='col'),
    [
      element('th', element('bdi', breakable(recipe)), scope='col', class_='recipe')
      for recipe in recipes
    ],
  )
  rows = [
    element('tr', run_heading(experiment, run), [cell(run, recipe) for recipe in recipes])
    for run in experiment['runs']
  ]
  columns = [
    [cells[run, recipe] for run in experiment['runs'] if (run, recipe) in cells]
    for recipe in recipes
  ]
  counts = [words.clips_of(column).removesuffix(' clips').removesuffix(' clip')
            for column in columns]  # fmt: skip
  foot = element('tr', element('th', 'clips', scope='row'), [element('td', n) for n in counts])
  if len(set(counts)) > 1:
    remark += (
      '; the columns are of different clips, because some have no masks or no partner: compare'
      ' down a column, not along a row'
    )
  table = element(
    'table',
    element('caption', title),
    element('thead', head),
    element('tbody', rows),
    element('tfoot', foot) if any(counts) else None,
    class_='heat',
  )
  key = element('p', element('span', legend, class_='scale-key'), ' ', remark, class_='key')
  return join(tables.scrolling(table, width(experiment), len(recipes)), key)


def width(experiment: dict[str, Any]) -> float:
  """About how wide a heat map is, in rem."""
  return 7.5 + 2.9 * len(experiment['recipes'])


def run_heading(experiment: dict[str, Any], run: str) -> Markup:
  """A row's heading: the run's name, what it is as a tooltip, a mark at the baseline."""
  mark = element('small', ' baseline') if run == experiment['baseline'] else None
  about = experiment['runs'][run]['about']
  return element('th', element('bdi', breakable(run)), mark, scope='row', title=about or None)
