"""Tests of the modules zsar_jax.datasets.masks.coco*."""

import json
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from tests.datasets.masks.mask_helpers import HEIGHT, WIDTH, blob, clip, planes, refusal, video
from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks import coco_json
from zsar_jax.datasets.masks.coco import open_coco
from zsar_jax.errors import UserError
from zsar_jax.recipes.regions import OBJECT, OBJECT_BOX, PERSON, PERSON_BOX

_CLIP = clip('a/c', 'c')


def _write(path: pathlib.Path, content) -> str:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(content))
  return str(path)


def _rle(mask: np.ndarray) -> dict:
  encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
  return {'size': list(encoded['size']), 'counts': encoded['counts'].decode()}


def _entry(image, mask: np.ndarray, category: int = 1, **more) -> dict:
  entry = {'image_id': image, 'category_id': category, 'segmentation': _rle(mask)}
  return entry | {'bbox': [0, 0, 1, 1]} | more


def _annotations() -> dict:
  """Frames 1, 2 and 4 of a clip; 2 is empty, and 4 has two people and an object."""
  return {
    'images': [
      {'id': 70, 'file_name': 'c/000004.jpg', 'height': HEIGHT, 'width': WIDTH},
      {'id': 50, 'file_name': 'c/000001.jpg'},
      {'id': 60, 'file_name': 'c/000002.jpg', 'height': HEIGHT, 'width': WIDTH},
    ],
    'annotations': [
      _entry(50, blob(1)),
      _entry(70, blob(2)),
      _entry(70, blob(3)),
      _entry(70, blob(4), category=3),
    ],
    'categories': [{'id': 1, 'name': 'person'}, {'id': 3, 'name': 'sports ball'}],
  }


def _assert_annotations(drawn, with_object: bool) -> None:
  np.testing.assert_array_equal(drawn[0], np.where(blob(1), PERSON, 0))
  assert not drawn[1].any()
  assert drawn[2] is None
  expected = np.where(blob(2) | blob(3), PERSON, 0)
  expected |= np.where(blob(4) & with_object, OBJECT, 0)
  np.testing.assert_array_equal(drawn[3], expected)


def test_annotations_of_one_clip(tmp_path):
  _write(tmp_path / 'a' / 'c.json', _annotations())
  source = open_coco(str(tmp_path))
  assert source.region_names == ('person',)
  assert source.parameters['first'] == 1
  drawn, remarks = planes(source, video(4), _CLIP)
  _assert_annotations(drawn, with_object=False)
  assert remarks == {'frames without masks': '1 of 4', 'labels not used': '3'}
  assert source.for_clip(clip('a/d')) is None
  for values in ({'1': PERSON, '*': OBJECT}, {'person': PERSON, 'sports ball': OBJECT}):
    source = open_coco(str(tmp_path), values)
    assert source.region_names == ('person', 'object')
    _assert_annotations(planes(source, video(4), _CLIP)[0], with_object=True)
  with pytest.raises(ClipError, match="no category 'cat' but person, sports ball"):
    planes(open_coco(str(tmp_path), {'cat': OBJECT}), video(4), _CLIP)


