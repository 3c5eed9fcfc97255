"""Tests of zsar_jax.datasets.sources.kinetics and video_files."""

import collections
import contextlib
import os
import pathlib

import pytest

from zsar_jax.data.splits import MIMETICS_CLASSES
from zsar_jax.datasets.sources.kinetics import list_kinetics, list_mimetics
from zsar_jax.datasets.sources.video_index import VideoIndex
from zsar_jax.errors import UserError

_SHARED = pathlib.Path(__file__).parents[4] / 'shared' / 'data'

needs_samples = pytest.mark.skipif(not _SHARED.exists(), reason='no ../shared/data')


def touch(root: pathlib.Path, *paths: str) -> pathlib.Path:
  """Creates empty files below `root` and returns it; lists do not open videos."""
  for path in paths:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).touch()
  return root


def _csv(path: pathlib.Path, *lines: str, header='label,youtube_id,time_start,time_end,split'):
  path.write_text('\n'.join([header, *lines]) + '\n')
  return path


@pytest.fixture(name='videos')
def _videos(tmp_path):
  return touch(
    tmp_path / 'videos',
    'arm wrestling/-abc_def-gh_000001_000011.mp4',
    'air_drumming/xyz_000000_000010.mkv',
    'train/zumba/two_000005_000015.mp4',
    'val/zumba/two_000005_000015.mp4',
    'frames_of_000003_000013/img_00001.jpg',
  )


def test_finds_clips_however_the_folders_are_named(tmp_path, videos):
  annotations = _csv(
    tmp_path / 'val.csv',
    'arm wrestling,-abc_def-gh,1,11,val',
    'air drumming,xyz,0.0,10.0,validate',
    'zumba,two,5,15,train',
    'zumba,two,5,15,val',
    'zumba,frames_of,3,13,test',
    'zumba,gone,3,13,test',
  )
  listing = list_kinetics(videos, [annotations])
  assert listing.classes == ('air drumming', 'arm wrestling', 'zumba')
  by_split = {
    split: [(clip.id, clip.label, clip.name) for clip in clips]
    for split, clips in listing.splits.items()
  }
  assert by_split == {
    'validation': [
      ('-abc_def-gh_000001_000011', 1, 'arm wrestling/-abc_def-gh_000001_000011'),
      ('xyz_000000_000010', 0, 'air_drumming/xyz_000000_000010'),
      ('two_000005_000015', 2, 'val/zumba/two_000005_000015'),
    ],
    'train': [('two_000005_000015', 2, 'train/zumba/two_000005_000015')],
    'test': [
      ('frames_of_000003_000013', 2, 'frames_of_000003_000013'),
      ('gone_000003_000013', 2, 'zumba/gone_000003_000013'),
    ],
  }
  for clips in listing.splits.values():
    for clip in clips:
      assert pathlib.Path(clip.path).exists() == ('gone' not in clip.id)
  assert listing.splits['test'][1].path == str(videos / 'zumba' / 'gone_000003_000013.mp4')


def test_two_files_for_a_clip_are_refused(tmp_path, videos):
  (videos / 'arm wrestling').rename(videos / 'Arm Wrestling')
  touch(videos, 'arm_wrestling/-abc_def-gh_000001_000011.mp4')
  annotations = _csv(tmp_path / 'val.csv', 'arm wrestling,-abc_def-gh,1,11,val')
  with pytest.raises(UserError, match='has both .*remove one'):
    list_kinetics(videos, [annotations])


def test_lists_with_is_cc_in_folders_and_with_labels(tmp_path, videos):
  folder = tmp_path / 'lists'
  folder.mkdir()
  header = 'label,youtube_id,time_start,time_end,split,is_cc'
  _csv(folder / 'train.csv', '"a, quoted",xyz,0,10,train,0', header=header)
  _csv(folder / 'val.csv', 'b,two,5,15,val,1', header='\ufeff' + header)
  labels = tmp_path / 'labels.txt'
  labels.write_text('b\nanother\na, quoted\n')
  listing = list_kinetics(videos, [folder], str(labels))
  assert listing.classes == ('b', 'another', 'a, quoted')
  assert {split: clips[0].label for split, clips in listing.splits.items()} == {
    'train': 2,
    'validation': 0,
  }


