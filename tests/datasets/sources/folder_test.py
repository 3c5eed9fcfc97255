"""Tests of zsar_jax.datasets.sources.folder."""

import pathlib
import string
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.datasets.sources.kinetics_test import touch
from zsar_jax.data.class_names import to_nfc
from zsar_jax.datasets.masks import per_clip
from zsar_jax.datasets.sources import list_lines
from zsar_jax.datasets.sources.folder import list_files, list_folder
from zsar_jax.datasets.sources.video_index import VideoIndex
from zsar_jax.errors import UserError


def _summary(listing):
  return {
    split: [(clip.id, listing.classes[clip.label]) for clip in clips]
    for split, clips in listing.splits.items()
  }


def test_folders_are_classes(tmp_path):
  touch(tmp_path, 'b two/1.mp4', 'b two/sub/2.webm', 'a/3.avi', 'a/clip 4/0001.jpg', 'a/notes.txt')
  listing = list_folder(tmp_path)
  assert _summary(listing) == {
    'train': [('a/3', 'a'), ('a/clip 4', 'a'), ('b two/1', 'b two'), ('b two/sub/2', 'b two')]
  }


def test_folders_are_splits_and_classes(tmp_path):
  touch(tmp_path, 'train/a/1.mp4', 'val/b/2.mp4', 'test/a/1.mp4')
  assert _summary(list_folder(tmp_path)) == {
    'test': [('test/a/1', 'a')],
    'train': [('train/a/1', 'a')],
    'validation': [('val/b/2', 'b')],
  }


@pytest.mark.parametrize(
  ('folder', 'split'),
  [
    ('Train', 'train'),
    ('TRAINING', 'train'),
    ('valid', 'validation'),
    ('Val', 'validation'),
    ('Testing', 'test'),
  ],
)
def test_split_folders_may_have_any_usual_name(tmp_path, folder, split):
  touch(tmp_path, f'{folder}/a/1.mp4')
  assert _summary(list_folder(tmp_path)) == {split: [(f'{folder}/a/1', 'a')]}


def test_split_folders_beside_others_are_refused(tmp_path):
  touch(tmp_path, 'Train/a/1.mp4', 'val/a/2.mp4', 'extra/3.mp4')
  with pytest.raises(UserError, match='Train/a/1.mp4 lies in .* a split, and extra/3.mp4 does not'):
    list_folder(tmp_path)
  # A class with the name of a split.
  touch(tmp_path / 'classes', 'test/1.mp4', 'juggling/2.mp4')
  assert list_folder(tmp_path / 'classes').classes == ('juggling', 'test')


def test_cover_images_beside_folders_of_frames_are_ignored(tmp_path):
  touch(
    tmp_path, 'a/1/0001.jpg', 'a/2/0001.jpg', 'a/1.jpg', 'a/2.jpg', 'b/x/3/0001.jpg', 'b/x/3.jpg'
  )
  assert _summary(list_folder(tmp_path)) == {
    'train': [('a/1', 'a'), ('a/2', 'a'), ('b/x/3', 'b')],
  }


def test_folders_without_classes_or_videos_are_refused(tmp_path):
  (tmp_path / 'empty').mkdir()
  touch(tmp_path / 'flat', '1.mp4')
  touch(tmp_path / 'more', 'a/1.mp4', 'c/1.mp4')
  (tmp_path / 'labels.txt').write_text('a\nb\n')
  for videos, labels, words in (
    ('empty', None, 'holds no video'),
    ('flat', None, 'does not lie in the folder of a class'),
    ('more', str(tmp_path / 'labels.txt'), "lacks 'c'"),
  ):
    with pytest.raises(UserError, match=words):
      list_folder(tmp_path / videos, labels)


