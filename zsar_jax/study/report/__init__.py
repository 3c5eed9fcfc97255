"""Writes the report of a study: report.html, the same as report.md, cards, and files for papers."""

import pathlib

from zsar_jax.runtime import terminal
from zsar_jax.storage import files
from zsar_jax.study.report import cards, markdown, page, study_file


def write_report(folder: pathlib.Path) -> None:
  """Writes report.html, report.md, cards/ and paper/ beside the study.json of a study.

  Args:
    folder: contains study.json and the pictures that it names.

  Raises:
    UserError: if study.json is missing or from another version, or if it names a picture outside
      the folder.
  """
  study = study_file.read(folder / 'study.json')
  # Both are made before the first is written, so that they never disagree.
  html, exhibits = page.make_page(study, folder)
  text = markdown.make_markdown(study, folder)
  of_models = page.make_cards(study, exhibits)
  exhibits.write(folder)
  cards.write(of_models, folder)
  files.write_file(folder / 'report.html', html)
  # A terminal may show this file, and foreign names may contain escape sequences.
  files.write_file(folder / 'report.md', terminal.escape_control_chars(text))
