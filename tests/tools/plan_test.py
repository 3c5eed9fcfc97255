"""The program: plans for GPUs and, if libtpu is installed, for TPUs; and its errors."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
CONFIG = '--config=configs/ssv2_objmask.py'


def run(*flags, status=0, timeout=120):
  done = subprocess.run(
    [sys.executable, '-m', 'tools.plan', *flags],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=timeout,
    check=False,
  )
  assert done.returncode == status, done.stderr
  return done.stdout if status == 0 else done.stderr


def test_gpus(tmp_path):
  out = tmp_path / 'plan.json'
  text = run(f'{CONFIG}:smoke', '--topology=gpu:2xH100', '--classes=20', f'--json={out}')
  assert 'gpu:2xH100: 2 devices, mesh data 2, fsdp 1, tensor 1' in text
  assert 'Evaluation step, 4 clips under 5 recipes' in text
  assert json.loads(out.read_text())['train']['batch'] == 4


@pytest.mark.parametrize(
  ('flags', 'says'),
  [
    (['--topology=v9:4x4'], "--topology: 'v9:4x4' is not known"),
    ([CONFIG], 'both --config=FILE and --topology=NAME are needed'),
    ([CONFIG, '--topology=gpu:3xH100', '--config.mesh.fsdp=2'], 'do not multiply to the 3 devices'),
  ],
)
def test_refusals(flags, says):
  error = run(*flags, status=2)
  assert says in error
  assert error.startswith('error: ')
  assert error.count('\n') == 1


needs_libtpu = pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is None, reason='libtpu is not installed (extra tpu)'
)

# Models that must fit, with the batch and the remat policy of docs/measurements/compiled_plans.md.
FULL_SIZE = {
  'B/16 on v5e:4x4': [
    '--topology=v5e:4x4',
    '--config.data.batch_size=256',
    '--config.mesh.data=4',
    '--config.mesh.fsdp=4',
    '--config.model.remat=full',
  ],
  'B/16 on 2xv5e:4x4': [
    '--topology=2xv5e:4x4',
    '--config.data.batch_size=512',
    '--config.eval.batch_size=256',
    '--config.mesh.data=8',
    '--config.mesh.fsdp=4',
    '--config.model.remat=full',
  ],
  'B/16 on v5p:2x2x2': [
    '--topology=v5p:2x2x2',
    '--config.data.batch_size=256',
    '--config.mesh.data=2',
    '--config.mesh.fsdp=4',
    '--config.model.remat=dots',
  ],
  'L/14 on v5e:16x16': [
    '--topology=v5e:16x16',
    '--config.model.preset=vit_l14',
    '--config.view.num_frames=32',
    '--config.data.batch_size=512',
    '--config.eval.batch_size=512',
    '--config.mesh.data=16',
    '--config.mesh.fsdp=16',
    '--config.model.remat=dots',
  ],
}


@pytest.mark.slow
@needs_libtpu
@pytest.mark.parametrize('name', FULL_SIZE)
def test_full_size_models_fit_tpus(name, tmp_path):
  out = tmp_path / 'plan.json'
  flags = [*FULL_SIZE[name], '--config.optim.accumulation=1', '--largest=skip', f'--json={out}']
  run(CONFIG, '--classes=87', *flags, timeout=3600)
  plan = json.loads(out.read_text())
  for step in (plan['train'], plan['evaluation']):
    assert step['fits']
    assert not step['unknown_loops']
    rows = step['collectives']
    assert not [row for row in rows if row['kind'] == 'all-to-all']
    others = sum(row['bytes'] for row in rows if row['what'] == 'other')
    # Sums of scalars, and the logits under each recipe.
    assert others < 2**20
  train = plan['train']
  kinds = {row['kind'] for row in train['collectives']}
  assert 'reduce-scatter' in kinds
  moved = sum(row['moved'] for row in train['collectives'])
  assert moved <= 1.1 * train['must_move']['total']
  between = [row for row in train['collectives'] if row['axes'] == ['slices']]
  assert bool(between) == (plan['slices'] > 1)
  # The gradients of the query, key and value kernels are sent with the padding of their layout.
  sent = sum(row['moved'] for row in between)
  assert sent <= 1.3 * train['must_move']['of it between slices']


@pytest.mark.slow
@needs_libtpu
def test_an_impossible_slice():
  error = run(f'{CONFIG}:smoke', '--topology=v5e:3x77', status=2)
  assert "libtpu cannot compile for 'v5e:3x77'" in error


@pytest.mark.skipif(importlib.util.find_spec('libtpu') is not None, reason='libtpu is installed')
def test_without_libtpu():
  error = run(f'{CONFIG}:smoke', '--topology=v5e:4x4', status=2)
  assert "pip install 'zsar_jax[tpu]'" in error
