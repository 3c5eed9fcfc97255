"""Crop, resize and normalization of frames, against Pillow and Hugging Face's CLIP."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from zsar_jax import pantomime
from zsar_jax.data import records
from zsar_jax.data.geometry import center_crop, resize_frame, resize_plane
from zsar_jax.datasets.video import Storage
from zsar_jax.datasets.video_reading import read_video
from zsar_jax.ops.photometric import normalize

_VIDEOS = pathlib.Path(__file__).parents[3] / 'shared' / 'data' / 'kinetics400' / 'videos'


def _drawn_frames():
  """Frames of Pantomime, landscape and portrait, enlarged and reduced by the resize to 224."""
  frames = []
  for index, (height, width) in enumerate([(480, 640), (640, 480), (150, 200), (270, 240)]):
    for world in pantomime.WORLDS:
      side = max(height, width)
      clip = pantomime.render_clip(world, 'train', index, 0, size=side, num_frames=2)
      frames.append(np.ascontiguousarray(clip.frames[1, :height, :width]))
  return frames


def _video_frames():
  videos = [read_video(path, Storage(keep='segments:3')) for path in _VIDEOS.rglob('*.mp4')]
  return [records.decode_frame(jpeg) for video in videos for jpeg in video.jpegs]


@pytest.fixture(scope='module', params=['drawn', 'videos'], name='frames')
def _frames(request):
  if request.param == 'drawn':
    return _drawn_frames()
  if not _VIDEOS.exists():
    pytest.skip('no ../shared/data')
  return _video_frames()


def _ours(frame, fraction=1.0):
  return resize_frame(frame, center_crop(*frame.shape[:2], fraction), 224, 'bicubic')


def _difference(frames, other):
  """The mean difference in gray levels, of 255."""
  return np.mean([np.abs(_ours(frame).astype(float) - other(frame)).mean() for frame in frames])


def _pillow(frame, shift=0):
  box = center_crop(*frame.shape[:2], 1.0)
  corners = (box.left + shift, box.top, box.left + box.width + shift, box.top + box.height)
  image = Image.fromarray(frame).crop(corners).resize((224, 224), Image.Resampling.BICUBIC)
  return np.asarray(image, float)


def test_resizing_differs_from_pillow_only_in_smoothing(frames):
  assert _difference(frames, _pillow) < 1.5
  # The measure is fine enough to notice an offset of one pixel.
  assert _difference(frames, lambda frame: _pillow(frame, shift=1)) > 1.5


def test_large_frames_are_averaged_like_pillows():
  """OpenCV's interpolation alone would take single pixels."""
  noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3)).astype(np.uint8)
  assert _ours(noise).std() < 1.5 * _pillow(noise).std()


@pytest.mark.parametrize('resize', ['squash', 'shortest'])
def test_planes_stay_with_the_frames(resize):
  """A dark region of a frame is where the plane says, whether frames are squashed or cropped."""
  plane = np.zeros((90, 151), np.uint8)
  plane[20:57, 40:83] = 1
  frame = np.repeat(250 - 200 * plane[..., None], 3, -1)
  box = center_crop(*plane.shape, 1.0, resize=resize)
  resized = resize_frame(frame, box, 48, 'bilinear')[..., 0] < 150
  marked = resize_plane(plane, box, 48) > 0
  assert (marked != resized).mean() < 0.01
  # Squashed, 43 of 151 columns are 14 of 48; in the square of 90 columns they are 23.
  columns = {'squash': range(13, 27), 'shortest': range(5, 28)}[resize]
  assert abs(marked.any(0).sum() - len(columns)) <= 1
  assert abs(int(marked.any(0).argmax()) - columns[0]) <= 1


def test_against_hugging_faces_image_processor(frames):
  transformers = pytest.importorskip('transformers', reason='the extra parity is not installed')
  pytest.importorskip('torch', reason='the extra parity is not installed')
  processor = transformers.CLIPImageProcessor()
  mean, std = np.array(processor.image_mean), np.array(processor.image_std)

  def theirs(frame):
    pixels = processor(Image.fromarray(frame), return_tensors='np')['pixel_values'][0]
    return 255 * (pixels.transpose(1, 2, 0) * std + mean)

  def of_the_square(frame):
    box = center_crop(*frame.shape[:2], 1.0)
    return theirs(frame[box.top : box.top + box.height, box.left : box.left + box.width])

  # On the same square only the smoothing differs.
  assert _difference(frames, of_the_square) < 1.5
  # On full frames they resize first and round the crop's position down twice, which moves it by up
  # to a pixel from the center: 3.3 levels on the videos.
  assert _difference(frames, theirs) < 4
  constant = np.full((224, 224, 3), 100, np.uint8)
  pixels = processor(Image.fromarray(constant), return_tensors='np')['pixel_values'][0]
  ours = normalize(_ours(constant) / 255.0)
  np.testing.assert_allclose(ours, pixels.transpose(1, 2, 0), atol=1e-5)
