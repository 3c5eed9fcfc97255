"""Settings that a user gives: their limits, and how their values are read and checked.

A limit is a range or a set of choices. `setting` declares a dataclass field together with its
limit, and `ranges_of` and `choices_of` collect the limits of a dataclass that mirrors a section of
the config. The checks raise a `UserError` that names the setting.
"""

import ast
import dataclasses
import difflib
import math
from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from zsar_jax.errors import UserError

# The upper end of ranges that have none.
UNBOUNDED = 10**9

Range = tuple[float, float]


def setting(
  default: Any, *, low: float | None = None, high: float = UNBOUNDED, choices: Collection = ()
) -> Any:
  """Declares a dataclass field with a limit.

  Args:
    default: the field's default; a tuple of numbers is limited number by number.
    low: the least value; None for a field without a range.
    high: the greatest value.
    choices: the values that are allowed, if they are not given by a range.
  """
  metadata = {'choices': tuple(choices)} if choices else {}
  if low is not None:
    metadata['range'] = (low, high)
  return dataclasses.field(default=default, metadata=metadata)


def ranges_of(section: str, dataclass: type) -> dict[str, Range]:
  """Returns the ranges of a dataclass by dotted config field, such as 'view.size'."""
  return _metadata(section, dataclass, 'range')


def choices_of(section: str, dataclass: type) -> dict[str, tuple]:
  """Returns the choices of a dataclass by dotted config field, such as 'view.resize'."""
  return _metadata(section, dataclass, 'choices')


def _metadata(section: str, dataclass: type, key: str) -> dict[str, Any]:
  return {
    f'{section}.{field.name}': field.metadata[key]
    for field in dataclasses.fields(dataclass)
    if key in field.metadata
  }


def get_value(config: ConfigDict, field: str) -> Any:
  """Returns the value at a dotted path such as 'data.workers'."""
  for key in field.split('.'):
    config = config[key]
  return config


def set_value(config: ConfigDict, field: str, value: Any) -> None:
  """Sets the value at a dotted path such as 'data.workers'.

  Raises:
    UserError: if the field does not exist, or takes values of another type.
  """
  section, _, name = field.rpartition('.')
  try:
    (get_value(config, section) if section else config)[name] = value
  except (KeyError, TypeError) as error:
    reason = str(error).strip('"\'').splitlines()[0]
    raise UserError(f'config.{field} cannot be {value!r}: {reason}') from None


def check_keys(
  config: Any, reference: ConfigDict, path: str, open_sections: Collection[str] = ()
) -> None:
  """Checks that a config has the keys of a reference, in all its sections.

  Args:
    config: the config.
    reference: the config with the right keys.
    path: dotted path of the config, for errors.
    open_sections: dotted paths of sections whose keys the user chooses.

  Raises:
    UserError: for an unknown or a missing key.
  """
  if not isinstance(config, ConfigDict):
    raise UserError(f'{path}: {config!r} stands where a ConfigDict belongs')
  for key in config:
    if key not in reference:
      close = difflib.get_close_matches(key, list(reference), n=1)
      hint = f'; did you mean {close[0]!r}?' if close else f'; the keys are {", ".join(reference)}'
      raise UserError(f'{path}: no key {key!r}{hint}')
  for key, value in reference.items():
    if key not in config:
      raise UserError(f'{path}: the key {key!r} is missing; start from default_config()')
    if isinstance(value, ConfigDict) and f'{path}.{key}' not in open_sections:
      check_keys(config[key], value, f'{path}.{key}', open_sections)


def check_choice(field: str, value: Any, choices: Iterable[Any]) -> None:
  """Raises a `UserError` if a value is none of the choices."""
  choices = tuple(choices)
  if value not in choices:
    raise UserError(f'{field}: {value!r} is none of {", ".join(map(str, choices))}')


def check_range(field: str, values: Any, limits: Range) -> None:
  """Raises a `UserError` if a number, or one of several, lies outside a range."""
  low, high = limits
  for value in np.atleast_1d(values):
    if value < low and high == UNBOUNDED:
      raise UserError(f'{field}: {value} is less than {low}')
    if not low <= value <= high:
      raise UserError(f'{field}: {value} does not lie between {low} and {high}')


def check_function(field: str, value: str) -> None:
  """Raises a `UserError` unless a value has the form 'package.module:function'."""
  module, colon, function = value.partition(':')
  if not (colon and all(name.isidentifier() for name in (*module.split('.'), function))):
    raise UserError(
      f"{field}: {value!r} is not 'MODULE:FUNCTION'; write such as 'my_model:load', without .py"
    )


def check_texts(field: str, values: Iterable[Any], example: str) -> None:
  """Raises a `UserError`, with an example of the setting, if one of several values is no text."""
  _check_each(field, values, lambda value: isinstance(value, str), 'a text', example)


def check_rules(field: str, values: Iterable[Any]) -> None:
  """Raises a `UserError` unless each value is a pair of a regular expression and a factor >= 0."""
  expected = 'a pair of a regular expression and a factor, at least 0'
  _check_each(field, values, _is_rule, expected, "(('text/.*', 0.0),)")


def check_interval(field: str, values: Iterable[Any]) -> None:
  """Raises a `UserError` unless the values are two numbers, the smaller one first."""
  values = tuple(values)
  if len(values) != 2 or not all(map(is_number, values)) or values[0] > values[1]:
    raise UserError(
      f'{field}: {values} are not the smallest and the largest of two numbers; write them as'
      ' (0.5, 1.0)'
    )


def read_class_names(reference: ConfigDict, field: str) -> None:
  """Turns class names that the command line gave as text into a tuple, in place.

  The field `classes` is a text by default, so the command line passes a tuple as a text too:
  `--config.FIELD.classes="('archery', 'bowling')"`.

  Args:
    reference: from `config.dataset_ref`.
    field: dotted path of the reference, for errors.

  Raises:
    UserError: if the text looks like a tuple but is none, or a class name is no text.
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
    if isinstance(classes, str):  # A single name in parentheses.
      classes = (classes,)
  if not isinstance(classes, tuple | list) or not classes:
    raise UserError(f'{field}.classes: {classes!r} names no class; give names, {example}')
  for name in classes:
    if not isinstance(name, str):
      raise UserError(f'{field}.classes: {name!r} is no text; give names of classes, {example}')
  reference.classes = tuple(classes)


def is_number(value: Any) -> bool:
  """Whether a value is a finite number."""
  return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_each(
  field: str, values: Iterable[Any], accepts: Callable[[Any], bool], expected: str, example: str
) -> None:
  for value in values:
    if not accepts(value):
      raise UserError(f'{field}: {value!r} is not {expected}; write such as {example}')


def _is_rule(value: Any) -> bool:
  if not isinstance(value, tuple | list) or len(value) != 2:
    return False
  return isinstance(value[0], str) and is_number(value[1]) and value[1] >= 0
