"""The cards at the top of the page: findings, and what each data set says of the model."""

from typing import Any

from zsar_jax.study import statistics
from zsar_jax.study.report import charts, scales, sentences, words
from zsar_jax.study.report.markup import Markup, breakable, element, join


def spoken(sentence: sentences.Sentence) -> Markup:
  """A sentence with what is the study's kept apart."""
  return join([_part(part) for part in sentence])


def _part(part: str) -> Markup | str:
  if isinstance(part, sentences.Name):
    return element('bdi', breakable(part), class_='name')
  return element('bdi', part) if isinstance(part, sentences.Foreign) else part


# By verdict: the sign of its badge and the CSS class of its card.
_BADGES = {
  statistics.HOLDS: ('\u2713', 'yes'),
  statistics.HOLDS_ON_AVERAGE: ('\u2248', 'partly'),
  statistics.DOES_NOT_HOLD: ('\u2717', 'no'),
}


def finding(study: dict[str, Any], entry: dict[str, Any]) -> Markup:
  """A finding's card."""
  estimate, seeds = entry['estimate'], study['seeds']
  values = [estimate['value'], estimate['low'], estimate['high'], entry['threshold']]
  axis = scales.axis([*values, *entry['per_seed']], least=0.02)
  sign, kind = _BADGES[entry['verdict']]
  remarks = []
  if between := words.interval(estimate, words.points):
    remarks.append(f'95\u00a0% interval {between}')
  if estimate['count'] is not None:
    remarks.append(words.counted(estimate['count'], 'clip'))
  if estimate['p'] is not None:
    remarks.append(words.p_value(estimate['p']))
  of_seeds = ', '.join(
    f'{words.seed(seeds, place)}: {words.points(value)}'
    for place, value in enumerate(entry['per_seed'])
  )
  return element(
    'article',
    element(
      'p',
      element('span', f'{sign} {entry["verdict"]}', class_='badge'),
      ' ',
      element('bdi', entry['name'], class_='name'),
    ),
    element('h3', entry['statement']),
    element(
      'p',
      element('strong', words.points(estimate['value']), class_='big'),
      ' points',
      f', {", ".join(remarks)}' if remarks else None,
      class_='estimate',
    ),
    charts.dots(axis, estimate, entry['per_seed'], seeds, entry['threshold']),
    element(
      'p',
      'Diamond and line: estimate and interval. Dashed: threshold,'
      f' {words.points(entry["threshold"])}. Circles: {of_seeds}.',
      class_='key',
    ),
    element('p', entry['explanation']),
    element('p', spoken(compared), class_='about')
    if (compared := sentences.sides(study, entry))
    else None,
    class_=f'card finding {kind}',
  )


def answer(experiment: dict[str, Any], name: str, dataset: dict[str, Any]) -> Markup | None:
  """Whether the model sees the action."""
  found = sentences.answer(experiment, name, dataset)
  if found is None:
    return None
  return element(
    'article',
    element('p', element('bdi', name, class_='name'), ' ', dataset['about'], class_='about'),
    element('h4', spoken(found.verdict)),
    [element('p', spoken(sentence)) for sentence in found.sentences],
    class_=f'card answer {found.kind}',
  )
