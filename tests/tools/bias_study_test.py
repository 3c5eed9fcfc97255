"""A small study by its program: killed, resumed and repeated; and a study that is refused."""

import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.toy import build_toy
from zsar_jax.evaluation import bias_metrics, predictions

ROOT = pathlib.Path(__file__).parents[2]

CONFIG = """
import sys
sys.path.insert(0, {root!r})
from ml_collections import ConfigDict
from tests.training.loop_test import toy_config
from zsar_jax.study.plan import default_study, experiment, finding, run
from zsar_jax.config import dataset_ref
def get_config(variant=''):
  base = toy_config({data_dir!r}, steps=30, recipe='none', checkpoint__every=5, view__size=32)
  base.optim.accumulation = 1
  if variant == 'single_class':
    base.eval.datasets = ConfigDict({{'toy': dataset_ref('toy', 'validation', ('jumping',))}})
  base.eval.recipes = (
    'none', 'background=normal', 'background=swap', 'background=mean', 'person=mean,object=mean'
  )
  base.eval.saliency = 2
  study = default_study()
  study.seeds = (1,)
  study.gallery, study.draws = 2, 100
  swap = {{'recipe': 'background=swap@0.5', 'eval.batch_size': 4}}
  study.experiments.toy = experiment(
    base, 'none', {{'none': run('unmasked'), 'swap': run('swapped', swap)}}
  )
  side = ('toy', 'none', 'toy', 'none')
  other = ('toy', 'swap', 'toy', 'background=normal')
  study.findings = (finding('swap', 'The swap helps.', better=side, worse=other, threshold=0.1),)
  return study
"""


@pytest.fixture(scope='module', name='config')
def _config(tmp_path_factory):
  folder = tmp_path_factory.mktemp('study')
  data_dir = build_toy(folder / 'data')
  path = folder / 'study.py'
  path.write_text(CONFIG.format(root=str(ROOT), data_dir=data_dir))
  return path


def _start(config, workdir, variant=''):
  """Starts a study on one CPU device, as a user does."""
  environment = {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': '--xla_backend_optimization_level=0',
    # All runs share their compiled programs.
    'JAX_COMPILATION_CACHE_DIR': str(config.parent / 'compiled'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  }
  command = [sys.executable, '-m', 'tools.bias_study', f'--config={config}{variant}']
  return subprocess.Popen(
    [*command, f'--workdir={workdir}'],
    cwd=ROOT,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


@pytest.mark.slow
def test_a_killed_study_resumes_and_a_finished_one_does_not_run_again(config, tmp_path):
  runs = {name: tmp_path / 'runs' / 'toy' / name / 'seed1' for name in ('none', 'swap')}
  process = _start(config, tmp_path)
  while process.poll() is None and not list(tmp_path.glob('runs/toy/*/seed1/checkpoints/5')):
    time.sleep(0.02)
  process.kill()
  process.communicate()
  assert not (tmp_path / 'study.json').exists()

  process = _start(config, tmp_path)
  out, err = process.communicate()
  assert process.returncode == 0, err
  assert out.splitlines()[-1] == str(tmp_path / 'report.html')
  log = ''.join((folder / 'log.txt').read_text() for folder in runs.values())
  assert 'resuming' in log

  study = json.loads((tmp_path / 'study.json').read_text())
  drawn = [{'text': 'drawn with the clips', 'warnings': []}]
  assert study['masks'] == {'toy, train': drawn, 'toy, validation': drawn}
  toy = study['experiments']['toy']['datasets']['toy']
  for name, folder in runs.items():
    results = json.loads((folder / 'results.json').read_text())['toy']
    saved = predictions.load(folder / 'predictions' / 'toy.npz')
    for recipe, figures in toy['matrix'][name].items():
      for figure in ('top1', 'top5', 'mean_class'):
        np.testing.assert_allclose(figures[figure]['value'], results[recipe][figure], atol=1e-12)
      # The same from the arrays of the file.
      with np.load(folder / 'predictions' / 'toy.npz') as arrays:
        number = arrays['recipes'].tolist().index(recipe)
        correct = arrays['logits'][number].argmax(-1) == arrays['labels']
        counted = arrays['partners'] != '' if 'swap' in recipe else np.ones(len(correct), bool)
      np.testing.assert_allclose(figures['top1']['value'], correct[counted].mean())
    bias = toy['bias'][name]
    assert {'BOR', 'HOR', 'SHAcc', 'SBErr'} <= set(bias)
    swap = bias_metrics.swap_background_error(saved, 'background=swap')
    assert bias['SBErr']['value'] == pytest.approx(swap.value, nan_ok=True)
    assert np.isfinite(saved.saliency).all(axis=1).sum() >= 2
  assert {len(clip['pictures']) + len(clip['not_counted']) for clip in toy['gallery']} == {5}
  assert all((tmp_path / path).exists() for path in toy['gallery'][0]['pictures'].values())
  (finding,) = study['findings']
  sides = toy['matrix']['none']['none']['top1'], toy['matrix']['swap']['background=normal']['top1']
  np.testing.assert_allclose(finding['estimate']['value'], sides[0]['value'] - sides[1]['value'])
  assert 'The swap helps.' in (tmp_path / 'report.html').read_text()

  before = {path: path.stat().st_mtime_ns for path in (tmp_path / 'runs').rglob('*.npz')}
  _, err = (process := _start(config, tmp_path)).communicate()
  assert process.returncode == 0, err
  assert {path: path.stat().st_mtime_ns for path in (tmp_path / 'runs').rglob('*.npz')} == before
  again = json.loads((tmp_path / 'study.json').read_text())
  assert again['experiments'] == study['experiments']


def test_a_single_class_is_refused(config, tmp_path):
  process = _start(config, tmp_path, ':single_class')
  _, err = process.communicate()
  assert process.returncode == 2
  (sentence,) = [line for line in err.splitlines() if line.startswith('error: ')]
  assert "it has only the class 'jumping'" in sentence
  assert 'Traceback' not in err
