"""This project's own format: a folder with model.safetensors, under our paths, and spec.json.

A run's checkpoint is read as if it were such a folder.
"""

import dataclasses
import pathlib
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.models.presets import TowerSpec, VideoSpec
from zsar_jax.weights.formats.format import Format
from zsar_jax.weights.formats.key_tables import SAME, Layout, Table
from zsar_jax.weights.formats.preprocessing import Preprocessing


class _IdentityTable(Table):
  """The table of arrays that are stored under our paths and in our layouts."""

  def __init__(self):
    super().__init__([])

  def to_theirs(self, path: str) -> tuple[str, Layout]:
    return path, SAME

  def to_ours(self, key: str) -> tuple[str, Layout]:
    return key, SAME


def to_json(spec: TowerSpec, video: VideoSpec, preprocessing: Preprocessing) -> dict[str, Any]:
  """Returns the content of spec.json: the description of a model."""
  parts: dict[str, TowerSpec | VideoSpec | Preprocessing] = {
    'clip': spec,
    'video': video,
    'usage': preprocessing,
  }
  return {name: dataclasses.asdict(part) for name, part in parts.items()}


def from_json(
  path: pathlib.Path, saved: dict[str, Any]
) -> tuple[TowerSpec, VideoSpec, Preprocessing]:
  """Reads the content of spec.json: the inverse of `to_json`.

  Args:
    path: the file, for errors.
    saved: the JSON object.

  Raises:
    UserError: if it does not describe a model.
  """
  try:
    _check_numbers('clip', TowerSpec, saved['clip'])
    _check_numbers('video', VideoSpec, saved['video'])
    # The first files of this format have no preprocessing.
    preprocessing = Preprocessing(**saved.get('usage', {}))
    return TowerSpec(**saved['clip']), VideoSpec(**saved['video']), preprocessing
  except UserError as error:
    raise UserError(f'{path}: {error}; write it again') from None
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    raise UserError(f'{path}: does not describe a model ({error}); write it again') from None


def _check_numbers(section: str, kind: type, values: dict[str, Any]) -> None:
  """Checks that every integer field of `kind` is given as a valid size or count."""
  for field in dataclasses.fields(kind):
    if field.type is int and field.name in values:
      value = values[field.name]
      least = 0 if field.default == 0 else 1  # A model may have 0 prompts.
      if type(value) is not int or value < least:
        raise UserError(
          f'{section}.{field.name} is {value!r} but must be an integer of at least {least}'
        )


ZSAR = Format(
  name='zsar',
  table=_IdentityTable(),
  markers=('visual/conv1/kernel', 'visual/transformer/resblocks/0/ln_1/scale'),
  # Only training uses these networks.
  droppable=(r'distillation/.*',),
  config_file='spec.json',
  read_config=lambda path, config: dataclasses.asdict(from_json(path, config)[0]),
)
