"""Programs whose arguments lie in a bucket write what they write on a disk."""

import json
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

from tests.bucket_copies import download, memory_bucket, upload  # noqa: F401  A fixture.
from tests.datasets.video_test import write_video
from tests.tools.score_predictions_test import make_config, write_csv
from tests.toy import build_toy
from tests.weights.formats.written import random_params
from tools import (
  build_dataset,
  compare_masks,
  convert_checkpoint,
  inspect_dataset,
  make_masks,
  make_split,
  predict,
  score_predictions,
  show_clips,
)
from zsar_jax import experiment
from zsar_jax.datasets.masks import made_files
from zsar_jax.evaluation import clip_list
from zsar_jax.evaluation.clip_export import export_clips
from zsar_jax.models.presets import PRESETS
from zsar_jax.models.video_model import VideoModel, VideoSpec
from zsar_jax.performance import traces
from zsar_jax.storage import buckets, files, local_copies
from zsar_jax.storage.paths import as_path
from zsar_jax.weights.formats import save

# Marks the bright half of each frame.
_PROGRAM = """
import pathlib, sys
from PIL import Image
frames, masks = map(pathlib.Path, sys.argv[1:3])
for path in frames.iterdir():
  Image.open(path).convert('L').point(lambda level: 255 * (level > 30)).save(masks / path.name)
"""


@pytest.fixture(name='inputs', scope='module')
def _inputs(tmp_path_factory):
  """Videos, a program that makes masks, weights, lists of classes and a data set."""
  root = tmp_path_factory.mktemp('inputs')
  for number, name in enumerate(('run/a', 'walk/b')):
    write_video(root / 'videos' / f'{name}.mp4', [90 + 40 * number, 200, 150, 220])
  model = VideoModel(PRESETS['tiny'], VideoSpec(3, 'mean'))
  save.save_weights(random_params(model), model, 'zsar', root / 'weights')
  (root / 'classes.txt').write_text('run\nwalk\n')
  (root / 'more.txt').write_text('run\nwalk\nswim\n')
  build_toy(root / 'data')
  (root / 'program.py').write_text(_PROGRAM)
  return root


