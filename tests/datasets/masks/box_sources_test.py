"""Tests of zsar_jax.datasets.masks.box_sources."""

import json
import pathlib
import pickle

import numpy as np
import pytest

from tests.datasets.masks.mask_helpers import HEIGHT, WIDTH, clip, planes, video
from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.box_sources import open_boxes
from zsar_jax.datasets.masks.boxes import RegionBox
from zsar_jax.datasets.masks.something_else import SomethingElseBoxes
from zsar_jax.datasets.masks.spec import open_masks
from zsar_jax.errors import UserError
from zsar_jax.recipes.regions import OBJECT_BOX, PERSON_BOX, draw_box

_SAMPLES = pathlib.Path(__file__).parents[4] / 'shared' / 'data' / 'ssv2' / 'annotations'

_CLIP = clip('a/c', 'c')


def _read(source, facts, of=_CLIP):
  """Returns the boxes of a clip's frames; checks them against the frames that have any."""
  masks = pickle.loads(pickle.dumps(source.for_clip(of)))
  remarks = {}
  boxes = list(masks.boxes(facts, remarks))
  annotated = set(masks.annotated_frames(facts.num_frames, facts.numbers))
  assert {n for n, own in zip(facts.kept.tolist(), boxes, strict=True) if own is not None} == (
    annotated & set(facts.kept.tolist())
  )
  return boxes, remarks


def _assert_drawn_alike(boxes, drawn, facts) -> None:
  """Asserts that boxes cover the pixels that the readers of masks draw."""
  assert len(boxes) == len(drawn)
  for own, expected in zip(boxes, drawn, strict=True):
    assert (own is None) == (expected is None)
    if own is not None:
      plane = np.zeros((facts.height, facts.width), np.uint8)
      for box in own:
        bit = {'person': PERSON_BOX, 'object': OBJECT_BOX}[box.region]
        draw_box(plane, bit, box.x1, box.y1, box.x2, box.y2)
      np.testing.assert_array_equal(plane, expected)


@pytest.mark.skipif(not _SAMPLES.exists(), reason='no ../shared/data/ssv2')
def test_real_boxes():
  path = str(_SAMPLES / 'something-else-boxes.json')
  annotated = json.loads(pathlib.Path(path).read_text())
  source, masks = open_boxes([path], set(annotated)), SomethingElseBoxes([path], set(annotated))
  assert source.region_names == ('person', 'object')
  assert source.parameters == masks.parameters
  facts = video(70, size=(120, 213), source=(240, 427))
  count = 0
  for clip_id, frames in annotated.items():
    boxes, remarks = _read(source, facts, clip(clip_id))
    drawn, drawn_remarks = planes(masks, facts, clip(clip_id))
    assert remarks == drawn_remarks
    _assert_drawn_alike(boxes, drawn, facts)
    count += sum(len(frame['labels']) for frame in frames)
    count -= sum(len(own) for own in boxes if own is not None)
  assert count == 0


def _something_else(tmp_path, *corners) -> str:
  labels = [
    {'standard_category': category, 'box2d': dict(zip(('x1', 'y1', 'x2', 'y2'), box, strict=True))}
    for category, box in zip(('hand', 'hand', '0000'), corners, strict=False)
  ]
  frames = [{'name': 'c/0002.jpg', 'labels': labels}, {'name': 'c/0003.jpg', 'labels': []}]
  path = tmp_path / 'boxes.json'
  path.write_text(json.dumps({'c': frames}))
  return str(path)


def test_overlapping_boxes_remain_apart(tmp_path):
  path = _something_else(tmp_path, (10, 20, 100, 120), (30, 20, 90, 110), (-5, 100, 400, 300))
  facts = video(4, size=(48, 64), source=(240, 320))
  boxes, remarks = _read(open_boxes([path], {'c'}), facts)
  assert boxes[0] is None
  assert boxes[2:] == [[], None]
  # A fifth of the annotated size.
  expected = [
    RegionBox('person', 2, 4, 20, 24),
    RegionBox('person', 6, 4, 18, 22),
    RegionBox('object', -1, 20, 80, 60),
  ]
  assert [box.region for box in boxes[1]] == [box.region for box in expected]
  for box, other in zip(boxes[1], expected, strict=True):
    assert (box.x1, box.y1, box.x2, box.y2, box.score) == pytest.approx(
      (other.x1, other.y1, other.x2, other.y2, 1), rel=1e-6
    )
  assert remarks == {'frames without masks': '2 of 4'}
  # Of a shape without a size, the clip keeps the others.
  path = _something_else(tmp_path, (10, 20, 100, 120), (30, 20, 30, 110))
  boxes, remarks = _read(open_boxes([path], {'c'}), facts)
  assert [box.region for box in boxes[1]] == ['person']
  assert remarks['shapes left out'].startswith('1 of 2')