@pytest.fixture(name='videos')
def _videos(tmp_path):
  (tmp_path / 'labels.csv').write_text('id,name\n0,zumba\n1,"arm, wrestling"\n')
  return touch(
    tmp_path / 'videos',
    'zumba/a.mp4',
    'arm wrestling/b c.mp4',
    'arm wrestling/d, e.mp4',
    'arm wrestling/frames 7/img_00001.jpg',
  )


@pytest.mark.parametrize(
  ('line', 'clip', 'name'),
  [
    ('zumba/a.mp4 0', 'zumba/a', 'zumba'),
    ('zumba/a.mp4,0', 'zumba/a', 'zumba'),
    ('zumba/a.mkv 0', 'zumba/a', 'zumba'),  # Converted since.
    ('arm wrestling/b c.mp4 1', 'arm wrestling/b c', 'arm, wrestling'),
    ('arm wrestling/d, e.mp4 1', 'arm wrestling/d, e', 'arm, wrestling'),
    ('arm wrestling/d, e.mp4,1', 'arm wrestling/d, e', 'arm, wrestling'),
    ('arm wrestling/frames 7 1', 'arm wrestling/frames 7', 'arm, wrestling'),
    ('arm wrestling/frames 7 250 1', 'arm wrestling/frames 7', 'arm, wrestling'),
    ('arm wrestling/gone 250 1', 'arm wrestling/gone', 'arm, wrestling'),
    ('Arm_wrestling/frames 7 250 1', 'Arm_wrestling/frames 7', 'arm, wrestling'),
    ('{videos}/zumba/a.mp4 0', 'zumba/a', 'zumba'),
  ],
)
def test_lines_of_lists(tmp_path, videos, line, clip, name):
  (tmp_path / 'val.txt').write_text(f'\n{line}\n'.replace('{videos}', str(videos)))
  listing = list_files(videos, {'validation': tmp_path / 'val.txt'}, str(tmp_path / 'labels.csv'))
  assert _summary(listing) == {'validation': [(clip, name)]}
  listed = listing.splits['validation'][0]
  assert listed.attributes == ({'listed_frames': '250'} if '250' in line else {})
  assert pathlib.Path(listed.path).exists() == ('gone' not in line)


def test_names_as_labels(tmp_path, videos):
  (tmp_path / 'a.csv').write_text('zumba/a.mp4,zumba\narm wrestling/b c.mp4,arm wrestling\n')
  listing = list_files(videos, {'train': tmp_path / 'a.csv'})
  assert _summary(listing) == {
    'train': [('zumba/a', 'zumba'), ('arm wrestling/b c', 'arm wrestling')]
  }


@pytest.mark.parametrize(
  'head', ['path,label', 'Path Label', 'video_path,class_name', 'filename, frames, label']
)
def test_heads_of_lists_are_skipped(tmp_path, videos, head):
  (tmp_path / 'a.csv').write_text(f'{head}\nzumba/a.mp4,zumba\n')
  assert _summary(list_files(videos, {'train': tmp_path / 'a.csv'})) == {
    'train': [('zumba/a', 'zumba')]
  }


@pytest.mark.parametrize('line', ['clip,action', 'clip 7/b.mp4,action', 'zumba/a.mp4,label'])
def test_first_lines_that_only_resemble_heads_are_read(tmp_path, videos, line):
  touch(videos, 'clip.mp4')
  (tmp_path / 'a.csv').write_text(f'{line}\n')
  assert len(list_files(videos, {'train': tmp_path / 'a.csv'}).splits['train']) == 1


