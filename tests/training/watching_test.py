"""What a run says about itself while it trains: MFU, goodput, the next events, status.json."""

import dataclasses
import json
import os
import re

import jax
import numpy as np
import PIL.Image
import pytest

from tests.toy import build_toy
from tests.training.loop_test import ROOT, run_main, toy_config, wait_for_step
from zsar_jax.data.subset import open_subset
from zsar_jax.data.view import View
from zsar_jax.evaluation.contact_sheets import Column, choose_clips, draw_contact_sheet
from zsar_jax.recipes import language
from zsar_jax.runtime import chips
from zsar_jax.training import loop, run_status
from zsar_jax.training.context import upcoming
from zsar_jax.training.goodput import measures_time
from zsar_jax.training.wandb_run import read_rows

PEAK = 1e9

CONFIG = """
import sys
sys.path.insert(0, {!r})
from tests.training.loop_test import toy_config
def get_config(variant=''):
  return toy_config({!r}, **{})
"""


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return build_toy(tmp_path_factory.mktemp('toy'))


def read_lines(workdir):
  return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


@pytest.mark.slow
def test_a_run_reports_its_use_of_the_devices_and_its_state(
  tmp_path, data_dir, monkeypatch, capsys
):
  chip = dataclasses.replace(chips.CHIPS['v5e'], name='test', kinds=('cpu',), flops=PEAK)
  monkeypatch.setattr(chips, 'CHIPS', {'test': chip})
  states = []
  monkeypatch.setattr(
    loop, 'compute_results', lambda *args: states.append('results') or RESULTS[len(states) - 1]
  )
  config = toy_config(data_dir, steps=4, eval__every=2, optim__lr=1e-3)
  predictions = loop.train(config, tmp_path)
  assert len(predictions) == 1
  lines = read_lines(tmp_path)

  # The operations by the traced program, which also counts those of the step's small products.
  traced = re.search(r'([\d,.]+) GFLOPs in matrix products', capsys.readouterr().err)
  operations = float(traced[1].replace(',', '')) * 1e9
  assert [('mfu' in line) for line in lines] == [False, True, True, True]
  for line in lines[1:]:
    steps_per_second = line['clips_per_second'] / config.data.batch_size
    expected = operations * steps_per_second / (PEAK * jax.device_count())
    assert line['mfu'] == pytest.approx(expected, rel=0.3)
    seconds = {name: value for name, value in line.items() if name.startswith('seconds/')}
    share = seconds['seconds/step'] / sum(seconds.values())
    assert line['goodput'] == pytest.approx(share, abs=2e-3)

  # The line of the last step has the last evaluation, too.
  assert [line.get('toy/none/top1') for line in lines] == [None, 0.25, None, 0.75]
  status = run_status.read_status(tmp_path)
  assert (status['state'], status['step'], status['steps']) == ('finished', 4, 4)
  assert status['evaluation'] == {'step': 4, 'top1': {'toy': {'none': 0.75}}}


RESULTS = [{'toy': {'none': {'top1': value}}} for value in (0.25, 0.75)]


@pytest.mark.parametrize(
  ('every', 'evaluations', 'step', 'expected'),
  [
    (20, 50, 0, {'checkpoint': 20, 'evaluation': 50}),
    (20, 50, 20, {'checkpoint': 40, 'evaluation': 50}),
    (20, 50, 40, {'checkpoint': 50, 'evaluation': 50}),
    (20, 50, 99, {'checkpoint': 100, 'evaluation': 100}),
    (500, 0, 99, {'checkpoint': 130, 'evaluation': 130}),
    (20, 50, 130, {}),
  ],
)
def test_the_steps_of_the_next_checkpoint_and_evaluation(every, evaluations, step, expected):
  config = toy_config('data', steps=130, checkpoint__every=every, eval__every=evaluations)
  assert upcoming(config, step) == expected


@pytest.mark.slow
def test_a_run_on_weights_and_biases_that_is_killed(tmp_path, data_dir, monkeypatch):
  """Its rows over two starts are the lines of metrics.jsonl, each once."""
  pytest.importorskip('wandb')
  monkeypatch.setenv('WANDB_MODE', 'offline')
  monkeypatch.setenv('HOME', str(tmp_path))
  changes = {'steps': 15, 'eval__every': 4, 'log__wandb': True}
  (tmp_path / 'config.py').write_text(CONFIG.format(str(ROOT), str(data_dir), changes))
  workdir = tmp_path / 'run'
  process = run_main(tmp_path, workdir, unused=())
  wait_for_step(process, workdir, 7)
  process.kill()
  process.communicate()
  killed_at = len(read_lines(workdir))
  assert killed_at < 15
  process = run_main(tmp_path, workdir, unused=())
  _, err = process.communicate()
  assert process.returncode == 0, err
  assert 'warning' not in err

  files = sorted(workdir.glob('wandb/offline-run-*/*.wandb'), key=os.path.getmtime)
  assert len(files) == 2
  first, *rows = [row for file in files for row in read_rows(file)]
  assert first['_step'] == 0
  lines = read_lines(workdir)
  assert [row['_step'] for row in rows] == [line['step'] for line in lines] == list(range(1, 16))
  evaluated = [row['_step'] for row in rows if 'evaluation/path' in row]
  assert evaluated == [4, 8, 12, 15]
  for row, line in zip(rows, lines, strict=True):
    assert {name for name in row if not name.startswith(('_', 'evaluation/'))} == {*line} - {'step'}
    for name, value in line.items():
      if name != 'step' and not measures_time(name):
        assert row[name] == value, name
  # The pictures are those that `zsar show` draws.
  sheets = {}
  for name in ('training_clips', 'clips/toy'):
    path, *_ = workdir.glob(f'wandb/*/files/{first[name + "/path"]}')
    with PIL.Image.open(path) as picture:
      sheets[name] = np.asarray(picture.convert('RGB'))
  columns = [Column(text, language.parse(text)) for text in ('none',)]
  config = toy_config(data_dir)
  reference = config.eval.datasets.toy
  subset = open_subset(config.data.dir, reference, config.view.unannotated, 'field')
  view = View(num_frames=4, size=112, centre_crop=1.0)
  draw_contact_sheet(choose_clips([subset], 6), columns, view, tmp_path / 'sheet.png')
  with PIL.Image.open(tmp_path / 'sheet.png') as picture:
    np.testing.assert_array_equal(sheets['clips/toy'], np.asarray(picture.convert('RGB')))
  assert sheets['training_clips'].shape[1] > 1.5 * sheets['clips/toy'].shape[1]
