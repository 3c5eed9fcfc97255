"""Tests of zsar_jax.datasets.builder, staging and dataset: data sets are built, cut off, read."""

import collections
import dataclasses
import json
import pathlib
import pickle
import re
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from zsar_jax.data import dataset, records
from zsar_jax.datasets import builder as builder_lib
from zsar_jax.errors import UserError
from zsar_jax.runtime import locks

_CLASSES = ('waving, slowly', 'kicking', 'idle')


@dataclasses.dataclass(frozen=True)
class _Task:
  """Clip `number`; the files in `folder` say what happens to it, and are told."""

  id: str
  number: int
  folder: str


def _encode(task: _Task) -> records.EncodedClip:
  """1 to 3 frames drawn from the clip's number; every other clip is annotated."""
  folder = pathlib.Path(task.folder)
  if (folder / f'missing-{task.id}').exists():
    raise records.ClipError(f'{task.id} does not exist', missing=True)
  if (folder / f'broken-{task.id}').exists():
    raise records.ClipError(f'{task.id} is broken')
  if (folder / f'interrupt-{task.id}').exists():
    raise KeyboardInterrupt
  (folder / f'encoded-{task.id}').touch()
  rng = np.random.default_rng(task.number)
  length = 1 + task.number % 3
  frames = rng.integers(0, 256, (length, 8, 12, 3)).astype(np.uint8)
  regions = rng.integers(0, 16, (length, 8, 12)).astype(np.uint8) if task.number % 2 else None
  jpegs = records.encode_frames(frames)
  remarks = {'odd': f'number {task.number}'} if task.number in (5, 7) else {}
  attributes = {'number': str(task.number)}
  return records.encode_clip(
    task.id, task.number % 3, jpegs, regions, (8, 12), 10.0, attributes, remarks
  )


class _Toy(builder_lib.ClipBuilder, skip_registration=True):
  """A data set of a few tiny clips."""

  name = 'toy'
  VERSION = tfds.core.Version('1.0.0')
  encode = staticmethod(_encode)

  def __init__(self, out, folder, train=10, validation=3, quality=90):
    self.classes = _CLASSES
    self.class_splits = {'base': _CLASSES[:2], 'novel': _CLASSES[2:]}
    self.region_names = ('person', 'object')
    self.parameters = {'quality': quality}
    self.clip_splits = {'odd': [f'train-{n}' for n in (9, 3, 1, 77)], 'none': ['gone']}
    self.remarks = {'train': {'listed twice': {'train-2': 'line 9'}}}
    self._sizes = {'train': train, 'validation': validation}
    self._folder = folder
    folder.mkdir(exist_ok=True)
    super().__init__(out)

  def tasks(self):
    return {
      split: [_Task(f'{split}-{n}', n, str(self._folder)) for n in range(size)]
      for split, size in self._sizes.items()
    }


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
  monkeypatch.setattr(builder_lib, '_CHUNK_CLIPS', 4)


@pytest.fixture(name='folder')
def _folder(tmp_path):
  return tmp_path / 'clips'


@pytest.fixture(name='built')
def _built(tmp_path, folder):
  """A finished data set's folder of data sets."""
  builder_lib.build(_Toy(tmp_path / 'out', folder), workers=0)
  return tmp_path / 'out'


def _files(out: pathlib.Path) -> dict[str, bytes]:
  """The files of the data set."""
  return {
    str(path.relative_to(out)): path.read_bytes()
    for path in out.glob('toy/1.0.0/*')
    if path.name != 'build_report.json'
  }


def _encoded(folder: pathlib.Path) -> set[str]:
  """The clips that were encoded since the last call."""
  names = set()
  for path in folder.glob('encoded-*'):
    names.add(path.name.removeprefix('encoded-'))
    path.unlink()
  return names


def test_reads_back_what_was_encoded(built, folder):
  for split, size in (('train', 10), ('validation', 3)):
    clips = dataset.open_dataset(built, 'toy', split)
    assert len(clips) == size
    for n in range(size):
      encoded = _encode(_Task(f'{split}-{n}', n, str(folder)))
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
    assert clips.classes == _CLASSES
    assert clips.class_splits == {'base': _CLASSES[:2], 'novel': _CLASSES[2:]}
    assert clips.region_names == ('person', 'object')


