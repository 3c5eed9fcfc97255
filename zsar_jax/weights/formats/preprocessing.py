"""How frames are prepared, as the files beside weights say it.

What this project does otherwise is refused: a model that sees other pixels than in its training
gives other numbers, and nothing would show it.
"""

import math
import pathlib
from typing import Any

from zsar_jax.data.geometry import INTERPOLATIONS
from zsar_jax.errors import UserError
from zsar_jax.models.presets import NORMALIZATIONS, TowerSpec
from zsar_jax.weights.formats.tensors import shown
from zsar_jax.weights.formats.usage import Usage

# Where transformers keeps it: on its own until version 4, then below `image_processor`.
PREPROCESSOR = 'preprocessor_config.json'
PROCESSOR = 'processor_config.json'

# The default of CLIP's image processor for size and crop, in pixels.
_SIDE = 224

# What PIL calls the interpolations.
_RESAMPLE = {'bilinear': 2, 'bicubic': 3}


def from_transformers(path: pathlib.Path, config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
  """What the settings of an image processor of transformers say.

  Args:
    path: the file, for errors.
    config: the settings. What they lack is as CLIP's image processor has it.

  Returns:
    The normalization, and fields of `Preprocessing`.

  Raises:
    UserError: for frames that are prepared otherwise than this project can.
    AttributeError, KeyError, TypeError, ValueError: for a file that says something else.
  """
  for step in ('do_resize', 'do_rescale', 'do_normalize'):
    if config.get(step, True) is False:
      raise UserError(
        f'{path}: {step} is false, and frames are always prepared so here; take another model'
      )
  for step in ('do_pad', 'do_flip_channel_order'):
    if config.get(step):
      raise UserError(f'{path}: {step} is true, which is not computed here; take another model')
  scale = config.get('rescale_factor', 1 / 255)
  if not math.isclose(scale, 1 / 255, rel_tol=1e-3):
    raise UserError(f'{path}: rescale_factor is {scale} and is always 1/255 here')
  normalization = _normalization(path, 'image_', config.get('image_mean'), config.get('image_std'))
  usage = {}
  if config.get('resample') is not None:
    names = {number: name for name, number in _RESAMPLE.items()}
    usage['interpolation'] = _interpolation(path, 'resample', names.get(config['resample']), config)
  return normalization, usage | _geometry(path, config)


def _geometry(path: pathlib.Path, config: dict[str, Any]) -> dict[str, Any]:
  """How an image processor of transformers makes a square of a frame, as fields of `Preprocessing`."""
  usage: dict[str, Any] = {}
  size, crop = config.get('size', _SIDE), config.get('crop_size')
  if isinstance(size, dict) and not size.keys() & {'height', 'shortest_edge'}:
    raise UserError(
      f'{path}: size {shown(str(size))} is neither a shortest_edge nor a height and width; take'
      ' another model'
    )
  if isinstance(size, dict) and size.keys() == {'height', 'width'}:
    usage['resize'] = 'squash'
    sides = _sides(path, 'size', size)
  else:
    sides = [_pixels(path, 'size', size['shortest_edge'] if isinstance(size, dict) else size)] * 2
    if isinstance(size, dict) and size.get('longest_edge') is not None:
      raise UserError(f'{path}: size has a longest_edge, which is not computed here')
  if crop is None and config.get('do_center_crop', 'resize' not in usage):
    crop = min(_SIDE, *sides)
  if config.get('do_center_crop', True) and crop is not None:
    cut = _sides(path, 'crop_size', crop)
    shares = [part / side for part, side in zip(cut, sides, strict=True)]
    if cut[0] != cut[1] or not math.isclose(*shares) or shares[0] > 1:
      raise UserError(
        f'{path}: crop_size {shown(str(crop))} cuts no square out of size {shown(str(size))}; take'
        ' another model'
      )
    usage['centre_crop'] = shares[0]
  elif 'resize' not in usage and config.get('do_center_crop') is False or sides[0] != sides[1]:
    raise UserError(
      f'{path}: size {shown(str(size))} without do_center_crop leaves a frame that is no square,'
      ' which it always is here; take another model'
    )
  return usage


def from_open_clip(path: pathlib.Path, config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
  """What `preprocess_cfg` of an open_clip_config.json says; see `from_transformers`."""
  normalization = _normalization(path, '', config.get('mean'), config.get('std'))
  usage = {}
  if config.get('interpolation') is not None:
    usage['interpolation'] = _interpolation(path, 'interpolation', config['interpolation'], config)
  resize = config.get('resize_mode') or 'shortest'
  if resize not in ('shortest', 'squash'):
    raise UserError(
      f'{path}: resize_mode is {shown(str(resize))}, and only shortest and squash are computed'
      ' here; take another model'
    )
  if str(config.get('mode') or 'RGB') != 'RGB':
    raise UserError(f'{path}: mode is {shown(str(config["mode"]))} and is always RGB here')
  return normalization, usage | {'resize': resize}


def to_transformers(spec: TowerSpec, usage: Preprocessing) -> dict[str, Any]:
  """The preprocessor_config.json of a model: the inverse of `from_transformers`."""
  mean, std = NORMALIZATIONS[spec.normalization]
  side = spec.resolution
  whole = round(side / usage.centre_crop)
  squash = usage.resize == 'squash'
  return {
    'image_processor_type': 'CLIPImageProcessor',
    'do_resize': True,
    'size': {'height': whole, 'width': whole} if squash else {'shortest_edge': whole},
    'resample': _RESAMPLE[usage.interpolation],
    'do_center_crop': True,
    'crop_size': {'height': side, 'width': side},
    'do_rescale': True,
    'rescale_factor': 1 / 255,
    'do_normalize': True,
    'image_mean': list(mean),
    'image_std': list(std),
    'do_convert_rgb': True,
  }


def _normalization(path: pathlib.Path, prefix: str, mean: Any, std: Any) -> str:
  """The name of a mean and deviation; CLIP's where there are none."""
  default = NORMALIZATIONS['clip']
  constants = [list(default[0] if mean is None else mean), list(default[1] if std is None else std)]
  for name, known in NORMALIZATIONS.items():
    if all(
      math.isclose(one, other, abs_tol=1e-4)
      for given, right in zip(constants, known, strict=True)
      for one, other in zip(given, right, strict=True)
    ):
      return name
  raise UserError(
    f'{path}: {prefix}mean {constants[0]} and {prefix}std {constants[1]} are neither those of'
    ' CLIP nor those of ImageNet; take another model'
  )


def _interpolation(path: pathlib.Path, key: str, name: Any, config: dict[str, Any]) -> str:
  if name not in INTERPOLATIONS:
    raise UserError(
      f'{path}: {key} is {shown(str(config[key]))}, and frames are interpolated here'
      f' {" or ".join(INTERPOLATIONS)}; take another model'
    )
  return name


def _sides(path: pathlib.Path, key: str, size: Any) -> list[int]:
  """Height and width in pixels, as new files write them or as old ones."""
  sides = (size['height'], size['width']) if isinstance(size, dict) else (size, size)
  return [_pixels(path, key, side) for side in sides]


def _pixels(path: pathlib.Path, key: str, value: Any) -> int:
  if type(value) is not int or value < 1:
    raise UserError(f'{path}: {key} is {shown(str(value))}, which is no number of pixels')
  return value
