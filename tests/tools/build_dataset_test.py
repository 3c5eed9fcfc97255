"""Tests of tools.build_dataset and tools.inspect_dataset: complete builds from videos."""

import json
import pathlib
import shutil

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.datasets.sources.ssv2_test import write_json
from tests.datasets.video_test import write_video
from tests.toy import build_toy
from tools import build_dataset, inspect_dataset
from zsar_jax.data import dataset, records
from zsar_jax.recipes.regions import OBJECT_BOX, PERSON, PERSON_BOX

_SHARED = pathlib.Path(__file__).parents[3] / 'shared' / 'data'

needs_samples = pytest.mark.skipif(not _SHARED.exists(), reason='no ../shared/data')


def _build(*flags: str, out: pathlib.Path) -> dict:
  """Runs the command and returns the report."""
  build_dataset.main([*flags, f'--out={out}', '--workers=0'])
  name = next(flag for flag in flags if flag.startswith('--dataset=')).partition('=')[2]
  return json.loads((out / name / '1.0.0' / 'build_report.json').read_text())


def _box(category: str, *corners: float) -> dict:
  return {
    'box2d': dict(zip(('x1', 'y1', 'x2', 'y2'), corners, strict=True)),
    'standard_category': category,
  }


@pytest.fixture(name='ssv2')
def _ssv2(tmp_path):
  """Something-Something v2: two of four training clips can be built; one validation clip."""
  videos = tmp_path / 'videos'
  for clip_id in ('11', '12', '14'):
    write_video(videos / f'{clip_id}.webm', [40, 80, 120, 160, 200], codec='libvpx')
  (videos / '13.webm').touch()
  labels = tmp_path / 'labels'
  write_json(labels / 'labels.json', {'Pushing something': '1', 'Lifting part of it': '0'})
  names = {'12': 'Pushing [something]', '13': 'Pushing [something]'}
  train = [
    {'id': clip_id, 'template': names.get(clip_id, 'Lifting [part of] it')}
    for clip_id in ('12', '13', '11', '15')
  ]
  write_json(labels / 'train.json', train)
  write_json(labels / 'validation.json', [{'id': '14', 'template': 'Pushing [something]'}])
  # Frames are 48 pixels high, a fifth of the annotated ones: boxes have integer edges in both.
  boxes = {
    '11': [
      {
        'name': '11/0003.jpg',
        'labels': [_box('hand', 10, 20, 100, 120), _box('0000', 50.5, 100, 400, 300)],
      },
      {'name': '11/0001.jpg', 'labels': []},
      {'name': '11/0007.jpg', 'labels': [_box('hand', 0, 0, 9, 9)]},
    ],
    '12': [{'name': '12/0001.jpg', 'labels': [_box('0001', -5, -5, 10, 10)]}],
    'elsewhere': 'not even looked at',
  }
  write_json(tmp_path / 'boxes.json', boxes)
  return [
    '--dataset=ssv2',
    f'--videos={videos}',
    f'--annotations={labels}',
    f'--boxes={tmp_path / "boxes.json"}',
  ]


def test_ssv2_with_boxes(ssv2, tmp_path, capsys):
  report = _build(*ssv2, out=tmp_path / 'out')
  assert '15.webm does not exist' in report['train']['missing']['15']
  assert '13.webm is an empty file' in report['train']['unreadable']['13']
  assert report['validation']['unannotated'] == 1
  output = capsys.readouterr().out
  assert '13.webm is an empty file' in output
  clips = dataset.open_dataset(tmp_path / 'out', 'ssv2', 'train')
  assert clips.classes == ('Lifting part of it', 'Pushing something')
  assert clips.class_texts == ('Lifting [part of] it', 'Pushing [something]')
  assert clips.region_names == ('person_box', 'object_box')
  assert clips.index.ids == ['12', '11']
  assert list(clips.index.labels) == [1, 0]
  assert list(clips.index.num_annotated) == [1, 2]

  record = clips[1]
  assert record['fps'] == 12
  assert (record['height'], record['width']) == (48, 64)
  # Frame 1 is annotated and empty, frame 3 has two boxes, the others are not annotated.
  assert list(record['annotated']) == [True, False, True, False, False]
  assert [bool(png) for png in record['regions']] == [True, False, True, False, False]
  assert not records.decode_plane(record['regions'][0], 48, 64).any()
  expected = np.zeros((48, 64), np.uint8)
  expected[4:24, 2:20] |= PERSON_BOX
  expected[20:, 10:] |= OBJECT_BOX
  np.testing.assert_array_equal(records.decode_plane(record['regions'][2], 48, 64), expected)
  hand = report['train']['regions']['person_box']
  assert hand['annotated'] == 3 / 10
  assert hand['empty'] == 2 / 3
  assert hand['never'] == 1
  # A single clip shows a hand, in one of its two annotated frames.
  assert hand['coverage']['50%'] == pytest.approx(20 * 18 / (48 * 64) / 2)


