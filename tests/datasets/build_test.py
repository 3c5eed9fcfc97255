"""Builds of data sets: interrupted, damaged, failing, parallel and waiting for each other."""

import collections
import json
import pathlib
import re
import subprocess
import sys
import threading
import time

import pytest

from tests.datasets.noise_clips import CLASSES, NoiseBuilder, NoiseTask, encoded_clips
from zsar_jax.data import clip_index, dataset, records
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


def _files(out: pathlib.Path) -> dict[str, bytes]:
  """The files of the data set."""
  return {
    str(path.relative_to(out)): path.read_bytes()
    for path in out.glob('toy/1.0.0/*')
    if path.name != 'build_report.json'
  }


def test_other_processes_write_the_same_bytes(built, tmp_path, folder):
  build(NoiseBuilder(tmp_path / 'parallel', folder), workers=2)
  files = _files(tmp_path / 'parallel')
  assert files == _files(built)
  # Each file of records has its table of frames.
  assert sum('array_record' in name for name in files) == 2 * (3 + 1)
  assert not (tmp_path / 'parallel' / '.staging').exists()


def test_interrupted_build_continues(built, tmp_path, folder):
  encoded_clips(folder)
  out = tmp_path / 'cut'
  (folder / 'interrupt-train-6').touch()
  with pytest.raises(KeyboardInterrupt):
    build(NoiseBuilder(out, folder), workers=0)
  assert not (out / 'toy').exists()
  assert encoded_clips(folder) == {f'train-{n}' for n in range(6)}

  (folder / 'interrupt-train-6').unlink()
  build(NoiseBuilder(out, folder), workers=0)
  # The first chunk of four was finished, the second was not.
  assert encoded_clips(folder) == {f'train-{n}' for n in range(4, 10)} | {
    f'validation-{n}' for n in range(3)
  }
  assert _files(out) == _files(built)


@pytest.mark.parametrize('text', ['', '[]', '{}', 'null', '5', 'ENTRIES'])
def test_damaged_or_foreign_staging_is_done_again(built, tmp_path, folder, text):
  out = tmp_path / 'cut'
  (folder / 'broken-train-9').touch()
  with pytest.raises(UserError):
    build(NoiseBuilder(out, folder), workers=0, strict=True)
  (folder / 'broken-train-9').unlink()
  staging = out / '.staging' / 'toy'
  with open(staging / 'train-00000.array_record', 'ab') as file:
    file.write(b'x')
  report = json.loads((staging / 'train-00001.json').read_text())
  text = text.replace('ENTRIES', json.dumps(report | {'entries': [{'id': 'train-4'}]}))
  (staging / 'train-00001.json').write_text(text)
  report = json.loads((staging / 'validation-00000.json').read_text())
  (staging / 'validation-00000.json').write_text(json.dumps(report | {'fingerprint': 'other'}))
  build(NoiseBuilder(out, folder), workers=0)
  assert _files(out) == _files(built)


def test_clips_that_an_earlier_version_staged_are_not_encoded_again(built, tmp_path, folder):
  out = tmp_path / 'earlier'
  (folder / 'interrupt-train-6').touch()
  with pytest.raises(KeyboardInterrupt):
    build(NoiseBuilder(out, folder), workers=0)
  (folder / 'interrupt-train-6').unlink()
  path = out / '.staging' / 'toy' / 'train-00000.json'
  content = json.loads(path.read_text())
  for entry in content['entries']:
    del entry['failed_gates']
  path.write_text(json.dumps(content))
  encoded_clips(folder)
  build(NoiseBuilder(out, folder), workers=0)
  assert not {f'train-{n}' for n in range(4)} & encoded_clips(folder)
  assert _files(out) == _files(built)


def test_failed_clips_are_left_out_and_reported(tmp_path, folder, capsys):
  toy = NoiseBuilder(tmp_path, folder, validation=1)
  for name in ('missing-train-3', 'broken-train-5', *(f'missing-train-{n}' for n in (8, 9))):
    (folder / name).touch()
  directory = build(toy, workers=0)
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


def test_a_full_disk_is_named_and_loses_nothing(built, tmp_path, folder):
  # A limit on the size of files fails writes just as a full disk does.
  program = f"""
import pathlib, resource, sys
from tests.datasets.noise_clips import NoiseBuilder
from zsar_jax.datasets import build
from zsar_jax.errors import UserError
resource.setrlimit(resource.RLIMIT_FSIZE, (2500, resource.RLIM_INFINITY))
build._CHUNK_CLIPS = 4
out = pathlib.Path({str(tmp_path)!r})
try:
  build.build(NoiseBuilder(out / 'full', out / 'clips'), workers=0)
except UserError as error:
  sys.exit('disk is full' not in str(error))
sys.exit(3)
"""
  subprocess.run([sys.executable, '-c', program], check=True, timeout=60)
  assert not (tmp_path / 'full' / 'toy').exists()
  build(NoiseBuilder(tmp_path / 'full', folder), workers=0)
  assert _files(tmp_path / 'full') == _files(built)


def test_the_disk_need_is_estimated_before(monkeypatch, tmp_path, folder, capsys):
  monkeypatch.setattr(build_lib, '_SAMPLED_CLIPS', 1)
  toy = NoiseBuilder(tmp_path, folder)
  Usage = collections.namedtuple('Usage', 'free')
  monkeypatch.setattr(build_lib.shutil, 'disk_usage', lambda path: Usage(5000))
  with pytest.raises(UserError, match='the records need about .* are free; choose another --out'):
    build(toy, workers=0)
  assert not (tmp_path / 'toy').exists()
  monkeypatch.setattr(build_lib.shutil, 'disk_usage', lambda path: Usage(10**9))
  build(toy, workers=0)
  estimate = float(re.search(r'13 clips will take about ([\d.]+) MB', capsys.readouterr().err)[1])
  opened = [dataset.open_dataset(tmp_path, 'toy', split) for split in ('train', 'validation')]
  images = [
    image for clips in opened for clip in clips for image in [*clip['frames'], *clip['regions']]
  ]
  assert sum(map(len, images)) / 2e6 < estimate < sum(map(len, images)) / 0.5e6


