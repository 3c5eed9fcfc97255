"""Bar charts of bias metrics, of kinds of clips and of the gradient's regions."""

import dataclasses
from typing import Any

from zsar_jax.study.report import axes, metric_labels, number_format
from zsar_jax.study.report.study_file import Estimate

REGIONS = ('person', 'object', 'background')


@dataclasses.dataclass(frozen=True)
class BarChart:
  """A chart with a bar for each run.

  Attributes:
    estimates: {run: the rate that its bar shows}.
    axis: begins at 0 and includes 1.
    counts_differ: whether the rates are of different numbers of clips.
    key: the number of clips, and what the dashed line means.
  """

  estimates: dict[str, Estimate]
  axis: axes.Axis
  counts_differ: bool
  key: str


def _bar_chart(estimates: dict[str, Estimate]) -> BarChart:
  ends = [
    estimate.get(field) for estimate in estimates.values() for field in ('value', 'high', 'chance')
  ]
  counts = number_format.clip_count(estimates.values())
  key = [counts] if counts else []
  chance = number_format.shared_chance(estimates.values())
  if chance is not None:
    key.append(f'dashed: chance, {number_format.percent(chance)}\u00a0%')
  elif any(estimate.get('chance') is not None for estimate in estimates.values()):
    key.append('dashed: chance, which depends on the accuracy on unpainted clips')
  return BarChart(estimates, axes.axis([1.0, *ends]), ' to ' in counts, '; '.join(key))


@dataclasses.dataclass(frozen=True)
class Bias:
  """The bias metrics of a data set.

  Attributes:
    rates: (label, chart) of each rate.
    gaps: (label, {run: estimate}) of each gap, which a table shows.
    gaps_key: explains the table.
  """

  rates: list[tuple[metric_labels.Label, BarChart]]
  gaps: list[tuple[metric_labels.Label, dict[str, Estimate]]]
  gaps_key: str


def bias(experiment: dict[str, Any], dataset: dict[str, Any]) -> Bias | None:
  """The bias metrics of a data set; None if none was evaluated."""

  def estimates(metric: str) -> dict[str, Estimate]:
    return {
      run: dataset['bias'][run][metric]
      for run in experiment['runs']
      if metric in dataset['bias'].get(run, {})
    }

  rates = [
    (label, _bar_chart(by_run))
    for metric, label in metric_labels.RATES.items()
    if (by_run := estimates(metric))
  ]
  gaps = [
    (label, by_run) for metric, label in metric_labels.GAPS.items() if (by_run := estimates(metric))
  ]
  if not rates and not gaps:
    return None
  counts = number_format.clip_count(
    estimate for _, by_run in gaps for estimate in by_run.values() if estimate['value'] is not None
  )
  meanings = '; '.join(f'{label.title}: {label.meaning}' for label, _ in gaps)
  return Bias(
    rates, gaps, f'With 95\u00a0% intervals; {counts}. {meanings}. At 0, neither is ahead.'
  )


def strata(
  experiment: dict[str, Any], dataset: dict[str, Any]
) -> list[tuple[str, str, BarChart]] | None:
  """Top-1 by attribute of the clips: (attribute, its value, chart)."""
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
    charts.append((attribute, value, _bar_chart(estimates)))
  return charts or None


@dataclasses.dataclass(frozen=True)
class RegionShares:
  """The shares of the input gradient of a run on the regions.

  Attributes:
    run: its name.
    gradient: {region: its share of the gradient's magnitude}.
    pixels: {region: its share of the pixels}.
    text: the shares with their intervals, for the tooltip.
    caption: the same, below the bars.
    pixels_text: the shares of the pixels.
  """

  run: str
  gradient: dict[str, float]
  pixels: dict[str, float]
  text: str
  caption: str
  pixels_text: str


def saliency(experiment: dict[str, Any], dataset: dict[str, Any]) -> list[RegionShares] | None:
  """Returns the regions of the input gradient of each run; None if it was not computed."""
  rows = [
    _region_shares(run, dataset['saliency'][run])
    for run in experiment['runs']
    if run in dataset['saliency']
  ]
  return [row for row in rows if row.gradient] or None


def _region_shares(run: str, estimates: dict[str, Any]) -> RegionShares:
  gradient = {
    region: estimates[region] for region in REGIONS if estimates[region]['value'] is not None
  }
  pixels = {region: share for region in REGIONS if (share := estimates['area'][region]) is not None}
  gradient_text = ', '.join(
    f'{region} {number_format.percent(estimate["value"])} ({number_format.interval(estimate)})'
    for region, estimate in gradient.items()
  )
  pixels_text = ', '.join(
    f'{region} {number_format.percent(share)}\u00a0%' for region, share in pixels.items()
  )
  caption = f'Gradient, %: {gradient_text}. Pixels: {pixels_text}.'
  if counts := number_format.clip_count(gradient.values()):
    caption += f' {counts}.'
  return RegionShares(
    run=run,
    gradient={region: estimate['value'] for region, estimate in gradient.items()},
    pixels=pixels,
    text=', '.join(
      f'{region} {number_format.full_text(estimate)}' for region, estimate in gradient.items()
    ),
    caption=caption,
    pixels_text=pixels_text,
  )