def test_other_processes_write_the_same_bytes(built, tmp_path, folder):
  builder_lib.build(_Toy(tmp_path / 'parallel', folder), workers=2)
  files = _files(tmp_path / 'parallel')
  assert files == _files(built)
  # Each file of records has its table of frames.
  assert sum('array_record' in name for name in files) == 2 * (3 + 1)
  assert not (tmp_path / 'parallel' / '.staging').exists()


def test_interrupted_build_continues(built, tmp_path, folder):
  _encoded(folder)
  out = tmp_path / 'cut'
  (folder / 'interrupt-train-6').touch()
  with pytest.raises(KeyboardInterrupt):
    builder_lib.build(_Toy(out, folder), workers=0)
  assert not (out / 'toy').exists()
  assert _encoded(folder) == {f'train-{n}' for n in range(6)}

  (folder / 'interrupt-train-6').unlink()
  builder_lib.build(_Toy(out, folder), workers=0)
  # The first chunk of four was finished, the second was not.
  assert _encoded(folder) == {f'train-{n}' for n in range(4, 10)} | {
    f'validation-{n}' for n in range(3)
  }
  assert _files(out) == _files(built)


@pytest.mark.parametrize('text', ['', '[]', '{}', 'null', '5', 'ENTRIES'])
def test_damaged_or_foreign_staging_is_done_again(built, tmp_path, folder, text):
  out = tmp_path / 'cut'
  (folder / 'broken-train-9').touch()
  with pytest.raises(UserError):
    builder_lib.build(_Toy(out, folder), workers=0, strict=True)
  (folder / 'broken-train-9').unlink()
  staging = out / '.staging' / 'toy'
  with open(staging / 'train-00000.array_record', 'ab') as file:
    file.write(b'x')
  report = json.loads((staging / 'train-00001.json').read_text())
  text = text.replace('ENTRIES', json.dumps(report | {'entries': [{'id': 'train-4'}]}))
  (staging / 'train-00001.json').write_text(text)
  report = json.loads((staging / 'validation-00000.json').read_text())
  (staging / 'validation-00000.json').write_text(json.dumps(report | {'fingerprint': 'other'}))
  builder_lib.build(_Toy(out, folder), workers=0)
  assert _files(out) == _files(built)


def test_failed_clips_are_left_out_and_reported(tmp_path, folder, capsys):
  toy = _Toy(tmp_path, folder, validation=1)
  for name in ('missing-train-3', 'broken-train-5', *(f'missing-train-{n}' for n in (8, 9))):
    (folder / name).touch()
  directory = builder_lib.build(toy, workers=0)
  clips = dataset.open_dataset(tmp_path, 'toy', 'train')
  assert clips.index.ids == [f'train-{n}' for n in (0, 1, 2, 4, 6, 7)]
  assert [clips[n]['id'] for n in range(len(clips))] == clips.index.ids
  report = json.loads((directory / 'build_report.json').read_text())['train']
  assert report['written'] == 6
  assert report['missing'] == {f'train-{n}': f'train-{n} does not exist' for n in (3, 8, 9)}
  assert report['unreadable'] == {'train-5': 'train-5 is broken'}
  assert report['remarks'] == {
    'listed twice': {'train-2': 'line 9'},
    'odd': {'train-7': 'number 7'},
  }
  output = capsys.readouterr().out
  assert '6 clips, 11 frames' in output
  assert 'missing: 3 clips' in output
  assert 'train-5: train-5 is broken' in output


def test_a_split_that_is_a_part_of_another(built):
  whole = dataset.open_dataset(built, 'toy', 'train')
  part = dataset.open_dataset(built, 'toy', 'odd')
  assert part.index.ids == ['train-9', 'train-3', 'train-1']
  for place, number in enumerate((9, 3, 1)):
    assert part[place]['frames'] == whole[number]['frames']
    assert part[place]['id'] == part.index.ids[place]
    assert part.index.labels[place] == whole.index.labels[number]
  assert part.split == 'odd'
  copy = pickle.loads(pickle.dumps(part))
  assert copy[1]['frames'] == whole[3]['frames']
  with pytest.raises(UserError, match="no split 'none'; it has odd, train, validation"):
    dataset.open_dataset(built, 'toy', 'none')
  _make_early(built)
  path = built / 'toy' / '1.0.0' / 'part-odd.npz'
  dataset.save_part(path, 'train', np.array([10]))
  with pytest.raises(UserError, match="split 'odd' has places outside the split 'train'"):
    dataset.open_dataset(built, 'toy', 'odd')
  path.write_bytes(b'PK')
  with pytest.raises(UserError, match='part-odd.npz is damaged'):
    dataset.open_dataset(built, 'toy', 'odd')


