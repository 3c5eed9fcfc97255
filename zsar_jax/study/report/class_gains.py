"""The gain of each class over the baseline run, a list for each run."""

from typing import Any

from zsar_jax.study.report import plots, scales, sections, tables, words
from zsar_jax.study.report.markup import Markup, element

# Classes of a run that stand open on the page, half of them the best, half the worst.
_OPEN_CLASSES = 20

# Classes that are drawn on a page in all, so that it opens fast: each list has its share.
_DRAWN_CLASSES = 6000

# Classes whose numbers stand in tables on a page in all.
_LISTED_CLASSES = 2000


def classes(experiment: dict[str, Any], dataset: dict[str, Any], lists: int = 1) -> Markup | None:
  """Each class's gain over the baseline run, a list for each run.

  Args:
    experiment, dataset: whose.
    lists: how many lists the page has in all.
  """
  found = {run: entries for run, entries in dataset['classes_gain'].items() if entries}
  if not found:
    return None
  everything = [entry['gain'] for entries in found.values() for entry in entries]
  ends = [gain[end] for gain in everything for end in ('low', 'value', 'high')]
  axis = scales.axis(ends, ticks=8, least=0.1)
  cards = []
  for run in experiment['runs']:
    if run in found:
      entries = sorted(found[run], key=_gain_key, reverse=True)
      better = sum((entry['gain']['value'] or 0.0) > 0 for entry in entries)
      text = (
        f'{better} of {words.counted(len(entries), "class", "classes")} gain. In points; the'
        ' number of clips in brackets.'
      )
      content = _gain_lists(entries, axis, max(_OPEN_CLASSES, _DRAWN_CLASSES // lists))
      numbers = _gain_table(entries, max(_OPEN_CLASSES, _LISTED_CLASSES // lists))
      cards.append(sections.card(element('bdi', run), text, content, numbers))
  return element('div', cards, class_='charts')


def _gain_table(entries: list[dict[str, Any]], most: int) -> Markup | None:
  """The gains of a run with their intervals, folded away; the `most` best and worst classes."""
  if len(entries) > most:
    entries = entries[: most // 2] + entries[-(most // 2) :]
  rows = [(entry['class'], entry['gain'] | {'count': entry['count']}) for entry in entries]
  return tables.numbers({'': rows}, words.points, 'points')


def _gain_lists(entries: list[dict[str, Any]], axis: scales.Axis, most: int) -> list[Markup]:
  """The best and the worst classes, those in between folded away; `most` in all."""
  half = _OPEN_CLASSES // 2
  if len(entries) <= _OPEN_CLASSES:
    return [plots.gains(entries, axis, 'gains, largest first')]
  between = entries[half:-half]
  summary, note = f'{words.counted(len(between), "class", "classes")} in between', None
  left_out = len(entries) - most
  if left_out > 0:
    side = (len(between) - left_out) // 2
    between = between[:side] + between[len(between) - side :]
    note = element(
      'p', f'The middle {words.counted(left_out, "class", "classes")} are only in study.json.',
      class_='note',
    )  # fmt: skip
  return [
    plots.gains(entries[:half], axis, f'the {half} largest gains'),
    element(
      'details',
      element('summary', summary),
      plots.gains(between, axis, 'the classes in between') if between else None,
      note,
    ),
    plots.gains(entries[-half:], axis, f'the {half} smallest gains or largest losses'),
  ]


def _gain_key(entry: dict[str, Any]) -> tuple[bool, float]:
  value = entry['gain']['value']
  return (value is not None, value or 0.0)
