"""The ranking of models on a data set: a chart, and the ranks by each figure."""

import dataclasses
from typing import Any

from zsar_jax.study import ranking
from zsar_jax.study.report import bar_charts, metric_labels, study_file, tables
from zsar_jax.study.report.foreign_text import isolated

# The figures that say best whether a model sees the action; the first that was measured orders the
# models.
_HEADLINES = ('SHAcc-SBErr', 'HOR-BOR', 'SHAcc', 'HOR')


@dataclasses.dataclass(frozen=True)
class Ranking:
  """The ranking of models on a data set.

  Attributes:
    title: the figure that orders the models.
    meaning: what it measures.
    order: the models, the best first.
    tied: the models that are not clearly worse than the best, the best included.
    chart: the figure of each model.
    table: the rank of each model by each figure.
  """

  title: str
  meaning: str
  order: list[str]
  tied: list[str]
  chart: bar_charts.BarChart
  table: tables.Table


def rankings(experiment: dict[str, Any], dataset: dict[str, Any]) -> Ranking | None:
  """The ranking on a data set; None if study.json has none."""
  by_figure = {entry['figure']: entry for entry in dataset['ranking']}
  if not by_figure:
    return None
  first = next((name for name in _HEADLINES if name in by_figure), next(iter(by_figure)))
  headline = by_figure[first]
  order = [entry['run'] for entry in headline['runs']]
  order += [run for run in experiment['runs'] if run not in order]
  chart = bar_charts.bar_chart(
    _title(headline),
    experiment['baseline'],
    {entry['run']: entry['estimate'] for entry in headline['runs']},
  )
  label = metric_labels.find_label(headline['figure'])
  # Ratios of accuracies at chance say nothing about bias.
  at_chance = {run for run in order if _is_at_chance(dataset, run)}
  return Ranking(
    _title(headline),
    label.meaning if label else '',
    order,
    [entry['run'] for entry in headline['runs'] if ranking.is_tied(entry)],
    chart,
    tables.Table(
      'Rank of each model by each figure; = is not clearly worse than the best'
      + ('; \u2020 is not clearly above chance on unpainted clips' if at_chance else ''),
      [f'{run} \u2020' if run in at_chance else run for run in order],
      {'': [(_title(entry), _ranks(entry, order)) for entry in by_figure.values()]},
      'figure',
    ),
  )


def rank_text(entry: dict[str, Any], run: str) -> str | None:
  """The rank of a run by a figure: '2', '2 =' if it is tied with the best; None without one."""
  for number, other in enumerate(entry['runs'], start=1):
    if other['run'] == run:
      return f'{number} =' if number > 1 and ranking.is_tied(other) else str(number)
  return None


def _is_at_chance(dataset: dict[str, Any], run: str) -> bool:
  top_1 = study_file.accuracy(dataset, run, 'none')
  low, chance = top_1['low'], top_1.get('chance')
  return None not in (low, chance) and low <= chance


def _ranks(entry: dict[str, Any], order: list[str]) -> list[tables.Cell]:
  return [rank_text(entry, run) for run in order]


def _title(entry: dict[str, Any]) -> str:
  label = metric_labels.find_label(entry['figure'])
  if label:
    return f'{label.title} {label.arrow}'
  recipe = entry['figure'].removeprefix(ranking.TOP_1.format(''))
  return f'Top-1, {isolated(recipe)} \u2191'
