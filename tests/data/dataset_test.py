"""Data sets are opened, and refused if their files are damaged or of several builds."""

import dataclasses
import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.datasets.noise_clips import CLASSES, NoiseBuilder, NoiseTask, encode_noise
from zsar_jax.data import catalog, clip_index, dataset
from zsar_jax.datasets import build as build_lib
from zsar_jax.datasets.build import build
from zsar_jax.errors import UserError


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
  monkeypatch.setattr(build_lib, '_CHUNK_CLIPS', 4)


@pytest.fixture(name='folder')
def _folder(tmp_path):
  return tmp_path / 'clips'


@pytest.fixture(name='built')
def _built(tmp_path, folder):
  """A finished data set's folder of data sets."""
  build(NoiseBuilder(tmp_path / 'out', folder), workers=0)
  return tmp_path / 'out'


def test_reads_back_what_was_encoded(built, folder):
  for split, size in (('train', 10), ('validation', 3)):
    clips = dataset.open_dataset(built, 'toy', split)
    assert len(clips) == size
    for n in range(size):
      encoded = encode_noise(NoiseTask(f'{split}-{n}', n, str(folder)))
      expected = encoded.record
      record = clips[n]
      assert list(record.pop('annotated')) == expected.pop('annotated')
      assert (
        record.pop('attributes') == {'number': str(n)} == json.loads(expected.pop('attributes'))
      )
      assert record == expected
      assert clips.index.ids[n] == expected['id']
      assert clips.index.labels[n] == expected['label']
      assert clips.index.num_frames[n] == len(expected['frames'])
      assert clips.index.num_annotated[n] == (len(expected['frames']) if n % 2 else 0)
      np.testing.assert_allclose(clips.index.coverage[n], encoded.coverage, rtol=1e-6)
      assert np.isnan(clips.index.coverage[n]).all() == (n % 2 == 0)
    assert clips.classes == CLASSES
    assert clips.class_splits == {'base': CLASSES[:2], 'novel': CLASSES[2:]}
    assert clips.region_names == ('person', 'object')


def test_a_split_that_is_a_part_of_another(built):
  train = dataset.open_dataset(built, 'toy', 'train')
  part = dataset.open_dataset(built, 'toy', 'odd')
  assert part.index.ids == ['train-9', 'train-3', 'train-1']
  for position, number in enumerate((9, 3, 1)):
    assert part[position]['frames'] == train[number]['frames']
    assert part[position]['id'] == part.index.ids[position]
    assert part.index.labels[position] == train.index.labels[number]
  assert part.split == 'odd'
  copy = pickle.loads(pickle.dumps(part))
  assert copy[1]['frames'] == train[3]['frames']
  with pytest.raises(UserError, match="no split 'none'; it has odd, train, validation"):
    dataset.open_dataset(built, 'toy', 'none')
  _make_early(built)
  path = built / 'toy' / '1.0.0' / 'part-odd.npz'
  clip_index.save_part(path, 'train', np.array([10]))
  with pytest.raises(UserError, match="split 'odd' has positions outside the split 'train'"):
    dataset.open_dataset(built, 'toy', 'odd')
  path.write_bytes(b'PK')
  with pytest.raises(UserError, match='part-odd.npz is damaged'):
    dataset.open_dataset(built, 'toy', 'odd')


def test_dataset_survives_pickling(built):
  clips = dataset.open_dataset(built, 'toy', 'train')
  first = clips[1]  # Opens the files.
  copy = pickle.loads(pickle.dumps(clips))
  assert copy[1]['frames'] == first['frames']
  assert copy.index.ids == clips.index.ids


def test_data_dir_may_be_the_data_set_itself(built):
  assert catalog.list_datasets(built) == ['toy']
  assert catalog.list_datasets(built / 'toy') == ['toy']
  assert len(dataset.open_dataset(built / 'toy', 'toy', 'validation')) == 3


def test_newest_version_is_opened(built):
  (built / 'toy' / '1.0.0').rename(built / 'toy' / '9.0.0')
  (built / 'toy' / '10.0.0').mkdir()
  assert catalog.find_dataset(built, 'toy').name == '9.0.0'
  (built / 'toy' / '10.0.0' / 'dataset_info.json').touch()
  assert catalog.find_dataset(built, 'toy').name == '10.0.0'


