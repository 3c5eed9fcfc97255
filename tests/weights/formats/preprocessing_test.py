"""How frames are prepared, from the files of other programs: followed, or refused."""

import json
import pathlib

import pytest

from tests.weights.formats.written import random_params
from zsar_jax.errors import UserError
from zsar_jax.models.presets import NORMALIZATIONS, VideoSpec, preset
from zsar_jax.models.video_model import VideoModel
from zsar_jax.weights.formats import preprocessing, save
from zsar_jax.weights.formats.read import read_weights
from zsar_jax.weights.formats.usage import Usage

PATH = pathlib.Path('folder', 'file.json')
_CLIP = dict(zip(('image_mean', 'image_std'), map(list, NORMALIZATIONS['clip']), strict=True))
_IMAGENET = dict(zip(('mean', 'std'), map(list, NORMALIZATIONS['imagenet']), strict=True))


def _square(side):
  return {'height': side, 'width': side}


@pytest.mark.parametrize(
  ('config', 'expected'),
  [
    ({}, {}),
    # A crop that is not told is the 224 pixels of CLIP's processor.
    ({'size': {'shortest_edge': 256}}, {'centre_crop': 0.875}),
    ({'size': 256, 'do_center_crop': True}, {'centre_crop': 0.875}),
    ({'size': 256, 'crop_size': 224, 'resample': 3}, {'centre_crop': 0.875}),
    (
      {'size': {'shortest_edge': 40}, 'crop_size': _square(32), 'resample': 2},
      {'centre_crop': 0.8, 'interpolation': 'bilinear'},
    ),
    ({'size': _square(224), 'do_center_crop': False}, {'resize': 'squash'}),
    ({'size': _square(224)}, {'resize': 'squash'}),
    (
      {'size': _square(256), 'crop_size': _square(224), 'do_center_crop': True},
      {'resize': 'squash', 'centre_crop': 0.875},
    ),
    (
      {'size': _square(256), 'crop_size': _square(224), 'do_center_crop': False},
      {'resize': 'squash'},
    ),
  ],
)
def test_image_processors_of_transformers(config, expected):
  normalization, changes = preprocessing.from_transformers(PATH, _CLIP | config)
  assert normalization == 'clip'
  assert Usage(**changes) == Usage(**expected)


@pytest.mark.parametrize(
  ('config', 'words'),
  [
    ({'image_mean': [0.5] * 3, 'image_std': [0.5] * 3}, r'image_mean \[0.5, .*neither'),
    ({'resample': 1}, 'resample is 1, and frames are interpolated here bilinear or bicubic'),
    ({'resample': 0}, 'resample is 0'),
    ({'do_normalize': False}, 'do_normalize is false'),
    ({'do_rescale': False}, 'do_rescale is false'),
    ({'do_resize': False}, 'do_resize is false'),
    ({'rescale_factor': 1 / 127.5}, 'rescale_factor'),
    ({'size': {'shortest_edge': 224, 'longest_edge': 300}}, 'longest_edge'),
    ({'size': {'height': 224, 'width': 200}}, 'no square'),
    ({'size': {'shortest_edge': 224}, 'do_center_crop': False}, 'no square'),
    ({'size': 224, 'crop_size': 256}, 'cuts no square out of'),
    ({'size': 224, 'crop_size': {'height': 224, 'width': 200}}, 'cuts no square out of'),
    ({'size': 224.5}, 'no number of pixels'),
    ({'size': 0}, 'no number of pixels'),
    ({'size': {'max_height': 224, 'max_width': 224}}, 'neither a shortest_edge nor'),
    ({'do_pad': True, 'pad_size': {'height': 300, 'width': 300}}, 'do_pad is true'),
    ({'do_flip_channel_order': True}, 'do_flip_channel_order is true'),
  ],
)
def test_other_image_processors_are_refused(config, words):
  with pytest.raises(UserError, match=f'file.json: .*{words}'):
    preprocessing.from_transformers(PATH, _CLIP | config)


@pytest.mark.parametrize(
  ('config', 'normalization', 'expected'),
  [
    ({}, 'clip', {}),
    (_IMAGENET, 'imagenet', {}),
    (
      {'interpolation': 'bilinear', 'resize_mode': 'shortest'},
      'clip',
      {'interpolation': 'bilinear'},
    ),
    ({'resize_mode': 'squash', 'mode': 'RGB', 'size': 224}, 'clip', {'resize': 'squash'}),
  ],
)
def test_preprocess_cfg_of_open_clip(config, normalization, expected):
  found, changes = preprocessing.from_open_clip(PATH, config)
  assert (found, Usage(**changes)) == (normalization, Usage(**expected))


@pytest.mark.parametrize(
  ('config', 'words'),
  [
    ({'mean': [0.5] * 3, 'std': [0.5] * 3}, r'mean \[0.5, .*neither'),
    ({'std': [0.229, 0.224, 0.225]}, 'neither'),
    ({'resize_mode': 'longest'}, 'resize_mode is longest, and only shortest and squash'),
    ({'interpolation': 'random'}, 'interpolation is random'),
    ({'mode': 'L'}, 'mode is L and is always RGB'),
  ],
)
def test_other_preprocess_cfgs_are_refused(config, words):
  with pytest.raises(UserError, match=f'file.json: .*{words}'):
    preprocessing.from_open_clip(PATH, config)


@pytest.fixture(scope='module', name='folder')
def _folder(tmp_path_factory):
  """A folder of transformers', whose settings tests may change."""
  folder = tmp_path_factory.mktemp('hf') / 'w'
  model = VideoModel(preset('tiny', image_layers=1, text_layers=1), VideoSpec(2))
  usage = Usage(interpolation='bilinear', resize='squash', centre_crop=0.75)
  save.save_weights(random_params(model), model, 'hf', folder, usage=usage)
  return folder


def test_what_is_written_is_read_back(folder):
  saved = json.loads((folder / 'preprocessor_config.json').read_text())
  assert saved['size'] == _square(64)
  usage = read_weights(str(folder), 'SRC').usage
  assert usage == Usage(interpolation='bilinear', resize='squash', centre_crop=0.75)


def test_folders_of_transformers_5(folder):
  """The settings lie below `image_processor`, and count before those of the older file."""
  old, new = folder / 'preprocessor_config.json', folder / 'processor_config.json'
  squashed = read_weights(str(folder), 'SRC').usage
  cut = {'size': {'shortest_edge': 60}, 'crop_size': _square(48), 'resample': 3}
  for settings, expected in (
    ({'processor_class': 'CLIPProcessor'}, squashed),
    ({'image_processor': _CLIP | cut, 'processor_class': 'CLIPProcessor'}, Usage(centre_crop=0.8)),
  ):
    new.write_text(json.dumps(settings))
    assert read_weights(str(folder), 'SRC').usage == expected
  content = old.read_text()
  old.unlink()
  assert read_weights(str(folder), 'SRC').usage == Usage(centre_crop=0.8)
  for value in (3, {'image_mean': 3}):
    new.write_text(json.dumps({'image_processor': value}))
    with pytest.raises(UserError, match='/processor_config.json: describes no model of hf_clip'):
      read_weights(str(folder), 'SRC')
  new.unlink()
  old.write_text(content)
