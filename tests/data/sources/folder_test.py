"""Tests of zsar_jax.data.sources.folder."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.sources.kinetics_test import touch
from zsar_jax.data.sources import folder as folder_lib
from zsar_jax.data.sources.files import Videos
from zsar_jax.data.sources.folder import list_files, list_folder
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


def test_folders_that_are_no_data_set(tmp_path):
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
  ],
)
def test_lines_of_lists(tmp_path, videos, line, clip, name):
  (tmp_path / 'val.txt').write_text(f'\n{line}\n')
  listing = list_files(videos, {'validation': tmp_path / 'val.txt'}, str(tmp_path / 'labels.csv'))
  assert _summary(listing) == {'validation': [(clip, name)]}
  listed = listing.splits['validation'][0]
  assert listed.attributes == ({'listed_frames': '250'} if '250' in line else {})
  if 'gone' not in line:
    assert listed.path.startswith(str(videos / line.split('/')[0]))


def test_names_as_labels(tmp_path, videos):
  (tmp_path / 'a.csv').write_text('zumba/a.mp4,zumba\narm wrestling/b c.mp4,arm wrestling\n')
  listing = list_files(videos, {'train': tmp_path / 'a.csv'})
  assert _summary(listing) == {
    'train': [('zumba/a', 'zumba'), ('arm wrestling/b c', 'arm wrestling')]
  }


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
    ('0', 'does not end|lacks a path'),
    (' ', 'lists no clip'),
    ('zumba/a.mp4 0\nzumba/a.mp4 1', 'line 2: clip zumba/a is listed before'),
  ],
)
def test_refuses_lines(tmp_path, videos, line, words):
  (tmp_path / 'val.txt').write_text(line)
  with pytest.raises(UserError, match=words):
    list_files(videos, {'validation': tmp_path / 'val.txt'}, str(tmp_path / 'labels.csv'))


def test_numbers_need_a_labels_file(tmp_path, videos):
  (tmp_path / 'val.txt').write_text('zumba/a.mp4 0')
  with pytest.raises(UserError, match='--labels is needed'):
    list_files(videos, {'validation': tmp_path / 'val.txt'})


_NAMES = st.text(string.ascii_letters + string.digits + ' ,._-', min_size=1).map(
  lambda name: f'x{name}x'
)


@settings(deadline=None, max_examples=200)
@given(folder=_NAMES, stem=_NAMES, label=st.integers(0, 999), comma=st.booleans())
def test_any_path_is_split_from_the_right(tmp_path_factory, folder, stem, label, comma):
  path = f'{folder}/{stem}.mp4'
  files = Videos(tmp_path_factory.getbasetemp())
  line = f'{path}{"," if comma else " "}{label}'
  assert folder_lib._parse(line, 'list', files) == (path, str(label), '')


@settings(deadline=None, max_examples=200)
@given(line=st.text(min_size=1))
def test_any_line_is_parsed_or_refused(tmp_path_factory, line):
  files = Videos(tmp_path_factory.getbasetemp())
  try:
    path, label, _ = folder_lib._parse(line.strip(), 'list', files)
  except UserError:
    return
  assert path
  assert label
