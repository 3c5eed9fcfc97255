"""Tests of zsar_jax.datasets.masks.rle against pycocotools."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from tests.datasets.masks.mask_helpers import refusal
from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks import rle

_SETTINGS = settings(deadline=None, max_examples=100)


@st.composite
def _masks(draw):
  height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
  rng = np.random.default_rng(draw(st.integers(0, 2**32)))
  density = draw(st.sampled_from([0, 0.02, 0.3, 0.5, 0.98, 1]))
  return (rng.random((height, width)) < density).astype(np.uint8)


def _uncompressed(mask: np.ndarray) -> dict:
  """Counts from the definition, run by run."""
  counts, value, run = [], 0, 0
  for pixel in mask.T.ravel().tolist():
    if pixel != value:
      counts.append(run)
      value, run = pixel, 0
    run += 1
  return {'size': list(mask.shape), 'counts': [*counts, run]}


def _compressed(mask: np.ndarray) -> dict:
  encoded = coco_mask.encode(np.asfortranarray(mask))
  return {'size': list(encoded['size']), 'counts': encoded['counts'].decode()}


@_SETTINGS
@given(_masks())
def test_decodes_what_pycocotools_encodes(mask):
  np.testing.assert_array_equal(rle.decode(_compressed(mask), ''), mask)


@_SETTINGS
@given(_masks())
def test_decodes_uncompressed_counts(mask):
  encoded = _uncompressed(mask)
  np.testing.assert_array_equal(rle.decode(encoded, ''), mask)
  by_pycocotools = coco_mask.frPyObjects(encoded, *mask.shape)
  assert by_pycocotools['counts'].decode() == _compressed(mask)['counts']


def test_long_runs():
  mask = np.zeros((3000, 1200), np.uint8)
  mask[1, 700] = mask[2900:, 1100:] = 1
  np.testing.assert_array_equal(rle.decode(_compressed(mask), ''), mask)


def test_is_column_major():
  expected = np.zeros((3, 5), np.uint8)
  expected[1:, 0] = expected[0, 1] = 1
  np.testing.assert_array_equal(rle.decode({'size': [3, 5], 'counts': [1, 3, 11]}, ''), expected)


@_SETTINGS
@given(
  st.text() | st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=20),
  st.integers(1, 30),
  st.integers(1, 30),
)
def test_garbage_is_decoded_or_refused(counts, height, width):
  decoded = []
  encoded = {'size': [height, width], 'counts': counts}
  reason = refusal(lambda: decoded.append(rle.decode(encoded, 'here')))
  assert (reason or 'here: ').startswith('here: ')
  for mask in decoded:
    assert mask.shape == (height, width)
    assert mask.dtype == np.uint8
    assert mask.max() <= 1


@_SETTINGS
@given(_masks(), st.data())
def test_damaged_strings_are_decoded_or_refused(mask, data):
  encoded = _compressed(mask)
  position = data.draw(st.integers(0, len(encoded['counts']) - 1))
  character = data.draw(st.sampled_from([*map(chr, range(48, 112)), '', ' ', '/', 'p', 'é']))
  encoded['counts'] = encoded['counts'][:position] + character + encoded['counts'][position + 1 :]
  with contextlib.suppress(ClipError):
    assert rle.decode(encoded, '').shape == mask.shape


@_SETTINGS
@given(
  st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
  ),
  st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
  ),
)
def test_any_json_is_decoded_or_refused(size, counts):
  try:
    mask = rle.decode({'size': size, 'counts': counts}, '')
  except ClipError:
    return
  assert list(mask.shape) == size


@pytest.mark.parametrize(
  ('size', 'counts', 'message'),
  [
    ([4, 5], [3, 4, 12], 'do not add up to 4 x 5'),
    ([4, 5], [3, 4, 14], 'do not add up to 4 x 5'),
    ([4, 5], [], 'do not add up'),
    ([4, 5], '', 'do not add up'),
    ([4, 5], [25, -5], 'negative or larger'),
    ([4, 5], [10**30], 'negative or larger'),
    ([4, 5], [20.0], "'counts' must be"),
    ([4, 5], [True] * 20, "'counts' must be"),
    ([4, 5], None, "'counts' must be"),
    ([4, 5], 'T', 'cut short'),
    ([4, 5], 'oooooooooo0', 'cut short or are no counts'),
    ([4, 5], ' ', 'have a character'),
    ([4, 5], '\u0664', 'have a character'),
    ([0, 5], [], "'size' must be"),
    ([4, 20000], [80000], "'size' must be a height and a width of 1 to 16384"),
    ([4.0, 5], [20], "'size' must be"),
    ([4, 5, 1], [20], "'size' must be"),
    ('45', [20], "'size' must be"),
    (None, [20], "'size' must be"),
  ],
)
def test_wrong_rle_has_a_reason(size, counts, message):
  with pytest.raises(ClipError) as error:
    rle.decode({'size': size, 'counts': counts}, 'here')
  assert error.value.reason.startswith('here: ')
  assert message in error.value.reason


def _encode_counts(runs: list[int]) -> str:
  """Encodes runs as the definition says, including negative ones."""
  text = ''
  for i, run in enumerate(runs):
    value = run - runs[i - 2] if i > 2 else run
    more = True
    while more:
      group = value & 0x1F
      value >>= 5
      more = value != (-1 if group & 0x10 else 0)
      text += chr(48 + group + 0x20 * more)
  return text


def test_negative_runs_in_a_string_are_refused():
  mask = np.tri(9, 7, dtype=np.uint8)
  assert _encode_counts(_uncompressed(mask)['counts']) == _compressed(mask)['counts']
  # These add up to 25.
  with pytest.raises(ClipError, match='do not add up'):
    rle.decode({'size': [5, 5], 'counts': _encode_counts([10, 5, 15, -5])}, '')
