"""Tests of zsar_jax.datasets.masks.yolo, yolo_lines and shapes."""

import pathlib
import tempfile

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.datasets.masks.mask_helpers import HEIGHT, WIDTH, clip, planes, refusal, video
from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.shapes import draw_polygon
from zsar_jax.datasets.masks.yolo import YoloSource
from zsar_jax.datasets.masks.yolo_lines import LineFormat, parse_line
from zsar_jax.errors import UserError
from zsar_jax.recipes.regions import OBJECT, OBJECT_BOX, PERSON, PERSON_BOX

_LINES = LineFormat({'0': PERSON}, 0.5, None)


def _write(root: pathlib.Path, files: dict[str, str]) -> str:
  for name, text in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
  return str(root)


def _rectangle(left: float, top: float, right: float, bottom: float) -> str:
  """Returns the corners of a rectangle in pixels as fractions of the frame."""
  corners = [(right, top), (right, bottom), (left, bottom), (left, top)]
  return ' '.join(f'{x / WIDTH:.6f} {y / HEIGHT:.6f}' for x, y in corners)


def _filled(*boxes: tuple[int, int, int, int]) -> np.ndarray:
  mask = np.zeros((HEIGHT, WIDTH), bool)
  for left, top, right, bottom in boxes:
    mask[top:bottom, left:right] = True
  return mask


def test_polygons_by_class(tmp_path):
  root = _write(
    tmp_path,
    {
      'arm wrestling/clip_7/1.txt': f'0 {_rectangle(3, 4, 10, 20)}\n'
      f'0 {_rectangle(8, 2, 15, 9)} 0.9\n32 {_rectangle(20, 5, 30, 12)} 0.51\n\n'
      f'5 {_rectangle(0, 0, 36, 24)}\n0 {_rectangle(30, 20, 35, 23)} 0.4\n',
      'arm wrestling/clip_7/2.txt': '',
      'arm wrestling/clip_7/classes.txt': 'person',
    },
  )
  people = np.where(_filled((3, 4, 10, 20), (8, 2, 15, 9)), PERSON, 0)
  with pytest.raises(UserError, match='no file numbered 0 .* may have no file; add first=0 or'):
    YoloSource(root)
  source = YoloSource(root, first=1)
  assert source.region_names == ('person',)
  assert source.parameters['first'] == 1
  drawn, remarks = planes(source)
  np.testing.assert_array_equal(drawn[0], people)
  # Frame 3 has no file: a detector that found nothing there.
  assert not drawn[1].any()
  assert not drawn[2].any()
  assert remarks == {'frames without a result': '1 of 3'}

  source = YoloSource(root, {'0': PERSON, '32': OBJECT_BOX}, first=1)
  assert source.region_names == ('person', 'object_box')
  drawn, _ = planes(source)
  np.testing.assert_array_equal(
    drawn[0], people | np.where(_filled((20, 5, 30, 12)), OBJECT_BOX, 0)
  )
  drawn, _ = planes(YoloSource(root, {'*': OBJECT}, first=1, score=0.0))
  assert (drawn[0] == OBJECT).all()


def test_polygon_agrees_with_opencv():
  rng = np.random.default_rng(0)
  for _ in range(10):
    angles = np.sort(rng.uniform(0, 2 * np.pi, 8))
    radii = rng.uniform(5, 28, 8)
    points = np.stack([37 + radii * np.cos(angles), 30 + radii * np.sin(angles)], 1)
    plane = np.zeros((60, 75), np.uint8)
    draw_polygon(plane, PERSON, points, '')
    # The distance of each pixel's center from the edge, positive inside.
    distance = np.array(
      [
        [
          cv2.pointPolygonTest(points.astype(np.float32), (x + 0.5, y + 0.5), True)
          for x in range(75)
        ]
        for y in range(60)
      ]
    )
    assert (plane[distance > 0.8] == PERSON).all()
    assert not plane[distance < -0.8].any()
    assert (distance > 0.8).any()