def test_annotations_of_all_clips(tmp_path):
  content = _annotations()
  for image in content['images']:
    image['file_name'] = '/data/frames/' + image['file_name'].replace('c/', 'a_b/c/')
  content['images'].append({'id': 'x', 'file_name': '/data/frames/a_b/d/9.jpg'})
  path = _write(tmp_path / 'all.json', content)
  source = open_coco(path, {'person': PERSON, 'sports ball': OBJECT})
  assert source.parameters['first'] == 1
  assert source.parameters['path'] == path
  # By the full name, by the name with spaces, by the id, by the last two parts of the name.
  for name, clip_id in [('a_b/c', '1'), ('a b/c', '1'), ('other/z', 'c'), ('val/a b/c', '1')]:
    source = open_coco(path, {'person': PERSON, 'sports ball': OBJECT})
    drawn, remarks = planes(source, video(4), clip(name, clip_id))
    _assert_annotations(drawn, with_object=True)
    assert remarks == {'frames without masks': '1 of 4'}
  (plane,), _ = planes(source, video(9, [8]), clip('a_b/d'))
  assert not plane.any()
  assert source.for_clip(clip('z/z')) is None
  with pytest.raises(UserError, match='a_b/c may belong to val/a b/c or to train/a_b/c'):
    source.for_clip(clip('train/a_b/c'))
  content['images'].append({'id': 'y', 'file_name': 'e/d/1.jpg'})
  source = open_coco(_write(tmp_path / 'all.json', content))
  with pytest.raises(UserError, match='images of d in /data/frames/a_b/d and in e/d'):
    source.for_clip(clip('z/z', 'd'))
  with pytest.raises(UserError, match="--masks: .* no category 'cat'"):
    open_coco(path, {'cat': PERSON})


def _results(image) -> list[dict]:
  return [
    _entry(image(0), blob(1), score=0.9),
    _entry(image(2), blob(2), score=0.5),
    _entry(image(2), blob(3), score=0.49),
    _entry(image(2), blob(4), category=9, score=0.9),
  ]


def _assert_results(source) -> None:
  drawn, remarks = planes(source, video(3), _CLIP)
  np.testing.assert_array_equal(drawn[0], np.where(blob(1), PERSON, 0))
  assert not drawn[1].any()
  np.testing.assert_array_equal(drawn[2], np.where(blob(2), PERSON, 0))
  # Detectors write no result for frames in which they find nothing.
  assert remarks == {'frames without a result': '1 of 3', 'labels not used': '9'}


def test_results(tmp_path):
  results = _results(lambda frame: frame)
  _write(tmp_path / 'each' / 'a' / 'c.json', results)
  _assert_results(open_coco(str(tmp_path / 'each')))
  _write(tmp_path / 'each' / 'a' / 'c.json', _results(lambda frame: f'c/{frame + 1:06d}'))
  _assert_results(open_coco(str(tmp_path / 'each'), first=1))
  drawn, _ = planes(open_coco(str(tmp_path / 'each'), first=1, score=0.4), video(3), _CLIP)
  np.testing.assert_array_equal(drawn[2], np.where(blob(2) | blob(3), PERSON, 0))

  named = _write(tmp_path / 'named.json', _results(lambda frame: f'a/c/{frame:06d}'))
  _assert_results(open_coco(named))
  numbered = _write(tmp_path / 'numbered.json', _results(lambda frame: 100 + frame))
  with pytest.raises(UserError, match='image_id 100 does not name the clip; give images=FILE'):
    open_coco(numbered)
  # A list of images says which frames were searched.
  images = [{'id': 100 + frame, 'file_name': f'a/c/{frame}.jpg'} for frame in (0, 2)]
  listed = _write(tmp_path / 'images.json', {'images': images})
  drawn, remarks = planes(open_coco(numbered, images=listed), video(3), _CLIP)
  assert [plane is None for plane in drawn] == [False, True, False]
  assert remarks == {'frames without masks': '1 of 3', 'labels not used': '9'}
  with pytest.raises(UserError, match='images= is for one COCO file'):
    open_coco(str(tmp_path / 'each'), images=listed)


def _opened(root: pathlib.Path, content, one_file: bool):
  path = _write(root / 'a' / 'c.json', content)
  return open_coco(path if one_file else str(root))


