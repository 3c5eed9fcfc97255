"""Single frames that are read from the files of records are those of the complete records."""

import ast
import os
import pathlib
import shutil

import numpy as np
import pytest

from tests.toy import build_toy
from zsar_jax.data import frame_table, open_files, records
from zsar_jax.data.dataset import open_dataset
from zsar_jax.data.reading import finish
from zsar_jax.datasets.staging import Chunk, stage_chunk
from zsar_jax.errors import UserError


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return build_toy(tmp_path_factory.mktemp('toy'))


@pytest.mark.parametrize('split', ['train', 'validation'])
def test_frames_are_those_of_the_records(data_dir, split):
  clips = open_dataset(data_dir, 'toy', split)
  assert len(list(clips.directory.glob(f'*{split}*.npy'))) == (2 if split == 'train' else 1)
  for position, record in enumerate(clips):
    frames = clips.frames(position)
    assert [frames.frame(n) for n in range(len(frames))] == list(record['frames'])
    np.testing.assert_array_equal(frames.annotated, record['annotated'])
    planes = [frames.plane(n) if frames.annotated[n] else b'' for n in range(len(frames))]
    assert planes == list(record['regions'])
    assert frames.size == (record['height'], record['width']) == (20, 30)


class _Task:
  """A clip whose frames are noise of a seed."""

  def __init__(self, seed):
    self.id = f'clip{seed}'
    self.seed = seed


def _encode(task):
  rng = np.random.default_rng(task.seed)
  # The largest frames of noise take several of the file's blocks of 64 KiB.
  side = (8, 100, 300, 600)[task.seed % 4]
  frames = rng.integers(0, 256, (3, side, side + 8, 3)).astype(np.uint8)
  planes = rng.integers(0, 16, frames.shape[:3]).astype(np.uint8)
  jpegs = records.encode_frames(frames, 95)
  return records.encode_clip(task.id, 0, jpegs, planes, frames.shape[1:3], 1.0)


def test_frames_of_any_length_are_located(tmp_path, monkeypatch):
  monkeypatch.setattr(Chunk, 'fingerprint', lambda self: '')  # The tasks are not dataclasses.
  tasks = tuple(_Task(seed) for seed in range(12))
  staged = stage_chunk(Chunk(tasks, _encode, ('a',)), str(tmp_path / 'chunk'))
  file = frame_table.open_unshared(staged.records, 3 * len(tasks))
  for number, (task, entry) in enumerate(zip(tasks, staged.entries, strict=True)):
    record, clip = _encode(task).record, finish(file.clip(3 * number, 3, entry.start, entry.mark))
    assert [clip.frame(n) for n in range(3)] == record['frames']
    assert [clip.plane(n) for n in range(3)] == record['regions']


@pytest.mark.skipif(not pathlib.Path('/proc/self/fd').is_dir(), reason='counts them in /proc')
def test_open_files_are_bounded(data_dir, monkeypatch):
  monkeypatch.setattr(frame_table, 'MAX_OPEN_FILES', 1)
  splits = [open_dataset(data_dir, 'toy', split) for split in ('train', 'validation')]
  expected = {id(clips): [list(clips[n]['frames']) for n in range(len(clips))] for clips in splits}
  before = len(os.listdir('/proc/self/fd'))
  held = splits[1].frames(3)  # Stays readable after its file was replaced among the open files.
  for clips in splits:
    for position in (*range(len(clips)), 0):
      frames = clips.frames(position)
      assert [frames.frame(n) for n in range(len(frames))] == expected[id(clips)][position]
  # Records and table, of the file that is kept open and of the clip that is held.
  assert len(os.listdir('/proc/self/fd')) - before <= 4
  assert held.frame(0) == expected[id(splits[1])][3][0]