def test_what_is_not_there_is_named(built):
  with pytest.raises(UserError, match="no data set 'ssv2' in .*has toy.*zsar build-dataset"):
    dataset.open_dataset(built, 'ssv2', 'train')
  with pytest.raises(UserError, match="no split 'test'; it has odd, train, validation"):
    dataset.open_dataset(built, 'toy', 'test')
  with pytest.raises(UserError, match='is not a folder'):
    dataset.open_dataset(built / 'nowhere', 'toy', 'train')


def _change_index(built, **columns):
  path = built / 'toy' / '1.0.0' / 'index-train.npz'
  dataclasses.replace(clip_index.ClipIndex.load(path), **columns).save(path)


def _make_early(built):
  """Turns a data set into one of an earlier version, without checksums and marks."""
  folder = built / 'toy' / '1.0.0'
  (folder / 'checksums.json').unlink()
  metadata = json.loads((folder / 'metadata.json').read_text())
  del metadata[dataset.HAS_CHECKSUMS]
  (folder / 'metadata.json').write_text(json.dumps(metadata))
  _change_index(built, starts=None, marks=None)


def test_index_that_contradicts_the_records_is_refused(built):
  _make_early(built)
  empty = np.zeros(0, np.int32)
  _change_index(built, labels=np.array([0] * 9 + [3], np.int32))
  with pytest.raises(UserError, match='index-train.npz: clip train-9 has label 3'):
    dataset.open_dataset(built, 'toy', 'train')
  nine = np.zeros(9, np.int32)
  columns = {name: nine for name in ('labels', 'num_frames', 'num_annotated', 'coverage')}
  _change_index(built, ids=['a'] * 9, attributes=['{}'] * 9, **columns)
  with pytest.raises(UserError, match='lists 9 clips, but there are 10 records'):
    dataset.open_dataset(built, 'toy', 'train')
  _change_index(built, ids=[], attributes=[], **{name: empty for name in columns})
  with pytest.raises(UserError, match="split 'train' is empty"):
    dataset.open_dataset(built, 'toy', 'train')
  _change_index(built, labels=nine)
  with pytest.raises(UserError, match='different lengths'):
    dataset.open_dataset(built, 'toy', 'train')
  (built / 'toy' / '1.0.0' / 'index-train.npz').write_bytes(b'PK')
  with pytest.raises(UserError, match='index-train.npz is damaged'):
    dataset.open_dataset(built, 'toy', 'train')


def test_damaged_shard_is_named(built):
  clips = dataset.open_dataset(built, 'toy', 'train')
  shard = next((built / 'toy' / '1.0.0').glob('toy-train*00000-of-00003'))
  content = bytearray(shard.read_bytes())
  content[:] = bytes(len(content))
  shard.write_bytes(content)
  with pytest.raises(UserError, match='toy, clip train-0: the record in'):
    clips[0]
  shard.unlink()
  with pytest.raises(UserError, match='00000-of-00003 is missing'):
    dataset.open_dataset(built, 'toy', 'train')


def test_a_data_set_of_an_earlier_version_is_read(built, capsys):
  expected = dataset.open_dataset(built, 'toy', 'train')
  assert not capsys.readouterr().err
  _make_early(built)
  clips = dataset.open_dataset(built, 'toy', 'train')
  assert 'its files cannot be checked to be of one build' in capsys.readouterr().err
  assert [clips.frames(n).frame(0) for n in range(10)] == [
    expected.frames(n).frame(0) for n in range(10)
  ]


def _build_other(out, monkeypatch, numbers, train=10):
  """Builds a data set in which the clips of `numbers`, {id: number}, are other videos."""
  toy = NoiseBuilder(out, out.parent / 'other_clips', train, quality=80)
  toy.clip_splits = toy.clip_splits | {'odd': toy.clip_splits['odd'][::-1]}
  tasks = {
    split: [dataclasses.replace(task, number=numbers.get(task.id, task.number)) for task in tasks]
    for split, tasks in toy.tasks().items()
  }
  monkeypatch.setattr(build_lib, '_CHUNK_CLIPS', 4)
  monkeypatch.setattr(NoiseBuilder, 'tasks', lambda self: tasks)
  return build(toy, workers=0)