@pytest.mark.parametrize('one_file', [False, True])
def test_people_are_recognized_by_name(tmp_path, one_file):
  """In a file that counts its own categories from 0, category 1 is not people."""
  content = {
    'images': [{'id': 0, 'file_name': 'a/c/0.jpg'}],
    'annotations': [_entry(0, blob(1), category=0), _entry(0, blob(2), category=1)],
    'categories': [{'id': 0, 'name': 'Person'}, {'id': 1, 'name': 'bicycle'}],
  }
  source = _opened(tmp_path, content, one_file)
  assert source.region_names == ('person',)
  (plane,), remarks = planes(source, video(1), _CLIP)
  np.testing.assert_array_equal(plane, np.where(blob(1), PERSON, 0))
  assert remarks == {'labels not used': '1'}
  content['categories'][0]['name'] = 'rider'
  with pytest.raises(UserError, match="no category 'person' but rider, bicycle; give values="):
    _opened(tmp_path, content, one_file)
  if not one_file:
    with pytest.raises(ClipError, match="no category 'person' but rider, bicycle; give values="):
      planes(source, video(1), _CLIP)
  # A file without names.
  del content['categories']
  (plane,), remarks = planes(_opened(tmp_path, content, one_file), video(1), _CLIP)
  np.testing.assert_array_equal(plane, np.where(blob(2), PERSON, 0))
  assert remarks == {'labels not used': '0'}
  del content['annotations'][1]
  with pytest.raises(UserError if one_file else ClipError, match='lists no categories and has onl'):
    planes(_opened(tmp_path, content, one_file), video(1), _CLIP)
  content['annotations'] = []
  (plane,), _ = planes(_opened(tmp_path, content, one_file), video(1), _CLIP)
  assert not plane.any()


def test_results_without_a_frame_are_refused(tmp_path):
  _write(tmp_path / 'a' / 'c.json', _results(lambda frame: frame + 7))
  with pytest.raises(
    ClipError, match='numbered 7 to 9 and the video has 3 frames, so they cannot belong'
  ):
    planes(open_coco(str(tmp_path), first=1), video(3), _CLIP)


def test_frames_of_a_folder_match_by_number(tmp_path):
  own = [n for n in range(1, 21) if n != 6]
  _write(tmp_path / 'a' / 'c.json', [_entry(n, blob(n)) for n in own if n != 9])
  drawn, remarks = planes(open_coco(str(tmp_path), first=1), video(numbers=own), _CLIP)
  expected = [np.where(blob(n) & (n != 9), PERSON, 0) for n in own]
  np.testing.assert_array_equal(drawn, expected)
  assert remarks == {'frames without a result': '1 of 19'}


def test_unreadable_folders_are_refused(tmp_path):
  with pytest.raises(UserError, match='has no .json file'):
    open_coco(str(tmp_path))
  (tmp_path / 'c.json').write_text('nothing')
  with pytest.raises(UserError, match='--masks: .*c.json cannot be read as JSON'):
    open_coco(str(tmp_path))
  _write(tmp_path / 'c.json', [_entry(1.5, blob(0))])
  with pytest.raises(UserError, match="c.json: field 'image_id' must be a whole number or"):
    open_coco(str(tmp_path))
  with pytest.raises(UserError, match='lists no image and has no annotation'):
    open_coco(_write(tmp_path / 'c.json', []))


def test_counting(tmp_path):
  _write(tmp_path / 'a' / 'c.json', _results(lambda frame: frame + 1))
  with pytest.raises(ClipError, match='they count from 1; add first=1'):
    planes(open_coco(str(tmp_path), first=0), video(3), _CLIP)
  images = [{'id': 0, 'file_name': '5.jpg'}]
  _write(tmp_path / 'a' / 'c.json', {'images': images, 'annotations': []})
  with pytest.raises(UserError, match='no mask numbered 0 or 1'):
    open_coco(str(tmp_path))
  # A wrong file of one clip does not prevent the build of the others.
  (tmp_path / 'a' / 'b.json').write_text('[')
  _write(tmp_path / 'a' / 'd.json', _results(lambda frame: frame))
  source = open_coco(str(tmp_path))
  assert source.parameters['first'] == 0
  with pytest.raises(ClipError, match='b.json cannot be read as JSON'):
    planes(source, of=clip('a/b'))


