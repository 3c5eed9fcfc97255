"""Tests of zsar_jax.mask_making.tracking and track_window, with a session that tracks colors."""

import pickle

import numpy as np
import pytest

from tests.mask_making.box_clips import box_clip, figure, person, rectangle, thing
from zsar_jax.mask_making import track_window, tracking
from zsar_jax.mask_making.person import PersonSpec
from zsar_jax.mask_making.sam_video import Tracked
from zsar_jax.mask_making.tracking import TrackMaker, TrackSpec, split_scenes
from zsar_jax.recipes.regions import OBJECT, PERSON

_SIZE = (48, 64)
_RED, _GREEN = (200, 40, 40), (40, 200, 40)


class _Sessions:
  """Opens sessions that track whatever has the color at the center of a box."""

  def __init__(self):
    self.lengths = []  # Of the windows.
    self.boxes = []  # The boxes that began tracks.
    self.carried = []  # The numbers of tracks that windows began with.

  def __call__(self, frames):
    self.lengths.append(len(frames))
    return _Session(frames, self)


class _Session:
  def __init__(self, frames, sessions):
    self._frames, self._sessions = [frame.astype(int) for frame in frames], sessions
    self._colors = {}
    self._tracked = {}  # The frames where each object is known.

  def _find(self, frame):
    return {
      number: Tracked((abs(self._frames[frame] - color) < 60).all(axis=2), 0.75)
      for number, color in self._colors.items()
    }

  def _add(self, frame, colors):
    assert not set(colors) & set(self._colors)
    self._colors.update(colors)
    self._tracked.update({number: {frame} for number in colors})
    return self._find(frame)

  def add_boxes(self, frame, boxes):
    self._sessions.boxes += list(boxes.values())
    colors = {}
    for number, (x1, y1, x2, y2) in boxes.items():
      colors[number] = self._frames[frame][round(y1 + y2) // 2, round(x1 + x2) // 2]
    return self._add(frame, colors)

  def add_masks(self, frame, masks):
    assert all(mask.any() for mask in masks.values())
    self._sessions.carried.append(len(masks))
    colors = {number: np.median(self._frames[frame][mask], 0) for number, mask in masks.items()}
    return self._add(frame, colors)

  def track(self, frame, reverse=False):
    # An object has no memory but of the frames before, or after.
    for frames in self._tracked.values():
      known = frame + (1 if reverse else -1)
      assert known in frames or frame in frames or (reverse and min(frames) <= frame)
      frames.add(frame)
    return self._find(frame)


class _Detector:
  """Finds red pixels."""

  def __init__(self):
    self.count = 0

  def __call__(self, frames):
    self.count += len(frames)
    found = []
    for frame in frames:
      red = (abs(frame.astype(int) - _RED) < 60).all(axis=2)
      rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
      found.append(
        [person(columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)] if len(rows) else []
      )
    return found


def _make(clip, detector=None):
  sessions = _Sessions()
  masks = list(TrackMaker(('person', 'object'), {}, sessions, detector).make([clip]))
  assert len(masks) == len(clip.frames)
  return masks, sessions


def _red_box(frame):
  return 8 + 2 * frame, 10, 24 + 2 * frame, 26


def _green_box(frame):
  return 40, 30, 56, 46 - frame % 2


def _frame(red=None, green=None, background=(0, 0, 0)):
  drawn = figure(*_SIZE, background=background)
  for box, color in ((red, _RED), (green, _GREEN)):
    if box is not None:
      drawn[rectangle(*_SIZE, *box)] = color
  return drawn


def _near_edges(plane):
  """Returns the pixels that are within 2 pixels of one with another value."""
  windows = np.lib.stride_tricks.sliding_window_view(np.pad(plane, 2, 'edge'), (5, 5))
  return windows.min((2, 3)) != windows.max((2, 3))


def _assert_shapes(masks, frames, boxes_by_bit):
  """Asserts the drawn boxes {bit: function of the frame, or None where there is none}."""
  for index in frames:
    expected = np.zeros(_SIZE, np.uint8)
    for bit, box in boxes_by_bit.items():
      if box(index) is not None:
        expected[rectangle(*_SIZE, *box(index))] |= bit
    # JPEG blurs the colors of the pixels at the edges.
    differing = masks[index].plane != expected
    assert not (differing & ~_near_edges(expected)).any(), index


def test_forwards_and_backwards_from_the_boxes_of_a_file():
  green = lambda frame: _green_box(frame) if frame >= 5 else None  # noqa: E731
  clip = box_clip([_frame(_red_box(n), green(n)) for n in range(12)], [None] * 12)
  boxes = list(clip.boxes)
  boxes[2] = (person(*_red_box(2)), person(3, 3, 5, 40), thing(60, 3, 90, 6))
  # Too close to the frame before to begin a track.
  boxes[4] = (thing(*_red_box(4)),)
  boxes[9] = (person(*_red_box(9)), thing(*_green_box(9)))
  clip = pickle.loads(pickle.dumps(box_clip(clip.frames[:], boxes)))
  masks, sessions = _make(clip)
  _assert_shapes(masks, range(12), {PERSON: _red_box, OBJECT: green})
  assert [mask.people for mask in masks] == [1] * 12
  assert [mask.score for mask in masks] == [0.75] * 12
  # The person is tracked already in frame 9; boxes thinner than 4 pixels are none.
  assert sessions.boxes == [_red_box(2), _green_box(9)]
  assert sessions.lengths == [12]


def test_regions_are_tracked_apart():
  clip = box_clip(
    [_frame(_red_box(n)) for n in range(6)],
    [[person(*_red_box(0))], None, None, None, [thing(*_red_box(4))], None],
  )
  masks, sessions = _make(clip)
  _assert_shapes(masks, range(6), {PERSON: _red_box, OBJECT: _red_box})
  assert len(sessions.boxes) == 2


@pytest.mark.parametrize('length', [16, 17, 18, 2, 1])
def test_windows(monkeypatch, length):
  monkeypatch.setattr(tracking, '_WINDOW', 5)
  seed = length // 2
  boxes = [None] * length
  boxes[seed] = [person(*_red_box(seed))]
  masks, sessions = _make(box_clip([_frame(_red_box(n)) for n in range(length)], boxes))
  _assert_shapes(masks, range(length), {PERSON: _red_box})
  assert [mask.people for mask in masks] == [1] * length
  assert max(sessions.lengths) <= 5
  # Neighboring windows have a frame in common.
  assert sum(sessions.lengths) == length + len(sessions.lengths) - 1
  assert len(sessions.boxes) == 1


def test_second_tracks_of_a_thing_end_with_the_window(monkeypatch):
  monkeypatch.setattr(tracking, '_WINDOW', 5)
  frames = [_frame(_red_box(n), _green_box(n)) for n in range(12)]
  # A part of the person, an object of the same shape as the person, and another person.
  x1, y1, x2, y2 = _red_box(0)
  boxes = [person(x1, y1, x2, y2), person(x1 + 5, y1 + 5, x2 - 5, y2 - 5), thing(x1, y1, x2, y2)]
  boxes.append(person(*_green_box(0)))
  masks, sessions = _make(box_clip(frames, [boxes] + [None] * 11))
  assert [len(sessions.boxes), *sessions.carried] == [4, 3, 3]
  assert [mask.people for mask in masks] == [3] * 5 + [2] * 7
  for frame, mask in enumerate(masks):
    assert np.median(mask.plane[rectangle(*_SIZE, *_red_box(frame))]) == PERSON | OBJECT
    assert np.median(mask.plane[rectangle(*_SIZE, *_green_box(frame))]) == PERSON


def test_the_number_of_objects_is_bounded(monkeypatch):
  monkeypatch.setattr(track_window, 'MAX_OBJECTS', 3)
  frames = [_frame(_red_box(n), _green_box(n)) for n in range(6)]
  small = [person(12 + n, 12 + n, 18 + n, 18 + n, score=0.1 * n) for n in range(4)]
  boxes = [small] + [None] * 3 + [[thing(*_green_box(4))], None]
  _, sessions = _make(box_clip(frames, boxes))
  assert [box[0] for box in sessions.boxes] == [15, 14, 13]


def test_what_is_lost_is_found_again(monkeypatch):
  monkeypatch.setattr(tracking, '_WINDOW', 5)
  # Away for longer than a window.
  red = lambda frame: None if 3 <= frame < 12 else _red_box(frame % 12)  # noqa: E731
  clip = box_clip([_frame(red(n)) for n in range(20)])
  masks, sessions = _make(clip, _Detector())
  _assert_shapes(masks, range(20), {PERSON: red})
  assert [mask.people for mask in masks] == [1] * 3 + [0] * 9 + [1] * 8
  assert np.isnan([mask.score for mask in masks[3:12]]).all()
  assert sessions.boxes == [_red_box(0), _red_box(0)]


def test_scenes_are_tracked_alone():
  scenes = [((0, 0, 0), _red_box), ((240, 240, 240), lambda n: (40, 4, 60, 44 - n % 2))]
  frames = [_frame(box(n), background=color) for color, box in scenes for n in range(8)]
  masks, sessions = _make(box_clip(frames), _Detector())
  _assert_shapes(masks, range(8), {PERSON: scenes[0][1]})
  _assert_shapes(masks, range(8, 16), {PERSON: scenes[1][1]})
  assert sessions.lengths == [8, 8]
  # A file with boxes in the first scene alone says nothing about the second.
  boxes = [None] * 16
  boxes[3] = [person(*_red_box(3))]
  boxes[10] = []
  masks, sessions = _make(box_clip(frames, boxes))
  _assert_shapes(masks, range(8), {PERSON: scenes[0][1]})
  assert [mask is None for mask in masks[8:]] == [True, True, False, *[True] * 5]
  assert not masks[10].plane.any()
  assert masks[10].people == 0


def test_someone_who_is_there_for_a_moment():
  red = lambda frame: _red_box(frame) if frame in (5, 6) else None  # noqa: E731
  detector = _Detector()
  masks, sessions = _make(box_clip([_frame(red(n)) for n in range(11)]), detector)
  _assert_shapes(masks, range(11), {PERSON: red})
  assert detector.count == 11
  assert len(sessions.boxes) == 1


def test_nobody_is_there():
  masks, sessions = _make(box_clip([_frame()] * 6), _Detector())
  assert not any(mask.plane.any() for mask in masks)
  assert [mask.people for mask in masks] == [0] * 6
  assert sessions.lengths == []
  masks, _ = _make(box_clip([_frame()] * 3, [None, [], [person(3, 3, 5, 5)]]))
  assert masks[0] is None
  assert not masks[1].plane.any()
  assert not masks[2].plane.any()


def test_scenes():
  rng = np.random.default_rng(0)
  quiet = 100 + rng.integers(0, 8, (10, 8, 8))
  thumbnails = np.concatenate([quiet, quiet + 40, quiet - 20, quiet]).astype(np.uint8)
  assert split_scenes(thumbnails) == [(0, 10), (10, 20), (20, 40)]
  assert split_scenes(thumbnails[:1]) == [(0, 1)]
  assert split_scenes(thumbnails[9:11]) == [(0, 2)]
  # Frames that are far apart, or a camera that is shaken: no two are alike.
  assert split_scenes(rng.integers(0, 256, (20, 8, 8)).astype(np.uint8)) == [(0, 20)]


def test_spec():
  spec = TrackSpec('sam', PersonSpec(), ('person',))
  assert pickle.loads(pickle.dumps(spec)) == spec
  assert hash(spec) == hash(TrackSpec('sam', PersonSpec()))
  assert (spec.batch_frames, spec.uses_device) == (0, True)