def test_strict_ends_with_status_2(ssv2, tmp_path, capsys):
  with pytest.raises(SystemExit) as error:
    build_dataset.main([*ssv2, f'--out={tmp_path / "out"}', '--workers=0', '--strict'])
  assert error.value.code == 2
  assert "error: ssv2, split 'train': 2 clips failed" in capsys.readouterr().err


@pytest.fixture(name='clips')
def _clips(tmp_path):
  """A folder of two classes with masks: person at the left of a.mp4 and twice in frames/b."""
  videos, masks = tmp_path / 'videos', tmp_path / 'masks'
  write_video(videos / 'idle' / 'a.mp4', [50, 100, 150, 200])
  (videos / 'jumping' / 'b').mkdir(parents=True)
  for clip, count in (('idle/a', 4), ('jumping/b', 3)):
    (masks / clip).mkdir(parents=True)
    for number in range(1, count + 1):
      mask = np.zeros((48, 64), np.uint8)
      mask[8:24, 4:20] = 255
      if clip == 'jumping/b':
        mask[30:40, 40:60] = 255
        frame = np.full((48, 64, 3), 60 * number, np.uint8)
        cv2.imwrite(str(videos / clip / f'{number:06d}.jpg'), frame)
      cv2.imwrite(str(masks / clip / f'{number:06d}.png'), mask)
  write_video(videos / 'jumping' / 'c.mp4', [50, 100])
  return videos, masks


def test_a_folder_with_masks_and_boxes_around_them(clips, tmp_path):
  videos, masks = clips
  report = _build(
    '--dataset=folder',
    f'--videos={videos}',
    '--masks',
    f'grey:{masks}',
    '--boxes-from-shapes',
    '--keep=every:2',
    '--short-side=24',
    '--fps=10',
    out=tmp_path / 'out',
  )['train']
  opened = dataset.open_dataset(tmp_path / 'out', 'folder', 'train')
  assert opened.classes == ('idle', 'jumping')
  assert opened.region_names == ('person', 'person_box')
  assert opened.index.ids == ['idle/a', 'jumping/b', 'jumping/c']
  assert list(opened.index.num_frames) == [2, 2, 1]
  assert list(opened.index.num_annotated) == [2, 2, 0]
  assert report['unannotated'] == 1
  assert [opened[n]['fps'] for n in range(3)] == pytest.approx([6, 20 / 3, 6])
  plane = records.decode_plane(opened[1]['regions'][1], 24, 32)
  expected = np.zeros((24, 32), np.uint8)
  expected[4:12, 2:10] = expected[15:20, 20:30] = PERSON | PERSON_BOX
  np.testing.assert_array_equal(plane, expected)
  np.testing.assert_allclose(opened.index.coverage[1, 0], (expected > 0).mean(), rtol=1e-6)


