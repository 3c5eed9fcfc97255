"""Puts the report together: report.html, one file that asks for nothing else, and report.md."""

import functools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from zsar_jax.runtime import files, terminal
from zsar_jax.study.report import (
  answers,
  class_gains,
  gallery,
  markdown,
  method,
  sections,
  sentences,
  words,
)
from zsar_jax.study.report import results as studies
from zsar_jax.study.report.markup import Markup, element, join

# Bytes of a page that still opens fast; pictures get what the rest leaves.
_PAGE = 7_500_000

# Even if something got into the page, it could not run or ask for anything.
_POLICY = '; '.join((
  "default-src 'none'",
  "style-src 'unsafe-inline'",
  'img-src data:',
  "base-uri 'none'",
  "form-action 'none'",
))  # fmt: skip


def write_report(folder: pathlib.Path) -> None:
  """Writes report.html and report.md beside the study.json of a study.

  Args:
    folder: holds study.json and the pictures that it names.

  Raises:
    UserError: if study.json is missing or no study, or names a picture outside the folder.
  """
  study = studies.read(folder / 'study.json')
  # Both are made before the first is written: either both are new or none.
  room = _PAGE - len(make_page(study, folder, 0).encode())
  html = make_page(study, folder, max(0, room) * 3 // 4)  # As text, 3 bytes become 4.
  text = markdown.make_markdown(study, folder)
  files.write_file(folder / 'report.html', html)
  # A terminal may show it, and the names in it are strangers'.
  files.write_file(folder / 'report.md', terminal.escape_control_chars(text))


def make_page(study: dict[str, Any], folder: pathlib.Path, pictures: int) -> str:
  """The page.

  Args:
    study: as `study.read` gives it.
    folder: where its pictures are.
    pictures: how many bytes of pictures may be inside; others become links.
  """
  parts = [part for part in _sections(study, folder, pictures) if part]
  contents = element(
    'nav',
    element('ol', [element('li', link, inner) for link, inner, _ in parts]),
    aria_label='Contents',
  )
  title = study['title']
  body = element(
    'body',
    contents,
    element(
      'main',
      element(
        'header',
        element('h1', element('bdi', title)),
        element('p', study['about'], class_='lead') if study['about'] else None,
        element('p', sentences.what_was_done(study), class_=None if study['about'] else 'lead'),
        element('p', f'Made {words.moment(study["created"])}.', class_='key'),
      ),
      [section for _, _, section in parts],
    ),
  )
  style = (pathlib.Path(__file__).parent / 'style.css').read_text(encoding='utf-8')
  head = element(
    'head',
    element('meta', charset='utf-8'),
    element('meta', http_equiv='Content-Security-Policy', content=_POLICY),
    element('meta', name='viewport', content='width=device-width, initial-scale=1'),
    element('meta', name='color-scheme', content='light dark'),
    element('title', title),
    element('style', Markup(style)),
  )
  return f'<!DOCTYPE html>\n{element("html", head, body, lang="en")}\n'


# A section: its line in the contents, the lines below that, and itself.
_Section = tuple[Markup, Markup | None, Markup]


def _sections(
  study: dict[str, Any], folder: pathlib.Path, pictures: int
) -> Iterator[_Section | None]:
  yield _answers(study)
  matrix = _by_dataset('matrix', study, lambda e, d, key: sections.matrix(e, d, f'{key}-metric'))
  note = (
    'A row is a run, a column is a validation recipe: what was painted over in the clips that the'
    ' run was evaluated on. Below each table are all its numbers with 95\u00a0% intervals.'
  )
  yield _section('matrix', 'Accuracy of each run under each recipe', matrix, note)
  lists = max(1, sum(len(dataset['classes_gain']) for *_, dataset in studies.datasets(study)))
  drawn: tuple[tuple[str, str, Callable[..., Markup | None], str | None], ...] = (
    ('bias', 'Bias metrics', sections.bias, None),
    (
      'classes',
      'Gain of each class',
      functools.partial(class_gains.classes, lists=lists),
      'Top-1 of unpainted clips minus that of the baseline run. Grey: the interval includes 0.',
    ),
    (
      'strata',
      'Kinds of clips',
      sections.strata,
      'Top-1 of unpainted clips, by the attributes that the data set gives them.',
    ),
    ('coverage', 'Accuracy by the size of the people', sections.coverage, None),
    (
      'saliency',
      'Where the gradient lies',
      sections.saliency,
      'The input gradient shows which pixels change the answer most. For each region: its share of'
      ' the magnitude of the gradient, and its share of the pixels.',
    ),
  )
  for key, title, draw, note in drawn:
    yield _section(key, title, _by_dataset(key, study, lambda e, d, _, draw=draw: draw(e, d)), note)
  count = sum(bool(dataset['gallery']) for *_, dataset in studies.datasets(study))
  each = functools.partial(_gallery, folder, pictures // max(1, count))
  note = (
    'Answers of the trainings with the first seed. \u2713 right, \u2717 wrong; open an answer for'
    ' the next likeliest classes.'
  )
  yield _section(
    'gallery', 'Clips as the model saw them', _by_dataset('gallery', study, each), note
  )
  for key, title, draw in (
    ('curves', 'Training', sections.curves),
    ('runs', 'Configs', method.configs),
  ):
    blocks = [
      (f'{key}-{number}', name, body)
      for number, (name, experiment) in enumerate(study['experiments'].items())
      if (body := draw(experiment))
    ]
    yield _section(key, title, blocks)
  yield _section(
    'method', 'How to reproduce these numbers', [('method-0', '', method.method(study))]
  )


def _gallery(folder, budget, experiment, dataset, key) -> Markup | None:
  return gallery.gallery(experiment, dataset, gallery.Pictures(folder, budget))


_Blocks = list[tuple[str, str, Markup]]


def _by_dataset(key: str, study: dict[str, Any], draw) -> _Blocks:
  """(id, heading, body) for each data set that `draw(experiment, dataset, id)` draws."""
  blocks = []
  for number, (name, experiment, dataset_name, dataset) in enumerate(studies.datasets(study)):
    place = f'{key}-{number}'
    if body := draw(experiment, dataset, place):
      blocks.append((place, f'{name} \u00b7 {dataset_name}', body))
  return blocks


def _section(key: str, title: str, blocks: _Blocks, note: str | None = None) -> _Section | None:
  if not blocks:
    return None
  links = [
    element('li', element('a', element('bdi', heading), href=f'#{place}'))
    for place, heading, _ in blocks
    if heading
  ]
  body = [
    element('section', element('h3', element('bdi', heading)) if heading else None, drawn, id=place)
    for place, heading, drawn in blocks
  ]
  return (
    element('a', title, href=f'#{key}'),
    element('ul', links) if len(links) > 1 else None,
    element('section', element('h2', title), element('p', note) if note else None, body, id=key),
  )


def _answers(study: dict[str, Any]) -> _Section | None:
  cards = [answers.finding(study, entry) for entry in study['findings']]
  found = element('div', cards, class_='cards') if cards else None
  told = []
  for name, experiment in study['experiments'].items():
    drawn = [
      answers.answer(experiment, dataset_name, dataset)
      for dataset_name, dataset in experiment['datasets'].items()
    ]
    if any(drawn):
      told += [
        element('h3', 'Does this model see the action? ', element('bdi', name, class_='name')),
        element('p', experiment['about']) if experiment['about'] else None,
        element('div', drawn, class_='cards'),
      ]
  if not cards and not told:
    return None
  body = join(found, told)
  return element('a', 'Answers', href='#answers'), None, element(
    'section', element('h2', 'Answers'), body, id='answers'
  )  # fmt: skip
