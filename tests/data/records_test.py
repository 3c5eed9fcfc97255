"""Tests of zsar_jax.data.records."""

import cv2
import numpy as np
import pytest

from zsar_jax.data import records
from zsar_jax.errors import UserError


def _frames(count: int) -> np.ndarray:
  """u8[count, 24, 32, 3]: smooth, and different in each channel."""
  y, x = np.mgrid[:24, :32]
  ramps = np.stack([4 * x + 20, 5 * y + 40, 3 * x + 2 * y + 60], -1)
  return np.stack([ramps + 5 * n for n in range(count)]).astype(np.uint8)


def _regions(count: int) -> np.ndarray:
  return np.random.default_rng(0).integers(0, 16, (count, 24, 32)).astype(np.uint8)


def test_frames_survive_in_rgb_order():
  frames = _frames(3)
  record = records.encode_clip('a', 1, frames, None, None, 12.0, jpeg_quality=95)
  decoded = np.stack([records.decode_frame(jpeg) for jpeg in record['frames']])
  assert decoded.dtype == np.uint8
  assert decoded.shape == frames.shape
  # Swapped channels would differ by 20 and more.
  assert np.abs(decoded.astype(int) - frames).mean() < 2
  assert (record['height'], record['width'], record['fps']) == (24, 32, 12.0)


def test_planes_survive_exactly_and_unannotated_frames_have_none():
  regions, annotated = _regions(3), np.array([True, False, True])
  regions[2] = 0
  record = records.encode_clip('a', 0, _frames(3), regions, annotated, 12.0)
  assert record['annotated'] == [True, False, True]
  assert [bool(png) for png in record['regions']] == [True, False, True]
  for n in (0, 2):
    np.testing.assert_array_equal(records.decode_plane(record['regions'][n], 24, 32), regions[n])


@pytest.mark.parametrize(
  ('regions', 'expected'), [(None, [False, False]), (_regions(2), [True, True])]
)
def test_annotation_defaults_to_none_or_all(regions, expected):
  record = records.encode_clip('a', 0, _frames(2), regions, None, 12.0)
  assert record['annotated'] == expected


def test_quality_is_that_of_the_encoder():
  sizes = [
    len(records.encode_clip('a', 0, _frames(1), None, None, 12.0, quality)['frames'][0])
    for quality in (30, 60, 95)
  ]
  assert sizes == sorted(set(sizes))


@pytest.mark.parametrize(
  'damage', [lambda jpeg: jpeg[:-9], lambda jpeg: b'\xff\xd9', lambda _: b'']
)
def test_damaged_frame_is_refused(damage):
  jpeg = records.encode_clip('a', 0, _frames(1), None, None, 12.0)['frames'][0]
  with pytest.raises(UserError, match='JPEG'):
    records.decode_frame(damage(jpeg))


def test_damaged_plane_is_refused():
  png = records.encode_clip('a', 0, _frames(1), _regions(1), None, 12.0)['regions'][0]
  for damaged in (b'', b'\x89PNG', png[:20]):
    with pytest.raises(UserError, match='PNG'):
      records.decode_plane(damaged, 24, 32)
  with pytest.raises(UserError, match=r'\[24, 32\].*\[24, 30\]'):
    records.decode_plane(png, 24, 30)
  colour = cv2.imencode('.png', _frames(1)[0])[1].tobytes()
  with pytest.raises(UserError, match='24, 32, 3'):
    records.decode_plane(colour, 24, 32)
