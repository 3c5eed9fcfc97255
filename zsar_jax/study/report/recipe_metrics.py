"""Tables of the metrics that compare recipes: the order of frames, resistance, chiral pairs."""

from collections.abc import Iterator, Sequence
from typing import Any

from zsar_jax.recipes.language import ORDER_EFFECTS
from zsar_jax.study.report import metric_labels, tables
from zsar_jax.study.report.study_file import Estimate

_ORDERS = {'reverse': 'reversed', 'shuffle': 'shuffled', 'freeze': 'one frame repeated'}


def order(experiment: dict[str, Any], dataset: dict[str, Any]) -> dict[str, tables.Table] | None:
  """Returns a table of each metric of order: groups are orders, rows runs, columns paintings.

  None if no recipe was evaluated in two orders.
  """
  contents = {}
  for metric, label in metric_labels.ORDER.items():
    by_effect: dict[str, dict[str, dict[str, Estimate]]] = {}
    for painting, effect, recipe in _order_changes(experiment['recipes']):
      if by_run := _estimates(experiment, dataset, f'{metric}[{recipe}]'):
        by_effect.setdefault(effect, {})[painting] = by_run
    if by_effect:
      painted = {painting for by_painting in by_effect.values() for painting in by_painting}
      columns = [recipe for recipe in experiment['recipes'] if recipe in painted]
      groups = {
        _ORDERS[effect]: _rows(experiment, by_effect[effect], columns)
        for effect in ORDER_EFFECTS
        if effect in by_effect
      }
      contents[metric] = tables.Table(_caption(label), columns, groups, 'run')
  return contents or None


def by_recipe(
  experiment: dict[str, Any], dataset: dict[str, Any]
) -> dict[str, tables.Table] | None:
  """Returns a table of each other metric of recipes: rows are runs, columns recipes.

  Chiral pairs have a second table by group. None if there is none of these metrics.
  """
  contents = {}
  for metric, label in metric_labels.BY_RECIPE.items():
    by_recipe = {
      recipe: by_run
      for recipe in experiment['recipes']
      if (by_run := _estimates(experiment, dataset, f'{metric}[{recipe}]'))
    }
    if by_recipe:
      rows = _rows(experiment, by_recipe, list(by_recipe))
      contents[metric] = tables.Table(_caption(label), list(by_recipe), {'': rows}, 'run')
  if by_group := _chiral_groups(experiment, dataset):
    contents['chiral_groups'] = by_group
  return contents or None


def _chiral_groups(experiment: dict[str, Any], dataset: dict[str, Any]) -> tables.Table | None:
  """Returns the accuracy of each group of chiral pairs on unpainted clips; None without any."""
  by_run = dataset['chiral_groups']
  groups = dict.fromkeys(group for of_run in by_run.values() for group in of_run)
  runs = list(experiment['runs'])
  rows = [(group, [_cell(by_run.get(run, {}).get(group)) for run in runs]) for group in groups]
  caption = 'Chiral pairs by group: how often an action ranks before its reversal'
  caption += ' in unpainted clips, %, with 95\u00a0% intervals'
  return tables.Table(caption, runs, {'': rows}, 'group') if rows else None


def of_run(experiment: dict[str, Any], dataset: dict[str, Any], run: str) -> tables.Table | None:
  """Returns a table of these metrics of a run: rows are recipes, columns metrics; None if empty."""
  metrics = dataset['bias'].get(run, {})
  labels = {
    metric: label
    for metric, label in (metric_labels.ORDER | metric_labels.BY_RECIPE).items()
    if any(f'{metric}[{recipe}]' in metrics for recipe in experiment['recipes'])
  }
  rows = [
    (recipe, [_cell(metrics.get(f'{metric}[{recipe}]')) for metric in labels])
    for recipe in experiment['recipes']
    if any(f'{metric}[{recipe}]' in metrics for metric in labels)
  ]
  if not rows:
    return None
  caption = 'What changes with the order of frames and with paint, %, with 95\u00a0% intervals'
  columns = [f'{label.title} {label.arrow}'.rstrip() for label in labels.values()]
  return tables.Table(caption, columns, {'': rows}, 'recipe')


def _order_changes(recipes: Sequence[str]) -> Iterator[tuple[str, str, str]]:
  """Yields (painting, effect, recipe) as `order_metrics.order_changes`, from texts alone."""
  for recipe in recipes:
    painting, _, effect = f'none,{recipe}'.rpartition(',')
    if effect in ORDER_EFFECTS:
      yield painting.removeprefix('none,'), effect, recipe


def _estimates(
  experiment: dict[str, Any], dataset: dict[str, Any], name: str
) -> dict[str, Estimate]:
  """Returns a metric of each run that has it."""
  return {
    run: dataset['bias'][run][name]
    for run in experiment['runs']
    if name in dataset['bias'].get(run, {})
  }


def _rows(
  experiment: dict[str, Any], by_column: dict[str, dict[str, Estimate]], columns: list[str]
) -> list[tuple[str, list[tables.Cell]]]:
  """Returns a row for each run."""
  return [
    (run, [_cell(by_column.get(column, {}).get(run)) for column in columns])
    for run in experiment['runs']
  ]


def _cell(estimate: Estimate | None) -> tables.Cell:
  return None if estimate is None else tables.Value(estimate)


def _caption(label: metric_labels.Label) -> str:
  direction = f' ({label.arrow} {label.better} is better)' if label.better else ''
  return f'{label.title}{direction}: {label.meaning}, %, with 95\u00a0% intervals'