@pytest.mark.parametrize('one_file', [False, True])
def test_the_first_number_is_required_if_no_result_is_numbered_0(tmp_path, one_file):
  results = [_entry(f'a/c/{n}', blob(n)) for n in (1, 2)]
  with pytest.raises(UserError, match='no result numbered 0 .*; add first=0 or first=1'):
    _opened(tmp_path, results, one_file)
  _opened(tmp_path, [*results, _entry('a/c/0', blob(0))], one_file)
  # Listed images were searched.
  images = [{'id': f'a/c/{n}', 'file_name': f'a/c/{n}.jpg'} for n in (1, 2)]
  source = _opened(tmp_path, {'images': images, 'annotations': results}, one_file)
  assert source.parameters['first'] == 1


def test_polygons_and_boxes(tmp_path):
  def rectangle(left, top, right, bottom):
    return [left, top, right, top, right, bottom, left, bottom]

  content = {
    # Twice the video's size.
    'images': [{'id': 0, 'file_name': '0.jpg', 'height': 2 * HEIGHT, 'width': 2 * WIDTH}],
    'annotations': [
      {
        'image_id': 0,
        'category_id': 1,
        'segmentation': [rectangle(4, 8, 20, 40), rectangle(30, 10, 50.0, 20)],
        'bbox': [4, 8, 46, 32],
      },
      {'image_id': 0, 'category_id': 2, 'segmentation': [], 'bbox': [60, 40, 11, 7.5]},
    ],
  }
  _write(tmp_path / 'c.json', content)
  (plane,), remarks = planes(open_coco(str(tmp_path)), video(1), _CLIP)
  expected = np.zeros((HEIGHT, WIDTH), np.uint8)
  expected[4:20, 2:10] = expected[5:10, 15:25] = PERSON
  np.testing.assert_array_equal(plane, expected)
  assert set(remarks) == {'masks resized', 'labels not used'}
  source = open_coco(str(tmp_path), {'1': PERSON_BOX, '2': OBJECT_BOX})
  (plane,), _ = planes(source, video(1), _CLIP)
  expected = np.zeros((HEIGHT, WIDTH), np.uint8)
  expected[4:20, 2:25] = PERSON_BOX
  expected[20:24, 30:36] = OBJECT_BOX
  np.testing.assert_array_equal(plane, expected)
  # A single one may be a lost contour; several are boxes in place of shapes.
  source = open_coco(str(tmp_path), {'*': OBJECT})
  message = 'there are only boxes, give values=2:person_box or object_box'
  remark = planes(source, video(1), _CLIP)[1]['shapes left out']
  assert remark.startswith('1 of 3: ')
  assert remark.endswith(message)
  content['annotations'].append(content['annotations'][1])
  _write(tmp_path / 'c.json', content)
  with pytest.raises(ClipError, match=message):
    planes(source, video(1), _CLIP)


def test_sizes(tmp_path):
  mask = np.zeros((2 * HEIGHT, 2 * WIDTH), bool)
  mask[10:30, 20:44] = True
  _write(tmp_path / 'c.json', [_entry(0, mask), _entry(0, blob(1))])
  (plane,), remarks = planes(open_coco(str(tmp_path)), video(1), _CLIP)
  np.testing.assert_array_equal(plane, np.where(mask[1::2, 1::2] | blob(1), PERSON, 0))
  assert remarks == {'masks resized': f'1 mask, from {2 * WIDTH} x {2 * HEIGHT}'}
  _write(tmp_path / 'c.json', [_entry(0, blob(1).T)])
  with pytest.raises(ClipError, match='another aspect ratio'):
    planes(open_coco(str(tmp_path)), video(1), _CLIP)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'segmentation': [[1, 2, 3, 4, 5, 1000]]}, 'are far outside of the image'),
    ({'category_id': '1'}, "'category_id' must be a whole number"),
    ({'category_id': True}, "'category_id' must be a whole number"),
    ({'score': 'high'}, "'score' must hold numbers"),
    ({'category_id': 2, 'bbox': [1, 2, 3, 1e9]}, 'are far outside of the image'),
    ({'image_id': None}, "'image_id' must be a whole number or a string"),
    ({'image_id': 'c/first'}, "'c/first' in field 'image_id' has no frame number"),
    ({'image_id': -1}, 'has no frame number'),
  ],
)
def test_wrong_entries_have_a_reason(tmp_path, changes, message):
  path = _write(tmp_path / 'c.json', [_entry(0, blob(0)) | changes])
  source = open_coco(str(tmp_path), {'1': PERSON, '2': PERSON_BOX}, first=0)
  with pytest.raises(ClipError) as error:
    planes(source, video(1), _CLIP)
  assert path in error.value.reason
  assert message in error.value.reason


