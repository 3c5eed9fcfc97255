"""Lists of the gain of each class over the baseline run."""

import dataclasses
from typing import Any

from zsar_jax.study.report import axes, number_format, tables
from zsar_jax.study.report import drawing as draw
from zsar_jax.study.report.foreign_text import isolated, shortened, undirected
from zsar_jax.study.report.study_file import Estimate

# Classes of a run that the page shows unfolded: half of them the best, half the worst.
_OPEN_CLASSES = 20

# Classes that the lists of a page draw together, so that the page opens fast.
_DRAWN_CLASSES = 6000

# Classes that the tables of a page list together.
_LISTED_CLASSES = 2000

# Where bars begin and end, in pixels.
_BARS = (162, 304)

_Entries = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class GainList:
  """The gains of a run's classes, largest first.

  Attributes:
    run: its name.
    caption: how many classes gain.
    top, middle, bottom: the entries of `classes_gain`; `middle` is folded away. A short list has
      them all in `top`.
    middle_count: the number of classes between `top` and `bottom`, also of those not drawn.
    numbers: the gains with their intervals.
  """

  run: str
  caption: str
  top: _Entries
  middle: _Entries
  bottom: _Entries
  middle_count: int
  numbers: tables.Table | None


@dataclasses.dataclass(frozen=True)
class GainLists:
  """The lists of a data set, and the axis that they share."""

  lists: list[GainList]
  axis: axes.Axis

  def drawing(self, entries: _Entries, text: str) -> draw.Drawing:
    """Draws classes, one below the other: the name, and a bar about a line for 0.

    Args:
      entries: some entries of a list.
      text: what they are.
    """
    height = 17 * len(entries)

    def x(value: float) -> float:
      return round(self.axis.position(value, *_BARS))

    marks: list[draw.Mark] = [
      draw.line(x(tick), 0, x(tick), height, 'grid' if tick else 'zero') for tick in self.axis.ticks
    ]
    marks += [
      draw.Text(x(tick), height + 12, number_format.short_points(tick), anchor='middle')
      for tick in (self.axis.low, 0, self.axis.high)
      if tick == 0 or abs(x(tick) - x(0)) > 30
    ]
    for number, entry in enumerate(entries):
      gain, y = entry['gain'], 17 * number
      name = f'{shortened(undirected(entry["class"]), 20)} ({entry["count"]})'
      row: list[draw.Mark] = [draw.Text(_BARS[0] - 10, y + 12, name, 'label', 'end')]
      if gain['value'] is None:
        row.append(draw.Text(x(0) + 18, y + 12, number_format.MISSING, 'label'))
      else:
        start, end = sorted((x(0), x(gain['value'])))
        row.append(draw.Rect(start, y + 3, end - start, 11, _look(gain)))
        if None not in (gain['low'], gain['high']):
          row.append(draw.line(x(gain['low']), y + 8.5, x(gain['high']), y + 8.5, 'whisker'))
      marks.append(draw.Group(_tooltip(entry), row))
    return draw.Drawing(draw.COLUMN, height + 16, text, marks)


def gain_lists(
  experiment: dict[str, Any], dataset: dict[str, Any], list_count: int
) -> GainLists | None:
  """A list for each run; None without gains.

  Args:
    experiment: the experiment of the data set.
    dataset: the data set, with `classes_gain`.
    list_count: how many lists the page has; each draws its share of the classes.
  """
  by_run = {
    run: sorted(dataset['classes_gain'][run], key=_gain_key, reverse=True)
    for run in experiment['runs']
    if dataset['classes_gain'].get(run)
  }
  if not by_run:
    return None
  gains = [entry['gain'] for entries in by_run.values() for entry in entries]
  ends = [gain[end] for gain in gains for end in ('low', 'value', 'high')]
  return GainLists(
    [_gain_list(run, entries, list_count) for run, entries in by_run.items()],
    axes.axis(ends, ticks=8, min_span=0.1),
  )


def _gain_list(run: str, entries: _Entries, list_count: int) -> GainList:
  better = sum((entry['gain']['value'] or 0.0) > 0 for entry in entries)
  classes = number_format.counted(len(entries), 'class', 'classes')
  caption = f'{better} of {classes} gain. In points; the number of clips in brackets.'
  half = _OPEN_CLASSES // 2
  top, middle, bottom = entries, [], []
  if len(entries) > _OPEN_CLASSES:
    top, middle, bottom = entries[:half], entries[half:-half], entries[-half:]
  listed = _ends(entries, max(_OPEN_CLASSES, _LISTED_CLASSES // list_count))
  rows = [(entry['class'], entry['gain'] | {'count': entry['count']}) for entry in listed]
  return GainList(
    run=run,
    caption=caption,
    top=top,
    middle=_ends(middle, max(0, _DRAWN_CLASSES // list_count - _OPEN_CLASSES)),
    bottom=bottom,
    middle_count=len(middle),
    numbers=tables.estimate_table(
      f'Gain of each class over the baseline, {isolated(run)}', {'': rows}, tables.POINTS
    ),
  )


def _ends(entries: _Entries, limit: int) -> _Entries:
  """The first and the last entries, `limit` in all."""
  if len(entries) <= limit:
    return entries
  half = limit // 2
  return entries[:half] + entries[len(entries) - half :]


def _gain_key(entry: dict[str, Any]) -> tuple[bool, float]:
  value = entry['gain']['value']
  return (value is not None, value or 0.0)


def _tooltip(entry: dict[str, Any]) -> str:
  """The accuracies of a class, its gain with interval, and its clips."""
  gain = entry['gain']
  return (
    f'{isolated(entry["class"])}: {number_format.percent(entry["baseline"])}\u00a0% to'
    f' {number_format.percent(entry["accuracy"])}\u00a0%,'
    f' {number_format.points(gain["value"])} points'
    f' ({number_format.interval(gain, number_format.points)}),'
    f' {number_format.counted(entry["count"], "clip")}'
  )


def _look(gain: Estimate) -> str:
  """The look of a gain's bar."""
  if not number_format.interval_excludes_zero(gain):
    return 'unsure'
  return 'more' if gain['value'] > 0 else 'less'