@pytest.mark.parametrize(
  ('line', 'words'),
  [
    ('zumba/a.mp4 2', "label '2' is none of the 2 classes"),
    ('zumba/a.mp4 -1', 'does not end with a label'),
    ('zumba/a.mp4,jumping', "label 'jumping'"),
    ('zumba/a.mp4 0 1', 'has two labels'),
    ('zumba/a.mp4', 'does not end with a label'),
    ('../a.mp4 0', 'does not lie below'),
    ('/zumba/a.mp4 0', 'does not lie below'),
    ('{videos}/../a.mp4 0', 'does not lie below'),
    ('zumba/a.mp4 0\nZumba/a.mp4 0', "clips 'zumba/a' and 'Zumba/a' are both the video"),
    ('0', 'does not end|lacks a path'),
    (' ', 'lists no clip'),
    ('zumba/a.mp4 0\nzumba/a.mp4 1', 'line 2: clip zumba/a is listed before'),
  ],
)
def test_refuses_lines(tmp_path, videos, line, words):
  (tmp_path / 'val.txt').write_text(line.replace('{videos}', str(videos)))
  with pytest.raises(UserError, match=words):
    list_files(videos, {'validation': tmp_path / 'val.txt'}, str(tmp_path / 'labels.csv'))


def test_numbers_need_a_labels_file(tmp_path, videos):
  (tmp_path / 'val.txt').write_text('zumba/a.mp4 0')
  with pytest.raises(UserError, match='--labels is needed'):
    list_files(videos, {'validation': tmp_path / 'val.txt'})


_NAMES = st.text(string.ascii_letters + string.digits + ' ,._-', min_size=1).map(
  lambda name: f'x{name}x'
)


@settings(deadline=None, max_examples=100)
@given(folder=_NAMES, stem=_NAMES, label=st.integers(0, 999), comma=st.booleans())
def test_any_path_is_split_from_the_right(tmp_path_factory, folder, stem, label, comma):
  path = f'{folder}/{stem}.mp4'
  files = VideoIndex(tmp_path_factory.getbasetemp())
  line = f'{path}{"," if comma else " "}{label}'
  assert list_lines.parse_line(line, 'list', files) == (path, str(label), '')


@settings(deadline=None, max_examples=100)
@given(line=st.text(min_size=1))
def test_any_line_is_parsed_or_refused(tmp_path_factory, line):
  files = VideoIndex(tmp_path_factory.getbasetemp())
  try:
    path, label, _ = list_lines.parse_line(line.strip(), 'list', files)
  except UserError:
    return
  assert path
  assert label


@pytest.mark.parametrize(
  ('listed', 'existing', 'expected_index'),
  [
    ('a/001.mp4', ['b/001.mp4'], None),
    ('train/a/001.mp4', ['test/a/001.mp4'], None),
    ('1-11/2.mp4', ['11-1/2.mp4'], None),
    ('a/001.mp4', ['001.mp4'], None),
    ('a/001.mp4', ['a/001.mp4', 'a/001.avi', 'x/a/001.mp4'], 0),
    ('a/001.mp4', ['a/001.avi', 'x/a/001.mp4'], 0),
    ('a b/001.mp4', ['A_B/001.mp4', 'x/a b/001.mp4'], 0),
    ('a/001.mp4', ['x/a/001.mp4', 'b/001.mp4'], 0),
    ('001.mp4', ['x/y/001.mp4'], 0),
    ('a/001', ['a/001/1.jpg', 'a/001.mp4'], 0),
  ],
)
def test_a_video_is_found_in_the_listed_folders_only(tmp_path, listed, existing, expected_index):
  videos = VideoIndex(touch(tmp_path, *existing))
  expected = None if expected_index is None else existing[expected_index].removesuffix('/1.jpg')
  assert videos.find(listed) == expected


@pytest.mark.parametrize(
  'existing', [['a/1.avi', 'a/1.mkv'], ['x/a/1.mp4', 'y/a/1.mp4'], ['A/1.mp4', 'a /../A/1.avi']]
)
def test_equally_good_videos_are_refused(tmp_path, existing):
  videos = VideoIndex(touch(tmp_path, *existing))
  with pytest.raises(UserError, match='has both .*; remove one'):
    videos.find('a/1.mp4')


