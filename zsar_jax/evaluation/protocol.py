"""Describes how a model was evaluated: the model, its frames, its texts. The file is protocol.json.

Published zero-shot accuracies of the same weights differ by the number of frames, the resizing and
the class texts, so a study prints all of them with the figures.
"""

import dataclasses
import json
import math
import pathlib
from typing import Any

import jax
from ml_collections import ConfigDict

from zsar_jax.data.view import View
from zsar_jax.errors import UserError
from zsar_jax.models.video_model import VideoModel
from zsar_jax.runtime.files import write_file
from zsar_jax.text.classes import ClassTexts

FILE = 'protocol.json'

# The fields of `View` that an evaluation uses.
_VIEW_FIELDS = ('num_frames', 'size', 'interpolation', 'resize', 'centre_crop', 'unannotated')


def describe(
  config: ConfigDict, view: View, texts: ClassTexts, model: VideoModel
) -> dict[str, Any]:
  """Describes an evaluation of a model as a JSON object.

  Args:
    config: the config, for the number of views and the dtype.
    view: how a clip becomes frames.
    texts: how class names become tokens.
    model: the model.
  """
  spec = dataclasses.asdict(model.spec)
  return {
    'architecture': spec.pop('architecture'),
    'normalization': spec.pop('normalization'),
    'towers': spec,
    'video': dataclasses.asdict(model.video),
    'parameters': count_parameters(model),
    'dtype': config.model.dtype,
    'view': {name: getattr(view, name) for name in _VIEW_FIELDS},
    'views': {name: config.eval[name] for name in ('clips', 'crops', 'view_mean')},
    'templates': list(texts.templates),
    'split_words': texts.split_words,
    'placeholders': texts.placeholders,
  }


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
    protocol = json.loads(path.read_text())
    if isinstance(protocol, dict):
      return protocol
    reason: object = 'no JSON object'
  except (OSError, ValueError, RecursionError) as error:
    reason = error
  raise UserError(f'{path}: not readable ({reason}); evaluate the run again')
