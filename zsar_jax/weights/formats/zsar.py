"""This project's own weights: a folder with our paths in model.safetensors, and spec.json.

A run's checkpoint is read as if it were such a folder.
"""

import dataclasses
import pathlib
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.models.presets import TowerSpec, VideoSpec
from zsar_jax.weights.formats.key_tables import SAME, Format, Layout, Table
from zsar_jax.weights.formats.usage import Usage


class _Identity(Table):
  """The table of arrays that are called as they are here."""

  def __init__(self):
    super().__init__([])

  def to_theirs(self, path: str) -> tuple[str, Layout]:
    return path, SAME

  def to_ours(self, key: str) -> tuple[str, Layout]:
    return key, SAME


def to_json(spec: TowerSpec, video: VideoSpec, usage: Usage) -> dict[str, Any]:
  """A model's description: what is in spec.json."""
  parts = {'clip': spec, 'video': video, 'usage': usage}
  return {name: dataclasses.asdict(part) for name, part in parts.items()}


def from_json(path: pathlib.Path, saved: dict[str, Any]) -> tuple[TowerSpec, VideoSpec, Usage]:
  """The inverse of `to_json`.

  Args:
    path: the file, for errors.
    saved: what `to_json` returned, read back.

  Raises:
    UserError: it was something else.
  """
  try:
    _check_numbers('clip', TowerSpec, saved['clip'])
    _check_numbers('video', VideoSpec, saved['video'])
    # Of the first such files, the usage is not told.
    usage = Usage(**saved.get('usage', {}))
    return TowerSpec(**saved['clip']), VideoSpec(**saved['video']), usage
  except UserError as error:
    raise UserError(f'{path}: {error}; write it again') from None
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    raise UserError(f'{path}: describes no model ({error}); write it again') from None


def _check_numbers(section: str, kind: type, given: dict[str, Any]) -> None:
  """Refuses what is no size or count where a field of `kind` is one."""
  for field in dataclasses.fields(kind):
    if field.type is int and field.name in given:
      value = given[field.name]
      least = 0 if field.default == 0 else 1  # Of prompts there may be none.
      if type(value) is not int or value < least:
        raise UserError(
          f'{section}.{field.name} is {value!r} and must be a whole number, at least {least}'
        )


ZSAR = Format(
  name='zsar',
  table=_Identity(),
  markers=('visual/conv1/kernel', 'visual/transformer/resblocks/0/ln_1/scale'),
  # Only training uses it.
  droppable=(r'distillation/.*',),
  config='spec.json',
  described=lambda path, config: dataclasses.asdict(from_json(path, config)[0]),
)
