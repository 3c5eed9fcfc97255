"""Evaluates and resumes a run that an earlier version of the project trained.

`tests/earlier_run` was written by commit a7205d4 on a CPU with jax 0.10.2: the temporal
transformer of a tiny model, trained for 4 steps on the toy data set, with averaged weights. It
holds config.json, the checkpoint of step 2, the log of all steps, and the predictions of that
version after step 2 and after step 4. The paths in the checkpoint's marker files are shortened.
"""

import json
import pathlib
import shutil

import numpy as np
import pytest

from tests.toy import build_toy
from zsar_jax import experiment
from zsar_jax.config import default_config
from zsar_jax.evaluation import predictions

EARLIER = pathlib.Path(__file__).parent / 'earlier_run'
# Other versions of XLA add up in another order.
TOLERANCE = dict(rtol=1e-4, atol=1e-4)


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return build_toy(tmp_path_factory.mktemp('data'))


@pytest.fixture
def run(tmp_path):
  shutil.copytree(EARLIER / 'checkpoints', tmp_path / 'run' / 'checkpoints')
  shutil.copy(EARLIER / 'config.json', tmp_path / 'run')
  return tmp_path / 'run'


def saved_config(data_dir):
  """The config of the earlier run, as its config file would make it, with the data of this test."""
  saved = json.loads((EARLIER / 'config.json').read_text())
  config = default_config()
  with config.unlocked():
    for name in ('datasets', 'groups'):
      config.eval[name] = saved['eval'].pop(name)
  config.update(_tuples(saved))
  config.data.dir = data_dir
  return config


def _tuples(value):
  if isinstance(value, dict):
    return {key: _tuples(item) for key, item in value.items()}
  return tuple(map(_tuples, value)) if isinstance(value, list) else value


def check_predictions(folder, step):
  actual = predictions.load(folder / 'predictions' / 'toy.npz')
  expected = predictions.load(EARLIER / 'predictions' / f'step_{step}.npz')
  assert actual.ids == expected.ids
  assert list(actual.logits) == list(expected.logits)
  for recipe, logits in expected.logits.items():
    np.testing.assert_allclose(actual.logits[recipe], logits, **TOLERANCE)


def test_an_earlier_run_evaluates_to_the_same_figures(data_dir, run):
  results = experiment.run(saved_config(data_dir), run, 'eval')
  check_predictions(run, step=2)
  assert results['toy']['none'] == {'top1': 0.5, 'top5': 1.0, 'mean_class': 0.5, 'count': 4}


def test_an_earlier_run_resumes_to_the_same_losses_and_figures(data_dir, run):
  experiment.run(saved_config(data_dir), run)
  lines = [json.loads(line) for line in (run / 'metrics.jsonl').read_text().splitlines()]
  losses = {line['step']: line['loss'] for line in lines if 'loss' in line}
  expected = [json.loads(line) for line in (EARLIER / 'metrics.jsonl').read_text().splitlines()]
  for line in expected[2:]:
    np.testing.assert_allclose(losses[line['step']], line['loss'], **TOLERANCE)
  assert sorted(losses) == [3, 4]
  check_predictions(run, step=4)