def test_masks_of_some_clips_only(clips, tmp_path):
  videos, masks = clips
  (tmp_path / 'objects' / 'idle' / 'a').mkdir(parents=True)
  for number in (1, 3):
    mask = np.full((48, 64), 255, np.uint8)
    cv2.imwrite(str(tmp_path / 'objects' / 'idle' / 'a' / f'{number}.png'), mask)
  report = _build(
    '--dataset=folder',
    f'--videos={videos}',
    '--masks',
    f'grey:{masks}',
    f'grey:{tmp_path / "objects"},region=object,first=1',
    out=tmp_path / 'out',
  )['train']
  opened = dataset.open_dataset(tmp_path / 'out', 'folder', 'train')
  assert opened.region_names == ('person', 'object')
  # A frame is annotated if both sources annotate it.
  assert list(opened.index.num_annotated) == [2, 3, 0]
  assert list(opened[0]['annotated']) == [True, False, True, False]
  assert report['remarks'][f'masks of grey:{masks} alone'] == {'jumping/b': 'object unknown'}
  assert list(report['remarks']['no masks']) == ['jumping/c']
  assert report['remarks']['frames without masks'] == {'idle/a': '2 of 4'}
  with pytest.raises(SystemExit):
    _build(
      '--dataset=folder',
      f'--videos={videos}',
      '--masks',
      f'grey:{tmp_path / "out"},first=1',
      out=tmp_path / 'none',
    )


def test_other_flags_do_not_continue_an_interrupted_build(clips, tmp_path, monkeypatch):
  videos, masks = clips
  (videos / 'idle' / 'z.mp4').touch()
  flags = ['--dataset=folder', f'--videos={videos}', '--strict']
  for region in ('person', 'object'):
    with pytest.raises(SystemExit):
      _build(*flags, '--masks', f'grey:{masks},region={region}', out=tmp_path / 'out')
  (videos / 'idle' / 'z.mp4').unlink()
  _build(*flags, '--masks', f'grey:{masks},region=object', out=tmp_path / 'out')
  coverage = dataset.open_dataset(tmp_path / 'out', 'folder', 'train').index.coverage
  assert coverage[0, 0] == 0 < coverage[0, 1]


def test_a_finished_data_set_of_other_videos_masks_or_rates_is_refused(clips, tmp_path, capsys):
  videos, masks = clips
  shutil.copytree(videos, tmp_path / 'copy' / 'videos')
  shutil.copytree(masks, tmp_path / 'copy' / 'masks')
  _build('--dataset=folder', f'--videos={videos}', '--masks', f'grey:{masks}', out=tmp_path / 'out')
  for flags, word in (
    ([f'--videos={tmp_path / "copy" / "videos"}', f'--masks=grey:{masks}'], 'videos'),
    ([f'--videos={videos}', f'--masks=grey:{tmp_path / "copy" / "masks"}'], 'masks'),
    ([f'--videos={videos}', f'--masks=grey:{masks}', '--fps=5'], 'folder_fps'),
  ):
    with pytest.raises(SystemExit) as status:
      _build('--dataset=folder', *flags, out=tmp_path / 'out')
    assert status.value.code == 2
    assert f'was built with {word} = ' in capsys.readouterr().err


def test_unreadable_and_unwritable_paths_give_a_single_sentence(clips, tmp_path, capsys):
  videos, _ = clips
  (tmp_path / 'file').touch()
  flags = ['--dataset=folder', f'--videos={videos}', '--workers=0']
  _build(*flags, out=tmp_path / 'out')
  (tmp_path / 'out' / 'folder' / '1.0.0' / 'build_report.json').unlink()
  for out, words in ((tmp_path / 'file', '--out: '), (tmp_path / 'out', 'is damaged, or from an')):
    with pytest.raises(SystemExit) as status:
      build_dataset.main([*flags, f'--out={out}'])
    assert status.value.code == 2
    assert words in capsys.readouterr().err