@pytest.mark.parametrize(
  ('changes', 'message', 'annotated'),
  [
    ({'segmentation': {'size': [HEIGHT, WIDTH], 'counts': [5]}}, 'do not add up', False),
    ({'segmentation': {'size': [HEIGHT, WIDTH], 'counts': ''}}, 'do not add up', True),
    ({'segmentation': {'size': [HEIGHT, WIDTH], 'counts': []}}, 'do not add up', True),
    ({'segmentation': {'size': [0, 0], 'counts': [0]}}, "'size' must be", True),
    ({'segmentation': {'size': [10**5, 10**5], 'counts': [10**10]}}, "'size' must be", False),
    ({'segmentation': {}}, "'size' must be", False),
    ({'segmentation': 'x'}, 'neither RLE nor polygons', True),
    ({'segmentation': None}, 'neither RLE nor polygons', True),
    ({'segmentation': []}, 'neither RLE nor polygons', True),
    ({'segmentation': [[]]}, 'must be 3 or more pairs, not 0 numbers', True),
    ({'segmentation': [[1, 2, 3, 4]]}, 'must be 3 or more pairs, not 4 numbers', True),
    ({'segmentation': [[1, 2, 3, 4, 5, 6, 7]]}, 'must be 3 or more pairs, not 7 numbers', True),
    ({'segmentation': [[1, 2, 3, 4, 5, 6]]}, 'the points of a polygon lie on one line', True),
    ({'segmentation': [[1, 2, 1, 2, 1, 2]]}, 'the points of a polygon lie on one line', True),
    (
      {'segmentation': [[1, 2, 3, 4, 5, float('nan')]]},
      'a coordinate is not a finite number',
      True,
    ),
    ({'segmentation': [[1, 2, 3, 4, 5, 10**400]]}, 'a number that is too large', False),
    ({'segmentation': [[1, 2, 3, 4, 5, '6']]}, 'must hold numbers', False),
    ({'segmentation': [[[1, 2], [3, 4], [5, 6]]]}, 'must hold numbers', False),
    ({'category_id': 2, 'bbox': [1, 2, 3]}, "'bbox' must be 4 numbers", True),
    ({'category_id': 2, 'bbox': []}, "'bbox' must be 4 numbers", True),
    ({'category_id': 2, 'bbox': None}, "'bbox' must be 4 numbers", True),
    ({'category_id': 2, 'bbox': [9, 9, -3, 3]}, 'a box of -3 x 3 pixels has no size', True),
    ({'category_id': 2, 'bbox': [9, 9, 0, 3]}, 'a box of 0 x 3 pixels has no size', True),
    (
      {'category_id': 2, 'bbox': [9, 9, float('nan'), 3]},
      'a coordinate is not a finite number',
      True,
    ),
  ],
)
def test_a_single_shape_that_cannot_be_drawn_is_skipped(tmp_path, changes, message, annotated):
  entries = [_entry(0, blob(0)), _entry(1, blob(1)), _entry(1, blob(2)) | changes]
  path = _write(tmp_path / 'c.json', entries)
  source = open_coco(str(tmp_path), {'1': PERSON, '2': PERSON_BOX}, first=0)
  drawn, remarks = planes(source, video(2), _CLIP)
  np.testing.assert_array_equal(drawn[0], np.where(blob(0), PERSON, 0))
  # A damaged shape may have shown anything; an empty shape shows nothing.
  if annotated:
    np.testing.assert_array_equal(drawn[1], np.where(blob(1), PERSON, 0))
  else:
    assert drawn[1] is None
  assert remarks['shapes left out'].startswith(f'1 of 3: {path}, frame 1: ')
  assert message in remarks['shapes left out']


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (3, 'must be a COCO object or a list of results'),
    ({}, "'annotations' must be a list"),
    ({'annotations': [3]}, "'annotations' must be a list of objects"),
    ({'annotations': [], 'images': [3]}, "'images' must be a list of objects"),
    ({'annotations': [], 'images': [{'file_name': 'c/1.jpg'}]}, "'id' must be"),
    ({'annotations': [{'image_id': 3}], 'images': []}, 'which is not among images'),
  ],
)
def test_wrong_files_have_a_reason(tmp_path, content, message):
  path = _write(tmp_path / 'c.json', content)
  with pytest.raises(UserError) as error:
    open_coco(path, first=0)
  assert error.value.args[0].startswith('--masks: ')
  assert message in str(error.value)
  with pytest.raises(ClipError) as error:
    planes(open_coco(str(tmp_path), first=0), video(1), _CLIP)
  assert path in error.value.reason
  assert message in error.value.reason


