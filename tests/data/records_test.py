"""Frames and planes survive encoding, and damaged ones are refused."""

import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_datasets.proto import tf_example_pb2

from zsar_jax.data import records
from zsar_jax.errors import UserError


def _frames(count: int) -> np.ndarray:
  """u8[count, 24, 32, 3]: smooth, and different in each channel."""
  y, x = np.mgrid[:24, :32]
  ramps = np.stack([4 * x + 20, 5 * y + 40, 3 * x + 2 * y + 60], -1)
  return np.stack([ramps + 5 * n for n in range(count)]).astype(np.uint8)


def _regions(count: int) -> np.ndarray:
  return np.random.default_rng(0).integers(0, 16, (count, 24, 32)).astype(np.uint8)


def _encode(count: int, planes, quality: int = records.JPEG_QUALITY) -> records.EncodedClip:
  jpegs = records.encode_frames(_frames(count), quality)
  return records.encode_clip('a', 1, jpegs, planes, (24, 32), 12.0, {'mime': 'yes'})


def test_frames_survive_in_rgb_order():
  record = _encode(3, None, 95).record
  decoded = np.stack([records.decode_frame(jpeg) for jpeg in record['frames']])
  assert decoded.dtype == np.uint8
  assert decoded.shape == (3, 24, 32, 3)
  # Swapped channels would differ by 20 and more.
  assert np.abs(decoded.astype(int) - _frames(3)).mean() < 2
  assert (record['height'], record['width'], record['fps']) == (24, 32, 12.0)
  assert record['attributes'] == '{"mime": "yes"}'


def test_planes_survive_exactly_and_unannotated_frames_have_none():
  regions = _regions(3)
  regions[2] = 0
  clip = _encode(3, [regions[0], None, regions[2]])
  assert clip.record['annotated'] == [True, False, True]
  assert [bool(code) for code in clip.record['regions']] == [True, False, True]
  for n in (0, 2):
    plane = records.decode_plane(clip.record['regions'][n], 24, 32)
    np.testing.assert_array_equal(plane, regions[n])
  shares = [(regions[0] & bit > 0).mean() / 2 for bit in (1, 2, 4, 8)]
  np.testing.assert_allclose(clip.coverage, shares)
  assert clip.empty == (1, 1, 1, 1)


def test_without_planes_nothing_is_annotated():
  clip = _encode(2, None)
  assert clip.record['annotated'] == [False, False]
  assert np.isnan(clip.coverage).all()


@pytest.mark.parametrize('shape', [(1, 1), (1, 9), (9, 1), (300, 500)])
@pytest.mark.parametrize('levels', [1, 2, 256])
def test_any_plane_survives(shape, levels):
  rng = np.random.default_rng(levels)
  for first in (0, 255):
    # Blocks of equal pixels and single ones, in memory of either order.
    plane = rng.integers(0, levels, shape).astype(np.uint8) * (rng.random(shape) < 0.3)
    plane = plane.astype(np.uint8) ^ np.uint8(first)
    for stored in (plane, np.asfortranarray(plane)):
      decoded = records.decode_plane(records.encode_plane(stored), *shape)
      assert decoded.dtype == np.uint8
      np.testing.assert_array_equal(decoded, plane)


def test_quality_is_that_of_the_encoder():
  sizes = [len(_encode(1, None, quality).record['frames'][0]) for quality in (30, 60, 95)]
  assert sizes == sorted(set(sizes))


@pytest.mark.parametrize(
  'damage', [lambda jpeg: jpeg[:-9], lambda jpeg: b'\xff\xd9', lambda _: b'']
)
def test_damaged_frame_is_refused(damage):
  jpeg = _encode(1, None).record['frames'][0]
  with pytest.raises(UserError, match='JPEG'):
    records.decode_frame(damage(jpeg))


def test_damaged_plane_is_refused():
  code = records.encode_plane(_regions(1)[0])
  flipped = bytes([*code[:40], code[40] ^ 1, *code[41:]])
  for damaged in (b'', b'\x89PNG', code[:20], code[:-1], flipped):
    with pytest.raises(UserError, match='cannot be decoded'):
      records.decode_plane(damaged, 24, 32)
  with pytest.raises(UserError, match='768 pixels .* 30 x 24'):
    records.decode_plane(records.encode_plane(_regions(1)[0] & 1), 24, 30)
  # Lengths that overflow, and a value without a length.
  huge = np.array([2**32 - 1] * 3, '<u4').tobytes() + b'\0\1\2'
  with pytest.raises(UserError, match='12884901885 pixels'):
    records.decode_plane(zlib.compress(huge), 24, 32)
  more = np.array([768], '<u4').tobytes() + b'\0\1'
  with pytest.raises(UserError, match='region plane'):
    records.decode_plane(zlib.compress(more), 24, 32)


@st.composite
def _damaged(draw, original: bytes) -> bytes:
  """Draws bytes of which some were overwritten, removed or inserted."""
  data = bytearray(original)
  for _ in range(draw(st.integers(1, 4))):
    start = draw(st.integers(0, len(data)))
    data[start : start + draw(st.integers(0, 9))] = draw(st.binary(max_size=9))
  return bytes(data)


_JPEG = _encode(1, None).record['frames'][0]
_CODE = records.encode_plane(_regions(1)[0] & 3)


@settings(deadline=None)
@given(st.binary() | st.binary().map(lambda data: data + records.JPEG_END) | _damaged(_JPEG))
def test_any_bytes_are_a_frame_or_refused(data):
  try:
    frame = records.decode_frame(data)
  except UserError:
    return
  assert frame.dtype == np.uint8
  assert frame.shape[2] == 3


@settings(deadline=None)
@given(st.binary() | st.binary().map(zlib.compress) | _damaged(_CODE))
def test_any_bytes_are_a_plane_or_refused(data):
  try:
    plane = records.decode_plane(data, 24, 32)
  except UserError:
    return
  assert plane.dtype == np.uint8
  assert plane.shape == (24, 32)


def test_a_plane_does_not_inflate_without_end():
  """256 MiB of zeros compress to a quarter MB; only the size of a plane is unpacked."""
  bomb = zlib.compress(bytes(2**28))
  tracemalloc.start()
  try:
    with pytest.raises(UserError, match='cannot be decoded'):
      records.decode_plane(bomb, 24, 32)
    assert tracemalloc.get_traced_memory()[1] < 2**20
  finally:
    tracemalloc.stop()


def test_inpainted_frames_of_annotated_frames_are_kept():
  planes = [_regions(1)[0], None, _regions(1)[0]]
  jpegs = list(records.encode_frames(_frames(3)))
  fields = ('a', 1, jpegs, planes, (24, 32), 12.0)
  record = records.encode_clip(*fields, inpainted=[b'first', b'second', b'']).record
  assert record['inpainted'] == [b'first', b'', b'']
  assert 'inpainted' not in records.encode_clip(*fields).record


def test_records_are_serialized_as_by_tfds():
  planes = [_regions(1)[0], None, _regions(1)[0]]
  inpainted = {'inpainted': [b'first', b'', b'']}
  for masks, optional in ((None, {}), (planes, {}), (planes, inpainted), (None, {'inpainted': []})):
    features = records.record_features(('waving, slowly', 'kicking'), bool(optional))
    record = _encode(3, masks).record | optional
    by_tfds = features.serialize_example(features.encode_example(record))
    assert tf_example_pb2.Example.FromString(
      records.serialize(record)
    ) == tf_example_pb2.Example.FromString(by_tfds)
    read = features.deserialize_example_np(records.serialize(record))
    assert list(read.get('inpainted', ())) == list(record.get('inpainted', ()))