@pytest.fixture(name='url')
def _url(inputs, bucket, tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.setattr(local_copies, '_copies_folder', local_copies._copies_folder.__wrapped__)
  return upload(inputs, f'{bucket}/inputs')


def _command(inputs):
  return shlex.join([sys.executable, str(inputs / 'program.py'), '{frames}', '{masks}'])


def _both(run, inputs, url, out, bucket, capsys):
  """Returns what a program writes and prints for inputs on a disk, and in a bucket.

  Args:
    run: runs the program, given the folder of inputs and of outputs.
  """
  results = []
  for root, folder in ((str(inputs), str(out / 'out')), (url, f'{bucket}/out')):
    run(root, folder)
    printed = capsys.readouterr().out
    if folder.startswith('memory'):
      files = download(folder)
    else:
      paths = [path for path in pathlib.Path(folder).rglob('*') if path.is_file()]
      files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    for path, name in ((folder, 'OUT'), (root, 'IN'), (str(inputs), 'IN')):
      files = {
        file: content.replace(path.encode(), name.encode()) for file, content in files.items()
      }
      printed = printed.replace(path, name)
    results.append((files, re.sub(r'[\d.]+ s', 'TIME', printed)))
  return results


@pytest.mark.slow
def test_predict(inputs, url, tmp_path, bucket, capsys):
  def run(root, out):
    classes = f'--classes={root}/classes.txt'
    weights = [f'--checkpoint={root}/weights', '--tokenizer=words']
    predict.main([f'{root}/videos/run/a.mp4', classes, *weights, f'--picture={out}/a.png'])

  local, remote = _both(run, inputs, url, tmp_path, bucket, capsys)
  assert remote == local
  assert remote[0]['a.png'].startswith(b'\x89PNG')


@pytest.mark.slow
def test_show_and_inspect(inputs, url, tmp_path, bucket, capsys, monkeypatch):
  sheet = ['--clips=2', '--frames=2']

  def run(root, out):
    flags = [f'--dataset-dir={root}/data', f'--out={out}/sheet.png']
    monkeypatch.setattr('sys.argv', ['show_clips', *flags, *sheet])
    show_clips.main()
    inspect_dataset.main([f'{root}/data', f'--out={out}', *sheet])

  local, remote = _both(run, inputs, url, tmp_path, bucket, capsys)
  assert remote == local
  assert set(remote[0]) == {'sheet.png', 'toy.png'}


def test_convert(inputs, url, tmp_path, bucket, capsys, monkeypatch):
  def run(root, out):
    monkeypatch.setattr('sys.argv', ['convert', '--to=hf', f'{root}/weights', f'{out}/hf'])
    convert_checkpoint.main()

  local, remote = _both(run, inputs, url, tmp_path, bucket, capsys)
  assert remote == local
  assert 'hf/model.safetensors' in remote[0]


def test_split(inputs, url, tmp_path, bucket, capsys):
  def run(root, out):
    flags = ['--kind=difference', f'--classes={root}/more.txt', f'--others={root}/classes.txt']
    make_split.main([*flags, f'--out={out}/split.json'])
    flags = ['--kind=base-to-novel', f'--dataset-dir={root}/data', '--dataset=toy']
    make_split.main([*flags, f'--out={out}/base.json'])
    flags = ['--kind=random', f'--classes={out}/split.json:difference', '--count=1']
    make_split.main([*flags, f'--out={out}/random.json'])

  local, remote = _both(run, inputs, url, tmp_path, bucket, capsys)
  assert remote == local
  assert json.loads(remote[0]['split.json'])['parts'] == {'difference': ['swim']}


@pytest.mark.slow
def test_masks_are_made_compared_and_built(inputs, url, tmp_path, bucket, capsys):
  def run(root, out):
    videos = f'--videos={root}/videos'
    make = [
      videos,
      f'--out={out}/masks',
      f'--command={_command(inputs)}',
      '--workers=0',
      '--keep=segments:3',
    ]
    make_masks.main([*make, '--shard=0/2'])
    make_masks.main(make)
    make_masks.main(make)  # Finds everything done.
    compare = [f'{out}/masks', f'made:{out}/masks', f'--out={out}/compared', '--workers=0']
    compare_masks.main([*compare, '--keep=segments:3'])
    build = ['--dataset=folder', videos, f'--masks=made:{out}/masks', '--keep=segments:3']
    build += [f'--labels={root}/classes.txt', '--workers=0']
    build_dataset.main([*build, f'--out={out}/data'])

  local, remote = _both(run, inputs, url, tmp_path, bucket, capsys)
  assert remote[1] == local[1]
  files, expected = (
    {name: text for name, text in side[0].items() if '/.' not in name} for side in (remote, local)
  )
  assert files.keys() == expected.keys()
  different = [name for name in files if files[name] != expected[name]]
  # It covers the report, which names the files of the masks.
  assert different == ['data/folder/1.0.0/checksums.json']
  assert [name for name in files if name.endswith('.masks')]


@pytest.mark.slow
def test_clips_are_exported_and_scored(inputs, url, tmp_path, bucket, capsys):
  def run(root, out):
    config = make_config(f'{root}/data')
    for kind in ('png', 'mp4'):
      folder = as_path(f'{out}/{kind}', '--workdir')
      export_clips(config, folder, kind)
      if kind == 'png' and buckets.is_remote(
        folder
      ):  # As if the export had been killed within a clip.
        (next(folder.glob('all/*/*')) / '0000.png').unlink()
        export_clips(config, folder, kind)
    for name in config.eval.datasets:
      exported = clip_list.load(as_path(f'{out}/png/{name}', '--exported'))
      rows = [
        (*row, np.full(len(exported.blank.classes), n)) for n, row in enumerate(exported.rows())
      ]
      write_csv(tmp_path / 'logits.csv', rows, exported.blank.classes)
      logits = as_path(f'{out}/logits/{name}.csv', '--logits')
      files.make_parent(logits)
      logits.write_bytes((tmp_path / 'logits.csv').read_bytes())
    flags = [f'--exported={out}/png', f'--logits={out}/logits']
    score_predictions.main([*flags, f'--out={out}/scored'])
    # An evaluation that names the folder in the place of weights.
    config.model.preset, config.model.init_from = 'auto', f'{out}/scored'
    experiment.run(config, as_path(f'{out}/again', '--workdir'), 'eval')

  local, remote = _both(run, inputs, url, tmp_path, bucket, capsys)
  local = {name: content for name, content in local[0].items() if not name.endswith('lock')}
  remote = {name: content for name, content in remote[0].items() if not name.endswith('lock')}
  assert remote == local
  assert local['scored/results.json'] == local['again/results.json']


def test_the_newest_trace_of_a_bucket(bucket, tmp_path):
  for name in ('2026_01_01/a', '2026_02_01/a', '2026_02_01/b'):
    path = tmp_path / 'plugins' / f'{name}.xplane.pb'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'trace')
  remote = as_path(upload(tmp_path, f'{bucket}/profile'), 'WORKDIR')
  for folder in (tmp_path, remote):
    newest = traces.newest_files(folder)
    assert sorted(path.name for path in newest) == ['a.xplane.pb', 'b.xplane.pb']
    assert {path.parent.name for path in newest} == {'2026_02_01'}


