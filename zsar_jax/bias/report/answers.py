"""The cards at the top of the page: findings, and what each data set says of the model."""

from collections.abc import Sequence
from typing import Any

from zsar_jax.bias.report import charts, scales, words
from zsar_jax.bias.report.markup import Markup, breakable, element, join


def spoken(sentence: words.Sentence) -> Markup:
  """A sentence with what is the study's kept apart."""
  return join([_part(part) for part in sentence])


def _part(part: str) -> Markup | str:
  if isinstance(part, words.Name):
    return element('bdi', breakable(part), class_='name')
  return element('bdi', part) if isinstance(part, words.Foreign) else part


def finding(entry: dict[str, Any], seeds: Sequence[int]) -> Markup:
  """A finding's card."""
  estimate, holds = entry['estimate'], entry['holds']
  between = words.interval(estimate, words.points)
  values = [estimate['value'], estimate['low'], estimate['high'], entry['threshold']]
  axis = scales.axis([*values, *entry['per_seed']], least=0.02)
  return element(
    'article',
    element(
      'p',
      element('span', '\u2713 holds' if holds else '\u2717 does not hold', class_='badge'),
      ' ',
      element('bdi', entry['name'], class_='name'),
    ),
    element('h3', entry['statement']),
    element(
      'p',
      element('strong', words.points(estimate['value']), class_='big'),
      ' points',
      f', 95\u00a0% interval {between}' if between else None,
      class_='estimate',
    ),
    charts.dots(axis, estimate, entry['per_seed'], seeds, entry['threshold']),
    element(
      'p',
      'diamond: the estimate on its interval; dots: each seed; dashed: the threshold,'
      f' {words.points(entry["threshold"])}',
      class_='key',
    ),
    element('p', spoken(compared), class_='about') if (compared := words.sides(entry)) else None,
    element('p', entry['explanation']),
    class_=f'card finding {"yes" if holds else "no"}',
  )


def answer(experiment: dict[str, Any], name: str, dataset: dict[str, Any]) -> Markup | None:
  """Whether the model sees the action."""
  found = words.answer(experiment, name, dataset)
  if found is None:
    return None
  return element(
    'article',
    element('p', element('bdi', name, class_='name'), ' ', dataset['about'], class_='about'),
    element('h4', spoken(found.verdict)),
    [element('p', spoken(sentence)) for sentence in found.sentences],
    class_=f'card answer {found.kind}',
  )