def test_images_with_equal_or_missing_names_are_refused(tmp_path):
  images = [{'id': 0, 'file_name': 'c/1.jpg'}, {'id': 1, 'file_name': 'd/01.jpg'}]
  _write(tmp_path / 'c.json', {'images': images, 'annotations': []})
  with pytest.raises(ClipError, match='two images of frame number 1'):
    planes(open_coco(str(tmp_path), first=0), video(1), _CLIP)
  path = _write(
    tmp_path / 'c.json', {'images': [{'id': 0, 'file_name': '1.jpg'}], 'annotations': []}
  )
  with pytest.raises(UserError, match="image '1.jpg' is not named {clip}/{frame}"):
    open_coco(path)
  with pytest.raises(UserError, match='nowhere does not exist'):
    open_coco(str(tmp_path / 'nowhere'))


_JSON = st.recursive(
  st.none() | st.booleans() | st.integers(-2, 40) | st.floats() | st.text(max_size=8),
  lambda inner: (
    st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(['size', 'counts', 'x']), inner, max_size=3)
  ),
  max_leaves=8,
)
_FIELDS = st.fixed_dictionaries(
  {
    'image_id': st.just(0) | _JSON,
    'category_id': st.sampled_from([1, 2]) | _JSON,
    'segmentation': st.lists(st.lists(st.integers(-50, 90) | st.floats(), max_size=10), max_size=3)
    | _JSON,
    'bbox': st.lists(st.integers(-50, 90) | st.floats(), max_size=5) | _JSON,
    'score': st.just(0.9) | _JSON,
  }
)


@settings(deadline=None, max_examples=100)
@given(st.lists(_FIELDS, max_size=2) | _JSON)
def test_garbage_is_drawn_or_refused(tmp_path_factory, content):
  root = tmp_path_factory.getbasetemp() / 'garbage'
  _write(root / 'c.json', content)
  source = open_coco(str(root), {'1': PERSON, '*': OBJECT_BOX}, first=0)
  assert 'c.json' in (refusal(lambda: planes(source, video(1), _CLIP)) or 'c.json')
  reason = refusal(lambda: coco_json.split_by_clip(content, None, 'here'))
  assert (reason or 'here').startswith('here')