def test_polygon_is_cut_off_at_the_edges():
  points = np.array([[-20, -10], [30.0, -10], [30, 12], [-20, 12]])
  plane = np.zeros((24, 36), np.uint8)
  draw_polygon(plane, OBJECT, points, '')
  np.testing.assert_array_equal(plane, np.where(_filled((0, 0, 30, 12)), OBJECT, 0))
  for wrong, message in [
    (np.array([[0, 0], [80.0, 0], [5, 5]]), 'far outside of the image, which is 36 x 24'),
    (np.array([[0, 0], [np.nan, 0], [5, 5]]), 'is not a finite number'),
    (np.array([[0, 0], [-np.inf, 0], [5, 5]]), 'is not a finite number'),
    (points[:2], 'a polygon needs 3 points'),
    (np.tile([[0.0, 0.0], [36.0, 24.0]], (100_000, 1)), 'outline of more than'),
  ]:
    with pytest.raises(ClipError, match=message):
      draw_polygon(plane, OBJECT, wrong, '')


def test_boxes(tmp_path):
  line = f'0 {12 / WIDTH} {8 / HEIGHT} {10 / WIDTH} {6 / HEIGHT}'
  root = _write(tmp_path, {'c/000000.txt': f'{line}\n', 'c/000001.txt': f'{line} 0.7'})
  facts = video(2)
  with pytest.raises(ClipError, match='000000.txt, line 1 is a box .* values=0:person_box'):
    planes(YoloSource(root), facts, clip('c'))
  source = YoloSource(root, {'0': PERSON_BOX})
  assert source.parameters['first'] == 0
  drawn, remarks = planes(source, facts, clip('c'))
  for plane in drawn:
    np.testing.assert_array_equal(plane, np.where(_filled((7, 5, 17, 11)), PERSON_BOX, 0))
  assert remarks == {}


def test_files_side_by_side(tmp_path):
  full = '0 0 0 1 0 1 1 0 1 0.9'
  root = _write(
    tmp_path,
    {'clip_7_2.txt': full, 'clip_7_3.txt': '', 'clip_70_1.txt': full, 'b/clip_9/0.txt': full},
  )
  source = YoloSource(root)
  drawn, remarks = planes(source, video(4))
  assert [plane.all() for plane in drawn] == [False, True, False, False]
  assert remarks == {'frames without a result': '2 of 4'}
  drawn, remarks = planes(source, video(4, [1, 3]))
  assert [plane.all() for plane in drawn] == [True, False]
  _, remarks = planes(source, video(2))
  assert remarks == {'masks beyond the end': '1 of 2, up to 3', 'frames without a result': '1 of 2'}
  # Files of frames beyond the end only must not make the video empty.
  with pytest.raises(ClipError, match="numbered 2 to 3, none of which is one of the video's 1 fra"):
    planes(source, video(1))
  # A clip without any file has no masks, rather than empty masks.
  assert source.for_clip(clip('arm wrestling/clip')) is None
  assert source.for_clip(clip('arm wrestling/clip_8')) is None
  # Folders of clips come first and count in their own way.
  assert planes(source, video(1), clip('b/clip_9'))[0][0].all()
  source.for_clip(clip())
  with pytest.raises(UserError, match='may belong to arm wrestling/clip_7 or to archery/clip_7'):
    source.for_clip(clip('archery/clip_7'))
  _write(tmp_path, {'clip_7_0.txt': full})
  with pytest.raises(ClipError, match='numbered 0, but frames are counted from 1'):
    planes(YoloSource(root), video(4))
  drawn, _ = planes(YoloSource(root, first=0), video(4))
  assert [plane.all() for plane in drawn] == [True, False, True, False]


def test_padded_numbers_side_by_side(tmp_path):
  full = '0 0 0 1 0 1 1 0 1 0.9'
  root = _write(tmp_path, {f'clip_7_{n:04d}.txt': full for n in (1, 3, 12)})
  drawn, remarks = planes(YoloSource(root), video(12))
  assert [n for n, plane in enumerate(drawn, 1) if plane.all()] == [1, 3, 12]
  assert remarks == {'frames without a result': '9 of 12'}
  _write(tmp_path, {'clip_7_12.txt': full})
  with pytest.raises(ClipError, match=r'clip_7_(00)?12.txt and .* have the same number'):
    planes(YoloSource(root), video(12))


def test_folders_without_numbered_files(tmp_path):
  root = _write(tmp_path, {'c/labels/1.txt': '', 'd/0.txt': ''})
  with pytest.raises(ClipError, match='c has no text file with a number'):
    planes(YoloSource(root), of=clip('c'))
  # A detector that found nothing, in a folder copied by macOS.
  (tmp_path / 'e').mkdir()
  (tmp_path / 'e' / '.DS_Store').write_text('')
  drawn, remarks = planes(YoloSource(root), of=clip('e'))
  assert not np.any(drawn)
  assert remarks == {'frames without a result': '3 of 3'}


