"""Tables of the figures of verbs and objects, see `evaluation.pair_metrics`."""

from typing import Any

from zsar_jax.study.report import tables

_WORLDS = {'closed': 'Closed world', 'open': 'Open world'}

# The figures of the table, with their headings, in the order of the columns.
_ACCURACIES = {
  'seen_pair': 'seen pairs',
  'unseen_pair': 'unseen pairs',
  'hm_pair': 'harmonic mean',
  'unseen_verb': 'verb, unseen',
  'unseen_object': 'object, unseen',
}
_GAPS = {'seen_gap': 'gap, seen', 'unseen_gap': 'gap, unseen'}
_ERRORS = {
  'fsp': 'FSP',
  'fcp': 'FCP',
  'fcp_verb': 'FCP by the object',
  'fcp_object': 'FCP by the verb',
}


def pair_tables(
  experiment: dict[str, Any], dataset: dict[str, Any]
) -> dict[str, tables.Table] | None:
  """Returns a table for each world that was scored: groups are recipes, rows are runs."""
  contents = {
    world: tables.Table(
      f'{_WORLDS[world]}, %, gaps in points, with 95\u00a0% intervals',
      [*_ACCURACIES.values(), *_GAPS.values(), *_ERRORS.values()],
      {
        recipe: rows
        for recipe in experiment['recipes']
        if (
          rows := [
            (run, _cells(by_run[run][recipe]))
            for run in experiment['runs']
            if recipe in by_run.get(run, {})
          ]
        )
      },
      'run',
    )
    for world, by_run in dataset['pairs'].items()
    if world in _WORLDS
  }
  return contents or None


def _cells(figures: dict[str, Any]) -> list[tables.Cell]:
  def cell(name: str, unit: tables.Unit) -> tables.Cell:
    return tables.Value(figures[name], unit) if name in figures else None

  return [
    *(cell(name, tables.PERCENT) for name in _ACCURACIES),
    *(cell(name, tables.POINTS) for name in _GAPS),
    *(cell(name, tables.PERCENT) for name in _ERRORS),
  ]
