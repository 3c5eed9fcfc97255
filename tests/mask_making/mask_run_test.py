"""Runs of makers over videos: interrupted, killed, in shards and processes, on Beam, failing."""

import concurrent.futures
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.datasets.video_test import write_video
from tests.mask_making.stub_maker import StubMaker, StubSpec
from zsar_jax.datasets.beam import Beam
from zsar_jax.datasets.masks import made_files
from zsar_jax.datasets.video import Storage
from zsar_jax.errors import UserError
from zsar_jax.mask_making.inpainting import TeleaInpainter
from zsar_jax.mask_making.making import Making, make_group_alone
from zsar_jax.mask_making.mask_run import MaskRun
from zsar_jax.mask_making.refinement import Refinement
from zsar_jax.mask_making.work import ClipWork, group_works, list_videos
from zsar_jax.storage import file_systems

# (frames, height, width) of the videos; more than one size, and lengths below and above a batch.
_VIDEOS = {
  'walk/a': (9, 48, 64),
  'walk/b': (1, 48, 64),
  'run/c': (12, 64, 48),
  'run/d': (5, 32, 32),
  'run/e': (3, 48, 64),
}

# Runs that are killed in the test of random moments.
_KILLS = int(os.environ.get('SURVIVAL_TIMES', '4'))


@pytest.fixture(scope='module', name='videos')
def _videos(tmp_path_factory):
  folder = tmp_path_factory.mktemp('videos')
  for seed, (name, (frames, height, width)) in enumerate(_VIDEOS.items()):
    levels = np.random.default_rng(seed).integers(60, 250, frames).tolist()
    write_video(folder / f'{name}.mp4', levels, height, width)
  return folder


@pytest.fixture(name='log')
def _log(tmp_path):
  (tmp_path / 'log').mkdir()
  return tmp_path / 'log'


def _works(videos: pathlib.Path) -> list[ClipWork]:
  return [ClipWork(clip.name, clip.path) for clip in list_videos(str(videos))]


def _run(out: pathlib.Path, log: pathlib.Path, keep: str = 'segments:4', **options) -> MaskRun:
  spec = {name: options.pop(name) for name in ('uses_device', 'threshold') if name in options}
  settings = {'inpainter': None, 'inputs': {}, 'videos': '', 'workers': 0} | options
  storage = Storage(keep=keep)
  return MaskRun(out, StubSpec(str(log), **spec), storage, refinement=Refinement(), **settings)


def _masks(out: pathlib.Path) -> dict[str, bytes]:
  files = [path for path in (out / 'clips').rglob('*') if path.is_file()]
  return {str(path.relative_to(out)): path.read_bytes() for path in files}


def _made(log: pathlib.Path) -> set[str]:
  """Returns the frames that were made, as 'run_c-3', and forgets them."""
  made = {path.name for path in log.iterdir() if path.name[-1].isdigit()}
  for name in made:
    (log / name).unlink()
  return made


@pytest.fixture(name='expected')
def _expected(videos, tmp_path, log):
  """The files of an uninterrupted run in one thread."""
  _run(tmp_path / 'whole', log).make(_works(videos))
  _made(log)
  return _masks(tmp_path / 'whole')