@pytest.fixture(name='other', scope='module')
def _other(tmp_path_factory):
  """A data set with the same file names as `built`, of other videos and one clip more."""
  with pytest.MonkeyPatch.context() as patch:
    numbers = {f'{split}-{n}': n + 6 for split in ('train', 'validation') for n in range(11)}
    return _build_other(tmp_path_factory.mktemp('other'), patch, numbers, train=11)


@pytest.mark.parametrize(
  'pattern',
  [
    'dataset_info.json',
    'metadata.json',
    'build_report.json',
    'checksums.json',
    'index-train.npz',
    'part-odd.npz',
    '*-train.array_record-00001-of-00003',
    '*-train.array_record-00001-of-00003.frames.npy',
    '*-train.array_record-00002-*',  # Records and table.
    '*train*',  # Records, tables and index.
    '*.array_record*',
    '*.json',
    '*.npz',
  ],
)
def test_files_of_another_build_are_refused(built, other, pattern):
  folder = built / 'toy' / '1.0.0'
  assert sorted(path.name for path in other.iterdir()) == sorted(
    path.name for path in folder.iterdir()
  )
  for path in other.glob(pattern):
    shutil.copyfile(path, folder / path.name)
  with pytest.raises(UserError, match='not all of one build; copy the whole folder') as error:
    dataset.open_dataset(built, 'toy', 'odd')
  assert len(str(error.value).splitlines()) == 1
  assert not dataset.checksums.find_damage(other)


def test_a_clip_of_another_build_is_refused(built, tmp_path, monkeypatch):
  def encode(task):
    clip = encode_noise(task)
    clip.record['label'] = 2 if task.id == 'train-1' else clip.record['label']
    return clip

  # Of the first file only a clip in the middle differs, and the file is as long.
  monkeypatch.setattr(NoiseBuilder, 'encode', staticmethod(encode))
  other = _build_other(tmp_path / 'other', monkeypatch, {})
  folder = built / 'toy' / '1.0.0'
  for path in other.glob('*-train.array_record-00000-*'):
    assert path.stat().st_size == (folder / path.name).stat().st_size
    shutil.copyfile(path, folder / path.name)
  clips = dataset.open_dataset(built, 'toy', 'train')
  clips.frames(0)
  with pytest.raises(UserError, match='00000-of-00003: the records, .* not all of one build'):
    clips.frames(1)


def test_another_build_within_the_same_second(built, other):
  """Some file systems have times in whole seconds; the files of the first build are still open."""
  folder = built / 'toy' / '1.0.0'
  dataset.open_dataset(built, 'toy', 'train').frames(1)
  index = folder / 'index-train.npz'
  time = index.stat().st_mtime_ns
  shutil.rmtree(folder)
  shutil.copytree(other, folder)
  os.utime(index, ns=(time, time))
  frames = dataset.open_dataset(built, 'toy', 'train').frames(1)
  expected = dataset.open_dataset(other.parents[1], 'toy', 'train')[1]['frames']
  assert [frames.frame(n) for n in range(len(frames))] == list(expected)


@pytest.mark.parametrize('marked', ['index', 'metadata'])
def test_checksums_that_are_lost_are_missed(built, marked):
  folder = built / 'toy' / '1.0.0'
  content = {path: path.read_bytes() for path in folder.glob('*.*')}
  _make_early(built)
  kept = folder / ('index-train.npz' if marked == 'index' else 'metadata.json')
  kept.write_bytes(content[kept])
  with pytest.raises(UserError, match='checksums.json is missing; copy the whole folder'):
    dataset.open_dataset(built, 'toy', 'train')


def test_neither_tensorflow_nor_jax_is_imported(tmp_path):
  program = f"""
import pathlib, sys
from tests.datasets.noise_clips import NoiseBuilder
from zsar_jax.data import dataset
from zsar_jax.datasets.build import build
out = pathlib.Path({str(tmp_path)!r})
build(NoiseBuilder(out, out / 'clips'), workers=0)
dataset.open_dataset(out, 'toy', 'train')[0]
assert not {{'tensorflow', 'jax'}} & set(sys.modules), 'imported'
"""
  subprocess.run([sys.executable, '-c', program], check=True, timeout=60)
