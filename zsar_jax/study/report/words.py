"""Numbers of the report as texts, and what its metrics mean."""

import dataclasses
import datetime
from collections.abc import Iterable, Sequence

from zsar_jax.study.report import markup
from zsar_jax.study.report import results as studies

# What stands for a number that cannot be computed, and why.
MISSING = '\u2013'
WHY_MISSING = 'cannot be computed: no clip counts, nothing to divide by, or not evaluated'

ACCURACIES = {'top1': 'top-1', 'top5': 'top-5', 'mean_class': 'mean class'}


@dataclasses.dataclass(frozen=True)
class Metric:
  """How a bias metric is shown.

  Attributes:
    title: its name.
    better: 'lower' or 'higher', which is the better direction.
    meaning: what it counts.
  """

  title: str
  better: str
  meaning: str


RATES = {
  'BOR': Metric(
    'BOR, background only',
    'lower',
    'accuracy with the people painted over, as a share of the accuracy on unpainted clips',
  ),
  'HOR': Metric(
    'HOR, human only',
    'higher',
    'accuracy with the background painted over, as a share of the accuracy on unpainted clips',
  ),
  'SHAcc': Metric(
    'SHAcc, swapped background',
    'higher',
    'how often the action is named in front of the background of another clip',
  ),
  'SBErr': Metric(
    'SBErr, swapped background',
    'lower',
    "how often the background clip's class is named instead of the action",
  ),
  'background_wins': Metric(
    'Background wins', 'lower', "how often the background clip's class ranks before the action"
  ),
  'SCUBA': Metric('SCUBA', 'higher', 'how often the action is named in front of stripes'),
  'SCUFO': Metric(
    'SCUFO', 'lower', 'how often it is named in front of stripes from one repeated frame'
  ),
  'contrasted': Metric(
    'Contrasted accuracy', 'higher', 'how often a clip is right in SCUBA and wrong in SCUFO'
  ),
  'recolour': Metric(
    'Recolor consistency',
    'higher',
    'how often the answer is the same for two colors of the background',
  ),
}
GAPS = {
  'rank_gap': Metric(
    'Rank gap', 'lower', "rank of the action minus rank of the background clip's class"
  ),
  'score_gap': Metric(
    'Score gap', 'higher', "logit of the action minus logit of the background clip's class"
  ),
}


def percent(value: float | None) -> str:
  """A fraction in percent, without the sign: '83.3'."""
  return MISSING if value is None else _unsigned_zero(f'{100 * value:.1f}').replace('-', '\u2212')


def points(value: float | None) -> str:
  """A difference of fractions in points, with its sign: '+32.5'."""
  if value is None:
    return MISSING
  text = _unsigned_zero(f'{100 * value:+.1f}')
  return text.replace('-', '\u2212')


def short_points(value: float) -> str:
  """A difference in points as short as it can be, for an axis: '+30'."""
  return _unsigned_zero(f'{100 * value:+.3g}').replace('-', '\u2212')


def whole_percent(value: float) -> str:
  """A fraction in whole percent, for an axis."""
  return f'{100 * value:.0f}'


def compact(value: float) -> str:
  """A number as short as it can be, for an axis: '12000', '0.5'."""
  return f'{value:.7g}'


def plain(value: float | None) -> str:
  """A number that is no fraction."""
  return MISSING if value is None else _unsigned_zero(f'{value:.2f}').replace('-', '\u2212')


def _unsigned_zero(text: str) -> str:
  return text.lstrip('+-') if float(text) == 0 else text


def interval(estimate: studies.Estimate, write=percent) -> str:
  """'25.0 to 40.0', or nothing where there is none."""
  if estimate['low'] is None or estimate['high'] is None:
    return ''
  return f'{write(estimate["low"])}\u00a0to\u00a0{write(estimate["high"])}'


def in_full(estimate: studies.Estimate, write=percent, unit: str = '\u00a0%') -> str:
  """An estimate in full, for a tooltip: value, interval, each seed's, count of clips."""
  if estimate['value'] is None:
    return WHY_MISSING
  parts = []
  if between := interval(estimate, write):
    parts.append(f'95\u00a0% interval {between}')
  if len(estimate['per_seed']) > 1:
    parts.append('seeds ' + ', '.join(map(write, estimate['per_seed'])))
  if estimate['count'] is not None:
    parts.append(counted(estimate['count'], 'clip'))
  if estimate['chance'] is not None:
    parts.append(f'chance {write(estimate["chance"])}{unit}')
  if estimate['p'] is not None:
    parts.append(p_value(estimate['p']))
  return f'{write(estimate["value"])}{unit}' + (f' ({"; ".join(parts)})' if parts else '')


def p_value(value: float | None) -> str:
  """The p-value of "no gain": 'p = 0.02'."""
  return f'p\u00a0=\u00a0{MISSING if value is None else f"{value:.2g}"}'


def clips_of(estimates: Iterable[studies.Estimate]) -> str:
  """How many clips some numbers are of: '160 clips', '150 to 160 clips'; '' if unknown."""
  counts = [estimate['count'] for estimate in estimates if estimate['count'] is not None]
  if not counts:
    return ''
  least, most = min(counts), max(counts)
  return counted(most, 'clip') if least == most else f'{least} to {counted(most, "clip")}'


def chance_of(estimates: Iterable[studies.Estimate]) -> float | None:
  """The chance level that some numbers share; None where there is none, or more than one."""
  levels = [estimate['chance'] for estimate in estimates if estimate['value'] is not None]
  if not levels or None in levels:
    return None
  # A third of 160 clips and of 156 is not the same to the last bit.
  return levels[0] if max(levels) - min(levels) < 1e-9 else None


def seed(seeds: Sequence[int], place: int) -> str:
  """The name of a study's training at a place: 'seed 4'."""
  return f'seed {seeds[place]}' if place < len(seeds) else f'training {place + 1}'


def certain(estimate: studies.Estimate) -> bool:
  """Whether there is an estimate, and its interval leaves 0 out."""
  low, high = estimate['low'], estimate['high']
  return None not in (estimate['value'], low, high) and (low > 0 or high < 0)


def isolated(text: str) -> str:
  """A foreign text for a tooltip, kept from turning the direction of what is around it."""
  return f'\u2068{markup.undirected(text)}\u2069'


def shortened(text: str, length: int) -> str:
  """The text, or its beginning and an ellipsis."""
  return text if len(text) <= length else f'{text[: length - 1]}\u2026'


def counted(number: int, one: str, many: str | None = None) -> str:
  """'1 run', '2 runs'."""
  return f'{number:,} {one if number == 1 else many or one + "s"}'.replace(',', '\u202f')


def moment(text: str) -> str:
  """An ISO time to the minute; any other text as it is."""
  try:
    return datetime.datetime.fromisoformat(text).strftime('%Y-%m-%d %H:%M %Z').strip()
  except ValueError:
    return text
