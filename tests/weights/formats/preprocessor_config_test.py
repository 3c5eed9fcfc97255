"""Preprocessing settings in the files of other programs are followed or refused."""

import json
import pathlib

import pytest

from tests.weights.formats.written import random_params
from zsar_jax.errors import UserError
from zsar_jax.models.presets import NORMALIZATIONS, VideoSpec, preset
from zsar_jax.models.video_model import VideoModel
from zsar_jax.weights.formats import preprocessor_config, save
from zsar_jax.weights.formats.preprocessing import Preprocessing
from zsar_jax.weights.formats.read import read_weights

PATH = pathlib.Path('folder', 'file.json')
_CLIP = dict(zip(('image_mean', 'image_std'), map(list, NORMALIZATIONS['clip']), strict=True))
_IMAGENET = dict(zip(('mean', 'std'), map(list, NORMALIZATIONS['imagenet']), strict=True))


def _square(side):
  return {'height': side, 'width': side}


@pytest.mark.parametrize(
  ('config', 'expected'),
  [
    ({}, {}),
    # A missing crop has the default of CLIP's image processor, 224 pixels.
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
  normalization, fields = preprocessor_config.from_transformers(PATH, _CLIP | config)
  assert normalization == 'clip'
  assert Preprocessing(**fields) == Preprocessing(**expected)


@pytest.mark.parametrize(
  ('config', 'words'),
  [
    ({'image_mean': [0.4] * 3, 'image_std': [0.5] * 3}, r'image_mean \[0.4, .*none of those of'),
    ({'resample': 1}, 'resample is 1, but zsar_jax interpolates frames only bilinear or bicubic'),
    ({'resample': 0}, 'resample is 0'),
    ({'do_normalize': False}, 'do_normalize is false'),
    ({'do_rescale': False}, 'do_rescale is false'),
    ({'do_resize': False}, 'do_resize is false'),
    ({'rescale_factor': 1 / 127.5}, 'rescale_factor'),
    ({'size': {'shortest_edge': 224, 'longest_edge': 300}}, 'longest_edge'),
    ({'size': {'height': 224, 'width': 200}}, 'not square'),
    ({'size': {'shortest_edge': 224}, 'do_center_crop': False}, 'not square'),
    ({'size': 224, 'crop_size': 256}, 'does not cut a square out of'),
    ({'size': 224, 'crop_size': {'height': 224, 'width': 200}}, 'does not cut a square out of'),
    ({'size': 224.5}, 'not a number of pixels'),
    ({'size': 0}, 'not a number of pixels'),
    ({'size': {'max_height': 224, 'max_width': 224}}, 'has neither a shortest_edge nor'),
    ({'do_pad': True, 'pad_size': {'height': 300, 'width': 300}}, 'do_pad is true'),
    ({'do_flip_channel_order': True}, 'do_flip_channel_order is true'),
  ],
)
def test_other_image_processors_are_refused(config, words):
  with pytest.raises(UserError, match=f'file.json: .*{words}'):
    preprocessor_config.from_transformers(PATH, _CLIP | config)


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
  name, fields = preprocessor_config.from_open_clip(PATH, config)
  assert (name, Preprocessing(**fields)) == (normalization, Preprocessing(**expected))


@pytest.mark.parametrize(
  ('config', 'words'),
  [
    ({'mean': [0.4] * 3, 'std': [0.5] * 3}, r'mean \[0.4, .*none of those of'),
    ({'std': [0.229, 0.224, 0.225]}, 'none of those of'),
    (
      {'resize_mode': 'longest'},
      'resize_mode is longest, but zsar_jax supports only shortest and squash',
    ),
    ({'interpolation': 'random'}, 'interpolation is random'),
    ({'mode': 'L'}, 'mode is L, but zsar_jax supports only RGB'),
  ],
)
def test_other_preprocess_cfgs_are_refused(config, words):
  with pytest.raises(UserError, match=f'file.json: .*{words}'):
    preprocessor_config.from_open_clip(PATH, config)


@pytest.fixture(scope='module', name='folder')
def _folder(tmp_path_factory):
  """A model folder of transformers; tests may change its settings."""
  folder = tmp_path_factory.mktemp('hf') / 'w'
  model = VideoModel(preset('tiny', image_layers=1, text_layers=1), VideoSpec(2))
  preprocessing = Preprocessing(interpolation='bilinear', resize='squash', centre_crop=0.75)
  save.save_weights(random_params(model), model, 'hf', folder, preprocessing=preprocessing)
  return folder


def test_written_settings_are_read_back(folder):
  saved = json.loads((folder / 'preprocessor_config.json').read_text())
  assert saved['size'] == _square(64)
  preprocessing = read_weights(str(folder), 'SRC').preprocessing
  assert preprocessing == Preprocessing(interpolation='bilinear', resize='squash', centre_crop=0.75)


def test_folders_of_transformers_5(folder):
  """The settings are under `image_processor` and override those of the older file."""
  old, new = folder / 'preprocessor_config.json', folder / 'processor_config.json'
  squashed = read_weights(str(folder), 'SRC').preprocessing
  cropped = {'size': {'shortest_edge': 60}, 'crop_size': _square(48), 'resample': 3}
  for settings, expected in (
    ({'processor_class': 'CLIPProcessor'}, squashed),
    (
      {'image_processor': _CLIP | cropped, 'processor_class': 'CLIPProcessor'},
      Preprocessing(centre_crop=0.8),
    ),
  ):
    new.write_text(json.dumps(settings))
    assert read_weights(str(folder), 'SRC').preprocessing == expected
  content = old.read_text()
  old.unlink()
  assert read_weights(str(folder), 'SRC').preprocessing == Preprocessing(centre_crop=0.8)
  for value in (3, {'image_mean': 3}):
    new.write_text(json.dumps({'image_processor': value}))
    with pytest.raises(UserError, match='/processor_config.json: does not describe a model'):
      read_weights(str(folder), 'SRC')
  new.unlink()
  old.write_text(content)
