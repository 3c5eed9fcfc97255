"""Sets up Jinja for the report's templates."""

import pathlib
from collections.abc import Callable
from typing import Any

import jinja2

from zsar_jax.study.report import (
  cards,
  finding_charts,
  foreign_text,
  metric_labels,
  number_format,
  reproduction,
  sentences,
  study_file,
)


def environment(finalize: Callable[[Any], Any]) -> jinja2.Environment:
  """An environment for the templates of this package.

  Templates escape every value for HTML unless it is `Markup`.

  Args:
    finalize: converts a value before it is escaped.
  """
  result = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent / 'templates'),
    autoescape=True,
    finalize=finalize,
    lstrip_blocks=True,
    trim_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  result.globals.update(
    cards=cards,
    finding_charts=finding_charts,
    metric_labels=metric_labels,
    number=number_format,
    reproduction=reproduction,
    sentences=sentences,
    study_file=study_file,
  )
  result.filters.update(
    breakable=foreign_text.breakable,
    clip_range=number_format.clip_range,
    isolated=foreign_text.isolated,
  )
  return result