def test_the_first_number_comes_from_other_folders(tmp_path):
  root = _write(tmp_path, {'c/0.txt': '', 'd/1.txt': '', 'd/2.txt': ''})
  _, remarks = planes(YoloSource(root), video(3), clip('d'))
  assert remarks['may count from 1'] == 'masks are numbered 1 to 2 and the video has 3 frames'
  with pytest.raises(ClipError, match='they count from 1; add first=1'):
    planes(YoloSource(root), video(2), clip('d'))


_TRIANGLE = '0 .1 .1 .5 .1 .5 .5'


@pytest.mark.parametrize(
  ('line', 'reason'),
  [
    ('0', '0 numbers after the class are neither a box nor a polygon'),
    ('0 0.91', '1 numbers after the class are neither a box nor a polygon'),
    ('0 0.55 0.55 0.61', '3 numbers after the class are neither a box nor a polygon'),
    ('0 0.5 0.5 0.51 0.52', 'is a box and not a polygon; give values=0:person_box'),
    ('0 0.5 0.5 0.51 0.52 0.62', 'is a box and not a polygon; give values=0:person_box'),
    ('0 0.1 0.1 0.5 0.5 0.9 0.9', 'the points of a polygon lie on one line'),
    ('0 nan nan nan nan nan nan', 'coordinates must be from 0 to 1, and one is not a number'),
    ('0 0.1 0.1 0.5 0.1 0.5 0.5 nan', 'the confidence must be from 0 to 1, not nan'),
  ],
)
def test_a_single_line_without_a_contour_is_skipped(tmp_path, line, reason):
  box = _rectangle(3, 4, 10, 20)
  root = _write(tmp_path, {'clip_7_1.txt': f'0 {box} 0.9', 'clip_7_2.txt': f'{line}\n0 {box} 0.8'})
  drawn, remarks = planes(YoloSource(root), video(2))
  for plane in drawn:
    np.testing.assert_array_equal(plane, np.where(_filled((3, 4, 10, 20)), PERSON, 0))
  assert remarks['shapes left out'].startswith(f'1 of 3: {root}/clip_7_2.txt, line 1')
  assert reason in remarks['shapes left out']
  # The only shape of the clip: it proves nothing.
  _write(tmp_path, {'clip_7_1.txt': '', 'clip_7_2.txt': line})
  drawn, remarks = planes(YoloSource(root), video(2))
  assert not np.any(drawn)
  assert remarks['shapes left out'].startswith('1 of 1: ')
  _write(tmp_path, {'clip_7_1.txt': line})
  with pytest.raises(ClipError) as error:
    planes(YoloSource(root), video(2))
  assert reason in error.value.reason


@pytest.mark.parametrize(
  ('options', 'frames'),
  [
    # ultralytics detects in the last of every ten frames; a loop with OpenCV may take the first.
    ({'stride': (10, None)}, range(9, 100, 10)),
    ({'stride': (10, 0)}, range(0, 100, 10)),
    ({'spread': True}, [0, 11, 22, 33, 44, 55, 66, 77, 88, 99]),
  ],
)
def test_detections_in_every_tenth_frame(tmp_path, options, frames):
  full = '0 0 0 1 0 1 1 0 1 0.9'
  root = _write(tmp_path, {f'clip_7_{n}.txt': full for n in range(1, 11)})
  drawn, remarks = planes(YoloSource(root, **options), video(100))
  assert [n for n, plane in enumerate(drawn) if plane is not None] == list(frames)
  assert all(plane.all() for plane in drawn if plane is not None)
  assert remarks == {'frames without masks': '90 of 100'}
  # Without the third file, its frame is annotated and empty, if it is known which frame it is.
  (tmp_path / 'clip_7_3.txt').unlink()
  if 'spread' in options:
    with pytest.raises(ClipError, match='no mask is numbered 3, .* or give stride='):
      planes(YoloSource(root, **options), video(100))
    for n in (1, 2):
      (tmp_path / f'clip_7_{n}.txt').unlink()
    with pytest.raises(ClipError, match='the first file is numbered 4, .* or give stride='):
      planes(YoloSource(root, **options), video(100))
    _write(tmp_path, {f'clip_7_{n}.txt': full for n in (1, 2)})
  else:
    drawn, remarks = planes(YoloSource(root, **options), video(100))
    assert not drawn[frames[2]].any()
    assert remarks['frames without a result'] == '1 of 10'
  # Without the option, the clip is reported.
  _, remarks = planes(YoloSource(root), video(100))
  assert remarks['masks may be of another frame rate'].startswith('9 masks, numbered 1 to 10, end')


