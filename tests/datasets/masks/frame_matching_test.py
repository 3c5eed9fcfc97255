"""Tests of zsar_jax.datasets.masks.frame_matching."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.frame_matching import ANOTHER_RATE, FrameNumbering


@settings(deadline=None, max_examples=100)
@given(
  st.sets(st.integers(0, 30)),
  st.integers(1, 25),
  st.sampled_from([0, 1]),
  st.booleans(),
  st.sampled_from([(1, 0), (1, 0), (3, 0), (3, 2)]),
)
def test_numbers_match_frames_or_are_refused(
  numbers, num_frames, first, given_first, frames_with_masks
):
  stride, start = frames_with_masks
  remarks = {}
  numbering = FrameNumbering(first, first_given=given_first, stride=stride, start=start)
  frame_of = {n: start + (n - first) * stride for n in numbers}
  without_0 = bool(numbers) and first == 0 and 0 not in numbers
  beyond = {n for n in numbers if frame_of[n] >= num_frames}
  # The tolerance is two frames and the distance between masks.
  far_beyond = any(frame_of[n] > num_frames + 1 + stride - 1 for n in numbers)
  one_late = len(beyond) == 1 and frame_of[max(beyond)] - stride < num_frames
  off_by_one = without_0 and (one_late or (beyond and not given_first))
  if far_beyond or off_by_one or (first == 1 and 0 in numbers):
    with pytest.raises(ClipError, match='here: '):
      numbering.match(numbers, num_frames, None, 'here', remarks)
    return
  matches = numbering.match(numbers, num_frames, None, 'here', remarks)
  assert ('may count from 1' in remarks) == (without_0 and not given_first)
  assert matches == {frame_of[n]: n for n in numbers if frame_of[n] < num_frames}
  assert ('masks beyond the end' in remarks) == (len(matches) < len(numbers))


@pytest.mark.parametrize(
  ('numbers', 'num_frames', 'numbering', 'verdict'),
  [
    # Constant from variable rate; 60 and 30 frames per second; 30 and 25; 25 and 24.
    (range(118), 60, FrameNumbering(0), 'cannot belong to these frames'),
    (range(1, 601), 300, FrameNumbering(1), 'cannot belong to these frames'),
    (range(300), 250, FrameNumbering(0), 'cannot belong to these frames'),
    (range(250), 240, FrameNumbering(0), 'cannot belong to these frames'),
    # Every tenth frame, numbered in a video of twice the rate; a part of a longer video.
    (range(0, 600, 10), 300, FrameNumbering(0), 'cannot belong to these frames'),
    (range(900, 1200), 300, FrameNumbering(0, first_given=True), 'cannot belong to these frames'),
    (
      range(10),
      50,
      FrameNumbering(0, stride=10),
      'with stride=10 they cannot belong to these frames',
    ),
    # 29.97 and 30 frames per second; programs that find a frame or two more or less.
    (range(301), 300, FrameNumbering(0), {'masks beyond the end'}),
    (range(62), 60, FrameNumbering(0), {'masks beyond the end'}),
    (range(58), 60, FrameNumbering(0), set()),
    (range(60), 60, FrameNumbering(0), set()),
    # 24 and 30 frames per second; half; eight, either the first or spread evenly.
    (range(48), 60, FrameNumbering(0), {ANOTHER_RATE}),
    (range(1, 31), 60, FrameNumbering(1, first_given=True), {ANOTHER_RATE}),
    (range(8), 300, FrameNumbering(0), {ANOTHER_RATE}),
    (range(1, 11), 100, FrameNumbering(1, first_given=True, stride=5, start=4), {ANOTHER_RATE}),
    (range(1, 11), 100, FrameNumbering(1, first_given=True, stride=10, start=9), set()),
    (range(10), 100, FrameNumbering(0, stride=10), set()),
    (range(10), 91, FrameNumbering(0, stride=10), set()),
    (range(8), 300, FrameNumbering(0, spread=True), set()),
    # Sparse masks: the first frame, every fourth, a manual choice, an object that comes late.
    ([0], 100, FrameNumbering(0), set()),
    (range(0, 100, 4), 100, FrameNumbering(0), set()),
    ([0, 10, 50, 90], 100, FrameNumbering(0), set()),
    (range(60, 100), 100, FrameNumbering(0, first_given=True), set()),
    (range(20, 90), 100, FrameNumbering(0, first_given=True), set()),
  ],
)
def test_masks_of_another_frame_rate(numbers, num_frames, numbering, verdict):
  # Both for a file and for a folder of images with the same numbers.
  frame_numbers = np.arange(numbering.first, numbering.first + num_frames)
  for frames in (None, frame_numbers) if numbering.stride == 1 else (None,):
    remarks = {}
    if isinstance(verdict, str):
      with pytest.raises(ClipError, match=verdict):
        numbering.match(numbers, num_frames, frames, 'here', remarks)
    else:
      numbering.match(numbers, num_frames, frames, 'here', remarks)
      assert set(remarks) == verdict


def test_a_stride_may_start_at_any_frame():
  numbering = FrameNumbering(1, first_given=True, stride=10, start=9)
  assert numbering.match([1, 2, 4], 45, None, '', {}) == {9: 1, 19: 2, 39: 4}
  assert list(numbering.searched_frames(45, {})) == [9, 19, 29, 39]
  # With a stride, frames of a folder are counted by position, whatever their numbers.
  assert FrameNumbering(0, stride=2).match([0, 1], 3, np.array([7, 8, 9]), '', {}) == {0: 0, 2: 1}


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 300), st.integers(2, 40), st.integers(40, 300))
def test_spread_keeps_order_and_reaches_both_ends(start, count, num_frames):
  numbers = range(start, start + count)
  matches = FrameNumbering(0, spread=True).match(numbers, num_frames, None, '', {})
  assert list(matches.values()) == sorted(numbers)
  frames = np.array(list(matches))
  assert frames[0] == 0
  assert frames[-1] == num_frames - 1
  step = (num_frames - 1) / (len(numbers) - 1)
  assert np.abs(frames - step * np.arange(len(frames))).max() <= 0.5 + 1e-9


_1_TO_20_WITHOUT_6 = [n for n in range(1, 21) if n != 6]


@pytest.mark.parametrize(
  ('frame_numbers', 'numbers', 'numbering', 'shift'),
  [
    (_1_TO_20_WITHOUT_6, _1_TO_20_WITHOUT_6, FrameNumbering(1), 0),
    (_1_TO_20_WITHOUT_6, range(1, 21), FrameNumbering(1), 0),
    (_1_TO_20_WITHOUT_6, [n - 1 for n in _1_TO_20_WITHOUT_6], FrameNumbering(0), 1),
    (range(100, 120), range(100, 120), FrameNumbering(0), 0),
    (range(100, 120), range(100, 120), FrameNumbering(1, first_given=True), 0),
    (range(100, 120), range(20), FrameNumbering(0, first_given=True), 100),
    (range(100, 300), range(100, 120), FrameNumbering(0, first_given=True), 0),
    (range(1, 21), range(20), FrameNumbering(0), 1),
    (range(20), range(1, 21), FrameNumbering(1), -1),
    (range(1, 21), [3, 9], FrameNumbering(0), 0),
    (range(1, 21), [3, 9], FrameNumbering(0, first_given=True), 1),
    (range(1, 21), range(1, 23), FrameNumbering(1), 0),
  ],
)
def test_frames_with_numbers_of_their_own(frame_numbers, numbers, numbering, shift):
  remarks = {}
  frame_numbers = list(frame_numbers)
  matches = numbering.match(numbers, len(frame_numbers), np.array(frame_numbers), 'here', remarks)
  assert matches == {
    frame_numbers.index(n + shift): n for n in numbers if n + shift in frame_numbers
  }
  assert 'may count from 1' not in remarks
  assert ('may count from 0' in remarks) == (
    numbering == FrameNumbering(0) and frame_numbers[0] == 1 and not shift
  )
  inside = [n for n in numbers if n + shift <= frame_numbers[-1]]
  assert ('masks without a frame' in remarks) == (len(inside) > len(matches))
  assert ('masks beyond the end' in remarks) == (len(inside) < len(numbers))


@pytest.mark.parametrize(
  ('frame_numbers', 'numbers', 'numbering', 'message'),
  [
    (
      range(100, 120),
      range(20),
      FrameNumbering(0),
      '0 to 19 and the frames 100 to 119; give the masks',
    ),
    (
      range(20),
      range(1, 21),
      FrameNumbering(0),
      '1 to 20 and the frames 0 to 19; .* add first=0 or fi',
    ),
    # Masks of all frames, numbered by position.
    (
      _1_TO_20_WITHOUT_6,
      range(1, 20),
      FrameNumbering(1),
      '1 to 19 without a gap, but the numbers of the 19 frames',
    ),
    (_1_TO_20_WITHOUT_6, range(19), FrameNumbering(0), '0 to 18 and the frames 1 to 20'),
    (range(1, 21), range(21), FrameNumbering(0), '0 to 20 and the frames 1 to 20'),
  ],
)
def test_numbers_that_cannot_match_frame_numbers_are_refused(
  frame_numbers, numbers, numbering, message
):
  with pytest.raises(ClipError, match=f'here: masks are numbered {message}'):
    numbering.match(numbers, len(frame_numbers), np.array(frame_numbers), 'here', {})