def test_a_clip_listed_twice_is_kept_once_and_reported(tmp_path, videos):
  row = 'zumba,xyz,0,10,train'
  listing = list_kinetics(videos, [_csv(tmp_path / 'a.csv', row, row, 'b,two,5,15,train')])
  assert [clip.id for clip in listing.splits['train']] == ['xyz_000000_000010', 'two_000005_000015']
  assert list(listing.remarks['train']['listed twice']) == ['xyz_000000_000010']


@pytest.mark.parametrize(
  ('lines', 'words'),
  [
    (['zumba,xyz,0,10,train', 'other,xyz,0,10,train'], 'line 3: clip .* another label'),
    (['zumba,xyz,zero,10,train'], "line 2: time_start .* not 'zero'"),
    (['zumba,xyz,0,inf,train'], 'time_end'),
    (['zumba,../../etc/xyz,0,10,train'], 'does not lie below'),
    (['zumba,a/xyz,0,10,train'], 'is no id'),
    (['zumba,xyz,0,10,holdout'], "split 'holdout'"),
    (['zumba,xyz,0'], 'must have 5 fields'),
    (['zumba,xyz,0,10,train,more'], 'must have 5 fields'),
    ([], 'lists no clip'),
    ([',xyz,0,10,train'], "line 2: label '' must be one line of text"),
    (['zumba ,xyz,0,10,train'], "line 2: label 'zumba ' must be"),
    (['"zum\nba",xyz,0,10,train'], r"line 3: label 'zum\\nba' must be"),
    (['zumba,,0,10,train'], "line 2: youtube_id '' is no id"),
    (['zumba,xyz,-1,10,train'], 'line 2: time_start -1 and time_end 10 must be 0 or more'),
    (['zumba,xyz,11,10,train'], 'line 2: .* the start not after the end'),
    (['zumba,xyz,0,10,'], "a.csv, line 2: it has no split, and the file's name"),
    (['"zumba' + 200_000 * 'x'], 'a.csv, line .: field larger'),
  ],
)
def test_invalid_lists_are_refused(tmp_path, videos, lines, words):
  with pytest.raises(UserError, match=words):
    list_kinetics(videos, [_csv(tmp_path / 'a.csv', *lines)])


def test_refuses_other_files(tmp_path, videos):
  (tmp_path / 'other.json').write_text('{"a": 1}')
  (tmp_path / 'binary.csv').write_bytes(b'\xff\xfe\x00label')
  (tmp_path / 'labels.txt').write_text('zumba\n')
  good = _csv(tmp_path / 'good.csv', 'jumping,xyz,0,10,train')
  for call, words in (
    (lambda: list_kinetics(videos, [tmp_path / 'other.json']), "no column 'label'"),
    (lambda: list_kinetics(videos, [tmp_path / 'none.csv']), 'cannot be read'),
    (lambda: list_kinetics(videos, [tmp_path / 'binary.csv']), 'not text in UTF-8'),
    (lambda: list_kinetics(videos, [videos]), 'has no csv file'),
    (lambda: list_kinetics(videos, [good], str(tmp_path / 'labels.txt')), "'jumping' is not in"),
    (lambda: list_kinetics(tmp_path / 'nowhere', [good]), 'is not a folder'),
    (lambda: list_mimetics(videos, tmp_path), 'cannot be read'),
  ):
    with pytest.raises(UserError, match=words):
      call()


def test_images_are_frames_if_there_is_no_video(tmp_path):
  touch(tmp_path, 'a/clip.v2/1.jpg', 'a/clip.v2/2.jpg', 'a/clip.v2/flow/1.jpg')
  touch(tmp_path, 'a/.hidden.mp4', 'x.txt')
  touch(tmp_path, 'a/c.mp4', 'a/c.jpg', 'thumbnails/1.png', 'thumbnails/below/deep/d.TS')
  assert sorted(VideoIndex(tmp_path)) == ['a/c.mp4', 'a/clip.v2', 'thumbnails/below/deep/d.TS']


def test_only_the_first_of_many_frames_are_listed(tmp_path, monkeypatch):
  touch(tmp_path, *(f'many/{number:05d}.jpg' for number in range(300)))
  touch(tmp_path, *(f'few/{number:05d}.jpg' for number in range(150)), 'few/z.mp4')
  read = collections.Counter()
  real = os.scandir

  @contextlib.contextmanager
  def counting(path):
    def counted(entries):
      for entry in entries:
        read[pathlib.Path(path).name] += 1
        yield entry

    with real(path) as entries:
      yield counted(entries)

  monkeypatch.setattr(os, 'scandir', counting)
  assert sorted(VideoIndex(tmp_path)) == ['few/z.mp4', 'many']
  assert read['many'] < 300