def test_a_full_disk_is_named_and_loses_nothing(built, tmp_path, folder):
  # A limit on the size of files fails writes just as a full disk does.
  program = f"""
import pathlib, resource, sys
from tests.data import builder_test
from zsar_jax.data import builder
from zsar_jax.errors import UserError
resource.setrlimit(resource.RLIMIT_FSIZE, (2500, resource.RLIM_INFINITY))
builder._CHUNK_CLIPS = 4
out = pathlib.Path({str(tmp_path)!r})
try:
  builder.build(builder_test._Toy(out / 'full', out / 'clips'), workers=0)
except UserError as error:
  sys.exit('disk is full' not in str(error))
sys.exit(3)
"""
  subprocess.run([sys.executable, '-c', program], check=True, timeout=60)
  assert not (tmp_path / 'full' / 'toy').exists()
  builder_lib.build(_Toy(tmp_path / 'full', folder), workers=0)
  assert _files(tmp_path / 'full') == _files(built)


def test_the_disk_need_is_estimated_before(monkeypatch, tmp_path, folder, capsys):
  monkeypatch.setattr(builder_lib, '_SAMPLED_CLIPS', 1)
  toy = _Toy(tmp_path, folder)
  Usage = collections.namedtuple('Usage', 'free')
  monkeypatch.setattr(builder_lib.shutil, 'disk_usage', lambda path: Usage(5000))
  with pytest.raises(UserError, match='the records need about .* are free; choose another --out'):
    builder_lib.build(toy, workers=0)
  assert not (tmp_path / 'toy').exists()
  monkeypatch.setattr(builder_lib.shutil, 'disk_usage', lambda path: Usage(10**9))
  builder_lib.build(toy, workers=0)
  told = float(re.search(r'13 clips will take about ([\d.]+) KiB', capsys.readouterr().err)[1])
  opened = [dataset.open_dataset(tmp_path, 'toy', split) for split in ('train', 'validation')]
  images = [
    image for clips in opened for clip in clips for image in [*clip['frames'], *clip['regions']]
  ]
  assert sum(map(len, images)) / 2 < 1024 * told < 2 * sum(map(len, images))


def test_strict_writes_nothing_and_retries_only_what_failed(built, tmp_path, folder):
  out = tmp_path / 'strict'
  (folder / 'missing-train-0').touch()
  (folder / 'broken-train-2').touch()
  with pytest.raises(UserError, match='2 clips failed.*train-0'):
    builder_lib.build(_Toy(out, folder), workers=0, strict=True)
  assert not (out / 'toy').exists()

  _encoded(folder)
  (folder / 'broken-train-2').unlink()
  with pytest.raises(UserError, match='1 clip failed.*train-0'):
    builder_lib.build(_Toy(out, folder), workers=0, strict=True)
  assert _encoded(folder) == {'train-2'}

  (folder / 'missing-train-0').unlink()
  builder_lib.build(_Toy(out, folder), workers=0, strict=True)
  assert _encoded(folder) == {'train-0'}
  assert _files(out) == _files(built)


def test_split_without_a_clip_is_refused(tmp_path, folder):
  toy = _Toy(tmp_path, folder, train=2)
  for n in range(2):
    (folder / f'missing-train-{n}').touch()
  with pytest.raises(UserError, match="'train': none of its 2 clips.*train-0 because train-0 does"):
    builder_lib.build(toy, workers=0)
  with pytest.raises(UserError, match="'train': no clip is listed"):
    builder_lib.build(_Toy(tmp_path, folder, train=0), workers=0)


def test_repeated_id_is_refused(tmp_path, folder, monkeypatch):
  monkeypatch.setattr(_Toy, 'tasks', lambda self: {'train': [_Task('a', 0, ''), _Task('a', 1, '')]})
  with pytest.raises(UserError, match='clip a is listed more than once'):
    builder_lib.build(_Toy(tmp_path, folder), workers=0)


def test_finished_data_set_is_kept(built, folder, capsys):
  _encoded(folder)
  before = {path: path.stat().st_mtime_ns for path in built.rglob('*')}
  builder_lib.build(_Toy(built, folder), workers=0)
  assert 'is there already' in capsys.readouterr().out
  with pytest.raises(UserError, match='quality = 90 and now quality = 50'):
    builder_lib.build(_Toy(built, folder, quality=50), workers=0)
  assert not _encoded(folder)
  assert {path: path.stat().st_mtime_ns for path in built.rglob('*')} == before