@pytest.mark.parametrize(
  ('line', 'extra', 'points'),
  [
    (_TRIANGLE, None, 3),
    (_TRIANGLE + ' .9', None, 3),
    (_TRIANGLE + ' .2 .9', None, 4),
    (_TRIANGLE + ' .6 9', 2, 3),
    (_TRIANGLE + ' .8 17', 2, 3),
    (_TRIANGLE + ' .8', 1, 3),
    (_TRIANGLE + ' 1', None, 3),
    (_TRIANGLE + ' .2 1', 0, 4),
    ('0 .5 .5 .2 1', 0, 'is a box'),
    ('7 hello', None, 'more than numbers'),
    ('0.5 .1 .1 .5 .1 .5 .5', None, 'the class must be a whole number'),
    ('-1 .1 .1 .5 .1 .5 .5', None, 'the class must be a whole number'),
    ('inf .1 .1 .5 .1 .5 .5', None, 'the class must be a whole number'),
    (_TRIANGLE + ' .8 17', None, 'extra=2'),
    (_TRIANGLE + ' .8 1', None, 'give extra=0 or extra=2'),
    (_TRIANGLE + ' 17', None, 'confidence must be from 0 to 1'),
    (_TRIANGLE + ' nan', None, 'confidence must be from 0 to 1'),
    (_TRIANGLE, 1, 'neither a box nor a polygon, of which 1 are'),
    ('0 100 100 200 100 200 200', None, 'pixels are not accepted'),
    ('0 .1 .1 .5 .1 .5 nan', None, 'coordinates must be from 0 to 1'),
    ('0 -.1 .1 .5 .1 .5 .5', None, 'coordinates must be from 0 to 1'),
    ('0', None, 'neither a box nor a polygon'),
    ('0 .1 .1 .5', None, 'neither a box nor a polygon'),
    ('0 .9', None, 'neither a box nor a polygon'),
    ('0 .9', 2, 'neither a box nor a polygon'),
    ('0 .9 17', None, 'neither a box nor a polygon'),
    ('0 .9 17', 2, 'neither a box nor a polygon'),
  ],
)
def test_lines(line, extra, points):
  lines = LineFormat({'0': PERSON}, 0.5, extra)
  if isinstance(points, int):
    bit, drawn, _ = parse_line(line, lines, 'here')
    assert bit == PERSON
    assert len(drawn) == points
  else:
    with pytest.raises(ClipError, match=points) as error:
      parse_line(line, lines, 'here')
    assert error.value.reason.startswith('here')


def test_lines_that_are_left_out():
  assert parse_line(_TRIANGLE + ' .49', _LINES, '')[0] == 0
  assert parse_line(_TRIANGLE + ' .5', _LINES, '')[0] == PERSON
  assert parse_line('1' + _TRIANGLE[1:], _LINES, '')[0] == 0
  # Also if there is no contour.
  for rest in (' .49', ' .1 .1 .49', ' .1 .1 .2 .2 .49'):
    assert parse_line('0' + rest, _LINES, '')[0] == 0
  assert parse_line(_TRIANGLE + ' .2 9', LineFormat({'0': PERSON}, 0.5, 2), '')[0] == 0


_NUMBERS = st.lists(
  st.floats(-0.1, 1.1).map(str)
  | st.sampled_from(['0', '1', '2', 'nan', 'inf', '-1e400', '1e9', 'x', '1_0', '']),
  max_size=14,
).map(' '.join)


@settings(deadline=None, max_examples=100)
@given(
  st.lists(_NUMBERS | st.text(max_size=20), max_size=3).map('\n'.join),
  st.sampled_from([None, 0, 1, 2]),
)
def test_garbage_is_drawn_or_refused(text, extra):
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, 'c', '0.txt')
    path.parent.mkdir()
    path.write_text(text, encoding='utf-8')
    source = YoloSource(folder, {'0': PERSON, '1': PERSON_BOX}, extra=extra)
    assert '0.txt' in (refusal(lambda: planes(source, video(1), clip('c'))) or '0.txt')
