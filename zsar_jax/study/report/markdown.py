"""Renders report.md, Markdown for code hosts, which shows the pictures by relative path."""

import pathlib
import re
from typing import Any

from markupsafe import Markup

from zsar_jax.study.report import (
  bar_charts,
  gallery,
  gradient_shares,
  pairs,
  recipe_metrics,
  rendering,
  sentences,
  study_file,
)
from zsar_jax.study.report.foreign_text import clean, undirected

# Classes with the largest gains, and with the smallest, that are listed.
_CLASSES = 5


def make_markdown(study: dict[str, Any], folder: pathlib.Path) -> str:
  """The text.

  Args:
    study: the study, as `study_file.read` returns it.
    folder: the folder of the study, with its pictures.

  Raises:
    UserError: if a picture lies outside the folder, or is not a picture.
  """
  environment = rendering.environment(_escaped_value)
  environment.filters.update(sentence=_sentence, fenced=_fenced)
  text = environment.get_template('report.md').render(
    study=study,
    bar_charts=bar_charts,
    recipe_metrics=recipe_metrics,
    pair_tables=pairs.pair_tables,
    regions=gradient_shares.REGIONS,
    class_extremes=class_extremes,
    painted_clips=gallery.painted_clips,
    pictures=gallery.Pictures(folder, 0),  # None inside, all as links.
  )
  return re.sub('\n{3,}', '\n\n', text).strip('\n') + '\n'


def _escaped_value(value: Any) -> Markup:
  if isinstance(value, Markup):
    return value
  return escaped('' if value is None else str(value))


def escaped(text: str) -> Markup:
  """A foreign text on one line, without characters that Markdown or HTML would interpret."""
  text = re.sub('[^\\S\u00a0\u202f]+', ' ', undirected(clean(text))).strip()
  text = text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')
  text = re.sub(r'([\\`*_{}\[\]|~#])', r'\\\1', text)
  # Code hosts make links of addresses.
  text = re.sub(r'(?i)\b(https?|ftp)://', r'\1:<span>//</span>', text)
  text = re.sub(r'(?i)\bwww\.', '<span>www</span>.', text)
  # A line that begins so is a list.
  return Markup(re.sub(r'^([-+]|\d+[.)])(?=\s|$)', r'\\\1', text))


def class_extremes(
  experiment: dict[str, Any], dataset: dict[str, Any]
) -> tuple[list[dict[str, Any]], int]:
  """The classes with the best run's largest and smallest gains, and the number of classes."""
  best = study_file.best_run(experiment, dataset)
  entries = [
    entry for entry in dataset['classes_gain'].get(best, []) if entry['gain']['value'] is not None
  ]
  entries.sort(key=lambda entry: entry['gain']['value'], reverse=True)
  if len(entries) <= 2 * _CLASSES:
    return entries, len(entries)
  return entries[:_CLASSES] + entries[-_CLASSES:], len(entries)


def _sentence(sentence: sentences.Sentence) -> Markup:
  """A sentence in Markdown, in which names are bold."""
  return Markup(''.join(map(_sentence_part, sentence)))


def _sentence_part(part: str) -> str:
  if isinstance(part, sentences.Name):
    return f'**{escaped(part)}**'
  return escaped(part) if isinstance(part, sentences.Foreign) else part


def _fenced(code: str) -> Markup:
  """A block of Python code, whose fence is longer than any run of backticks in it."""
  longest = max((len(run) for run in re.findall('`+', code)), default=0)
  fence = '`' * max(3, longest + 1)
  return Markup(f'{fence}python\n{clean(code)}{fence}')
