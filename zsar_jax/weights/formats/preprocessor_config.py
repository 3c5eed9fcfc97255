"""Image preprocessing settings in the files of transformers and open_clip.

Settings that this project cannot reproduce are refused: a model that sees other pixels than in its
training returns other numbers, and nothing would reveal it.
"""

import math
import pathlib
from typing import Any

from zsar_jax.data.geometry import INTERPOLATIONS
from zsar_jax.errors import UserError
from zsar_jax.models.presets import NORMALIZATIONS, TowerSpec
from zsar_jax.weights.formats.lazy_arrays import printable
from zsar_jax.weights.formats.preprocessing import Preprocessing

# Files with the settings of transformers' image processor. Versions up to 4 write a file of its
# own; later versions write the key `image_processor` of the processor's file.
PREPROCESSOR = 'preprocessor_config.json'
PROCESSOR = 'processor_config.json'

# The default size and crop of CLIP's image processor, in pixels.
_DEFAULT_SIDE = 224

# PIL's numbers of the interpolations.
_RESAMPLE = {'bilinear': 2, 'bicubic': 3}


def from_transformers(path: pathlib.Path, config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
  """Reads the settings of an image processor of transformers.

  Args:
    path: the file, for errors.
    config: the settings. A missing setting has the default of CLIP's image processor.

  Returns:
    The normalization, and fields of `Preprocessing`.

  Raises:
    UserError: if the settings describe a preprocessing that this project does not support.
    AttributeError, KeyError, TypeError, ValueError: if the file describes something else.
  """
  for step in ('do_resize', 'do_rescale', 'do_normalize'):
    if config.get(step, True) is False:
      raise UserError(
        f'{path}: {step} is false, but zsar_jax always applies this step; use another model'
      )
  for step in ('do_pad', 'do_flip_channel_order'):
    if config.get(step):
      raise UserError(f'{path}: {step} is true, which zsar_jax does not support; use another model')
  scale = config.get('rescale_factor', 1 / 255)
  if not math.isclose(scale, 1 / 255, rel_tol=1e-3):
    raise UserError(
      f'{path}: rescale_factor is {scale}, but zsar_jax always uses 1/255; use another model'
    )
  normalization = _normalization(path, 'image_', config.get('image_mean'), config.get('image_std'))
  fields = {}
  if config.get('resample') is not None:
    names = {number: name for name, number in _RESAMPLE.items()}
    fields['interpolation'] = _interpolation(
      path, 'resample', names.get(config['resample']), config
    )
  return normalization, fields | _geometry(path, config)


def _geometry(path: pathlib.Path, config: dict[str, Any]) -> dict[str, Any]:
  """Reads how transformers' image processor makes a frame square, as `Preprocessing` fields."""
  fields: dict[str, Any] = {}
  size, crop = config.get('size', _DEFAULT_SIDE), config.get('crop_size')
  quoted_size = printable(str(size))
  if isinstance(size, dict) and not size.keys() & {'height', 'shortest_edge'}:
    raise UserError(
      f'{path}: size {quoted_size} has neither a shortest_edge nor a height and width; use another'
      ' model'
    )
  if isinstance(size, dict) and size.keys() == {'height', 'width'}:
    fields['resize'] = 'squash'
    sides = _sides(path, 'size', size)
  else:
    sides = [_pixels(path, 'size', size['shortest_edge'] if isinstance(size, dict) else size)] * 2
    if isinstance(size, dict) and size.get('longest_edge') is not None:
      raise UserError(
        f'{path}: size has a longest_edge, which zsar_jax does not support; use another model'
      )
  if crop is None and config.get('do_center_crop', 'resize' not in fields):
    crop = min(_DEFAULT_SIDE, *sides)
  if config.get('do_center_crop', True) and crop is not None:
    crop_sides = _sides(path, 'crop_size', crop)
    shares = [part / side for part, side in zip(crop_sides, sides, strict=True)]
    if crop_sides[0] != crop_sides[1] or not math.isclose(*shares) or shares[0] > 1:
      raise UserError(
        f'{path}: crop_size {printable(str(crop))} does not cut a square out of size'
        f' {quoted_size}; use another model'
      )
    fields['centre_crop'] = shares[0]
  elif 'resize' not in fields and config.get('do_center_crop') is False or sides[0] != sides[1]:
    raise UserError(
      f'{path}: size {quoted_size} without do_center_crop gives frames that are not square, which'
      ' zsar_jax does not support; use another model'
    )
  return fields


def from_open_clip(path: pathlib.Path, config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
  """Reads `preprocess_cfg` of an open_clip_config.json; see `from_transformers`."""
  normalization = _normalization(path, '', config.get('mean'), config.get('std'))
  fields = {}
  if config.get('interpolation') is not None:
    fields['interpolation'] = _interpolation(path, 'interpolation', config['interpolation'], config)
  resize = config.get('resize_mode') or 'shortest'
  if resize not in ('shortest', 'squash'):
    raise UserError(
      f'{path}: resize_mode is {printable(str(resize))}, but zsar_jax supports only shortest and'
      ' squash; use another model'
    )
  if str(config.get('mode') or 'RGB') != 'RGB':
    raise UserError(
      f'{path}: mode is {printable(str(config["mode"]))}, but zsar_jax supports only RGB; use'
      ' another model'
    )
  return normalization, fields | {'resize': resize}


def to_transformers(spec: TowerSpec, preprocessing: Preprocessing) -> dict[str, Any]:
  """Returns the preprocessor_config.json of a model: the inverse of `from_transformers`."""
  mean, std = NORMALIZATIONS[spec.normalization]
  crop_side = spec.resolution
  resized_side = round(crop_side / preprocessing.centre_crop)
  if preprocessing.resize == 'squash':
    size = {'height': resized_side, 'width': resized_side}
  else:
    size = {'shortest_edge': resized_side}
  return {
    'image_processor_type': 'CLIPImageProcessor',
    'do_resize': True,
    'size': size,
    'resample': _RESAMPLE[preprocessing.interpolation],
    'do_center_crop': True,
    'crop_size': {'height': crop_side, 'width': crop_side},
    'do_rescale': True,
    'rescale_factor': 1 / 255,
    'do_normalize': True,
    'image_mean': list(mean),
    'image_std': list(std),
    'do_convert_rgb': True,
  }


def _normalization(path: pathlib.Path, prefix: str, mean: Any, std: Any) -> str:
  """Returns the name of a mean and deviation; a value of None stands for CLIP's."""
  default_mean, default_std = NORMALIZATIONS['clip']
  mean = list(default_mean if mean is None else mean)
  std = list(default_std if std is None else std)
  for name, (named_mean, named_std) in NORMALIZATIONS.items():
    pairs = [*zip(mean, named_mean, strict=True), *zip(std, named_std, strict=True)]
    if all(math.isclose(value, named, abs_tol=1e-4) for value, named in pairs):
      return name
  raise UserError(
    f'{path}: {prefix}mean {mean} and {prefix}std {std} are none of those of'
    f' {", ".join(NORMALIZATIONS)} (see presets.NORMALIZATIONS); use another model'
  )


def _interpolation(path: pathlib.Path, key: str, name: Any, config: dict[str, Any]) -> str:
  if name not in INTERPOLATIONS:
    raise UserError(
      f'{path}: {key} is {printable(str(config[key]))}, but zsar_jax interpolates frames only'
      f' {" or ".join(INTERPOLATIONS)}; use another model'
    )
  return name


def _sides(path: pathlib.Path, key: str, size: Any) -> list[int]:
  """Returns height and width in pixels; old files write one number for both."""
  sides = (size['height'], size['width']) if isinstance(size, dict) else (size, size)
  return [_pixels(path, key, side) for side in sides]


def _pixels(path: pathlib.Path, key: str, value: Any) -> int:
  if type(value) is not int or value < 1:
    raise UserError(
      f'{path}: {key} is {printable(str(value))}, which is not a number of pixels; use another'
      ' model'
    )
  return value