@pytest.mark.parametrize(
  'extension', ['ts', 'mts', 'm2ts', 'ogv', 'asf', 'vob', 'divx', '3g2', 'm2v', 'mpv', 'qt', 'mp4']
)
def test_containers(tmp_path, extension):
  touch(tmp_path, f'a/b.{extension.upper()}', 'a/b.txt', 'a/b.srt')
  assert list(VideoIndex(tmp_path)) == [f'a/b.{extension.upper()}']


def test_links_that_lead_back_are_not_followed(tmp_path):
  touch(tmp_path, 'a/c.mp4', 'b/d.mp4')
  (tmp_path / 'a' / 'loop').symlink_to('..')
  (tmp_path / 'a' / 'other').symlink_to('../b')
  (tmp_path / 'b' / 'itself').symlink_to('itself')
  assert sorted(VideoIndex(tmp_path)) == ['a/c.mp4', 'a/other/d.mp4', 'b/d.mp4']


def test_folders_and_names_that_cannot_be_read(tmp_path, monkeypatch):
  touch(tmp_path, 'a/c.mp4')
  (tmp_path / 'a' / os.fsdecode(b'caf\xe9.txt')).touch()
  assert list(VideoIndex(tmp_path)) == ['a/c.mp4']
  (tmp_path / 'a' / os.fsdecode(b'caf\xe9.mp4')).touch()
  with pytest.raises(UserError, match=r"--videos: 'a/caf\\udce9.mp4' in .* not named in UTF-8"):
    VideoIndex(tmp_path)
  real = os.scandir

  def refuse(path):
    if str(path).endswith('/a'):
      raise PermissionError(13, 'Permission denied')
    return real(path)

  monkeypatch.setattr(os, 'scandir', refuse)
  with pytest.raises(UserError, match='--videos: .*/a cannot be read .Permission denied.; make'):
    VideoIndex(tmp_path)


@pytest.mark.parametrize(
  ('existing', 'expected_index'),
  [
    (['zumba/two_000005_000015.webm'], 0),
    (['x/zumba/two_000005_000015.mp4', 'val/two_000005_000015.mp4'], 0),
    (['train/zumba/two_000005_000015.mp4', 'val/two_000005_000015.mp4'], 1),
    (['val/two_000005_000015.mp4', 'two_000005_000015.mp4'], 0),
    (['x/two_000005_000015.mp4', 'two_000005_000015.mp4'], 1),
    (['old/zumba/two_000005_000015.mp4', 'zumba/two_000005_000015.mp4'], 1),
    (['zumba/two_000005_000015.mkv', 'zumba/two_000005_000015.mp4'], 1),
    (['x/y/two_000005_000015.mp4'], 0),
    (['train/two_000005_000015.mp4'], 0),  # The name says which clip it is.
    (['arm_wrestling/two_000005_000015.mp4'], None),
    (['zumba/Arm wrestling/two_000005_000015.mp4'], None),
    (['arm wrestling/old/two_000005_000015.mp4'], None),
  ],
)
def test_the_best_copy_is_found(tmp_path, existing, expected_index):
  videos = touch(tmp_path / 'v', *existing)
  rows = ['zumba,two,5,15,val', 'arm wrestling,xyz,0,10,val']
  clip = list_kinetics(videos, [_csv(tmp_path / 'a.csv', *rows)]).splits['validation'][0]
  expected = 'zumba/two_000005_000015.mp4' if expected_index is None else existing[expected_index]
  assert clip.path == str(videos / expected)


def test_the_split_comes_from_the_file_name_if_rows_have_none(tmp_path, videos):
  header = 'label,youtube_id,time_start,time_end'
  files = [
    _csv(tmp_path / 'k400_train.csv', 'zumba,a,0,10', header=header),
    _csv(tmp_path / 'Validate.csv', 'zumba,b,0,10', header=header),
    _csv(tmp_path / 'test-2.csv', 'zumba,c,0,10,', 'zumba,d,0,10,train'),
  ]
  listing = list_kinetics(videos, files)
  assert {split: [clip.id[0] for clip in clips] for split, clips in listing.splits.items()} == {
    'train': ['a', 'd'],
    'validation': ['b'],
    'test': ['c'],
  }
  for name in ('latest.csv', 'train_val.csv'):
    with pytest.raises(UserError, match=f'{name}, line 2: it has no split'):
      list_kinetics(videos, [_csv(tmp_path / name, 'zumba,a,0,10', header=header)])