@pytest.mark.parametrize(
  ('file', 'text'),
  [
    ('build_report.json', '[]'),
    ('build_report.json', '{"train": {}}'),
    ('build_report.json', '{"train": {"missing": [], "unreadable": {}}}'),
    ('metadata.json', '[]'),
    ('metadata.json', '{"parameters": 1}'),
  ],
)
def test_a_finished_data_set_of_another_shape_is_refused(built, folder, file, text):
  (built / 'toy' / '1.0.0' / file).write_text(text)
  with pytest.raises(UserError, match='1.0.0 is damaged, or from an earlier version'):
    builder_lib.build(_Toy(built, folder), workers=0)


def test_other_vocabulary_is_refused(built, folder):
  toy = _Toy(built, folder)
  toy.classes = _CLASSES[::-1]
  with pytest.raises(UserError, match='another vocabulary'):
    builder_lib.build(toy, workers=0)


def test_second_build_waits_for_the_first(built, tmp_path, folder, capsys):
  out = tmp_path / 'both'
  first, second = _Toy(out, folder), _Toy(out, folder)
  _encoded(folder)
  with locks.lock_folder(first.staging):
    thread = threading.Thread(target=builder_lib.build, args=(second, 0))
    thread.start()
    thread.join(timeout=0.2)
    assert thread.is_alive()
    builder_lib._build(first, workers=0, strict=False, beam=None)
    assert len(_encoded(folder)) == 13
  thread.join()
  assert not _encoded(folder)
  assert 'is there already' in capsys.readouterr().out
  assert _files(out) == _files(built)


def test_what_a_killed_build_leaves_is_cleared(built, tmp_path, folder, monkeypatch):
  """Killed while it publishes, and killed when it has published and not cleared its staging."""
  out = tmp_path / 'killed'
  toy = _Toy(out, folder)

  def killed(*args):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    # As after kill -9, nobody deletes the folder.
    patch.setattr(builder_lib.report, 'describe', lambda *args: '')
    patch.setattr(dataset.ClipIndex, 'save', killed)
    patch.setattr('etils.epath.gpath.PosixGPath.rmtree', lambda *args, **options: None)
    with pytest.raises(KeyboardInterrupt):
      builder_lib.build(toy, workers=0)
  assert len(list((out / 'toy').glob('incomplete.*_1.0.0'))) == 1
  with monkeypatch.context() as patch:
    patch.setattr(builder_lib, '_clear_staging', killed)
    with pytest.raises(KeyboardInterrupt):
      builder_lib.build(toy, workers=0)
  assert [path.name for path in (out / 'toy').iterdir()] == ['1.0.0']
  assert (out / '.staging').exists()
  builder_lib.build(toy, workers=0)
  assert not (out / '.staging').exists()
  assert _files(out) == _files(built)


def test_a_clip_too_large_for_a_record_is_left_out(tmp_path, folder, monkeypatch):
  """The rest of it is not even encoded."""
  monkeypatch.setattr(records, '_MOST_BYTES', 2200)
  directory = builder_lib.build(_Toy(tmp_path, folder), workers=0)
  report = json.loads((directory / 'build_report.json').read_text())['train']
  large = {f'train-{n}' for n in range(10) if n % 3 == 2}  # Those of three frames.
  assert set(report['unreadable']) == large
  assert 'more than 2e-06 GiB, the most that a record can hold' in report['unreadable']['train-2']
  assert len(dataset.open_dataset(tmp_path, 'toy', 'train')) == 10 - len(large)

  def frames():
    for number in range(1000):
      assert number < 10, 'it goes on'
      yield bytes(400)

  with pytest.raises(records.ClipError):
    records.Images(frames())


def test_records_are_serialized_as_by_tfds(tmp_path):
  features = records.features(_CLASSES)
  for number in range(3):
    record = _encode(_Task(f'train-{number}', number, str(tmp_path))).record
    by_tfds = tf_example_pb2.Example.FromString(
      features.serialize_example(features.encode_example(record))
    )
    assert tf_example_pb2.Example.FromString(records.serialize(record)) == by_tfds


def test_number_of_chunks_is_limited(monkeypatch, tmp_path, folder):
  monkeypatch.setattr(builder_lib, '_MAX_CHUNKS', 2)
  directory = builder_lib.build(_Toy(tmp_path, folder), workers=0)
  assert len(list(directory.glob('*-train.array_record-*-of-?????'))) == 2