@pytest.mark.parametrize(
  ('line', 'existing', 'parsed'),
  [
    ('v1.mp4,take 1', [], ('v1.mp4', 'take 1', '')),
    ('v1,take 1', ['v1.mkv'], ('v1', 'take 1', '')),
    ('v1,take 1', [], ('v1,take', '1', '')),
    ('v1.mp4, take.mp4 1', [], ('v1.mp4, take.mp4', '1', '')),
    ('v1, take.mp4 1', ['v1.mp4'], ('v1, take.mp4', '1', '')),
    ('v1, take 5 1', ['v1.mp4', 'v1, take/1.jpg'], ('v1, take', '1', '5')),
    ('my clip 3 0', ['my clip 3.mp4', 'my clip.mp4'], ('my clip 3', '0', '')),
    ('a b/my clip 3 0', ['a_b/my clip 3.mp4'], ('a b/my clip 3', '0', '')),
    ('my clip 3 0', ['my clip/1.jpg', 'x/my clip 3.mp4'], ('my clip', '0', '3')),
    ('my clip 3 0', [], ('my clip', '0', '3')),
  ],
)
def test_existing_videos_resolve_ambiguous_lines(tmp_path, line, existing, parsed):
  files = VideoIndex(touch(tmp_path, *existing))
  assert list_lines.parse_line(line, 'list', files) == parsed


def test_absolute_paths_below_a_linked_folder(tmp_path, videos):
  (tmp_path / 'link').symlink_to(videos)
  for root in (videos, tmp_path / 'link'):
    (tmp_path / 'a.txt').write_text(f'{videos}/arm wrestling/b c.mp4,arm')
    listing = list_files(root, {'train': tmp_path / 'a.txt'})
    assert _summary(listing) == {'train': [('arm wrestling/b c', 'arm')]}


def test_invalid_names_of_splits_and_classes_are_refused(tmp_path, videos):
  (tmp_path / 'a.txt').write_text('zumba/a.mp4,zumba')
  with pytest.raises(UserError, match="--lists: TFDS keeps the split name 'all'"):
    list_files(videos, {'all': tmp_path / 'a.txt'})
  for name in ('line\nbreak', 'space '):
    with pytest.raises(UserError, match='--videos: the folder of .* must be one line of text'):
      list_folder(touch(tmp_path / name.strip(), f'{name}/1.mp4'))


def test_a_clip_of_two_lists_is_reported(tmp_path, videos):
  for split in ('train', 'val'):
    (tmp_path / split).write_text('zumba/a.mp4,zumba')
  listing = list_files(videos, {'train': tmp_path / 'train', 'validation': tmp_path / 'val'})
  remark = {'also in split train': {'zumba/a': f'{tmp_path / "val"}, line 1'}}
  assert listing.remarks == {'validation': remark}


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    ('1,zumba\n2,arm wrestling\n', 'the ids of 2 classes must be 0 to 1'),
    ('0,zumba\n0,arm wrestling\n', 'the ids of 2 classes must be 0 to 1'),
    ('id,name\n0,zumba\narm wrestling\n', "'arm wrestling' is not an id and a name"),
    ('0,\n1,zumba\n', "has '' for a class"),
  ],
)
def test_label_files_with_invalid_ids_are_refused(tmp_path, videos, text, words):
  (tmp_path / 'a.txt').write_text('zumba/a.mp4 0')
  (tmp_path / 'labels.csv').write_text(text)
  labels = str(tmp_path / 'labels.csv')
  with pytest.raises(UserError, match=words):
    list_files(videos, {'train': tmp_path / 'a.txt'}, labels)
  with pytest.raises(UserError, match=words):
    list_folder(videos, labels)


def _nfd(text: str) -> str:
  return unicodedata.normalize('NFD', text)


