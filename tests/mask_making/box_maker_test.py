"""Tests of zsar_jax.mask_making.box_maker and box_shapes."""

import pickle

import numpy as np
import pytest

from tests.mask_making.box_clips import box_clip, bright, figure, person, rectangle, thing
from zsar_jax.mask_making.box_maker import BoxesSpec, BoxMaker
from zsar_jax.mask_making.maker import FrameMask
from zsar_jax.recipes.regions import OBJECT, PERSON

_REGIONS = ('person', 'object')


class Bright:
  """Segments all bright pixels of a frame, whatever the box; scores fall from box to box."""

  def __init__(self):
    self.provenance = {'model': 'bright', 'licenses': {}}
    self.batches = []

  def __call__(self, frames, boxes):
    if any(len(own) for own in boxes):
      self.batches.append([frame.shape[:2] for frame in frames])
      assert all(len(own) for own in boxes)
    return [
      (np.stack([bright(frame)] * len(own)), 0.9 - 0.1 * np.arange(len(own)))
      if len(own)
      else (np.zeros((0, *frame.shape[:2]), bool), np.zeros(0))
      for frame, own in zip(frames, boxes, strict=True)
    ]


def _make(clips, batch_frames=16) -> tuple[list[FrameMask | None], Bright]:
  spec = BoxesSpec('unused', _REGIONS, batch_frames)
  assert pickle.loads(pickle.dumps(spec)) == spec
  segmenter = Bright()
  return list(BoxMaker(spec, segmenter).make(clips)), segmenter


def _make_frame(frame, boxes) -> FrameMask:
  (mask,), _ = _make([box_clip([frame], [boxes])])
  return mask


def test_shapes_are_cut_off_outside_of_the_dilated_box():
  frame = figure(30, 40, 10, 5, 30, 15)
  # A box of 10 x 10 pixels around the left half of the figure, which extends 1 pixel further.
  mask = _make_frame(frame, [person(10, 5, 20, 15)])
  np.testing.assert_array_equal(mask.plane, PERSON * rectangle(30, 40, 10, 5, 21, 15))
  assert mask.outside == pytest.approx(9 / 20)
  assert (mask.people, mask.score) == (1, pytest.approx(0.9))
  # A box larger than the figure.
  mask = _make_frame(frame, [person(5, 0, 39, 30)])
  np.testing.assert_array_equal(mask.plane, PERSON * rectangle(30, 40, 10, 5, 30, 15))
  assert mask.outside == 0


def test_regions_are_united_and_may_overlap():
  frame = figure(30, 40, 10, 5, 30, 15)
  boxes = [person(10, 5, 20, 15), thing(10, 5, 30, 10), person(0, 20, 40, 30)]
  mask = _make_frame(frame, boxes)
  expected = PERSON * rectangle(30, 40, 10, 5, 21, 15) | OBJECT * rectangle(30, 40, 10, 5, 30, 11)
  np.testing.assert_array_equal(mask.plane, expected)
  # Of the 200 pixels of the figure, the boxes keep 110, 120 and none.
  assert mask.outside == pytest.approx(1 - 230 / 600)
  assert mask.people == 2
  # The third box, of the lowest score, adds nothing to the plane.
  assert mask.score == pytest.approx(0.8)


def test_boxes_are_clipped_and_small_ones_are_skipped():
  frame = figure(30, 40, 0, 0, 40, 30)
  # 3.9 pixels within the frame, and 4.
  mask = _make_frame(frame, [person(36.1, 0, 60, 30), thing(-6, -6, 4, 4), thing(9, 9, 20, 12)])
  np.testing.assert_array_equal(mask.plane, OBJECT * rectangle(30, 40, 0, 0, 5, 5))
  assert mask.people == 0
  for boxes in ([], [person(50, 5, 60, 20)], [person(5, 5, 8, 8), thing(30, 20, 5, 5)]):
    mask = _make_frame(frame, boxes)
    assert not mask.plane.any()
    assert mask.people == 0
    assert np.isnan([mask.score, mask.outside]).all()


def test_frames_without_boxes_are_not_segmented():
  box = [person(5, 5, 20, 20)]
  first = box_clip([figure(30, 40, 6, 6, 9, 9)] * 4, [None, box, [], box])
  second = box_clip([figure(50, 24, 7, 7, 9, 9)] * 3, [box, None, []])
  masks, segmenter = _make([first, second], batch_frames=2)
  assert [mask is None for mask in masks] == [True, False, False, False, False, True, False]
  assert segmenter.batches == [[(30, 40), (30, 40)], [(50, 24)]]
  shapes = [mask and mask.plane.shape for mask in masks]
  assert shapes == [None, *[(30, 40)] * 3, (50, 24), None, (50, 24)]
  assert [mask and mask.plane.sum() for mask in masks] == [None, 9, 0, 9, 4, None, 0]
  # Frames that nobody annotated with an object or a person rightly show none.
  absent = [mask and mask.absent for mask in masks]
  assert absent == [None, OBJECT, PERSON | OBJECT, OBJECT, OBJECT, None, PERSON | OBJECT]
  assert _make([box_clip([figure(8, 8)], [None])])[0] == [None]


def test_boxes_of_a_batch_are_those_of_their_frames():
  corners = [(0, 0), (20, 0), (0, 15), (20, 15)]
  frames = [figure(30, 40, 0, 0, 40, 30)] * 4
  clip = box_clip(frames, [[person(x, y, x + 10, y + 10)] for x, y in corners])
  masks, segmenter = _make([clip])
  assert len(segmenter.batches) == 1
  for mask, (x, y) in zip(masks, corners, strict=True):
    # A box is dilated by 1 pixel.
    shape = rectangle(30, 40, max(0, x - 1), max(0, y - 1), x + 11, y + 11)
    np.testing.assert_array_equal(mask.plane, PERSON * shape)


def test_provenance():
  maker = BoxMaker(BoxesSpec('unused', ('person',)), Bright())
  assert maker.regions == ('person',)
  assert maker.provenance['maker'] == 'boxes'
  assert maker.provenance['box_dilation'] == 0.1
