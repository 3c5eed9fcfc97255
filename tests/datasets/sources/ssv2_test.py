"""Tests of zsar_jax.datasets.sources.ssv2."""

import json
import pathlib

import pytest

from tests.datasets.sources.kinetics_test import touch
from zsar_jax.datasets.sources.ssv2 import list_ssv2
from zsar_jax.errors import UserError


def write_json(path: pathlib.Path, content) -> pathlib.Path:
  """Writes a JSON file and creates its folder."""
  path.parent.mkdir(exist_ok=True)
  path.write_text(json.dumps(content))
  return path


@pytest.fixture(name='copy')
def _copy(tmp_path):
  """Videos, and lists of three clips in train and one in validation."""
  touch(tmp_path / 'videos', '11.webm', '12.mp4', '14.webm')
  labels = tmp_path / 'labels'
  write_json(
    labels / 'labels.json', {'Pushing something': '1', 'Lifting part of it': '0', 'Unused': '2'}
  )
  write_json(
    labels / 'train.json',
    [
      {'id': '12', 'template': 'Pushing [something]'},
      {'id': '11', 'template': 'Lifting [part of] it'},
      {'id': '15', 'template': 'Lifting [part of] it'},
    ],
  )
  write_json(labels / 'validation.json', [{'id': '14', 'template': 'Pushing [something]'}])
  return tmp_path


def test_lists_clips_and_the_templates_of_classes(copy):
  listing = list_ssv2(copy / 'videos', copy / 'labels')
  assert listing.classes == ('Lifting part of it', 'Pushing something', 'Unused')
  assert listing.class_texts == ('Lifting [part of] it', 'Pushing [something]', 'Unused')
  found = {
    split: [(clip.id, clip.label, pathlib.Path(clip.path).name) for clip in clips]
    for split, clips in listing.splits.items()
  }
  assert found == {
    'train': [('12', 1, '12.mp4'), ('11', 0, '11.webm'), ('15', 0, '15.webm')],
    'validation': [('14', 1, '14.webm')],
  }
  assert listing.class_splits == {
    'base': ('Lifting part of it', 'Pushing something'),
    'novel': ('Unused',),
  }


@pytest.mark.parametrize(
  ('file', 'content', 'message'),
  [
    ('labels.json', {'a': 'x'}, "labels.json: the label of 'a' must be a whole number"),
    ('labels.json', {'a': '0', 'b': '2'}, 'must have the labels 0 to 1'),
    ('labels.json', {'': '0'}, "labels.json: label '' must be one line"),
    ('labels.json', {'a\nb': '0'}, "labels.json: label 'a\\nb' must be one line"),
    ('labels.json', ['a'], 'labels.json must be a dict, not a list'),
    ('train.json', [{'id': 11, 'template': 'a'}], "entry 0: field 'id' must be a string"),
    ('train.json', [{'id': '11'}], "entry 0: field 'template' must be a string"),
    ('train.json', ['11'], "entry 0: field 'id'"),
    ('train.json', [{'id': '11', 'template': 'Eating [it]'}], "clip 11: template 'Eating it'"),
    ('train.json', [{'id': '../11', 'template': 'Unused'}], 'does not lie below'),
    ('train.json', [], 'train.json lists no clip'),
    (
      'train.json',
      [{'id': '1', 'template': 'Unused'}, {'id': '1', 'template': 'Pushing something'}],
      'clip 1 is listed before with another label',
    ),
  ],
)
def test_wrong_annotation_is_named(copy, file, content, message):
  write_json(copy / 'labels' / file, content)
  with pytest.raises(UserError) as error:
    list_ssv2(copy / 'videos', copy / 'labels')
  assert message in str(error.value)


def test_missing_annotation_is_named(copy):
  (copy / 'labels' / 'validation.json').write_text('[{')
  with pytest.raises(UserError, match='validation.json is not JSON'):
    list_ssv2(copy / 'videos', copy / 'labels')
  (copy / 'labels' / 'validation.json').write_text('[' * 100_000)
  with pytest.raises(UserError, match='validation.json is not JSON'):
    list_ssv2(copy / 'videos', copy / 'labels')
  (copy / 'labels' / 'validation.json').unlink()
  with pytest.raises(UserError, match='none of something-something-v2-validation.json'):
    list_ssv2(copy / 'videos', copy / 'labels')
  with pytest.raises(UserError, match='--videos: .* is not a folder'):
    list_ssv2(copy / 'nowhere', copy / 'labels')


def test_clips_may_be_in_any_folder_but_that_of_another_class(copy):
  (copy / 'videos' / '11.webm').unlink()
  (copy / 'videos' / '14.webm').unlink()
  touch(copy / 'videos', 'part 1/11.webm', 'pushing_something/15.webm', 'train/14.webm')
  touch(copy / 'videos', 'validation/14.webm')
  listing = list_ssv2(copy / 'videos', copy / 'labels')
  paths = {clip.id: clip.path for clips in listing.splits.values() for clip in clips}
  assert paths['11'] == str(copy / 'videos' / 'part 1' / '11.webm')
  assert not pathlib.Path(paths['15']).exists()
  assert paths['14'] == str(copy / 'videos' / 'validation' / '14.webm')
