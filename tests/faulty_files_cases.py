"""The cases of faulty_files_test.py, which runs them in a process with faulty_files.c."""

import errno
import json
import pathlib
import re

import numpy as np
import pytest

from tests.datasets.video_test import write_video
from tests.faulty_files import faults
from tests.mask_making.stub_maker import StubSpec
from tests.toy import Toy, build_toy
from tests.training.loop_test import toy_config
from tools import inspect_dataset
from zsar_jax import experiment
from zsar_jax.datasets.build import build
from zsar_jax.datasets.video import Storage
from zsar_jax.errors import UserError
from zsar_jax.mask_making.mask_run import MaskRun
from zsar_jax.mask_making.refinement import Refinement
from zsar_jax.mask_making.work import ClipWork, list_videos
from zsar_jax.runtime.reporting import user_message
from zsar_jax.storage import checksums, file_systems


@pytest.fixture(autouse=True)
def _features_are_tried_again():
  file_systems._missing.clear()


@pytest.fixture(scope='module', name='config')
def _config(tmp_path_factory):
  data_dir = build_toy(tmp_path_factory.mktemp('data'))
  changes = {'optim__lr_rules': (('text/.*', 0.0),), 'model__temporal': 'mean'}
  return toy_config(data_dir, recipe='none', eval__every=4, optim__accumulation=1, **changes)


@pytest.fixture(scope='module', name='undisturbed')
def _undisturbed(config, tmp_path_factory):
  folder = tmp_path_factory.mktemp('undisturbed')
  experiment.run(config, folder)
  return folder


def outputs(run: pathlib.Path):
  """Returns what a run computed, by file, without what measures time."""
  metrics = [json.loads(line) for line in (run / 'metrics.jsonl').read_text().splitlines()]
  timed = ('seconds/', 'clips_per_second', 'goodput', 'mfu')
  with np.load(run / 'predictions' / 'toy.npz') as arrays:
    predictions = {name: arrays[name].tobytes() for name in arrays.files}
  return (
    [{k: v for k, v in line.items() if not k.startswith(timed)} for line in metrics],
    predictions,
    (run / 'results.json').read_text(),
    sorted(path.name for path in (run / 'checkpoints').iterdir()),
  )


def test_weak_file_systems(config, undisturbed, tmp_path, capsys):
  """Without locks, hard links, fsync and renaming over a file, slow, and with times in seconds."""
  with faults(
    f'{tmp_path}* lock {errno.ENOLCK}',
    f'{tmp_path}* sync {errno.ENOSYS}',
    f'{tmp_path}* link {errno.EPERM}',
    f'{tmp_path}* replace {errno.EEXIST}',
    f'{tmp_path}* slow 20',
    f'{config.data.dir}* change {errno.EROFS}',
    '* seconds 0',
  ):
    experiment.run(config, tmp_path / 'run')
    build(Toy(tmp_path), workers=0)
    assert (tmp_path / 'run' / 'config.json').stat().st_mtime_ns % 10**9 == 0
  assert outputs(tmp_path / 'run') == outputs(undisturbed)
  assert checksums.find_damage(tmp_path / 'run' / 'checkpoints' / '6') is None
  for path in (pathlib.Path(config.data.dir) / 'toy' / '1.0.0').iterdir():
    assert (tmp_path / 'toy' / '1.0.0' / path.name).read_bytes() == path.read_bytes()
  assert capsys.readouterr().err.count('warning: the file system') == 1


def test_slow_and_incomplete_renaming(config, undisturbed, tmp_path, capsys, monkeypatch):
  """Renaming folders is slow, and files that are replaced are missing for a moment."""
  monkeypatch.setattr('zsar_jax.weights.checkpoint._LONG_WAIT', 0.3)
  with faults(f'{tmp_path}/checkpoints/* slow 300', f'{tmp_path}* gap 50'):
    experiment.run(config, tmp_path)
  assert outputs(tmp_path) == outputs(undisturbed)
  err = capsys.readouterr().err
  # Three folders are renamed, but no file: there are dozens of them.
  waited = re.search('step 4 waited (.*) seconds until the checkpoint of step 2 was written;', err)
  assert int(waited[1]) < 6
  assert 'checkpoint_manager' not in err


def test_folders_that_cannot_be_renamed_are_refused_at_once(config, tmp_path):
  with faults(f'{tmp_path}* move {errno.EMFILE}'):
    with pytest.raises(UserError, match='^--workdir: .* cannot rename a folder'):
      experiment.run(config, tmp_path / 'run')
    with pytest.raises(UserError, match='^--out: .* cannot rename a folder'):
      build(Toy(tmp_path), workers=0)
  assert not (tmp_path / 'run' / 'metrics.jsonl').exists()