@pytest.mark.parametrize(
  ('limit', 'max_limit', 'workers', 'expected'),
  [(256, 256, 0, 256), (256, 256, 4, 256), (64, 4096, 0, 106), (256, 4096, 14, 462)],
)
def test_the_limit_of_open_files_is_raised(monkeypatch, limit, max_limit, workers, expected):
  limits = [(limit, max_limit)]
  monkeypatch.setattr(open_files.os, 'cpu_count', lambda: 2)
  monkeypatch.setattr(open_files.resource, 'getrlimit', lambda kind: limits[-1])
  monkeypatch.setattr(open_files.resource, 'setrlimit', lambda kind, values: limits.append(values))
  open_files.raise_open_file_limit(workers)
  assert limits[-1] == (expected, max_limit)


def test_a_limit_of_256_allows_four_workers_on_a_host_of_many_cores(monkeypatch):
  monkeypatch.setattr(open_files.os, 'cpu_count', lambda: 224)
  monkeypatch.setattr(open_files.resource, 'getrlimit', lambda kind: (256, 256))
  monkeypatch.setattr(open_files.resource, 'setrlimit', None)
  open_files.raise_open_file_limit(4)


def test_too_low_a_limit_is_an_error_before_the_run(monkeypatch):
  monkeypatch.setattr(open_files.os, 'cpu_count', lambda: 2)
  monkeypatch.setattr(open_files.resource, 'getrlimit', lambda kind: (256, 256))
  with pytest.raises(UserError, match=r'needs 462 .* allows 256 \(ulimit -n\); .*config.data.work'):
    open_files.raise_open_file_limit(14)


@pytest.mark.parametrize('pattern', ['toy-train.array_record-*.npy', 'toy-train.array_record-*2'])
def test_a_file_cut_short_is_named(tmp_path, data_dir, pattern):
  shutil.copytree(data_dir, tmp_path / 'copy')
  clips = open_dataset(tmp_path / 'copy', 'toy', 'train')
  for path in clips.directory.glob(pattern):
    path.write_bytes(path.read_bytes()[:100])
  with pytest.raises(UserError, match=r'array_record-00000-of-00002.* again'):
    clips.frames(0).frame(0)


@pytest.mark.parametrize('damage', [b"'descr(", b'\0\0', b'"', b"'frame_stars'"])
def test_a_table_with_a_damaged_header_is_named(tmp_path, data_dir, damage):
  shutil.copytree(data_dir, tmp_path / 'copy')
  clips = open_dataset(tmp_path / 'copy', 'toy', 'validation')
  (path,) = clips.directory.glob('toy-validation*.npy')
  content = path.read_bytes()
  place = content.index(b"'frame_start'")
  path.write_bytes(content[:place] + damage + content[place + len(damage) :])
  with pytest.raises(UserError, match=r'frames\.npy is damaged, or of a later version; copy'):
    clips.frames(0)


def test_a_missing_table_is_named(tmp_path, data_dir):
  shutil.copytree(data_dir, tmp_path / 'copy')
  for path in (tmp_path / 'copy').rglob('*.frames.npy'):
    path.unlink()
  with pytest.raises(UserError, match='frames.npy is missing'):
    open_dataset(tmp_path / 'copy', 'toy', 'train')


def test_another_file_format_is_refused(tmp_path):
  path = tmp_path / 'records'
  path.write_bytes(bytes(200))
  with pytest.raises((ValueError, UserError)):
    frame_table.write_table(tmp_path / 'table', path, [np.zeros(1, frame_table.ROW_DTYPE)], [10])


@pytest.mark.parametrize('dtype', [frame_table.ROW_DTYPE, frame_table.INPAINTED_ROW_DTYPE])
def test_headers_are_read_without_the_parser_of_python(tmp_path, monkeypatch, dtype):
  """In Python 3.11 it fails now and then if several threads use it at once."""
  path = tmp_path / 'table.npy'
  np.save(path, np.zeros(3, dtype))

  def fail(_):
    raise SystemError('AST constructor recursion depth mismatch')

  monkeypatch.setattr(ast, 'literal_eval', fail)
  read_dtype, first_row = frame_table._read_header(frame_table._File(path))
  assert read_dtype == dtype
  assert first_row + 3 * dtype.itemsize == path.stat().st_size
