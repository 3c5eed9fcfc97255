"""Bias metrics and kinds of clips, as bar charts and tables."""

import dataclasses
from typing import Any

from zsar_jax.study.report import axes, metric_labels, number_format, tables
from zsar_jax.study.report import drawing as draw
from zsar_jax.study.report.foreign_text import isolated
from zsar_jax.study.report.study_file import NO_ESTIMATE, Estimate

# Columns of a chart: names end, bars begin and end, and numbers begin, in pixels.
_NAMES, _BARS, _NUMBERS = 96, (106, 246), 258


@dataclasses.dataclass(frozen=True)
class BarChart:
  """A chart with a bar for each run.

  Attributes:
    title: what it shows.
    baseline: the run whose bar is gray.
    estimates: {run: the rate that its bar shows}.
    axis: includes 0, 1 and all intervals.
    counts_differ: whether the rates are of different numbers of clips.
    key: the number of clips, and what the dashed line means.
  """

  title: str
  baseline: str
  estimates: dict[str, Estimate]
  axis: axes.Axis
  counts_differ: bool
  key: str

  @property
  def drawing(self) -> draw.Drawing:
    """A row for each run with its name, bar, value and interval, and the axis below."""
    height = 36 if self.counts_differ else 26
    total = height * len(self.estimates)
    marks: list[draw.Mark] = [
      draw.line(x, 0, x, total, 'grid' if tick else 'zero')
      for tick in self.axis.ticks
      for x in [self._x(tick)]
    ]
    for number, (run, estimate) in enumerate(self.estimates.items()):
      row = self._row(run, estimate, height * number + height / 2)
      marks.append(draw.Group(f'{isolated(run)}: {number_format.full_text(estimate)}', row))
    marks += [
      draw.Text(self._x(tick), total + 11, number_format.integer_percent(tick), anchor='middle')
      for tick in self.axis.ticks
    ]
    marks.append(draw.Text(_NUMBERS, total + 11, '%'))
    rows = (
      f'{isolated(run)} {number_format.full_text(estimate)}'
      for run, estimate in self.estimates.items()
    )
    return draw.Drawing(draw.COLUMN, total + 15, f'{self.title}: {"; ".join(rows)}', marks)

  def _x(self, value: float) -> float:
    return self.axis.position(value, *_BARS)

  def _row(self, run: str, estimate: Estimate, y: float) -> list[draw.Mark]:
    """The marks of a run, about a vertical position."""
    marks = draw.label(0, y, run, _NAMES)
    value, low, high = (estimate[end] for end in ('value', 'low', 'high'))
    if value is None:
      return [*marks, draw.Text(_NUMBERS, y + 4, number_format.MISSING, 'value')]
    start, end = sorted((self._x(0), self._x(value)))
    look = 'base' if run == self.baseline else 'run'
    marks.append(draw.Rect(start, y - 6, end - start, 12, look))
    if estimate.get('chance') is not None:
      x = self._x(estimate['chance'])
      text = f'chance: {number_format.percent(estimate["chance"])}\u00a0%'
      marks.append(draw.Group(text, [draw.line(x, y - 11, x, y + 11, 'chance')]))
    remarks = []
    if None not in (low, high):
      marks += draw.horizontal_whisker(self._x(low), self._x(high), y)
      remarks.append(number_format.interval(estimate))
    if self.counts_differ and estimate['count'] is not None:
      remarks.append(number_format.clip_count([estimate]))
    # The value and what is below it are centered about the row.
    y -= 5 * len(remarks)
    marks.append(draw.Text(_NUMBERS, y + 4, number_format.percent(value), 'value'))
    for number, remark in enumerate(remarks, start=1):
      marks.append(draw.Text(_NUMBERS, y + 4 + 10.5 * number, remark, 'small'))
    return marks


def bar_chart(title: str, baseline: str, estimates: dict[str, Estimate]) -> BarChart:
  """A chart of the rates of some runs; `BarChart` describes the arguments."""
  fields = ('value', 'low', 'high', 'chance')
  ends = [estimate.get(field) for estimate in estimates.values() for field in fields]
  counts = number_format.clip_count(estimates.values())
  key = [counts] if counts else []
  chance = number_format.shared_chance(estimates.values())
  if chance is not None:
    key.append(f'dashed: chance, {number_format.percent(chance)}\u00a0%')
  elif any(estimate.get('chance') is not None for estimate in estimates.values()):
    key.append('dashed: chance, which depends on the accuracy on unpainted clips')
  return BarChart(
    title, baseline, estimates, axes.axis([1.0, *ends]), ' to ' in counts, '; '.join(key)
  )


