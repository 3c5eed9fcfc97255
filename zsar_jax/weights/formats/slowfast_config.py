"""Settings that PySlowFast, and so Open-VCLIP and FROSTER, save with the weights."""

import pathlib
from collections.abc import Mapping
from typing import Any

import yaml

from zsar_jax.errors import UserError, first_line
from zsar_jax.weights.formats.lazy_arrays import StateDict, printable
from zsar_jax.weights.formats.pickled_objects import Record

# Their name among the extras of a file. They are YAML of about 15 kB.
_NAME = 'cfg'
_MAX_CHARACTERS = 200_000

# Values of MODEL.TEMPORAL_MODELING_TYPE: whether frames attend to their direct neighbors.
_TEMPORAL = {'expand_temporal_view': 'window', None: 'mean'}
_ABSENT = object()


def read_video(path: pathlib.Path, extras: Mapping[str, Any], state: StateDict) -> dict[str, Any]:
  """Reads fields of `VideoSpec` from the settings; see `Format.read_video`."""
  del state
  if _NAME not in extras:
    return {}
  kind = _setting(path, extras[_NAME], 'MODEL', 'TEMPORAL_MODELING_TYPE')
  if kind is _ABSENT:
    return {}
  if not isinstance(kind, str | None) or kind not in _TEMPORAL:
    raise UserError(
      f'{path}: trained with TEMPORAL_MODELING_TYPE {printable(str(kind))}, but zsar_jax supports'
      ' only expand_temporal_view and null; use another model'
    )
  frames = _setting(path, extras[_NAME], 'DATA', 'NUM_FRAMES')
  count = int(frames) if str(frames).isdecimal() and 0 < len(str(frames)) < 5 else 0
  return {'temporal': _TEMPORAL[kind], **({'num_frames': count} if count else {})}


def _setting(path: pathlib.Path, settings: Any, section: str, name: str) -> Any:
  """Returns a setting, which may be None; `_ABSENT` if it is missing or not a scalar."""
  if isinstance(settings, str):
    settings = _parse(path, settings)
  for key in (section, name):
    if isinstance(settings, Record):
      settings = settings.items
    if isinstance(settings, yaml.MappingNode):
      # If a key is repeated, its last value counts.
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
  """Returns the nodes of a YAML document, without constructing objects from them."""
  try:
    if len(text) > _MAX_CHARACTERS:
      raise ValueError(f'more than {_MAX_CHARACTERS:,} characters')
    return yaml.compose(text, Loader=yaml.SafeLoader)
  except (yaml.YAMLError, ValueError, RecursionError) as error:
    raise UserError(
      f'{path}: its settings, {_NAME}, are not YAML ({printable(first_line(error))}); take the'
      ' file as its program wrote it'
    ) from None
