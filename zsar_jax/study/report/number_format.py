"""Formats the numbers of the report as text."""

import datetime
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from zsar_jax.study.report.study_file import Estimate

# Stands for a number that cannot be computed, and the reason for it.
MISSING = '\u2013'
WHY_MISSING = 'cannot be computed: no clip counts, nothing to divide by, or not evaluated'

# Formats a value of an estimate, such as `percent` or `points`.
Formatter = Callable[[float | None], str]


def percent(value: float | None) -> str:
  """A fraction in percent, without the sign: '83.3'."""
  return MISSING if value is None else _number(f'{100 * value:.1f}')


def points(value: float | None) -> str:
  """A difference of fractions in percentage points, with its sign: '+32.5'."""
  return MISSING if value is None else _number(f'{100 * value:+.1f}')


def decimal(value: float | None) -> str:
  """A number that is not a fraction: '1.50'."""
  return MISSING if value is None else _number(f'{value:.2f}')


def short_points(value: float) -> str:
  """A difference in points with as few digits as possible, for an axis: '+30'."""
  return _number(f'{100 * value:+.3g}')


def integer_percent(value: float) -> str:
  """A fraction in percent without decimals, for an axis: '30'."""
  return f'{100 * value:.0f}'


def short_decimal(value: float) -> str:
  """A number with as few digits as possible, for an axis: '12000', '0.5'."""
  return f'{value:.7g}'


def p_value(value: float | None) -> str:
  """A p-value: '0.02'."""
  return MISSING if value is None else f'{value:.2g}'


def _number(text: str) -> str:
  """Writes a minus sign for a hyphen, and 0 without a sign."""
  return text.lstrip('+-') if float(text) == 0 else text.replace('-', '\u2212')


def listed(values: Iterable[float | None], formatter: Formatter = percent) -> str:
  """Values such as those of the seeds: '25.0, 40.0'."""
  return ', '.join(map(formatter, values))


def interval(estimate: Estimate, formatter: Formatter = percent) -> str:
  """The interval of an estimate: '25.0 to 40.0'; empty without one."""
  if estimate['low'] is None or estimate['high'] is None:
    return ''
  return f'{formatter(estimate["low"])}\u00a0to\u00a0{formatter(estimate["high"])}'


def interval_excludes_zero(estimate: Estimate) -> bool:
  """Returns whether the estimate has a value and its interval does not include 0."""
  low, high = estimate['low'], estimate['high']
  return None not in (estimate['value'], low, high) and (low > 0 or high < 0)


def full_text(estimate: Estimate, formatter: Formatter = percent, unit: str = '\u00a0%') -> str:
  """An estimate for a tooltip: value, interval, values of the seeds, clips, chance, p-value."""
  if estimate['value'] is None:
    return WHY_MISSING
  remarks = []
  if interval_text := interval(estimate, formatter):
    remarks.append(f'95\u00a0% interval {interval_text}')
  if len(estimate['per_seed']) > 1:
    remarks.append(f'seeds {listed(estimate["per_seed"], formatter)}')
  if estimate['count'] is not None:
    remarks.append(counted(estimate['count'], 'clip'))
  if estimate.get('chance') is not None:
    remarks.append(f'chance {formatter(estimate["chance"])}{unit}')
  if estimate.get('p') is not None:
    remarks.append(f'p\u00a0=\u00a0{p_value(estimate["p"])}')
  value = f'{formatter(estimate["value"])}{unit}'
  return f'{value} ({"; ".join(remarks)})' if remarks else value


def counted(number: int, singular: str, plural: str = '') -> str:
  """A number and its noun: '1 run', '2 runs'."""
  noun = singular if number == 1 else plural or f'{singular}s'
  return f'{number:,} {noun}'.replace(',', '\u202f')


def clip_range(estimates: Iterable[Estimate]) -> str:
  """The number of clips of each estimate: '160', '150 to 160'; empty if unknown."""
  counts = [estimate['count'] for estimate in estimates if estimate['count'] is not None]
  if not counts:
    return ''
  low, high = (f'{count:,}'.replace(',', '\u202f') for count in (min(counts), max(counts)))
  return low if low == high else f'{min(counts)} to {high}'


def clip_count(estimates: Iterable[Estimate]) -> str:
  """The number of clips of each estimate: '160 clips', '150 to 160 clips'; empty if unknown."""
  text = clip_range(estimates)
  return text and f'{text} {"clip" if text == "1" else "clips"}'


def shared_chance(estimates: Iterable[Estimate]) -> float | None:
  """The chance level of all estimates; None if one has none, or if they differ."""
  levels: list[Any] = [
    estimate.get('chance') for estimate in estimates if estimate['value'] is not None
  ]
  if not levels or None in levels:
    return None
  # A third of 160 clips and of 156 differ in their last bits.
  return levels[0] if max(levels) - min(levels) < 1e-9 else None


def seed_name(seeds: Sequence[int], index: int) -> str:
  """The name of the training at an index of a study's trainings: 'seed 4'."""
  return f'seed {seeds[index]}' if index < len(seeds) else f'training {index + 1}'


def minute(text: str) -> str:
  """An ISO time to the minute; any other text unchanged."""
  try:
    return datetime.datetime.fromisoformat(text).strftime('%Y-%m-%d %H:%M %Z').strip()
  except ValueError:
    return text
