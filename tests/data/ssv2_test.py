"""Tests of zsar_jax.data.ssv2, something_else and video, and of tools.build_dataset."""

import json
import pathlib

import av
import numpy as np
import pytest

from tools import build_dataset
from zsar_jax.data import dataset, records
from zsar_jax.data.regions import OBJECT_BOX, PERSON_BOX
from zsar_jax.data.something_else import read_boxes
from zsar_jax.data.ssv2 import Ssv2
from zsar_jax.data.video import read_video
from zsar_jax.errors import UserError

_SAMPLES = pathlib.Path(__file__).parents[3] / 'shared' / 'data' / 'ssv2'

needs_samples = pytest.mark.skipif(not _SAMPLES.exists(), reason='no ../shared/data/ssv2')


def _write_video(path: pathlib.Path, levels: list[int], height: int = 48, width: int = 64):
  """A video at 12 frames per second; frame n is red, at the brightness levels[n]."""
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('libvpx', rate=12)
    stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
    stream.bit_rate = 2_000_000
    for level in levels:
      image = np.zeros((height, width, 3), np.uint8)
      image[..., 0] = level
      container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
    container.mux(stream.encode(None))


def _write_json(path: pathlib.Path, content) -> pathlib.Path:
  path.parent.mkdir(exist_ok=True)
  path.write_text(json.dumps(content))
  return path


def _box(category: str, *corners: float) -> dict:
  return {
    'box2d': dict(zip(('x1', 'y1', 'x2', 'y2'), corners, strict=True)),
    'standard_category': category,
  }


def _frame(name: str, *labels: dict) -> dict:
  return {'name': name, 'labels': list(labels)}


# Frames are 48 pixels high, a fifth of those that were annotated: whole boxes in both.
_BOXES = {
  '11': [
    _frame('11/0003.jpg', _box('hand', 10, 20, 100, 120), _box('0000', 50.5, 100, 400, 300)),
    _frame('11/0001.jpg'),
    _frame('11/0099.jpg', _box('hand', 0, 0, 9, 9)),
  ],
  '12': [_frame('12/0001.jpg', _box('0001', -5, -5, 10, 10))],
  'elsewhere': 'not even looked at',
}


@pytest.fixture(name='copy')
def _copy(tmp_path):
  """A copy of the data set: three clips in train, one of them broken, and one in validation."""
  videos = tmp_path / 'videos'
  videos.mkdir()
  for clip_id in ('11', '12', '14'):
    _write_video(videos / f'{clip_id}.webm', [40, 80, 120, 160, 200])
  (videos / '13.webm').touch()
  labels = tmp_path / 'labels'
  _write_json(labels / 'labels.json', {'Pushing something': '1', 'Lifting part of it': '0'})
  _write_json(
    labels / 'train.json',
    [
      {'id': '12', 'template': 'Pushing [something]'},
      {'id': '13', 'template': 'Pushing [something]'},
      {'id': '11', 'template': 'Lifting [part of] it'},
      {'id': '15', 'template': 'Lifting [part of] it'},
    ],
  )
  _write_json(labels / 'validation.json', [{'id': '14', 'template': 'Pushing [something]'}])
  _write_json(tmp_path / 'boxes.json', _BOXES)
  return tmp_path


def _command(copy: pathlib.Path, *more: str) -> list[str]:
  return [
    '--dataset=ssv2',
    f'--out={copy / "out"}',
    f'--videos={copy / "videos"}',
    f'--annotations={copy / "labels"}',
    '--workers=0',
    *more,
  ]


def test_builds_labelled_and_annotated_clips(copy, capsys):
  build_dataset.main(_command(copy, f'--boxes={copy / "boxes.json"}'))
  output = capsys.readouterr().out
  assert '13.webm is an empty file' in output
  assert '15.webm does not exist' in output
  clips = dataset.open_dataset(copy / 'out', 'ssv2', 'train')
  assert clips.classes == ('Lifting part of it', 'Pushing something')
  assert clips.region_names == ('person_box', 'object_box')
  assert clips.index.ids == ['12', '11']
  assert list(clips.index.labels) == [1, 0]
  assert list(clips.index.num_annotated) == [1, 2]

  record = clips[1]
  assert record['fps'] == 12
  assert (record['height'], record['width']) == (48, 64)
  # Frame 1 is annotated and empty, frame 3 has two boxes, and nobody looked at the others.
  assert list(record['annotated']) == [True, False, True, False, False]
  assert [bool(png) for png in record['regions']] == [True, False, True, False, False]
  assert not records.decode_plane(record['regions'][0], 48, 64).any()
  expected = np.zeros((48, 64), np.uint8)
  expected[4:24, 2:20] |= PERSON_BOX
  expected[20:, 10:] |= OBJECT_BOX
  np.testing.assert_array_equal(records.decode_plane(record['regions'][2], 48, 64), expected)
  red = [records.decode_frame(jpeg)[..., 0].mean() for jpeg in record['frames']]
  np.testing.assert_allclose(red, [40, 80, 120, 160, 200], atol=12)

  validation = dataset.open_dataset(copy / 'out', 'ssv2', 'validation')
  assert list(validation.index.num_annotated) == [0]