def test_masks_are_of_the_frames_that_the_file_says(videos, tmp_path, log, expected):
  assert set(expected) == {f'clips/{name}.masks' for name in _VIDEOS}
  for name, (frames, height, width) in _VIDEOS.items():
    clip = made_files.read_clip(made_files.clip_path(tmp_path / 'whole', name))
    kept = Storage(keep='segments:4').select_frames(frames)
    np.testing.assert_array_equal(clip.numbers, kept)
    assert (clip.num_frames, clip.height, clip.width) == (frames, height, width)
    for index in range(len(kept)):
      plane = made_files.decode_plane(clip, index)
      # The left half of each frame is black, the right half bright in most frames.
      assert plane[4:, : width // 2 - 8].max() == 0
      assert plane[4:, width // 2 + 8 :].all() == bool(clip.frames[index].people)


def test_clips_fill_a_batch_together_if_their_frames_are_known_beforehand():
  works = [ClipWork(f'{number}', '') for number in range(5)]
  for keep, batch_frames, sizes in (
    ('segments:4', 8, [2, 2, 1]),
    ('segments:4', 3, [1] * 5),
    ('segments:4', 0, [1] * 5),  # The maker gets each clip alone.
    ('every:4', 8, [1] * 5),
    ('all', 8, [1] * 5),
  ):
    groups = group_works(works, batch_frames, Storage(keep=keep))
    assert list(map(len, groups)) == sizes
    assert [work for group in groups for work in group] == works


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('uses_device', [True, False])
def test_processes_and_threads_write_the_same_bytes(
  videos, tmp_path, log, expected, workers, uses_device
):
  run = _run(tmp_path / 'other', log, workers=workers, uses_device=uses_device)
  outcomes = run.make(_works(videos))
  assert _masks(tmp_path / 'other') == expected
  assert [outcome.frames for outcome in outcomes] == [4, 4, 3, 4, 1]


def test_shards_together_are_the_same_bytes(videos, tmp_path, log, expected):
  out = tmp_path / 'shards'
  made = []
  for index in range(3):
    outcomes = _run(out, log, shard=(index, 3)).make(_works(videos))
    made += [outcome.name for outcome in outcomes]
    report = json.loads((out / f'report-{index}-of-3.json').read_text())
    assert report['made'] == len(outcomes)
  assert sorted(made) == sorted(_VIDEOS)
  assert _masks(out) == expected
  # More shards than groups of clips.
  assert _run(out, log, shard=(8, 9)).make(_works(videos)) == []


@pytest.mark.parametrize('workers', [0, 2])
def test_an_interrupted_run_continues(videos, tmp_path, log, expected, workers):
  out = tmp_path / 'cut'
  (log / 'interrupt-run_e').touch()
  run = _run(out, log, workers=workers)
  with pytest.raises(KeyboardInterrupt):
    run.make(_works(videos))
  done = set(_masks(out))
  assert done < set(expected)
  (log / 'interrupt-run_e').unlink()
  _made(log)
  run.make(_works(videos))
  assert _masks(out) == expected
  again = {name.rpartition('-')[0] for name in _made(log)}
  # The groups are c and d, e and a, b. A group that is complete is not made again.
  if {'clips/run/c.masks', 'clips/run/d.masks'} <= done:
    assert not again & {'run_c', 'run_d'}
  assert again
  run.make(_works(videos))
  assert not _made(log)


def test_beam_writes_the_same_bytes(videos, tmp_path, log, expected):
  pytest.importorskip('apache_beam')
  outcomes = _run(tmp_path / 'beam', log, beam=Beam('DirectRunner')).make(_works(videos))
  assert _masks(tmp_path / 'beam') == expected
  assert [outcome.frames for outcome in outcomes] == [4, 4, 3, 4, 1]


def test_a_clip_that_fails_is_reported_and_tried_again(videos, tmp_path, log, expected, capsys):
  damaged = tmp_path / 'damaged'
  for name in _VIDEOS:
    path = damaged / f'{name}.mp4'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((videos / f'{name}.mp4').read_bytes())
  original = (damaged / 'run/d.mp4').read_bytes()
  (damaged / 'run/d.mp4').write_bytes(original[:200])
  out = tmp_path / 'out'
  outcomes = {outcome.name: outcome for outcome in _run(out, log).make(_works(damaged))}
  assert 'cannot be decoded' in outcomes['run/d'].failure
  assert '4 of 5 clips' in capsys.readouterr().out
  report = json.loads((out / 'report.json').read_text())
  assert list(report['failed']) == ['run/d']
  _made(log)
  _run(out, log).make(_works(damaged))
  assert not _made(log)  # Its group is not made in vain.

  (damaged / 'run/d.mp4').write_bytes(original)
  _run(out, log).make(_works(damaged))
  files = _masks(out)
  assert set(files) == set(expected)
  assert files['clips/run/d.masks'] == expected['clips/run/d.masks']
  assert json.loads((out / 'report.json').read_text())['failed'] == {}


@pytest.mark.parametrize('workers', [0, 2])
def test_a_maker_may_fail_a_clip(videos, tmp_path, log, workers):
  (log / 'fail-run_d').touch()
  (log / 'late-walk_b').touch()
  outcomes = _run(tmp_path / 'out', log, keep='all', workers=workers).make(_works(videos))
  failed = {outcome.name: outcome.failure for outcome in outcomes if outcome.failure}
  assert failed == {'run/d': 'run/d fails', 'walk/b': 'walk/b fails late'}


def test_files_that_no_build_would_read_are_reported(videos, tmp_path, log, expected, capsys):
  out = tmp_path / 'out'
  _run(out, log).make(_works(videos))
  (out / 'clips/run/c.masks').write_bytes(expected['clips/run/c.masks'][:99])
  other = expected['clips/run/d.masks'].replace(b'"settings": "', b'"settings": "0', 1)
  (out / 'clips/run/d.masks').write_bytes(other)
  (out / 'clips/run/e.masks').unlink()
  capsys.readouterr()
  outcomes = _run(out, log).make(_works(videos))
  failed = {outcome.name: outcome.failure for outcome in outcomes if outcome.failure}
  assert list(failed) == ['run/c', 'run/d']
  assert 'is damaged' in failed['run/c']
  assert 'in another way' in failed['run/d']
  # Its group has a clip whose masks are there.
  assert 'masks made earlier: 4' in capsys.readouterr().err


def test_shards_that_start_at_once_share_a_folder(videos, tmp_path, log, expected, monkeypatch):
  out = tmp_path / 'shards'
  replace = file_systems.replace
  # Time for the others to write the same file.
  monkeypatch.setattr(file_systems, 'replace', lambda *paths: time.sleep(0.05) or replace(*paths))
  # Those of different counts make the same clips.
  shards = [(0, 3), (1, 3), (2, 3), (0, 2), (1, 2), (0, 1)]
  with concurrent.futures.ThreadPoolExecutor(len(shards)) as threads:
    runs = [threads.submit(_run(out, log, shard=shard).make, _works(videos)) for shard in shards]
    for run in runs:
      assert all(outcome.failure is None for outcome in run.result())
  assert _masks(out) == expected


def test_of_two_makers_that_start_at_once_one_is_refused(videos, tmp_path, log, monkeypatch):
  replace = file_systems.replace
  monkeypatch.setattr(file_systems, 'replace', lambda *paths: time.sleep(0.05) or replace(*paths))
  with concurrent.futures.ThreadPoolExecutor(2) as threads:
    runs = [
      threads.submit(_run(tmp_path / 'out', log, threshold=threshold).make, _works(videos))
      for threshold in (100, 150)
    ]
    (error,) = [run.exception() for run in runs if run.exception()]
  assert 'made with threshold = ' in str(error)


def test_threads_of_beam_take_turns_with_the_network(videos, tmp_path, log, expected, monkeypatch):
  inside, most, opened = [], [], []
  make, start = StubMaker.make, StubSpec.open

  def watched(maker, clips):
    inside.append(maker)
    most.append(len(inside))
    yield from make(maker, clips)
    inside.remove(maker)

  monkeypatch.setattr(StubMaker, 'make', watched)
  monkeypatch.setattr(StubSpec, 'open', lambda spec: opened.append(spec) or start(spec))
  spec, storage = StubSpec(str(log), seconds=0.01), Storage(keep='segments:4')
  making = Making(tmp_path / 'out', ('person',), 'abc', spec, storage, Refinement())
  groups = group_works(_works(videos), spec.batch_frames, storage)
  with concurrent.futures.ThreadPoolExecutor(len(groups)) as threads:
    made = list(threads.map(lambda group: make_group_alone(group, making), groups))
  assert sum(map(len, made)) == len(_VIDEOS)
  assert (set(most), len(opened)) == ({1}, 1)


def test_people_are_removed_only_where_they_are_masked(videos, tmp_path, log, monkeypatch):
  monkeypatch.setattr(StubMaker, 'regions', ('object',))
  with pytest.raises(UserError, match='--inpaint removes people, and these masks show object'):
    _run(tmp_path / 'out', log, inpainter=TeleaInpainter(95)).make(_works(videos))


def test_no_clip_at_all_is_an_error(videos, tmp_path, log):
  for name in _VIDEOS:
    (log / f'fail-{name.replace("/", "_")}').touch()
  with pytest.raises(UserError, match='no clip has masks; run/c: run/c fails'):
    _run(tmp_path / 'out', log, keep='all').make(_works(videos))


def test_masks_of_another_maker_are_refused(videos, tmp_path, log):
  _run(tmp_path / 'out', log).make(_works(videos))
  with pytest.raises(UserError, match='made with threshold = 100, not 150'):
    _run(tmp_path / 'out', log, threshold=150).make(_works(videos))
  with pytest.raises(UserError, match='made with keep = segments:4, not every:2'):
    _run(tmp_path / 'out', log, keep='every:2').make(_works(videos))
  # The folder is a note, which does not identify the masks.
  (tmp_path / 'log2').mkdir()
  _run(tmp_path / 'out', tmp_path / 'log2').make(_works(videos))


def test_settings_that_made_all_clips_fail_are_replaced(videos, tmp_path, log):
  for name in _VIDEOS:
    (log / f'fail-{name.replace("/", "_")}').touch()
  with pytest.raises(UserError, match='no clip has masks'):
    _run(tmp_path / 'out', log, keep='all', threshold=100).make(_works(videos))
  for name in _VIDEOS:
    (log / f'fail-{name.replace("/", "_")}').unlink()
  _run(tmp_path / 'out', log, keep='all', threshold=150).make(_works(videos))
  assert made_files.read_settings(tmp_path / 'out')['threshold'] == 150


def test_damaged_and_foreign_files_are_reported(videos, tmp_path, log):
  out = tmp_path / 'out'
  _run(out, log).make(_works(videos))
  for name, length in (('run/c', 100), ('run/d', -1)):
    path = made_files.clip_path(out, name)
    path.write_bytes(path.read_bytes()[:length])
  other = tmp_path / 'other'
  _run(other, log, keep='every:2').make(_works(videos))
  foreign = made_files.clip_path(other, 'walk/a').read_bytes()
  made_files.clip_path(out, 'walk/a').write_bytes(foreign)
  outcomes = {outcome.name: outcome.failure for outcome in _run(out, log).make(_works(videos))}
  assert 'damaged' in outcomes['run/c']
  assert 'damaged' in outcomes['run/d']
  assert 'in another way' in outcomes['walk/a']
  assert outcomes['run/e'] is None

  for name in ('run/c', 'run/d', 'walk/a'):  # As the messages say.
    made_files.clip_path(out, name).unlink()
  assert not any(outcome.failure for outcome in _run(out, log).make(_works(videos)))


def test_names_that_are_too_long_are_refused(videos, tmp_path):
  (tmp_path / f'{"é" * 121}.mp4').write_bytes((videos / 'walk/b.mp4').read_bytes())
  with pytest.raises(UserError, match='has 242 bytes; rename it to at most 230'):
    list_videos(str(tmp_path))


def test_few_masks_of_a_long_video_are_in_memory(tmp_path, log, monkeypatch):
  monkeypatch.setattr(StubMaker, 'most_alive', 0)
  write_video(tmp_path / 'videos' / 'long.mp4', [150, 200] * 1500, 32, 32)
  run = _run(tmp_path / 'out', log, keep='all', workers=2)
  (outcome,) = run.make(_works(tmp_path / 'videos'))
  assert outcome.frames == 3000
  # 64 wait for the thread that writes them, and few others are in use.
  assert 0 < StubMaker.most_alive < 80


_SCRIPT = """
import pathlib, sys
from tests.mask_making.mask_run_test import _works
from tests.mask_making.stub_maker import StubMaker, StubSpec
from zsar_jax.datasets.video import Storage
from zsar_jax.mask_making.mask_run import MaskRun
from zsar_jax.mask_making.refinement import Refinement
videos, out, log = map(pathlib.Path, sys.argv[1:4])
spec = StubSpec(str(log), seconds=0.01)
if __name__ == '__main__':
  workers = int(sys.argv[4])
  MaskRun(out, spec, Storage(keep='segments:4'), Refinement(), None, {}, '', workers=workers).make(
    _works(videos)
  )
"""


@pytest.mark.slow
@pytest.mark.parametrize('workers', [0, 2])
def test_killed_at_random_moments(videos, tmp_path, log, expected, workers):
  script = tmp_path / 'run.py'
  script.write_text(_SCRIPT)
  out = tmp_path / 'killed'
  command = [sys.executable, str(script), str(videos), str(out), str(log), str(workers)]
  environment = os.environ | {'PYTHONPATH': str(pathlib.Path(__file__).parents[2])}
  generator = random.Random(workers)
  start = time.monotonic()
  subprocess.run([*command[:3], str(tmp_path / 'timed'), *command[4:]], env=environment, check=True)
  seconds = time.monotonic() - start
  for _ in range(_KILLS):
    process = subprocess.Popen(command, env=environment)
    time.sleep(generator.uniform(0.5, 1.0) * seconds)
    process.send_signal(generator.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
    process.wait()
  subprocess.run(command, env=environment, check=True)
  files = {name: code for name, code in _masks(out).items() if not name.endswith('.tmp')}
  assert files == expected
