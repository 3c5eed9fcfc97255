"""Tests of zsar_jax.datasets.masks.something_else."""

import json
import pathlib
import pickle

import numpy as np
import pytest

from tests.datasets.masks.mask_helpers import clip, planes, video
from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.something_else import SomethingElseBoxes, read_boxes
from zsar_jax.errors import UserError
from zsar_jax.recipes.regions import OBJECT_BOX, PERSON_BOX

_SAMPLES = pathlib.Path(__file__).parents[4] / 'shared' / 'data' / 'ssv2' / 'annotations'


def _box(category: str, *corners: float) -> dict:
  return {
    'box2d': dict(zip(('x1', 'y1', 'x2', 'y2'), corners, strict=True)),
    'standard_category': category,
  }


def _frame(name: str, *labels: dict) -> dict:
  return {'name': name, 'labels': list(labels)}


def _write(path: pathlib.Path, content) -> str:
  path.write_text(json.dumps(content))
  return str(path)


_BOXES = {
  '11': [
    _frame('11/0003.jpg', _box('hand', 10, 20, 100, 120), _box('0000', 50.5, 100, 400, 300)),
    _frame('11/0001.jpg'),
    _frame('11/0007.jpg', _box('hand', 0, 0, 9, 9)),
  ],
  '12': [_frame('12/0001.jpg', _box('0001', -5, -5, 10, 10))],
  'elsewhere': 'not even looked at',
}


@pytest.fixture(name='source')
def _source(tmp_path):
  return SomethingElseBoxes([_write(tmp_path / 'boxes.json', _BOXES)], {'11', '12', '13'})


def test_boxes_are_drawn(source, tmp_path):
  assert source.region_names == ('person_box', 'object_box')
  assert source.parameters == {'boxes': [str(tmp_path / 'boxes.json')]}
  # A fifth of the annotated height: the boxes have integer edges in both.
  drawn, remarks = planes(source, video(5, size=(48, 64), source=(240, 320)), clip('11'))
  expected = np.zeros((48, 64), np.uint8)
  expected[4:24, 2:20] |= PERSON_BOX
  expected[20:, 10:] |= OBJECT_BOX
  np.testing.assert_array_equal(drawn[2], expected)
  assert not drawn[0].any()
  assert [plane is None for plane in drawn] == [False, True, False, True, True]
  assert remarks == {'masks beyond the end': '1 of 3, up to 7', 'frames without masks': '3 of 5'}
  drawn, remarks = planes(source, video(5, [0, 2], size=(48, 64)), clip('11'))
  np.testing.assert_array_equal(drawn[1], expected)
  assert remarks == {'masks beyond the end': '1 of 3, up to 7'}
  with pytest.raises(ClipError, match='--boxes: masks are numbered 1 to 7 and the video has 4'):
    planes(source, video(4, size=(48, 64)), clip('11'))
  # A folder of images without frame 2.
  drawn, _ = planes(source, video(numbers=[1, 3, 4, 5], size=(48, 64)), clip('11'))
  np.testing.assert_array_equal(drawn[1], expected)
  assert [plane is None for plane in drawn] == [False, False, True, True]


def test_sides_are_scaled_as_the_video_was(source):
  # 427 x 240 scaled to 101 x 56: the width by 0.2365, the height by 0.2333.
  drawn, _ = planes(source, video(5, size=(56, 101), source=(240, 427)), clip('11'))
  expected = np.zeros((56, 101), np.uint8)
  expected[4:28, 2:24] |= PERSON_BOX
  expected[23:, 11:95] |= OBJECT_BOX
  np.testing.assert_array_equal(drawn[2], expected)


def test_clips_without_boxes(source, tmp_path):
  assert source.for_clip(clip('13')) is None
  assert source.for_clip(clip('elsewhere')) is None
  masks = pickle.loads(pickle.dumps(source.for_clip(clip('12'))))
  (plane,) = masks.planes(video(1, size=(240, 320)), {})
  assert (plane[:10, :10] == OBJECT_BOX).all()
  assert not plane[10:].any()
  with pytest.raises(UserError, match='--boxes: .*boxes.json has no box for any listed clip'):
    SomethingElseBoxes([tmp_path / 'boxes.json'], {'13'})


