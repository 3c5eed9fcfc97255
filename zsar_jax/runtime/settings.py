"""Fields of a config that hold several values: what each of them may hold."""

import ast
import math
from collections.abc import Callable, Iterable
from typing import Any

from ml_collections import ConfigDict

from zsar_jax.errors import UserError


def read_class_names(reference: ConfigDict, field: str) -> None:
  """Makes a tuple of class names that `--config.FIELD.classes="('archery', 'bowling')"` gave.

  The field is a text by default, so that the command line takes every value of it for one.

  Args:
    reference: from `config.dataset_ref`; changed in place.
    field: its place in the config, for errors.

  Raises:
    UserError: where the text looks like a tuple and is none, and where a class is no text.
  """
  classes, example = reference.classes, "such as ('archery', 'bowling')"
  if isinstance(classes, str):
    if not classes.lstrip().startswith(('(', '[')):
      return
    try:
      classes = ast.literal_eval(classes.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
      raise UserError(
        f'{field}.classes: {classes!r} is no tuple of class names, {example}'
      ) from None
    if isinstance(classes, str):  # One name in brackets.
      classes = (classes,)
  if not isinstance(classes, tuple | list) or not classes:
    raise UserError(f'{field}.classes: {classes!r} names no class; give names, {example}')
  for name in classes:
    if not isinstance(name, str):
      raise UserError(f'{field}.classes: {name!r} is no text; give names of classes, {example}')
  reference.classes = tuple(classes)


def check_tuples(config: ConfigDict) -> None:
  """Checks the fields that hold several values.

  Raises:
    UserError: naming the field and what it should hold.
  """
  for section, names, example in (
    ('text', ('templates',), "('a video of a person {}.',)"),
    ('eval', ('recipes',), "('none', 'background=normal')"),
    ('model', ('allow_missing', 'allow_left_over'), "('temporal/.*',)"),
  ):
    for name in names:
      _check_each(config[section][name], _is_text, f'config.{section}.{name}', 'a text', example)
  for name in ('lr_rules', 'decay_rules'):
    field = f'config.optim.{name}'
    expected = 'a pair of a regular expression and a factor, at least 0'
    _check_each(config.optim[name], _is_rule, field, expected, "(('text/.*', 0.0),)")
  for name in ('crop_scale', 'crop_ratio', 'crop_side'):
    values = tuple(config.view[name])
    if len(values) != 2 or not all(map(_is_number, values)) or values[0] > values[1]:
      raise UserError(
        f'config.view.{name}: {values} are not the smallest and the largest of two numbers; write'
        ' them as (0.5, 1.0)'
      )
  shares = tuple(config.augment.still_share)
  if len(shares) != 2 or not all(map(_is_number, shares)):
    raise UserError(
      f'config.augment.still_share: {shares} are not the two numbers alpha and beta; write them as'
      ' (200.0, 200.0)'
    )
  for value in config.profile.steps:
    if type(value) is not int:
      raise UserError(f'config.profile.steps: {value!r} is no step; take such as (10, 15), or ()')
  for name, members in config.eval.groups.items():
    if not isinstance(members, tuple | list):
      raise UserError(
        f'config.eval.groups.{name}: {members!r} is no tuple of data sets of config.eval.datasets'
      )


def _check_each(
  values: Iterable[Any], accepts: Callable[[Any], bool], field: str, expected: str, example: str
) -> None:
  for value in values:
    if not accepts(value):
      raise UserError(f'{field}: {value!r} is not {expected}; write such as {example}')


def _is_text(value: Any) -> bool:
  return isinstance(value, str)


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_rule(value: Any) -> bool:
  if not isinstance(value, tuple | list) or len(value) != 2:
    return False
  return isinstance(value[0], str) and _is_number(value[1]) and value[1] >= 0