def _coco(path: pathlib.Path, *entries: dict, size=(HEIGHT, WIDTH)) -> str:
  height, width = size
  images = [
    {'id': number, 'file_name': f'c/{number}.jpg', 'height': height, 'width': width}
    for number in (1, 3)
  ]
  categories = [{'id': 7, 'name': 'person'}, {'id': 3, 'name': 'sports ball'}]
  content = {'images': images, 'annotations': list(entries), 'categories': categories}
  path.write_text(json.dumps(content))
  return str(path)


def test_coco(tmp_path):
  triangle = [2, 2, 20, 2, 2, 12]
  path = _coco(
    tmp_path / 'all.json',
    {'image_id': 1, 'category_id': 7, 'bbox': [2, 2, 18, 10], 'segmentation': [triangle]},
    {'image_id': 1, 'category_id': 7, 'bbox': [4.5, 3, 9, 9.25], 'score': 0.75},
    {'image_id': 1, 'category_id': 7, 'bbox': [5, 5, 5, 5], 'score': 0.25},
    {'image_id': 1, 'category_id': 3, 'bbox': [30, 20, 9, 9]},
    size=(HEIGHT * 2, WIDTH * 2),
  )
  facts = video(4)
  boxes, remarks = _read(open_boxes([f'coco:{path}'], ()), facts)
  people = [
    RegionBox('person', 1, 1, 10, 6),
    RegionBox('person', 2.25, 1.5, 6.75, 6.12, score=0.75),
  ]
  assert boxes == [people, None, [], None]
  assert remarks['labels not used'] == '3'
  assert 'masks resized' in remarks
  for values in ('person:person/sports ball:object', '7:person_box/*:object_box'):
    source = open_boxes([f'coco:{path},values={values},score=0.3'], ())
    assert source.region_names == ('person', 'object')
    boxes, _ = _read(source, facts)
    assert boxes[0] == [*people, RegionBox('object', 15, 10, 19.5, 14.5)]
  masks = open_masks(f'coco:{path},values=person:person_box/3:object_box,score=0.3')
  _assert_drawn_alike(boxes, planes(masks, facts, _CLIP)[0], facts)
  # A box that is not numbers: nobody knows what its frame shows.
  _coco(
    tmp_path / 'all.json',
    {'image_id': 1, 'category_id': 7, 'bbox': [0, 0, 'x', 1]},
    {'image_id': 3, 'category_id': 7, 'bbox': [0, 0, 4, 4]},
  )
  boxes = list(open_boxes([f'coco:{path}'], ()).for_clip(_CLIP).boxes(facts, {}))
  assert boxes == [None, None, [RegionBox('person', 0, 0, 4, 4)], None]


def test_yolo(tmp_path):
  (tmp_path / 'c_2.txt').write_text(
    '0 0.5 0.5 0.25 0.5 0.875\n'  # A box.
    '0 0.125 0.25 0.5 0.25 0.125 0.75\n'  # A triangle.
    '2 0.5 0.5 1 1 0.9\n'
    '0 0.5 0.5 0.1 0.1 0.4\n'
  )
  facts = video(3)
  boxes, remarks = _read(open_boxes([f'yolo:{tmp_path}'], ()), facts)
  people = [
    RegionBox('person', 13.5, 6, 22.5, 18, score=0.875),
    RegionBox('person', 4.5, 6, 18, 18),
  ]
  assert boxes == [[], people, []]
  assert remarks == {'frames without a result': '2 of 3'}
  boxes, _ = _read(open_boxes([f'yolo:{tmp_path},values=0:person/2:object,score=0'], ()), facts)
  masks = open_masks(f'yolo:{tmp_path},values=0:person_box/2:object_box,score=0')
  _assert_drawn_alike(boxes, planes(masks, facts, _CLIP)[0], facts)
  assert [box.region for box in boxes[1]] == ['person', 'person', 'object', 'person']


def test_boxes_that_cannot_be_opened(tmp_path):
  path = _something_else(tmp_path, (10, 20, 100, 120))
  for text in ('grey:x', 'palette:x', 'arrays:x', 'made:x'):
    with pytest.raises(UserError, match=f'--boxes: .*{text[:4]}.* have no boxes; give coco:PATH'):
      open_boxes([text], {'c'})
  with pytest.raises(UserError, match=r"--boxes: 'yolo:x' must be the only value"):
    open_boxes(['yolo:x', path], {'c'})
  with pytest.raises(UserError, match='--boxes: .*boxes.json has no box for any listed clip'):
    open_boxes([path], {'d'})
  # The readers name the flag of the program that builds data sets.
  with pytest.raises(UserError, match='--boxes: .*nowhere is not a folder'):
    open_boxes([f'yolo:{tmp_path}/nowhere'], ())
  (tmp_path / 'labels').mkdir()
  (tmp_path / 'labels' / 'c_0.txt').write_text('0 .5 .5 .1 .1')
  source = open_boxes([f'yolo:{tmp_path}/labels'], ())
  with pytest.raises(ClipError, match='add first=0 to --boxes') as error:
    list(source.for_clip(_CLIP).boxes(video(3), {}))
  assert '--masks' not in error.value.reason
  assert open_boxes([path], {'c'}).for_clip(clip('a/d')) is None