@pytest.mark.parametrize(
  ('frames', 'message'),
  [
    ({}, 'video 11 must be a list'),
    ([3], 'a frame must be an object'),
    ([{'labels': []}], "field 'name' is missing"),
    ([{'name': '11/0001.jpg'}], "frame 11/0001.jpg: field 'labels' is missing"),
    ([_frame('12/0001.jpg')], "frame name '12/0001.jpg' is not like 11/0001.jpg"),
    ([_frame('11/0000.jpg')], "frame name '11/0000.jpg'"),
    ([_frame('11/0001.jpg', {'box2d': {}})], "field 'standard_category' is missing"),
    ([_frame('11/0001.jpg', {'standard_category': 'hand'})], "field 'box2d' is missing"),
    ([_frame('11/0001.jpg', _box('hand', 1, True, 3, 4))], "field 'y1' must be a"),
    ([_frame('11/0001.jpg', _box('hand', '1', 2, 3, 4))], "field 'x1' must be a"),
  ],
)
def test_the_error_names_a_wrong_box(tmp_path, frames, message):
  path = _write(tmp_path / 'boxes.json', {'11': frames})
  with pytest.raises(UserError) as error:
    list(read_boxes(path, {'11'}))
  assert path in str(error.value)
  assert message in str(error.value)


def test_a_single_box_without_a_size_is_skipped(tmp_path):
  nan = float('nan')
  wrong = [_box('hand', 1, 2, nan, 4), _box('0000', 9, 9, 9, 20), _box('0000', 9, 9, 7, 20)]
  boxes = {'11': [_frame('11/0001.jpg', _box('hand', 10, 20, 100, 120), *wrong[:2])]}
  boxes['11'][0]['labels'].append(_box('0000', 50, 100, 80, 240))
  source = SomethingElseBoxes([_write(tmp_path / 'boxes.json', boxes)], {'11'})
  (plane,), remarks = planes(source, video(1, size=(240, 320)), clip('11'))
  expected = np.zeros((240, 320), np.uint8)
  expected[20:120, 10:100] |= PERSON_BOX
  expected[100:, 50:80] |= OBJECT_BOX
  np.testing.assert_array_equal(plane, expected)
  about = '2 of 4: --boxes: frame 1 has a box [1.0, 2.0, nan, 4.0] without a size'
  assert remarks == {'shapes left out': about}
  # Both objects of a clip: corners in the wrong order are not an accident.
  boxes = {'11': [_frame('11/0001.jpg', *wrong)]}
  source = SomethingElseBoxes([_write(tmp_path / 'boxes.json', boxes)], {'11'})
  with pytest.raises(ClipError, match='without a size'):
    planes(source, video(1, size=(240, 320)), clip('11'))


@pytest.mark.parametrize(
  'text',
  ['', '{"1": [', '{"1": []', '{"1" []}', '{1: []}', '{"1": [],}', '{} {}', '{"1": [] "2": []}'],
)
def test_boxes_that_are_not_json_are_refused(tmp_path, text):
  path = tmp_path / 'boxes.json'
  path.write_text(text)
  with pytest.raises(json.JSONDecodeError):
    json.loads(text)
  with pytest.raises(UserError, match='is not a JSON object of videos'):
    list(read_boxes(path, {'1'}))
  path.write_text('[]')
  with pytest.raises(UserError, match='is not a JSON object of videos'):
    list(read_boxes(path, {'1'}))


def test_white_space_does_not_matter(tmp_path):
  path = tmp_path / 'boxes.json'
  for text in ('{}', ' \n{ } ', json.dumps(_BOXES), f'\n{json.dumps(_BOXES, indent=3)}\n'):
    path.write_text(text)
    drawn = dict(read_boxes(path, {'11', '12'}))
    assert list(drawn) == [name for name in json.loads(text) if name in ('11', '12')]


@pytest.mark.skipif(not _SAMPLES.exists(), reason='no ../shared/data/ssv2')
def test_real_boxes():
  path = _SAMPLES / 'something-else-boxes.json'
  annotated = json.loads(path.read_text())
  source = SomethingElseBoxes([path], set(annotated))
  height, width = 240, 427
  y, x = np.mgrid[:height, :width]
  for clip_id, frames in annotated.items():
    drawn, remarks = planes(source, video(len(frames) + 9, size=(height, width)), clip(clip_id))
    assert 'frames without masks' in remarks
    for frame in frames[::11]:
      expected = np.zeros((height, width), np.uint8)
      for label in frame['labels']:
        box = label['box2d']
        # A pixel counts where the box covers any part of it.
        inside = (x + 1 > box['x1']) & (x < box['x2']) & (y + 1 > box['y1']) & (y < box['y2'])
        hand = label['gt_annotation'] == 'object hand'
        expected[inside] |= PERSON_BOX if hand else OBJECT_BOX
      np.testing.assert_array_equal(drawn[int(frame['name'][-8:-4]) - 1], expected)
