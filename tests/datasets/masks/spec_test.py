"""Tests of zsar_jax.datasets.masks.spec and frame_matching."""

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.datasets.masks.mask_helpers import blob, clip, planes, video
from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks import spec
from zsar_jax.datasets.masks.frame_matching import ANOTHER_RATE, FrameNumbering
from zsar_jax.datasets.masks.spec import FORMATS, open_masks
from zsar_jax.errors import UserError
from zsar_jax.recipes.regions import OBJECT, OBJECT_BOX, PERSON, REGION_BITS


@pytest.fixture(name='opened')
def _opened(monkeypatch):
  """Replaces the functions that open formats: each returns its path and options."""
  for name, chosen in FORMATS.items():
    fake = dataclasses.replace(chosen, open=lambda path, **options: (path, options))
    monkeypatch.setitem(spec.FORMATS, name, fake)


@pytest.mark.usefixtures('opened')
@pytest.mark.parametrize(
  ('text', 'path', 'options'),
  [
    ('grey:seg', 'seg', {}),
    ('grey:objects,region=object', 'objects', {'region': 'object'}),
    ('grey:a,b,C=d/e,first=0', 'a,b,C=d/e', {'first': 0}),
    (
      'grey:C:\\seg,first=auto,region=person_box',
      'C:\\seg',
      {'first': None, 'region': 'person_box'},
    ),
    ('grey:x,spread=yes', 'x', {'spread': True}),
    ('grey:x,stride=10', 'x', {'stride': (10, None)}),
    ('coco:x.json,stride=10+9', 'x.json', {'stride': (10, 9)}),
    ('yolo:x,spread=yes', 'x', {'spread': True}),
    (
      'palette:A,values=1:person/02:object/*:object_box',
      'A',
      {'values': {'1': PERSON, '2': OBJECT, '*': OBJECT_BOX}},
    ),
    (
      'coco:r.json,images=i.json,values=sports ball:object/1:person,score=0.25',
      'r.json',
      {'images': 'i.json', 'values': {'sports ball': OBJECT, '1': PERSON}, 'score': 0.25},
    ),
    ('yolo:labels,extra=2', 'labels', {'extra': 2}),
    ('yolo:labels,extra=auto', 'labels', {'extra': None}),
    ('arrays:masks', 'masks', {}),
  ],
)
def test_specs(text, path, options):
  assert open_masks(text) == (path, options)


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('seg', "'seg' must be FORMAT:PATH with one of the formats grey, palette, egohos, coco"),
    ('gray:seg', 'must be FORMAT:PATH'),
    ('grey:', 'has no path'),
    ('grey:,first=0', 'has no path'),
    ('grey:x,color=red', "no option 'color'; its options are region, first, spread, stride"),
    ('grey:x,values=1:person', "grey has no option 'values'"),
    ('egohos:x,region=person', "egohos has no option 'region'"),
    ('coco:x,spread=yes', "coco has no option 'spread'"),
    ('arrays:x,first=0', "arrays has no option 'first'"),
    ('grey:x,first=0,first=1', "'first' of .* is given twice"),
    ('grey:x,first=2', 'first=2 must be one of auto, 0, 1'),
    ('grey:x,region=people', 'region=people must be one of person, object, person_box, object_box'),
    ('grey:x,spread=1', 'spread=1 must be one of yes, no'),
    ('grey:x,spread=yes,first=0', 'numbers only order the masks'),
    (
      'arrays:x,spread=yes,stride=2',
      'has stride=, but with spread=yes numbers only order the masks',
    ),
    ('grey:x,stride=0', 'stride=0 must be a number of frames such as 10, or 10.9'),
    ('yolo:x,stride=2.5', 'stride=2.5 must be a number of frames'),
    ('palette:x,values=1', "'1' must be VALUE:REGION"),
    ('palette:x,values=', "'' must be VALUE:REGION"),
    ('palette:x,values=1:person/', "'' must be VALUE:REGION"),
    ('palette:x,values=1:people', "'1:people' must be VALUE:REGION with one of the regions person"),
    ('palette:x,values=cat:object', "'cat' must be a whole number or"),
    ('palette:x,values=1:object/01:person', 'names 1 twice'),
    ('arrays:x,values=1:object,region=person', 'give one of the two'),
    ('coco:x,score=high', 'score=high must be a number from 0 to 1'),
    ('coco:x,score=nan', 'score=nan must be a number from 0 to 1'),
    ('coco:x,images=', 'images= must be the path'),
    ('yolo:x,extra=3', 'extra=3 must be one of auto, 0, 1, 2'),
    ('grey:/nowhere', '/nowhere is not a folder'),
    ('coco:/nowhere', '/nowhere does not exist'),
    ('yolo:/nowhere', '/nowhere is not a folder'),
  ],
)
def test_wrong_specs_have_a_reason(text, message):
  with pytest.raises(UserError, match=message) as error:
    open_masks(text)
  assert str(error.value).startswith('--masks: ')
  assert '\n' not in str(error.value)


