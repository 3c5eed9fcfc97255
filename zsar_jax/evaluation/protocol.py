"""Describes how a model was evaluated: the model, its frames, its texts. The file is protocol.json.

Published zero-shot accuracies of the same weights differ by the number of frames, the resizing and
the class texts, so a study prints all of them with the figures.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from zsar_jax.config import default_config
from zsar_jax.data.view import View
from zsar_jax.errors import UserError
from zsar_jax.models.video_model import VideoModel
from zsar_jax.storage.files import read_file, write_file

FILE = 'protocol.json'

# The fields of `View` that an evaluation uses.
_VIEW_FIELDS = (
  *('num_frames', 'sampling', 'size', 'interpolation', 'resize', 'centre_crop'),
  'unannotated',
)


def describe_model(model: VideoModel) -> dict[str, Any]:
  """Describes a model as a JSON object."""
  spec = dataclasses.asdict(model.spec)
  return {
    'architecture': spec.pop('architecture'),
    'normalization': spec.pop('normalization'),
    'towers': spec,
    'video': dataclasses.asdict(model.video),
    'parameters': count_parameters(model),
  }


def describe_use(
  config: ConfigDict,
  view: View,
  templates: Sequence[str],
  split_words: bool,
  placeholders: str,
) -> dict[str, Any]:
  """Describes what a model is shown, as a JSON object.

  Args:
    config: the config, for the views of a clip.
    view: how a clip becomes frames.
    templates: see `ClassTexts`.
    split_words: see `ClassTexts`.
    placeholders: see `ClassTexts`.
  """
  return {
    'view': {name: getattr(view, name) for name in _VIEW_FIELDS},
    'views': {name: config.eval[name] for name in ('clips', 'crops', 'view_mean')},
    'templates': list(templates),
    'split_words': split_words,
    'placeholders': placeholders,
  }


def check_use(use: Any) -> None:
  """Raises a `ValueError` unless a JSON value has the fields and types of `describe_use`."""
  config = default_config()
  reference = describe_use(config, View(), config.text.templates, True, '')
  _check_like('protocol', use, reference)


def _check_like(name: str, value: Any, reference: Any) -> None:
  """Compares types, and the keys of objects; lists are those of texts."""
  number = isinstance(reference, float) and type(value) is int
  if not isinstance(value, type(reference)) and not number:
    raise ValueError(f'{name}: {value!r} is not of the type of {reference!r}')
  if isinstance(reference, dict):
    if value.keys() != reference.keys():
      raise ValueError(f'{name}: its fields are not {", ".join(reference)}')
    for key in reference:
      _check_like(f'{name}.{key}', value[key], reference[key])
  if isinstance(reference, list):
    for item in value:
      _check_like(name, item, '')


def count_parameters(model: VideoModel) -> int:
  """Returns the number of parameters of a model, without the networks that only training uses."""
  parts = {name: part for name, part in model.abstract_params.items() if name != 'distillation'}
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(parts))


def save(protocol: dict[str, Any], workdir: pathlib.Path) -> None:
  """Writes protocol.json."""
  write_file(workdir / FILE, json.dumps(protocol, indent=2) + '\n')


def load(workdir: pathlib.Path) -> dict[str, Any]:
  """Reads protocol.json.

  Raises:
    UserError: the file is missing or damaged.
  """
  path = workdir / FILE
  try:
    protocol = json.loads(read_file(path))
    if isinstance(protocol, dict):
      return protocol
    reason: object = 'no JSON object'
  except (OSError, ValueError, RecursionError) as error:
    reason = error
  raise UserError(f'{path}: not readable ({reason}); evaluate the run again')