@dataclasses.dataclass(frozen=True)
class Bias:
  """The bias metrics of a data set.

  Attributes:
    rates: (label, chart) of each rate.
    gaps: (label, {run: estimate}) of each metric that is no rate.
    table: all metrics; a column for each run.
    gaps_key: explains the gaps; empty without any.
  """

  rates: list[tuple[metric_labels.Label, BarChart]]
  gaps: list[tuple[metric_labels.Label, dict[str, Estimate]]]
  table: tables.Table
  gaps_key: str


def bias(experiment: dict[str, Any], dataset: dict[str, Any]) -> Bias | None:
  """The bias metrics of a data set; None if none was evaluated."""

  def by_label(labels: dict[str, metric_labels.Label]) -> dict[metric_labels.Label, Any]:
    return {
      label: {
        run: dataset['bias'][run][metric]
        for run in experiment['runs']
        if metric in dataset['bias'].get(run, {})
      }
      for metric, label in labels.items()
      if any(metric in of_run for of_run in dataset['bias'].values())
    }

  rates, gaps = by_label(metric_labels.RATES), by_label(metric_labels.GAPS)
  if not rates and not gaps:
    return None

  def rows(
    metrics: dict[metric_labels.Label, Any], unit: tables.Unit
  ) -> list[tuple[str, list[tables.Cell]]]:
    return [
      (
        f'{label.title} {label.arrow}',
        [tables.Value(by_run.get(run, NO_ESTIMATE), unit) for run in experiment['runs']],
      )
      for label, by_run in metrics.items()
    ]

  groups = {'Rates, %': rows(rates, tables.PERCENT), 'Gaps': rows(gaps, tables.NUMBER)}
  counts = number_format.clip_count(
    estimate
    for of_run in gaps.values()
    for estimate in of_run.values()
    if estimate['value'] is not None
  )
  meanings = '; '.join(f'{label.title}: {label.meaning}' for label in gaps)
  return Bias(
    [
      (label, bar_chart(label.title, experiment['baseline'], by_run))
      for label, by_run in rates.items()
    ],
    list(gaps.items()),
    tables.Table(
      'Bias metrics, with 95\u00a0% intervals',
      list(experiment['runs']),
      {group: entries for group, entries in groups.items() if entries},
      'metric',
    ),
    f'Gaps are over {counts}. {meanings}. At 0, neither is ahead.' if gaps else '',
  )


@dataclasses.dataclass(frozen=True)
class Strata:
  """Top-1 by attribute of the clips.

  Attributes:
    charts: (attribute, its value, chart).
    table: all numbers.
  """

  charts: list[tuple[str, str, BarChart]]
  table: tables.Table


def strata(experiment: dict[str, Any], dataset: dict[str, Any]) -> Strata | None:
  """Top-1 by attribute of the clips; None without attributes."""
  groups = {
    (attribute, value): None
    for of_run in dataset['strata'].values()
    for attribute, values in of_run.items()
    for value in values
  }
  charts = []
  for attribute, value in groups:
    estimates = {
      run: dataset['strata'][run][attribute][value]
      for run in experiment['runs']
      if value in dataset['strata'].get(run, {}).get(attribute, {})
    }
    title = f'Top-1, {isolated(attribute)}: {isolated(value)}'
    charts.append((attribute, value, bar_chart(title, experiment['baseline'], estimates)))
  if not charts:
    return None
  table = tables.Table(
    'Top-1 of unpainted clips by their attributes, %, with 95\u00a0% intervals',
    list(experiment['runs']),
    {
      '': [
        (
          f'{attribute}: {value}',
          [tables.Value(chart.estimates.get(run, NO_ESTIMATE)) for run in experiment['runs']],
        )
        for attribute, value, chart in charts
      ]
    },
    'clips',
  )
  return Strata(charts, table)