def test_an_interrupted_build_of_videos_continues(clips, tmp_path, monkeypatch):
  videos, masks = clips
  flags = ['--dataset=folder', f'--videos={videos}', '--masks', f'grey:{masks}']
  monkeypatch.setattr('zsar_jax.datasets.build._CHUNK_CLIPS', 1)
  _build(*flags, out=tmp_path / 'uninterrupted')

  calls = []

  def interrupt(*arguments, encode=records.encode_clip, **keywords):
    calls.append(arguments[0])
    if len(calls) == 2:
      raise KeyboardInterrupt
    return encode(*arguments, **keywords)

  monkeypatch.setattr(records, 'encode_clip', interrupt)
  with pytest.raises(SystemExit) as status:
    _build(*flags, out=tmp_path / 'cut')
  assert status.value.code == 130
  _build(*flags, out=tmp_path / 'cut')
  assert calls == ['idle/a', 'jumping/b', 'jumping/b', 'jumping/c']
  for path in (tmp_path / 'uninterrupted').rglob('*.array_record-*'):
    assert (
      path.read_bytes()
      == (tmp_path / 'cut' / path.relative_to(tmp_path / 'uninterrupted')).read_bytes()
    )


def test_beam_writes_the_same_records(clips, tmp_path):
  pytest.importorskip('apache_beam', reason='the extra beam is not installed')
  videos, masks = clips
  flags = ['--dataset=folder', f'--videos={videos}', '--masks', f'grey:{masks}']
  _build(*flags, out=tmp_path / 'here')
  _build(
    *flags,
    '--beam_runner=DirectRunner',
    '--beam_options=direct_running_mode=multi_processing,direct_num_workers=2',
    out=tmp_path / 'beam',
  )
  for path in (tmp_path / 'here').rglob('*.array_record-*'):
    assert (
      path.read_bytes() == (tmp_path / 'beam' / path.relative_to(tmp_path / 'here')).read_bytes()
    )


def test_listed_clips_of_a_folder(clips, tmp_path):
  videos, _ = clips
  (tmp_path / 'labels.txt').write_text('idle\njumping\n')
  (tmp_path / 'train.txt').write_text('idle/a.mp4 0\njumping/b 5 1\nidle/gone.mp4 0\n')
  (tmp_path / 'val.txt').write_text('jumping/c.mp4 1\n')
  report = _build(
    '--dataset=folder',
    f'--videos={videos}',
    '--lists',
    f'train={tmp_path / "train.txt"}',
    f'validation={tmp_path / "val.txt"}',
    f'--labels={tmp_path / "labels.txt"}',
    out=tmp_path / 'out',
  )
  assert report['train']['remarks'] == {'frames differ from the list': {'jumping/b': '3, listed 5'}}
  assert list(report['train']['missing']) == ['idle/gone']
  assert report['validation']['written'] == 1
  assert dataset.open_dataset(tmp_path / 'out', 'folder', 'train')[1]['attributes'] == {}


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--dataset=pantomime', '--videos=x'], '--videos is not a flag of --dataset=pantomime'),
    (['--dataset=ssv2', '--annotations=x'], '--dataset=ssv2 needs --videos'),
    (['--dataset=pantomime', '--jpeg-quality=0'], '--jpeg-quality must be 1 to 100, not 0'),
    (['--dataset=pantomime', '--train-clips=0'], '--train-clips must be 1 or more, not 0'),
    (['--dataset=pantomime', '--workers=-1'], '--workers must be 0 or more, not -1'),
    (['--dataset=pantomime', '--beam_options=a'], '--beam_options needs --beam_runner'),
    (['--dataset=folder', '--videos=VIDEOS', '--keep=some'], "--keep: 'some' is none of"),
    (['--dataset=folder', '--videos=VIDEOS', '--name=My Data'], '--name'),
    (['--dataset=folder', '--videos=VIDEOS', '--lists', 'a.txt'], '--lists'),
    (['--dataset=folder', '--videos=VIDEOS', '--boxes-from-shapes'], 'needs shapes'),
    (['--dataset=folder', '--videos=VIDEOS', '--masks', 'grey'], '--masks'),
    (['--dataset=folder', '--videos=VIDEOS', '--masks', 'grey:/nowhere'], '--masks'),
  ],
)
def test_invalid_flags_are_refused(arguments, message, clips, tmp_path, capsys):
  arguments = [argument.replace('VIDEOS', str(clips[0])) for argument in arguments]
  with pytest.raises(SystemExit) as error:
    build_dataset.main([*arguments, f'--out={tmp_path}'])
  assert error.value.code == 2
  assert message in capsys.readouterr().err