@settings(deadline=None, max_examples=100)
@given(st.sampled_from([*FORMATS, 'other']), st.text(max_size=30))
def test_any_text_is_opened_or_refused(name, rest):
  assume('\0' not in rest)
  with pytest.raises(UserError, match='^--masks: '):
    open_masks(f'{name}:/nowhere/{rest}')


@settings(deadline=None, max_examples=100)
@given(
  st.text(min_size=1, max_size=20),
  st.dictionaries(
    st.integers(0, 300).map(str) | st.just('*'), st.sampled_from(list(REGION_BITS)), min_size=1
  ),
  st.sampled_from([0, 1]),
)
def test_specs_are_read_back(path, values, first):
  assume(not spec._OPTION.search(path) and not path.startswith('~') and '://' not in path)
  text = '/'.join(f'{value}:{region}' for value, region in values.items())
  fake = dataclasses.replace(FORMATS['palette'], open=lambda path, **options: (path, options))
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(FORMATS, 'palette', fake)
    drawn = open_masks(f'palette:{path},first={first},values={text}')
  bits = {value: REGION_BITS[region] for value, region in values.items()}
  assert drawn == (path, {'first': first, 'values': bits})


def test_options_reach_their_source(tmp_path):
  for folder in ('a,b', 'a'):
    (tmp_path / folder).mkdir()
  np.save(tmp_path / 'a,b' / 'c.npy', np.stack([blob(0), blob(1)]) * 3)
  source = open_masks(f'arrays:{tmp_path}/a,b,values=3:object,spread=yes')
  drawn, _ = planes(source, video(4), clip('c'))
  assert [plane is None for plane in drawn] == [False, True, True, False]
  np.testing.assert_array_equal(drawn[3], np.where(blob(1), OBJECT, 0))
  assert open_masks(f'grey:{tmp_path},first=1,region=object').region_names == ('object',)
  source = open_masks(f'yolo:{tmp_path},score=0.2,values=0:person/7:object_box')
  assert source.region_names == ('person', 'object_box')
  assert source.parameters == {
    'format': 'yolo',
    'path': str(tmp_path),
    'values': {'0': PERSON, '7': OBJECT_BOX},
    'first': 1,
    'first_given': False,
    'spread': False,
    'stride': 1,
    'start': 0,
    'first_side_by_side': 1,
    'score': 0.2,
    'extra': None,
  }
  assert open_masks(f'egohos:{tmp_path},first=1').region_names == ('person', 'object')


@settings(deadline=None, max_examples=100)
@given(
  st.sets(st.integers(0, 30)),
  st.integers(1, 25),
  st.sampled_from([0, 1]),
  st.booleans(),
  st.sampled_from([(1, 0), (1, 0), (3, 0), (3, 2)]),
)
def test_numbers_are_frames_or_refused(numbers, num_frames, first, given_first, frames_with_masks):
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
def test_counts_that_cannot_be_the_videos(numbers, num_frames, numbering, verdict):
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


def test_a_stride_may_begin_with_another_frame():
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
def test_numbers_that_cannot_be_the_frames_own(frame_numbers, numbers, numbering, message):
  with pytest.raises(ClipError, match=f'here: masks are numbered {message}'):
    numbering.match(numbers, len(frame_numbers), np.array(frame_numbers), 'here', {})
