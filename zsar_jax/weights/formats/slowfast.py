"""The settings that PySlowFast saves with weights, as Open-VCLIP and FROSTER do."""

import pathlib
from collections.abc import Mapping
from typing import Any

import yaml

from zsar_jax.errors import UserError, first_line
from zsar_jax.weights.formats.pickles import Record
from zsar_jax.weights.formats.tensors import State, shown

# Where they are in what is saved: YAML, of about 15 kB.
_NAME = 'cfg'
_MOST_CHARACTERS = 200_000

# MODEL.TEMPORAL_MODELING_TYPE: whether frames attend to their neighbors, at a distance of one.
_KINDS = {'expand_temporal_view': 'window', None: 'mean'}
_ABSENT = object()


def video(path: pathlib.Path, beside: Mapping[str, Any], state: State) -> dict[str, Any]:
  """The fields of `VideoSpec` that the settings tell; see `Format.video`."""
  del state
  if _NAME not in beside:
    return {}
  kind = _setting(path, beside[_NAME], 'MODEL', 'TEMPORAL_MODELING_TYPE')
  if kind is _ABSENT:
    return {}
  if not isinstance(kind, str | None) or kind not in _KINDS:
    raise UserError(
      f'{path}: trained with TEMPORAL_MODELING_TYPE {shown(str(kind))}, and only'
      ' expand_temporal_view and null are computed here; take another model'
    )
  frames = _setting(path, beside[_NAME], 'DATA', 'NUM_FRAMES')
  count = int(frames) if str(frames).isdecimal() and 0 < len(str(frames)) < 5 else 0
  return {'temporal': _KINDS[kind], **({'num_frames': count} if count else {})}


def _setting(path: pathlib.Path, settings: Any, section: str, name: str) -> Any:
  """A text, or None; `_ABSENT` where there is no such setting."""
  if isinstance(settings, str):
    settings = _parse(path, settings)
  for key in (section, name):
    if isinstance(settings, Record):
      settings = settings.items
    if isinstance(settings, yaml.MappingNode):
      # A key's value is the last that is given.
      settings = {
        part.value: value for part, value in settings.value if isinstance(part, yaml.ScalarNode)
      }
    if not isinstance(settings, dict) or key not in settings:
      return _ABSENT
    settings = settings[key]
  if isinstance(settings, yaml.ScalarNode):
    return None if settings.tag == 'tag:yaml.org,2002:null' else settings.value
  return settings if isinstance(settings, str | int | None) else _ABSENT


def _parse(path: pathlib.Path, text: str) -> yaml.Node | None:
  """The nodes of a YAML document, of which no object is made."""
  try:
    if len(text) > _MOST_CHARACTERS:
      raise ValueError(f'more than {_MOST_CHARACTERS:,} characters')
    return yaml.compose(text, Loader=yaml.SafeLoader)
  except (yaml.YAMLError, ValueError, RecursionError) as error:
    raise UserError(
      f'{path}: its settings, {_NAME}, are no YAML ({shown(first_line(error))}); take the file as'
      ' its program wrote it'
    ) from None