def test_inspect_prints_the_report_and_draws_the_regions(clips, tmp_path, capsys):
  videos, masks = clips
  _build('--dataset=folder', f'--videos={videos}', '--masks', f'grey:{masks}', out=tmp_path / 'out')
  printed = capsys.readouterr().out
  report = printed[: printed.index('folder: built')]
  for folder in ('', 'folder', 'folder/1.0.0'):
    inspect_dataset.main([str(tmp_path / 'out' / folder), f'--out={tmp_path}', '--size=64'])
    output = capsys.readouterr().out
    assert output.startswith(report)
  sheet = cv2.imread(str(tmp_path / 'folder.png'))[..., ::-1].astype(int)
  red = (np.abs(sheet - [0xE4, 0x1A, 0x1C]).max(-1) < 8).nonzero()[1]
  assert len(red) > 1000
  assert sheet.shape[1] / 3 < red.min()
  assert red.max() < sheet.shape[1] * 2 / 3


@pytest.mark.parametrize('text', ['[]', '{}', '{"train": {}}', '{"train": 5}', '{'])
def test_inspect_refuses_a_report_of_another_shape(text, tmp_path, capsys):
  folder = pathlib.Path(build_toy(tmp_path)) / 'toy' / '1.0.0'
  (folder / 'build_report.json').write_text(text)
  with pytest.raises(SystemExit) as error:
    inspect_dataset.main([str(folder), f'--out={tmp_path}'])
  assert error.value.code == 2
  assert 'build_report.json is damaged, or from an earlier version' in capsys.readouterr().err


def test_inspect_refuses(tmp_path, capsys):
  for flags, words in (
    ([str(tmp_path)], 'holds no data set'),
    ([str(tmp_path), '--clips=0'], '--clips'),
    ([str(tmp_path), '--worst=0'], '--worst must be 1 or more, not 0'),
    ([str(tmp_path), f'--out={__file__}'], f'--out: {__file__} cannot be a folder'),
  ):
    with pytest.raises(SystemExit) as error:
      inspect_dataset.main(flags)
    assert error.value.code == 2
    assert words in capsys.readouterr().err


@needs_samples
def test_real_kinetics_clips(tmp_path):
  folder = _SHARED / 'kinetics400'
  report = _build(
    '--dataset=kinetics400',
    f'--videos={folder / "videos"}',
    f'--annotations={folder / "annotations_val.csv"}',
    f'--labels={_SHARED / "labels" / "k400.txt"}',
    '--keep=segments:16',
    '--short-side=128',
    out=tmp_path,
  )['validation']
  assert report['written'] == 2
  assert list(report['missing']) == ['-missing0000_000000_000010']
  clips = dataset.open_dataset(tmp_path, 'kinetics400', 'validation')
  assert [clips.classes[label] for label in clips.index.labels] == ['archery', 'arm wrestling']
  assert list(clips.index.num_frames) == [16, 16]
  assert len(clips.class_splits['mimetics']) == 50


@needs_samples
def test_real_frames_and_person_masks(tmp_path):
  folder = _SHARED / 'person_masks' / 'bmx-trees'
  (tmp_path / 'list.txt').write_text('frames,bmx\n')
  (tmp_path / 'masks').mkdir()
  (tmp_path / 'masks' / 'frames').symlink_to(folder / 'masks')
  report = _build(
    '--dataset=folder',
    f'--videos={folder}',
    '--lists',
    f'train={tmp_path / "list.txt"}',
    '--masks',
    f'grey:{tmp_path / "masks"}',
    '--boxes-from-shapes',
    out=tmp_path / 'out',
  )['train']
  record = dataset.open_dataset(tmp_path / 'out', 'folder', 'train')[0]
  assert len(record['frames']) == 80
  for number in range(0, 80, 9):
    mask = cv2.imread(str(folder / 'masks' / f'{number:05d}.png'), cv2.IMREAD_UNCHANGED)
    plane = records.decode_plane(record['regions'][number], 240, 432)
    np.testing.assert_array_equal((plane & PERSON) > 0, mask > 0)
    assert ((plane & PERSON_BOX) > 0)[mask > 0].all()
  assert report['regions']['person']['annotated'] == 1