def test_without_boxes_nothing_is_annotated(copy):
  build_dataset.main(_command(copy, '--short-side=24'))
  clips = dataset.open_dataset(copy / 'out', 'ssv2', 'train')
  assert clips.region_names == ()
  assert not clips[0]['annotated'].any()
  assert records.decode_frame(clips[0]['frames'][0]).shape == (24, 32, 3)


def test_strict_ends_with_status_2(copy, capsys):
  with pytest.raises(SystemExit) as error:
    build_dataset.main(_command(copy, '--strict'))
  assert error.value.code == 2
  assert "error: ssv2, split 'train': 2 clips failed" in capsys.readouterr().err


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--dataset=pantomime', '--videos=x'], '--videos is not a flag of --dataset=pantomime'),
    (['--dataset=ssv2', '--annotations=x'], '--dataset=ssv2 needs --videos'),
    (['--dataset=pantomime', '--jpeg-quality=0'], '--jpeg-quality must be 1 to 100, not 0'),
    (['--dataset=pantomime', '--train-clips=0'], '--train-clips must be 1 or more, not 0'),
    (['--dataset=pantomime', '--workers=-1'], '--workers must be 0 or more, not -1'),
  ],
)
def test_flags_that_make_no_sense_are_refused(arguments, message, tmp_path, capsys):
  with pytest.raises(SystemExit) as error:
    build_dataset.main([*arguments, f'--out={tmp_path}'])
  assert error.value.code == 2
  assert message in capsys.readouterr().err


@pytest.mark.parametrize(
  ('file', 'content', 'message'),
  [
    ('labels.json', {'a': 'x'}, "labels.json: the label of 'a' must be a whole number"),
    ('labels.json', {'a': '0', 'b': '2'}, 'must have the labels 0 to 1'),
    ('labels.json', ['a'], 'labels.json must be a dict, not a list'),
    ('train.json', [{'id': 11, 'template': 'a'}], "entry 0: field 'id' must be a string"),
    ('train.json', [{'id': '11'}], "entry 0: field 'template' must be a string"),
    ('train.json', ['11'], "entry 0: field 'id'"),
    ('train.json', [{'id': '11', 'template': 'Eating [it]'}], "clip 11: template 'Eating it'"),
    (
      'train.json',
      [{'id': '1', 'template': 'Pushing something'}] * 2,
      'clip 1 is listed twice',
    ),
  ],
)
def test_wrong_annotation_is_named(copy, file, content, message):
  _write_json(copy / 'labels' / file, content)
  with pytest.raises(UserError) as error:
    Ssv2(copy / 'out', copy / 'videos', copy / 'labels')
  assert message in str(error.value)


def test_missing_annotation_is_named(copy):
  (copy / 'labels' / 'validation.json').write_text('[{')
  with pytest.raises(UserError, match='validation.json is not JSON'):
    Ssv2(copy / 'out', copy / 'videos', copy / 'labels')
  (copy / 'labels' / 'validation.json').unlink()
  with pytest.raises(UserError, match='none of something-something-v2-validation.json'):
    Ssv2(copy / 'out', copy / 'videos', copy / 'labels')
  with pytest.raises(UserError, match='--videos: .* is not a folder'):
    Ssv2(copy / 'out', copy / 'nowhere', copy / 'labels')


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
    ([_frame('11/0001.jpg', _box('hand', 1, 2, float('nan'), 4))], "field 'x2' must be a"),
    ([_frame('11/0001.jpg', _box('hand', 1, True, 3, 4))], "field 'y1' must be a"),
    ([_frame('11/0001.jpg', _box('hand', '1', 2, 3, 4))], "field 'x1' must be a"),
  ],
)
def test_wrong_box_is_named(tmp_path, frames, message):
  path = _write_json(tmp_path / 'boxes.json', {'11': frames})
  with pytest.raises(UserError) as error:
    list(read_boxes(path, {'11'}))
  assert str(path) in str(error.value)
  assert message in str(error.value)


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


