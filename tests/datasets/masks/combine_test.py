"""Tests of zsar_jax.datasets.masks.combine."""

import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.datasets.masks.mask_helpers import video
from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.combine import CombinedMasks, boxes_from_shapes
from zsar_jax.recipes.regions import OBJECT, OBJECT_BOX, PERSON, PERSON_BOX


@dataclasses.dataclass(frozen=True)
class _Masks:
  """Planes with a single bit, 0 for an empty plane and None for none; a remark with the last."""

  bits: tuple[int | None, ...]
  remark: str

  def planes(self, facts, remarks):
    for frame in facts.kept:
      if frame == facts.kept[-1]:
        remarks['masks resized'] = self.remark
        remarks[f'only {self.remark}'] = 'x'
        remarks['same'] = 'once'
      bit = self.bits[frame]
      yield None if bit is None else np.full((facts.height, facts.width), bit, np.uint8)


def test_planes_are_united_if_all_parts_are_annotated():
  combined = CombinedMasks(
    (_Masks((PERSON, PERSON, None, 0), 'a'), _Masks((OBJECT, None, OBJECT, 0), 'b')), False
  )
  remarks = {'masks resized': 'before', 'video': 'long'}
  iterator = pickle.loads(pickle.dumps(combined)).planes(video(4), remarks)
  planes = [next(iterator) for _ in range(4)]
  assert (planes[0] == PERSON | OBJECT).all()
  assert planes[1] is None
  assert planes[2] is None
  assert not planes[3].any()
  assert remarks == {
    'masks resized': 'before; a; b',
    'video': 'long',
    'only a': 'x',
    'only b': 'x',
    'same': 'once',
  }
  assert not list(iterator)


def test_annotated_frames_and_the_bits_of_unknown_regions():
  class Known:
    def __init__(self, *frames):
      self.frames = frames

    def annotated_frames(self, num_frames, own):
      assert (num_frames, own) == (9, None)
      return self.frames

  assert CombinedMasks((Known(0, 3, 5), Known(5, 3, 8)), False).annotated_frames(9, None) == {3, 5}
  masks = CombinedMasks((_Masks((PERSON, 0, None), 'a'),), True, ('object', 'object_box'))
  drawn = list(masks.planes(video(3), {}))
  unknown = (OBJECT | OBJECT_BOX) << 4
  assert (drawn[0] == PERSON | PERSON_BOX | unknown).all()
  assert (drawn[1] == unknown).all()
  assert drawn[2] is None


def test_errors_of_parts_are_raised():
  class Broken:
    def planes(self, facts, remarks):
      yield None
      raise ClipError('broken')

  combined = CombinedMasks((_Masks((0, 0), 'a'), Broken()), False)
  with pytest.raises(ClipError, match='broken'):
    list(combined.planes(video(2), {}))


def test_boxes_enclose_each_component():
  plane = np.zeros((20, 30), np.uint8)
  plane[2:5, 3:8] = PERSON
  plane[5, 8] = PERSON  # Touches by a corner.
  plane[10:12, 20:29] = PERSON
  plane[4:9, 6:7] |= OBJECT
  plane[19, 0] = OBJECT_BOX
  before = plane.copy()
  expected = plane.copy()
  expected[2:6, 3:9] |= PERSON_BOX
  expected[10:12, 20:29] |= PERSON_BOX
  expected[4:9, 6:7] |= OBJECT_BOX
  np.testing.assert_array_equal(boxes_from_shapes(plane), expected)
  np.testing.assert_array_equal(plane, before)
  masks = CombinedMasks((_Masks((PERSON,), 'a'),), True)
  (drawn,) = masks.planes(video(1), {})
  assert (drawn == PERSON | PERSON_BOX).all()


def _pieces(inside: np.ndarray):
  """Yields the 8-connected components, found by flooding, as arrays of pixels."""
  left = set(zip(*np.nonzero(inside), strict=True))
  while left:
    pending = [left.pop()]
    piece = []
    while pending:
      y, x = pending.pop()
      piece.append((y, x))
      around = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
      left -= around
      pending += around
    yield np.array(piece)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32), st.floats(0, 0.5))
def test_boxes_agree_with_flooding(seed, density):
  rng = np.random.default_rng(seed)
  plane = (rng.random((12, 17)) < density).astype(np.uint8) * PERSON
  plane |= (rng.random((12, 17)) < density).astype(np.uint8) * OBJECT
  expected = plane.copy()
  for shape, box in ((PERSON, PERSON_BOX), (OBJECT, OBJECT_BOX)):
    for piece in _pieces(plane & shape):
      (top, left), (bottom, right) = piece.min(0), piece.max(0)
      expected[top : bottom + 1, left : right + 1] |= box
  np.testing.assert_array_equal(boxes_from_shapes(plane), expected)
