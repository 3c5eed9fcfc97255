"""Renders report.html, one file that needs no network."""

import base64
import hashlib
import pathlib
from typing import Any

from markupsafe import Markup, escape

from zsar_jax.study.report import (
  cards,
  clip_answers,
  drawing,
  paper,
  rendering,
  sections,
  sentences,
  study_file,
)
from zsar_jax.study.report.foreign_text import breakable, clean

# Bytes of a page that still opens fast; pictures get what the rest leaves.
_PAGE_BYTES = 9_000_000


def make_page(study: dict[str, Any], folder: pathlib.Path) -> tuple[str, paper.Paper]:
  """The page, and its figures and tables.

  Args:
    study: the study, as `study_file.read` returns it.
    folder: the folder of the study, with its pictures.

  Raises:
    UserError: if a picture lies outside the folder, or is not a picture.
  """
  packed = {
    (name, dataset_name): clip_answers.clip_answers(experiment, dataset_name, dataset, folder)
    for name, experiment, dataset_name, dataset in study_file.datasets(study)
  }
  room = _PAGE_BYTES - len(_page(study, folder, packed, 0)[0].encode())
  return _page(study, folder, packed, max(0, room) * 3 // 4)  # In base64, 3 bytes become 4.


def _page(
  study: dict[str, Any],
  folder: pathlib.Path,
  packed: dict[tuple[str, str], clip_answers.ClipAnswers | None],
  picture_bytes: int,
) -> tuple[str, paper.Paper]:
  environment = rendering.environment(_cleaned)
  script = (pathlib.Path(__file__).parent / 'clip_answers.js').read_text(encoding='utf-8')
  script = f'\n{script}' if any(packed.values()) else ''
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')
  environment.filters['sentence'] = _sentence
  answers = {
    name: answers
    for name, experiment in study['experiments'].items()
    if (answers := _answers(experiment))
  }
  exhibits = paper.Paper()
  html = environment.get_template('page.html').render(
    study=study,
    paper=exhibits,
    answers=answers,
    sections=sections.sections(study, folder, packed, picture_bytes),
    style=_style(),
    script=Markup(script),
    script_source=Markup(f"'sha256-{digest}'" if script else "'none'"),
  )
  return html, exhibits


def make_cards(study: dict[str, Any], exhibits: paper.Paper) -> dict[str, str]:
  """The bias card of each run, by the name of its file.

  Args:
    study: the study, as `study_file.read` returns it.
    exhibits: keeps the tables of the cards.
  """
  environment = rendering.environment(_cleaned)
  template = environment.get_template('card.html')
  names = cards.file_names(study)
  return {
    names[name, run_name]: template.render(
      study=study,
      experiment_name=name,
      experiment=experiment,
      run_name=run_name,
      run=run,
      paper=exhibits,
      style=_style(),
    )
    for name, experiment in study['experiments'].items()
    for run_name, run in experiment['runs'].items()
  }


def _style() -> Markup:
  style = (pathlib.Path(__file__).parent / 'style.css').read_text(encoding='utf-8')
  return Markup(style + drawing.css())


def _answers(experiment: dict[str, Any]) -> dict[str, sentences.Answer]:
  return {
    name: answer
    for name, dataset in experiment['datasets'].items()
    if (answer := sentences.answer(experiment, name, dataset))
  }


def _cleaned(value: Any) -> Any:
  """A value as text for HTML; numbers have at most two decimals."""
  if value is None or isinstance(value, Markup):
    return value or ''
  if isinstance(value, float):
    return f'{value:.2f}'.rstrip('0').rstrip('.')
  return clean(value) if isinstance(value, str) else value


def _sentence(sentence: sentences.Sentence) -> Markup:
  """A sentence in HTML, in which names are bold."""
  return Markup().join(map(_sentence_part, sentence))


def _sentence_part(part: str) -> Markup:
  if isinstance(part, sentences.Name):
    return Markup('<bdi class="name">{}</bdi>').format(breakable(part))
  if isinstance(part, sentences.Foreign):
    return Markup('<bdi>{}</bdi>').format(clean(part))
  return escape(part)