def test_strict_writes_nothing_and_retries_only_what_failed(built, tmp_path, folder):
  out = tmp_path / 'strict'
  (folder / 'missing-train-0').touch()
  (folder / 'broken-train-2').touch()
  with pytest.raises(UserError, match='2 clips failed.*train-0'):
    build(NoiseBuilder(out, folder), workers=0, strict=True)
  assert not (out / 'toy').exists()

  encoded_clips(folder)
  (folder / 'broken-train-2').unlink()
  with pytest.raises(UserError, match='1 clip failed.*train-0'):
    build(NoiseBuilder(out, folder), workers=0, strict=True)
  assert encoded_clips(folder) == {'train-2'}

  (folder / 'missing-train-0').unlink()
  build(NoiseBuilder(out, folder), workers=0, strict=True)
  assert encoded_clips(folder) == {'train-0'}
  assert _files(out) == _files(built)


def test_split_without_a_clip_is_refused(tmp_path, folder):
  toy = NoiseBuilder(tmp_path, folder, train=2)
  for n in range(2):
    (folder / f'missing-train-{n}').touch()
  with pytest.raises(UserError, match="'train': none of its 2 clips.*train-0 because train-0 does"):
    build(toy, workers=0)
  with pytest.raises(UserError, match="'train': no clip is listed"):
    build(NoiseBuilder(tmp_path, folder, train=0), workers=0)


def test_repeated_id_is_refused(tmp_path, folder, monkeypatch):
  monkeypatch.setattr(
    NoiseBuilder, 'tasks', lambda self: {'train': [NoiseTask('a', 0, ''), NoiseTask('a', 1, '')]}
  )
  with pytest.raises(UserError, match='clip a is listed more than once'):
    build(NoiseBuilder(tmp_path, folder), workers=0)


def test_finished_data_set_is_kept(built, folder, capsys):
  encoded_clips(folder)
  before = {path: path.stat().st_mtime_ns for path in built.rglob('*')}
  build(NoiseBuilder(built, folder), workers=0)
  assert 'already exists' in capsys.readouterr().out
  with pytest.raises(UserError, match='quality = 90, not quality = 50'):
    build(NoiseBuilder(built, folder, quality=50), workers=0)
  assert not encoded_clips(folder)
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
    build(NoiseBuilder(built, folder), workers=0)


def test_other_vocabulary_is_refused(built, folder):
  toy = NoiseBuilder(built, folder)
  toy.classes = CLASSES[::-1]
  with pytest.raises(UserError, match='another vocabulary'):
    build(toy, workers=0)


def test_second_build_waits_for_the_first(built, tmp_path, folder, capsys):
  out = tmp_path / 'both'
  encoded_clips(folder)
  (folder / 'wait-train-0').touch()
  threads = [threading.Thread(target=build, args=(NoiseBuilder(out, folder), 0)) for _ in range(2)]
  threads[0].start()
  while not (folder / 'encoded-train-0').exists():
    time.sleep(0.02)
  threads[1].start()
  threads[1].join(timeout=0.2)
  assert threads[1].is_alive()
  assert encoded_clips(folder) == {'train-0'}
  (folder / 'wait-train-0').unlink()
  for thread in threads:
    thread.join()
  assert len(encoded_clips(folder)) == 12
  assert 'already exists' in capsys.readouterr().out
  assert _files(out) == _files(built)


def test_what_a_killed_build_leaves_is_cleared(built, tmp_path, folder, monkeypatch):
  """Killed while it publishes, and killed when it has published and not cleared its staging."""
  out = tmp_path / 'killed'
  toy = NoiseBuilder(out, folder)

  def killed(*args):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    # As after kill -9, nobody deletes the folder.
    patch.setattr(build_lib.build_report, 'describe', lambda *args: '')
    patch.setattr(clip_index.ClipIndex, 'save', killed)
    patch.setattr('etils.epath.gpath.PosixGPath.rmtree', lambda *args, **options: None)
    with pytest.raises(KeyboardInterrupt):
      build(toy, workers=0)
  assert len(list((out / 'toy').glob('incomplete.*_1.0.0'))) == 1
  with monkeypatch.context() as patch:
    patch.setattr(build_lib, '_clear_staging', killed)
    with pytest.raises(KeyboardInterrupt):
      build(toy, workers=0)
  assert [path.name for path in (out / 'toy').iterdir()] == ['1.0.0']
  assert (out / '.staging').exists()
  build(toy, workers=0)
  assert not (out / '.staging').exists()
  assert _files(out) == _files(built)


def test_a_clip_too_large_for_a_record_is_left_out(tmp_path, folder, monkeypatch):
  """The rest of it is not even encoded."""
  monkeypatch.setattr(records, '_MAX_BYTES', 2200)
  directory = build(NoiseBuilder(tmp_path, folder), workers=0)
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


def test_number_of_chunks_is_limited(monkeypatch, tmp_path, folder):
  monkeypatch.setattr(build_lib, '_MAX_CHUNKS', 2)
  directory = build(NoiseBuilder(tmp_path, folder), workers=0)
  assert len(list(directory.glob('*-train.array_record-*-of-?????'))) == 2