@needs_samples
def test_real_ssv2_clips_and_boxes(tmp_path):
  annotations = _SHARED / 'ssv2' / 'annotations'
  boxes = annotations / 'something-else-boxes.json'
  _build(
    '--dataset=ssv2',
    f'--videos={_SHARED / "ssv2" / "videos"}',
    f'--annotations={annotations}',
    f'--boxes={boxes}',
    '--strict',
    out=tmp_path,
  )
  clips = dataset.open_dataset(tmp_path, 'ssv2', 'train')
  assert len(clips.classes) == 174
  listed = json.loads((annotations / 'something-something-v2-train.json').read_text())
  annotated = json.loads(boxes.read_text())
  for position, entry in enumerate(listed):
    assert clips.index.ids[position] == entry['id']
    assert clips.class_texts[clips.index.labels[position]] == entry['template']
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


def test_a_part_of_ucf101_is_read_here_and_with_tfds(tmp_path):
  videos, lists = tmp_path / 'videos', tmp_path / 'lists'
  lists.mkdir()
  (lists / 'classInd.txt').write_text('1 Archery\n2 Bowling\n')
  names = [
    f'{name}/v_{name}_g0{number}_c01' for name in ('Archery', 'Bowling') for number in (1, 2)
  ]
  for name in names:
    write_video(videos / f'{name}.avi', [50, 100], codec='mpeg4')
  for number in (1, 2, 3):
    (lists / f'trainlist0{number}.txt').write_text(f'{names[3]}.avi 2\n{names[0]}.avi 1\n')
    (lists / f'testlist0{number}.txt').write_text(f'{names[1]}.avi\n{names[2]}.avi\n')
  out = tmp_path / 'out'
  report = _build('--dataset=ucf101', f'--videos={videos}', f'--annotations={lists}', out=out)
  assert report['clips']['written'] == 4
  train = dataset.open_dataset(out, 'ucf101', 'train1')
  assert [train[position]['id'] for position in range(len(train))] == [names[3], names[0]]
  test = dataset.open_dataset(out, 'ucf101', 'test3')
  assert [test[position]['id'] for position in range(len(test))] == names[1:3]
  clips = tfds.builder_from_directory(out / 'ucf101' / '1.0.0').as_data_source('clips')
  assert [clips[position]['id'].decode() for position in range(4)] == names


def test_a_missing_clip_is_not_replaced_by_another_of_its_name(tmp_path):
  videos = tmp_path / 'videos'
  write_video(videos / '11-1' / '001.mp4', [50, 100])
  write_video(videos / '11-1' / '002.mp4', [50, 100])
  write_video(videos / '1-11' / '002.mp4', [150, 200])
  (tmp_path / 'labels.csv').write_text('id,name\n1,b\n0,a\n')
  (tmp_path / 'train.txt').write_text('1-11/001.mp4 0\n1-11/002.mp4 0\n11-1/002.mp4 1\n')
  report = _build(
    '--dataset=folder',
    f'--videos={videos}',
    '--lists',
    f'train={tmp_path / "train.txt"}',
    f'--labels={tmp_path / "labels.csv"}',
    out=tmp_path / 'out',
  )['train']
  assert list(report['missing']) == ['1-11/001']
  opened = dataset.open_dataset(tmp_path / 'out', 'folder', 'train')
  ids_and_classes = [
    (record['id'], opened.classes[record['label']]) for record in (opened[0], opened[1])
  ]
  assert ids_and_classes == [('1-11/002', 'a'), ('11-1/002', 'b')]
  brightness = [records.decode_frame(opened[position]['frames'][0]).mean() for position in (0, 1)]
  assert brightness[0] > brightness[1] + 30