def test_names_in_nfd_equal_names_in_nfc(tmp_path):
  videos = touch(tmp_path / 'v', _nfd('마시다/영상1.mp4'), 'café/2.mp4')
  (tmp_path / 'labels.txt').write_text(_nfd('café') + '\n마시다\n')
  for labels in (None, str(tmp_path / 'labels.txt')):
    listing = list_folder(videos, labels)
    assert listing.classes == ('café', '마시다')
    assert _summary(listing) == {'train': [('café/2', 'café'), ('마시다/영상1', '마시다')]}
    assert all(pathlib.Path(clip.path).exists() for clip in listing.splits['train'])
  (tmp_path / 'list.csv').write_text('마시다/영상1.mp4,마시다\n' + _nfd('café/2.mp4,café\n'))
  listing = list_files(videos, {'train': tmp_path / 'list.csv'}, str(tmp_path / 'labels.txt'))
  assert _summary(listing) == {'train': [('마시다/영상1', '마시다'), ('café/2', 'café')]}
  assert all(pathlib.Path(clip.path).exists() for clip in listing.splits['train'])
  # Masks may have names in another normal form than the videos.
  for clip in listing.splits['train']:
    assert {to_nfc(clip.name), _nfd(clip.name)} <= set(per_clip.candidate_names(clip))


def test_folders_may_spell_classes_differently_from_the_labels_file(tmp_path):
  videos = touch(tmp_path / 'v', 'ApplyEyeMakeup/1.mp4', 'c++/1.mp4')
  (tmp_path / 'labels.txt').write_text('C#\napply eye make-up\nC++\n')
  listing = list_folder(videos, str(tmp_path / 'labels.txt'))
  assert _summary(listing) == {
    'train': [('ApplyEyeMakeup/1', 'apply eye make-up'), ('c++/1', 'C++')]
  }


@pytest.mark.parametrize(
  ('line', 'words'),
  [
    ('ApplyEyeMakeup/v_1.avi 1', "line 1: label '1' is the class 'Apply Lipstick', but .*subtract"),
    ('ApplyEyeMakeup/v_1.avi 2', "the folder of 'ApplyEyeMakeup'; correct one of them"),
    ('train/apply_eye_makeup/deep/v_1.avi 1', "in the folder of 'ApplyEyeMakeup'; labels count"),
    ('ApplyEyeMakeup/v_1 30 1', "label '1' is the class"),
    ('ApplyEyeMakeup/v_1.avi,Archery', "label 'Archery' is the class"),
    ('v_2.avi 1', "label '1' is the class 'Apply Lipstick'"),
    ('ApplyEyeMakeup/v_1.avi 0', None),
    ('ApplyEyeMakeup/Archery/v_1.avi 0', None),
    ('v_3.avi 1', None),
    ('other/v_1.avi 1', None),
  ],
)
def test_a_list_that_contradicts_the_folder_is_refused(tmp_path, line, words):
  videos = touch(tmp_path / 'v', 'ApplyEyeMakeup/v_2.avi', 'v_3.avi')
  (tmp_path / 'labels.txt').write_text('ApplyEyeMakeup\nApply Lipstick\nArchery\n')
  (tmp_path / 'train.txt').write_text(line)

  def listed():
    return list_files(videos, {'train': tmp_path / 'train.txt'}, str(tmp_path / 'labels.txt'))

  if words is None:
    assert len(listed().splits['train']) == 1
  else:
    with pytest.raises(UserError, match=words):
      listed()