def test_read_only_folders(config, undisturbed, tmp_path, capsys):
  """Reading needs no writing; outputs are refused before anything is computed."""
  config = config.copy_and_resolve_references()
  config.model.init_from = str(undisturbed)
  with faults(*(f'{folder}* change {errno.EROFS}' for folder in (config.data.dir, undisturbed))):
    experiment.run(config, tmp_path / 'evaluated', 'eval')
    inspect_dataset.main([config.data.dir, f'--out={tmp_path}', '--clips=2', '--size=32'])
    capsys.readouterr()
    for mode in ('train', 'eval'):
      with pytest.raises(UserError, match='^--workdir: .* cannot be written to'):
        experiment.run(config, undisturbed, mode)
    with pytest.raises(SystemExit):
      inspect_dataset.main([config.data.dir, f'--out={undisturbed}'])
    with pytest.raises(UserError, match='^--out: .* cannot be written .Read-only file system'):
      build(Toy(undisturbed), workers=0)
  captured = capsys.readouterr()
  assert captured.err.startswith('error: --out:')
  assert not captured.out
  evaluated = (tmp_path / 'evaluated' / 'results.json').read_text()
  assert evaluated == (undisturbed / 'results.json').read_text()


def fails(action, folder: pathlib.Path, number: int, after: int) -> bool:
  """Whether an action fails with one sentence if the disk is full after some calls."""
  with faults(f'{folder}* grow {number} {after}'):
    try:
      action()
    except (UserError, OSError) as error:
      message = user_message(error)
      assert message is not None
      assert message.count(str(folder)) >= 1, message
      assert '\n' not in message
      assert any(text in message for text in ('No space left', 'quota exceeded')), message
      return True
  return False


def test_runs_without_space_or_inodes(config, undisturbed, tmp_path, capfd):
  """At any moment; each start goes on from where the one before it had to end."""
  moments = (0, 2, 4, 7, 9, 12, 45, 62, 66, 70, 74, 78, 100)
  failed = [
    moment
    for number, moment in enumerate(moments)
    if fails(
      lambda: experiment.run(config, tmp_path / 'run'),
      tmp_path / 'run',
      errno.ENOSPC if number % 2 else errno.EDQUOT,
      moment,
    )
  ]
  assert len(failed) > 7, failed
  experiment.run(config, tmp_path / 'run')
  assert outputs(tmp_path / 'run') == outputs(undisturbed)
  assert 'Traceback' not in capfd.readouterr().err


def test_builds_without_space_or_inodes(config, tmp_path):
  failed = [
    moment
    for moment in range(0, 60, 3)
    if fails(lambda: build(Toy(tmp_path), workers=0), tmp_path, errno.EDQUOT, moment)
  ]
  assert len(failed) > 10, failed
  build(Toy(tmp_path), workers=0)
  for path in (pathlib.Path(config.data.dir) / 'toy' / '1.0.0').iterdir():
    assert (tmp_path / 'toy' / '1.0.0' / path.name).read_bytes() == path.read_bytes()
  assert [path.name for path in tmp_path.iterdir()] == ['toy']


def test_making_masks_without_space_or_inodes(tmp_path):
  write_video(tmp_path / 'videos' / 'a.mp4', [60, 200, 90], 48, 64)
  works = [ClipWork(clip.name, clip.path) for clip in list_videos(str(tmp_path / 'videos'))]
  (tmp_path / 'log').mkdir()

  def make(name: str) -> None:
    spec, settings = StubSpec(str(tmp_path / 'log')), Storage(keep='segments:4')
    options = {'inpainter': None, 'inputs': {}, 'videos': '', 'workers': 0}
    MaskRun(tmp_path / name, spec, settings, refinement=Refinement(), **options).make(works)

  failed = [
    moment
    for moment in range(16)
    if fails(lambda: make('full'), tmp_path / 'full', errno.ENOSPC, moment)
  ]
  assert len(failed) > 4, failed
  make('full')
  make('whole')
  files = [sorted((tmp_path / name / 'clips').rglob('*')) for name in ('full', 'whole')]
  assert [[path.name for path in of_run] for of_run in files] == [['a.masks']] * 2
  assert files[0][0].read_bytes() == files[1][0].read_bytes()