def test_dataset_survives_pickling(built):
  clips = dataset.open_dataset(built, 'toy', 'train')
  first = clips[1]  # Opens the files.
  copy = pickle.loads(pickle.dumps(clips))
  assert copy[1]['frames'] == first['frames']
  assert copy.index.ids == clips.index.ids


def test_data_dir_may_be_the_data_set_itself(built):
  assert dataset.list_datasets(built) == ['toy']
  assert dataset.list_datasets(built / 'toy') == ['toy']
  assert len(dataset.open_dataset(built / 'toy', 'toy', 'validation')) == 3


def test_newest_version_is_opened(built):
  (built / 'toy' / '1.0.0').rename(built / 'toy' / '9.0.0')
  (built / 'toy' / '10.0.0').mkdir()
  assert dataset.find_dataset(built, 'toy').name == '9.0.0'
  (built / 'toy' / '10.0.0' / 'dataset_info.json').touch()
  assert dataset.find_dataset(built, 'toy').name == '10.0.0'


def test_what_is_not_there_is_named(built):
  with pytest.raises(UserError, match="no data set 'ssv2' in .*has toy.*zsar build-dataset"):
    dataset.open_dataset(built, 'ssv2', 'train')
  with pytest.raises(UserError, match="no split 'test'; it has odd, train, validation"):
    dataset.open_dataset(built, 'toy', 'test')
  with pytest.raises(UserError, match='is not a folder'):
    dataset.open_dataset(built / 'nowhere', 'toy', 'train')


def _change_index(built, **columns):
  path = built / 'toy' / '1.0.0' / 'index-train.npz'
  dataclasses.replace(dataset.ClipIndex.load(path), **columns).save(path)


def _make_early(built):
  """Makes a data set such as it was built before there were checksums and marks."""
  folder = built / 'toy' / '1.0.0'
  (folder / 'checksums.json').unlink()
  metadata = json.loads((folder / 'metadata.json').read_text())
  del metadata[dataset.CHECKED]
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
  with pytest.raises(UserError, match='lists 9 clips and the records are 10'):
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
  assert 'was built by an earlier version: whether its files are of one' in capsys.readouterr().err
  assert [clips.frames(n).frame(0) for n in range(10)] == [
    expected.frames(n).frame(0) for n in range(10)
  ]


def _build_other(out, monkeypatch, numbers, train=10):
  """Builds the clips of `numbers` as other videos: {id: number}."""
  toy = _Toy(out, out.parent / 'other_clips', train, quality=80)
  toy.clip_splits = toy.clip_splits | {'odd': toy.clip_splits['odd'][::-1]}
  tasks = {
    split: [dataclasses.replace(task, number=numbers.get(task.id, task.number)) for task in tasks]
    for split, tasks in toy.tasks().items()
  }
  monkeypatch.setattr(builder_lib, '_CHUNK_CLIPS', 4)
  monkeypatch.setattr(_Toy, 'tasks', lambda self: tasks)
  return builder_lib.build(toy, workers=0)


@pytest.fixture(name='other', scope='module')
def _other(tmp_path_factory):
  """A data set of the same files as `built`, of other videos and one more."""
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
    clip = _encode(task)
    clip.record['label'] = 2 if task.id == 'train-1' else clip.record['label']
    return clip

  # Of the first file only a clip in the middle differs, and the file is as long.
  monkeypatch.setattr(_Toy, 'encode', staticmethod(encode))
  other = _build_other(tmp_path / 'other', monkeypatch, {})
  folder = built / 'toy' / '1.0.0'
  for path in other.glob('*-train.array_record-00000-*'):
    assert path.stat().st_size == (folder / path.name).stat().st_size
    shutil.copyfile(path, folder / path.name)
  clips = dataset.open_dataset(built, 'toy', 'train')
  clips.frames(0)
  with pytest.raises(UserError, match='00000-of-00003: the records, .* not all of one build'):
    clips.frames(1)


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
from tests.data import builder_test
from zsar_jax.data import builder, dataset
out = pathlib.Path({str(tmp_path)!r})
builder.build(builder_test._Toy(out, out / 'clips'), workers=0)
dataset.open_dataset(out, 'toy', 'train')[0]
assert not {{'tensorflow', 'jax'}} & set(sys.modules), 'imported'
"""
  subprocess.run([sys.executable, '-c', program], check=True, timeout=60)