def test_videos_that_differ_in_the_extension_are_separate_clips(tmp_path):
  videos = touch(tmp_path / 'v', 'wave/1.mp4', 'wave/1.webm', 'wave/2.mp4', 'wave/3/0001.jpg')
  touch(videos, 'wave/3.mp4')
  listing = list_folder(videos)
  clips = listing.splits['train']
  assert [clip.id for clip in clips] == [
    'wave/1.mp4',
    'wave/1.webm',
    'wave/2',
    'wave/3',
    'wave/3.mp4',
  ]
  assert [clip.name for clip in clips] == [clip.id for clip in clips]
  assert [clip.path.removeprefix(f'{videos}/') for clip in clips][:3] == [
    'wave/1.mp4',
    'wave/1.webm',
    'wave/2.mp4',
  ]
  assert set(listing.remarks['train']['another video has the same name']) == {
    'wave/1.mp4',
    'wave/1.webm',
    'wave/3',
    'wave/3.mp4',
  }
  (tmp_path / 'a.csv').write_text('wave/1.webm,wave\nwave/1.mp4,wave\nwave/2,wave\n')
  listing = list_files(videos, {'train': tmp_path / 'a.csv'})
  assert [clip.id for clip in listing.splits['train']] == ['wave/1.webm', 'wave/1.mp4', 'wave/2']
  assert listing.remarks == {}


def test_skipped_files_are_counted(tmp_path):
  videos = touch(
    tmp_path, 'a/1.mp4', 'a/1.srt', 'a/2.srt', 'b/2.gif', 'b/2.xyz', 'b/notes', 'x.JPG'
  )
  touch(tmp_path, 'a/._1.mp4', 'a/.DS_Store', '__MACOSX/a/._1.mp4', 'c/1.yuv', 'd/clip/0001.jpg')
  touch(tmp_path, '.NET/1.mp4')
  listing = list_folder(videos)
  assert listing.classes == ('a', 'b', 'd')
  counts = {
    kind: (int(what.partition(',')[0]), what.rpartition(' ')[2])
    for kind, what in listing.remarks['train']['files passed over'].items()
  }
  assert counts.pop('.srt') in ((2, 'a/1.srt'), (2, 'a/2.srt'))
  assert counts == {
    '.jpg': (1, 'x.JPG'),
    '.xyz': (1, 'b/2.xyz'),
    '.yuv': (1, 'c/1.yuv'),
    'hidden folder': (1, '.NET'),
    'without extension': (1, 'b/notes'),
  }
  with pytest.raises(UserError, match=r'holds no video \(but other files: 1 .yuv\)'):
    list_folder(videos / 'c')


def test_a_preview_among_frames_is_not_a_clip(tmp_path):
  touch(tmp_path, 'a/clip/0001.jpg', 'a/clip/0002.jpg', 'a/clip/preview.gif', 'a/b.gif', 'a/b.png')
  listing = list_folder(tmp_path)
  assert [clip.id for clip in listing.splits['train']] == ['a/b', 'a/clip']
  assert set(listing.remarks['train']['files passed over']) == {'.gif', '.png'}


def test_case_matters_only_between_videos_that_differ_in_nothing_else(tmp_path):
  videos = VideoIndex(touch(tmp_path, 'a/Clip.mp4', 'a/x.mp4', 'a/X.mp4'))
  assert videos.find('a/clip.mp4') == 'a/Clip.mp4'
  assert videos.find('A/CLIP') == 'a/Clip.mp4'
  assert videos.find('a/x.mp4') == 'a/x.mp4'
  assert videos.find('a/X.mp4') == 'a/X.mp4'


def test_folders_of_the_same_class_may_have_two_spellings(tmp_path):
  videos = touch(tmp_path, 'train/arm wrestling/1.mp4', 'val/arm_wrestling/2.mp4')
  listing = list_folder(videos)
  assert listing.classes == ('arm wrestling',)
  assert [clip.label for clips in listing.splits.values() for clip in clips] == [0, 0]


def test_two_videos_with_the_same_id_are_reported(tmp_path):
  """Such as a copy of a folder with names in NFC, and another in NFD."""
  touch(tmp_path, 'café/1.mp4', _nfd('café/1.mp4'))
  listing = list_folder(tmp_path)
  (clip,) = listing.splits['train']
  (path,) = listing.remarks['train']['left out, another video has the same id'].values()
  assert {clip.path, path} == {str(tmp_path / 'café/1.mp4'), str(tmp_path / _nfd('café/1.mp4'))}