def test_boxes_read_alike_however_they_are_spaced(tmp_path):
  path = tmp_path / 'boxes.json'
  for text in ('{}', ' \n{ } ', json.dumps(_BOXES), f'\n{json.dumps(_BOXES, indent=3)}\n'):
    path.write_text(text)
    found = dict(read_boxes(path, {'11', '12'}))
    assert list(found) == [name for name in json.loads(text) if name in ('11', '12')]


def test_boxes_of_other_clips_are_refused(copy):
  path = _write_json(copy / 'boxes.json', {'1': []})
  with pytest.raises(UserError, match='--boxes: .*boxes.json has no box for any listed clip'):
    Ssv2(copy / 'out', copy / 'videos', copy / 'labels', [path]).tasks()


def test_video_is_decoded_in_order(tmp_path):
  levels = [int(level) for level in np.linspace(30, 220, 40)]
  _write_video(tmp_path / 'a.webm', levels)
  frames, fps = read_video(tmp_path / 'a.webm')
  assert frames.shape == (40, 48, 64, 3)
  assert frames.dtype == np.uint8
  assert fps == 12
  np.testing.assert_allclose(frames[..., 0].mean((1, 2)), levels, atol=12)
  assert frames[..., 1:].mean() < 12
  small, _ = read_video(tmp_path / 'a.webm', short_side=30)
  assert small.shape == (40, 30, 40, 3)


def test_unreadable_video_has_a_reason(tmp_path):
  path = tmp_path / 'a.webm'
  with pytest.raises(records.ClipError, match='does not exist') as error:
    read_video(path)
  assert error.value.missing
  noise = np.random.default_rng(0).integers(0, 256, 48).tolist()
  _write_video(path, noise)
  whole = path.read_bytes()
  for content, reason in [
    (b'', 'is an empty file'),
    (b'<html>404 Not Found</html>', 'cannot be decoded'),
    (whole[: len(whole) // 2], r'ends after [\d.]+ of 4.0 seconds'),
    (whole[:300], 'cannot be decoded|no video stream|no frame'),
  ]:
    path.write_bytes(content)
    with pytest.raises(records.ClipError, match=reason) as error:
      read_video(path)
    assert not error.value.missing
  with pytest.raises(records.ClipError):
    read_video(tmp_path)


@needs_samples
def test_real_clips_and_boxes(tmp_path):
  annotations = _SAMPLES / 'annotations'
  boxes = annotations / 'something-else-boxes.json'
  build_dataset.main(
    [
      '--dataset=ssv2',
      f'--out={tmp_path}',
      f'--videos={_SAMPLES / "videos"}',
      f'--annotations={annotations}',
      f'--boxes={boxes}',
      '--strict',
      '--workers=0',
    ]
  )
  clips = dataset.open_dataset(tmp_path, 'ssv2', 'train')
  assert len(clips.classes) == 174
  listed = json.loads((annotations / 'something-something-v2-train.json').read_text())
  annotated = json.loads(boxes.read_text())
  for position, entry in enumerate(listed):
    assert clips.index.ids[position] == entry['id']
    name = clips.classes[clips.index.labels[position]]
    assert name == entry['template'].replace('[', '').replace(']', '')
    record = clips[position]
    height, width = record['height'], record['width']
    assert height == 240
    y, x = np.mgrid[:height, :width]
    for frame in annotated[entry['id']][::7]:
      expected = np.zeros((height, width), np.uint8)
      for label in frame['labels']:
        box = label['box2d']
        # A pixel counts where the box covers any part of it.
        inside = (x + 1 > box['x1']) & (x < box['x2']) & (y + 1 > box['y1']) & (y < box['y2'])
        hand = label['gt_annotation'] == 'object hand'
        expected[inside] |= PERSON_BOX if hand else OBJECT_BOX
      png = record['regions'][int(frame['name'][-8:-4]) - 1]
      np.testing.assert_array_equal(records.decode_plane(png, height, width), expected)
