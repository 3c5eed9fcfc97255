"""Parses the masks named on the command line: FORMAT:PATH[,OPTION=VALUE...]."""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

from zsar_jax.datasets.masks.arrays import open_arrays
from zsar_jax.datasets.masks.coco import open_coco
from zsar_jax.datasets.masks.frame_matching import Stride
from zsar_jax.datasets.masks.grey_images import open_grey
from zsar_jax.datasets.masks.label_images import open_egohos, open_palette
from zsar_jax.datasets.masks.made import MadeSource
from zsar_jax.datasets.masks.source import MaskSource
from zsar_jax.datasets.masks.yolo import YoloSource
from zsar_jax.errors import UserError
from zsar_jax.recipes.regions import REGION_BITS
from zsar_jax.storage.paths import path_text

# An option after a path, which may contain commas itself.
_OPTION = re.compile(r',([a-z_]+)=([^,]*)$')


@dataclasses.dataclass(frozen=True)
class Format:
  """A format of masks.

  Attributes:
    open: opens a source, given its path and its options as keyword arguments.
    options: the names of the options.
    description: a line for the help text.
  """

  open: Callable[..., MaskSource]
  options: tuple[str, ...]
  description: str


FORMATS = {
  'grey': Format(
    open_grey,
    ('region', 'first', 'spread', 'stride'),
    '{clip}/{frame}.png or .jpg, values above 128 are inside (HAT, or any 0/255 masks)',
  ),
  'palette': Format(
    open_palette,
    ('values', 'first', 'spread', 'stride'),
    '{clip}/{frame}.png or {clip}/{object}/{frame}.png, values are labels (DAVIS, SAM 2)',
  ),
  'egohos': Format(
    open_egohos,
    ('values', 'first', 'spread', 'stride'),
    '{clip}/{frame}.png, labels 1 and 2 are hands, 3 to 8 objects (EgoHOS)',
  ),
  'coco': Format(
    open_coco,
    ('values', 'first', 'score', 'images', 'stride'),
    '{clip}.json, or one file for all clips: RLE, polygons or boxes (COCO, detectron2)',
  ),
  'yolo': Format(
    YoloSource,
    ('values', 'first', 'score', 'extra', 'spread', 'stride'),
    '{clip}/{frame}.txt or {clip}_{frame}.txt, polygons or boxes (ultralytics save_txt)',
  ),
  'arrays': Format(
    open_arrays,
    ('region', 'values', 'spread', 'stride'),
    '{clip}.npz or .npy, [frames, height, width] of bool, 0/255 or labels',
  ),
  'made': Format(MadeSource, (), 'the --out of zsar make-masks'),
}


def open_masks(text: str) -> MaskSource:
  """Opens the masks that a value of `--masks` names.

  Args:
    text: such as 'palette:Annotations,values=1:person/*:object'. Options are parsed from the
      right, so that the path may contain commas.

  Raises:
    UserError: The format, an option or a value is unknown, or the masks cannot be opened.
  """
  name, colon, rest = text.partition(':')
  if not colon or name not in FORMATS:
    raise UserError(
      f'--masks: {text!r} must be FORMAT:PATH with one of the formats {", ".join(FORMATS)}'
    )
  mask_format = FORMATS[name]
  options = {}
  while match := _OPTION.search(rest):
    option, value = match.groups()
    if option not in mask_format.options:
      raise UserError(
        f'--masks: {name} has no option {option!r}; its options are '
        f'{", ".join(mask_format.options)}'
      )
    if option in options:
      raise UserError(f'--masks: option {option!r} of {text!r} is given twice')
    options[option] = _PARSERS[option](value, name)
    rest = rest[: match.start()]
  if not rest:
    raise UserError(f'--masks: {text!r} has no path')
  if 'region' in options and 'values' in options:
    raise UserError(f'--masks: {text!r} has region= and values=; give one of the two')
  for option in ('first', 'stride'):
    if options.get('spread') and option in options:
      raise UserError(
        f'--masks: {text!r} has {option}=, but with spread=yes numbers only order the masks'
      )
  return mask_format.open(path_text(rest, '--masks'), **options)


def _choice(option: str, choices: dict[str, Any]) -> Callable[[str, str], Any]:
  def parse(value: str, name: str) -> Any:
    if value not in choices:
      raise UserError(f'--masks: {option}={value} must be one of {", ".join(choices)}')
    return choices[value]

  return parse


def _parse_values(value: str, name: str) -> dict[str, int]:
  """Returns the region's bit of each label or category."""
  bits = {}
  for part in value.split('/'):
    label, colon, region = part.rpartition(':')
    if not colon or not label or region not in REGION_BITS:
      raise UserError(
        f'--masks: values={value}: {part!r} must be VALUE:REGION with one of the regions '
        f'{", ".join(REGION_BITS)}'
      )
    if label.isascii() and label.isdecimal():
      label = label.lstrip('0') or '0'
    elif label != '*' and name != 'coco':
      raise UserError(f'--masks: values={value}: {label!r} must be a whole number or *')
    if label in bits:
      raise UserError(f'--masks: values={value} names {label} twice')
    bits[label] = REGION_BITS[region]
  return bits


def _parse_score(value: str, name: str) -> float:
  try:
    score = float(value)
  except ValueError:
    score = math.nan
  if not 0 <= score <= 1:
    raise UserError(f'--masks: score={value} must be a number from 0 to 1')
  return score


def _parse_stride(value: str, name: str) -> Stride:
  match = re.fullmatch(r'([1-9][0-9]{0,5})(?:\+([0-9]{1,6}))?', value)
  if not match:
    raise UserError(
      f'--masks: stride={value} must be a number of frames such as 10, or 10+9 if the first mask '
      'is of frame 9, counted from 0'
    )
  return int(match[1]), int(match[2]) if match[2] else None


def _parse_images(value: str, name: str) -> str:
  if not value:
    raise UserError('--masks: images= must be the path of a COCO file')
  return path_text(value, '--masks')


# Each converts the text of an option into the argument of the format's `open`. The second argument
# is the format's name, because some texts depend on it.
_PARSERS = {
  'region': _choice('region', {name: name for name in REGION_BITS}),
  'values': _parse_values,
  'first': _choice('first', {'auto': None, '0': 0, '1': 1}),
  'spread': _choice('spread', {'yes': True, 'no': False}),
  'stride': _parse_stride,
  'score': _parse_score,
  'extra': _choice('extra', {'auto': None, '0': 0, '1': 1, '2': 2}),
  'images': _parse_images,
}