def test_a_clip_of_two_splits_is_reported(tmp_path, videos):
  rows = ['zumba,xyz,0,10,train', 'zumba,two,5,15,train', 'zumba,two,5,15,val']
  listing = list_kinetics(videos, [_csv(tmp_path / 'a.csv', *rows)])
  assert list(listing.remarks) == ['validation']
  assert list(listing.remarks['validation']['also in split train']) == ['two_000005_000015']


def test_labels_with_ids_are_ordered_by_them(tmp_path, videos):
  annotations = _csv(tmp_path / 'a.csv', 'zumba,xyz,0,10,train')
  (tmp_path / 'labels.csv').write_text('1,zumba\n0,arm wrestling\n')
  listing = list_kinetics(videos, [annotations], str(tmp_path / 'labels.csv'))
  assert listing.classes == ('arm wrestling', 'zumba')
  (tmp_path / 'labels.csv').write_text('1,zumba\n2,arm wrestling\n')
  with pytest.raises(UserError, match='the ids of 2 classes must be 0 to 1'):
    list_kinetics(videos, [annotations], str(tmp_path / 'labels.csv'))


@needs_samples
def test_all_of_mimetics(tmp_path):
  listing = list_mimetics(tmp_path, _SHARED / 'mimetics')
  clips = listing.splits['test']
  assert len(clips) == 713
  assert listing.classes == MIMETICS_CLASSES
  # As counted in the published files.
  for flag, count in (('object', 42), ('scene', 69), ('mime', 203)):
    assert sum(clip.attributes[flag] == 'yes' for clip in clips) == count
  neither = [c for c in clips if c.attributes['object'] == c.attributes['scene'] == 'no']
  assert len(neither) == 610
  assert {clip.attributes['class_object'] for clip in clips} == {'no', 'small', 'medium', 'large'}


@needs_samples
def test_kinetics_labels_split_into_mimetics_and_the_rest(tmp_path):
  names = (_SHARED / 'labels' / 'k400.txt').read_text().splitlines()
  lines = [f'"{name}",id{number},0,10,train' for number, name in enumerate(names)]
  listing = list_kinetics(tmp_path, [_csv(tmp_path / 'a.csv', *lines)])
  assert list(listing.classes) == names  # Sorted is the published order.
  assert len(listing.class_splits['mimetics']) == 50
  assert len(listing.class_splits['without_mimetics']) == 350


@pytest.mark.parametrize('anywhere', ['train/', '', 'archery/'])
def test_a_replacement_precedes_the_copy_that_it_replaces(tmp_path, anywhere):
  name, other = 'abc_000001_000011.mp4', 'replacement/replacement_for_corrupted_k400'
  videos = touch(tmp_path / 'v', f'{anywhere}{name}', f'{other}/{name}', f'x/{name}')
  (clip,) = list_kinetics(videos, [_csv(tmp_path / 'a.csv', 'archery,abc,1,11,train')]).splits[
    'train'
  ]
  assert clip.path == str(videos / other / name)
  assert clip.copies == (f'{videos}/{anywhere}{name}', str(videos / 'x' / name))


def test_companions_of_macos_and_spellings_of_labels(tmp_path):
  folder = tmp_path / 'lists'
  folder.mkdir()
  _csv(folder / 'train.csv', 'arm_wrestling,abc,1,11,train', 'Zumba,xyz,0,10,train')
  (folder / '._train.csv').write_bytes(b'\x00\x05\x16\x07\xff')
  (tmp_path / 'labels.txt').write_text('zumba\narm wrestling\n')
  videos = touch(
    tmp_path / 'v', 'ArmWrestling/abc_000001_000011.mp4', 'Zumba/XYZ_000000_000010.mp4'
  )
  listing = list_kinetics(videos, [folder], str(tmp_path / 'labels.txt'))
  assert [clip.label for clip in listing.splits['train']] == [1, 0]
  assert all(pathlib.Path(clip.path).exists() for clip in listing.splits['train'])
