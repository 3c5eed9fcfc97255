"""Crop, resize and normalization on real frames, against Pillow and Hugging Face's CLIP."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from zsar_jax.data import records
from zsar_jax.data.geometry import center_crop, resize_frame
from zsar_jax.datasets.video import Storage, read_video
from zsar_jax.ops.photometric import normalize

_VIDEOS = pathlib.Path(__file__).parents[3] / 'shared' / 'data' / 'kinetics400' / 'videos'

pytestmark = pytest.mark.skipif(not _VIDEOS.exists(), reason='no ../shared/data')


@pytest.fixture(scope='module', name='frames')
def _frames():
  stored = [read_video(path, Storage(keep='segments:3')) for path in _VIDEOS.rglob('*.mp4')]
  return [records.decode_frame(jpeg) for video in stored for jpeg in video.jpegs]


def _ours(frame, fraction=1.0):
  return resize_frame(frame, center_crop(*frame.shape[:2], fraction), 224, 'bicubic')


def _difference(frames, other):
  """The mean difference in grey levels, of 255."""
  return np.mean([np.abs(_ours(frame).astype(float) - other(frame)).mean() for frame in frames])


def test_resizing_is_pillows_but_for_its_smoothing(frames):
  def pillow(frame):
    box = center_crop(*frame.shape[:2], 1.0)
    corners = (box.left, box.top, box.left + box.width, box.top + box.height)
    image = Image.fromarray(frame).crop(corners).resize((224, 224), Image.Resampling.BICUBIC)
    return np.asarray(image, float)

  assert _difference(frames, pillow) < 1.5
  # Of large frames OpenCV alone would take single pixels.
  noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3)).astype(np.uint8)
  assert _ours(noise).std() < 1.5 * pillow(noise).std()


def test_against_hugging_faces_image_processor(frames):
  transformers = pytest.importorskip('transformers', reason='the extra parity is not installed')
  pytest.importorskip('torch', reason='the extra parity is not installed')
  processor = transformers.CLIPImageProcessor()
  mean, std = np.array(processor.image_mean), np.array(processor.image_std)

  def theirs(frame):
    pixels = processor(Image.fromarray(frame), return_tensors='np')['pixel_values'][0]
    return 255 * (pixels.transpose(1, 2, 0) * std + mean)

  # Of the same square only the smoothing differs. Of whole frames they resize first and round
  # the crop's place down twice, which puts it up to a pixel beside the middle: 3.3 levels here.
  def of_the_square(frame):
    box = center_crop(*frame.shape[:2], 1.0)
    return theirs(frame[box.top : box.top + box.height, box.left : box.left + box.width])

  assert _difference(frames, of_the_square) < 1.5
  assert _difference(frames, theirs) < 4
  constant = np.full((224, 224, 3), 100, np.uint8)
  pixels = processor(Image.fromarray(constant), return_tensors='np')['pixel_values'][0]
  ours = normalize(_ours(constant) / 255.0)
  np.testing.assert_allclose(ours, pixels.transpose(1, 2, 0), atol=1e-5)