def test_masks_of_others_name_no_other_bucket(inputs, url, bucket, tmp_path, capsys):
  """made.json, which may come from anybody, notes where the videos were."""
  settings = {'regions': ['person'], 'maker': 'stub', 'licenses': {}}
  other = bucket.replace('memory://', 'nothing://')
  for side, videos in (('a', url), ('b', other)):
    folder = as_path(f'{bucket}/{side}', '--out')
    made_files.write_settings(folder, settings | {'notes': {'videos': f'{videos}/videos'}})
  with pytest.raises(SystemExit):
    compare_masks.main([f'{bucket}/b', f'{bucket}/b', f'--out={tmp_path}'])
  assert 'error: --videos: give the folder of the videos' in capsys.readouterr().err
  with pytest.raises(SystemExit):
    compare_masks.main([f'{bucket}/b', f'{bucket}/a', f'--out={tmp_path}'])
  assert 'A has masks of 0 and B of 0 of the 2 videos' in capsys.readouterr().err


def test_errors_name_the_argument(bucket, capsys):
  for main, flags, message in (
    (
      predict.main,
      ['x.mp4', '--classes=a,b', '--checkpoint=nothing://w'],
      '--checkpoint: nothing://w',
    ),
    (make_split.main, ['--kind=random', '--out=nothing://x.json'], '--out: nothing://x.json'),
    (inspect_dataset.main, ['nothing://data'], 'DIR: nothing://data'),
    (inspect_dataset.main, [f'{bucket}/data'], f'{bucket}/data is not a folder'),
    (compare_masks.main, ['a', 'b', '--out=nothing://x'], '--out: nothing://x'),
    (make_masks.main, ['--videos=a', '--motion', '--out=nothing://x'], '--out: nothing://x'),
    (
      make_masks.main,
      [f'--videos={bucket}/v', '--motion', '--out=x'],
      f'--videos: {bucket}/v is not',
    ),
  ):
    with pytest.raises(SystemExit) as caught:
      main(flags)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(f'error: {message}'), flags


@pytest.fixture(name='local_run', scope='module')
def _local_run(inputs, tmp_path_factory):
  """The folder of a data set that programs build from files of this machine, and a prediction."""
  folder = tmp_path_factory.mktemp('local')
  return folder / 'data', _run_programs(inputs, str(inputs), f'{folder}/masks', folder / 'data')


@pytest.mark.slow
def test_programs_with_worker_processes_on_real_servers(inputs, local_run, bucket_url, tmp_path):
  upload(inputs, f'{bucket_url}/in')
  data, predicted = local_run
  url = f'{bucket_url}/in'
  assert _run_programs(inputs, url, f'{bucket_url}/masks', tmp_path / 'data') == predicted
  for name in ('index-train.npz', 'folder-train.array_record-00000-of-00001'):
    files = [folder / 'folder' / '1.0.0' / name for folder in (data, tmp_path / 'data')]
    assert files[0].read_bytes() == files[1].read_bytes()


def _run_programs(inputs, root, masks, data):
  """Makes masks of the videos, builds a data set with them, and predicts the class of a video."""
  workers = '--workers=2'
  # The emulator of Google Cloud Storage drops a last byte that is '\\r'; here no file ends with it.
  command = f'--command={_command(inputs)}'
  _run_program('make_masks', f'--videos={root}/videos', f'--out={masks}', command, workers)
  build = ['--dataset=folder', f'--videos={root}/videos', f'--masks=made:{masks}', workers]
  _run_program('build_dataset', *build, f'--out={data}')
  weights = [f'--checkpoint={root}/weights', '--tokenizer=words']
  classes = f'--classes={root}/classes.txt'
  return _run_program('predict', f'{root}/videos/walk/b.mp4', classes, *weights)


def _run_program(name, *arguments):
  """Runs a program as a user does; returns what it prints."""
  process = subprocess.run(
    [sys.executable, '-m', f'tools.{name}', *arguments],
    capture_output=True,
    text=True,
    cwd=pathlib.Path(__file__).parents[2],
  )
  assert process.returncode == 0, process.stderr
  return process.stdout
