"""Training end to end on a toy data set: meshes, accumulation, freezing, resuming, refusals."""

import functools
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from tests.toy import build_toy
from zsar_jax.config import dataset_ref, default_config
from zsar_jax.data.clip_loader import ClipLoader
from zsar_jax.data.pipeline import training_batches
from zsar_jax.data.view import View
from zsar_jax.errors import UserError
from zsar_jax.evaluation.eval_mode import evaluate_checkpoint
from zsar_jax.runtime import sharding, trees
from zsar_jax.training import loop
from zsar_jax.training.inputs import make_inputs
from zsar_jax.training.setup import Setup, open_training_subset
from zsar_jax.training.step import make_train_step

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return build_toy(tmp_path_factory.mktemp('toy'))


def toy_config(data_dir, **changes):
  config = default_config()
  config.data.dir = str(data_dir)
  config.data.train = dataset_ref('toy', 'train', 'base')
  config.data.batch_size = 16
  config.view.num_frames = 2
  config.view.size = 16
  config.augment.flip = 0.5
  config.recipe = 'background=normal,object=normal@0.5'
  config.model.preset = 'tiny'
  config.model.temporal = 'transformer'
  config.model.temporal_layers = 1
  config.text.tokenizer = 'words'
  config.text.templates = ('{}', 'a video of {}.')
  config.optim.lr = 1e-3
  config.optim.warmup_steps = 1
  config.optim.accumulation = 2
  config.steps = 6
  config.log.every = 1
  config.checkpoint.every = 2
  config.eval.batch_size = 8
  config.eval.datasets = ConfigDict({'toy': dataset_ref('toy', 'validation', 'novel')})
  config.update_from_flattened_dict({k.replace('__', '.'): v for k, v in changes.items()})
  return config


def take_steps(config, devices, steps=2):
  """Returns the state and the metrics after some steps on devices, or on the first so many."""
  devices = jax.devices()[:devices] if isinstance(devices, int) else devices
  mesh = sharding.make_mesh(config.mesh, devices)
  subset = open_training_subset(config)
  setup = Setup.from_config(config, mesh, subset.classes)
  shardings = setup.state_shardings
  params = jax.jit(setup.model.init, out_shardings=shardings['params'])(jax.random.key(0))
  state = jax.jit(setup.init_state, out_shardings=shardings)(params)
  key = sharding.random_key(config.seed, mesh)
  inputs = make_inputs(setup, key, setup.tokens(subset.texts), params, None, subset, None)
  step = jax.jit(make_train_step(setup), out_shardings=(shardings, setup.replicated))
  inpainted = subset.shows_inpainted(setup.recipe)
  loader = ClipLoader(subset, View.from_config(config), inpainted=inpainted)
  batches = training_batches(loader, config.data.batch_size, 0, 0, 0)
  metrics = []
  for _ in range(steps):
    state, values = step(state, sharding.shard_batch(next(batches), mesh), inputs)
    metrics.append(jax.device_get(values))
  batches.close()
  return state, metrics


def bytes_on_one_device(tree):
  return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree))


def assert_same_training(first, second):
  """Compares metrics, gradients (Adam's first moments) and the parameters after the steps.

  Adam divides gradients by their own size. Where a gradient is only rounding noise, so is the
  update, and the parameters are not compared.
  """
  (state, metrics), (other_state, other_metrics) = jax.device_get((first, second))
  for values, other_values in zip(metrics, other_metrics, strict=True):
    for name, value in values.items():
      np.testing.assert_allclose(value, other_values[name], rtol=2e-4, err_msg=name)
  moments = optax.tree.get(state['opt'], 'mu')
  other_moments = optax.tree.get(other_state['opt'], 'mu')
  compared = 0
  for mu, other_mu, leaf, other_leaf in zip(
    *map(jax.tree.leaves, (moments, other_moments, state['params'], other_state['params'])),
    strict=True,
  ):
    np.testing.assert_allclose(mu, other_mu, rtol=2e-3, atol=2e-6)
    significant = np.abs(mu) > 1e-4
    np.testing.assert_allclose(leaf[significant], other_leaf[significant], rtol=1e-3, atol=1e-5)
    compared += significant.sum()
  assert compared > 1000


@pytest.mark.slow
def test_further_losses_are_added_with_their_signs(data_dir):
  """Each term is also a metric. The cross-entropy on still clips is subtracted."""
  plain = dict(optim__accumulation=1, recipe='none')
  weights = {'static': 0.25, 'entropy': 2.0, 'gradient': 3.0}
  both = {f'optim__still_clip__{name}': weight for name, weight in weights.items()}
  _, (before,) = take_steps(toy_config(data_dir, **plain), 1, steps=1)
  config = toy_config(data_dir, **plain, **both, optim__confusion=0.5, optim__torc=0.75)
  _, (after,) = take_steps(config, 1, steps=1)
  expected = before['loss'] + 0.5 * after['confusion'] - 0.25 * after['still_static']
  expected += 2.0 * after['still_entropy'] + 3.0 * after['still_gradient']
  expected += 0.75 * (after['torc_reverse'] + after['torc_shuffle'])
  np.testing.assert_allclose(after['loss'], expected, rtol=1e-5)
  assert after['confusion'] < 0 < after['still_gradient']


@pytest.fixture(scope='module')
def one_device(data_dir):
  return take_steps(toy_config(data_dir, mesh__fsdp_min_bytes=1), 1)


@pytest.mark.parametrize(
  'mesh',
  [*(pytest.param(mesh, marks=pytest.mark.slow) for mesh in ((8, 1, 1), (2, 4, 1))), (2, 2, 2)],
)
def test_a_step_is_the_same_on_every_mesh(data_dir, one_device, mesh):
  config = toy_config(data_dir, mesh__fsdp_min_bytes=1)
  for axis, size in zip(sharding.AXES, mesh, strict=True):
    config.mesh[axis] = size
  state, metrics = take_steps(config, 8)
  assert_same_training((state, metrics), one_device)
  # fsdp splits nearly everything; tensor splits attention and MLPs further, embeddings not.
  share = 1.05 / mesh[1] if mesh[2] == 1 else 0.8 / mesh[1]
  assert bytes_on_one_device(state) <= share * bytes_on_one_device(one_device[0])


def test_accumulation_changes_nothing(data_dir, one_device):
  config = toy_config(data_dir, optim__accumulation=1)
  assert_same_training(take_steps(config, 1), one_device)


def test_frozen_parameters_stay_and_multipliers_scale(data_dir, one_device):
  config = toy_config(data_dir)
  config.optim.lr_rules = (('text/.*', 0.0), ('temporal/.*', 0.5))
  start, _ = take_steps(config, 1, steps=0)
  state, metrics = take_steps(config, 1)
  # Class embeddings computed once and those computed in each step are the same.
  np.testing.assert_allclose(metrics[0]['loss'], one_device[1][0]['loss'], rtol=1e-5)

  def change(state, part):
    moved = jax.tree.map(
      lambda a, b: np.abs(np.asarray(a) - np.asarray(b)).max(),
      state['params'][part],
      start['params'][part],
    )
    return max(jax.tree.leaves(moved))

  assert change(state, 'text') == 0
  assert change(state, 'visual') > 0
  assert 0.45 < change(state, 'temporal') / change(one_device[0], 'temporal') < 0.55
  paths = []
  trees.map_with_path(lambda path, _: paths.append(path), state['opt'])
  assert paths
  assert not [path for path in paths if '/text/' in path]


def test_a_rule_with_a_misspelt_path_is_refused(data_dir):
  config = toy_config(data_dir)
  config.optim.lr_rules = (('txt/.*', 0.0),)
  with pytest.raises(UserError, match='config.optim.lr_rules'):
    take_steps(config, 1)


CONFIG = """
import sys
sys.path.insert(0, {root!r})
from tests.training.loop_test import toy_config
def get_config(variant=''):
  torc = {{'optim__torc': 0.01, 'optim__torc_ramp': (5, 25)}}
  return toy_config({data_dir!r}, steps=36, checkpoint__every=3, **torc)
"""


# Packages that a run imports only if its config asks for them, or never.
UNUSED = ('tensorflow', 'wandb', 'fsspec', 'matplotlib')


def run_main(tmp_path, workdir, *flags, unused=UNUSED):
  """Starts the trainer on one CPU device, as a user does; `unused` packages record an import."""
  path = tmp_path / 'path'
  for package in unused:
    (path / package).mkdir(parents=True, exist_ok=True)
    record = f'open({str(tmp_path / "imported")!r}, "a").write("{package} ")'
    (path / package / '__init__.py').write_text(record)
  environment = {
    **os.environ,
    'PYTHONPATH': str(path),
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': '',
    # Later starts reuse what the first one compiled.
    'JAX_COMPILATION_CACHE_DIR': str(tmp_path / 'compiled'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  }
  command = [sys.executable, '-m', 'zsar_jax.main', f'--config={tmp_path / "config.py"}']
  return subprocess.Popen(
    [*command, f'--workdir={workdir}', *flags],
    cwd=ROOT,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def losses(workdir):
  lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  return {line['step']: line['loss'] for line in lines}, [line['step'] for line in lines]


def assert_seconds_add_up(err, workdir):
  """Compares the parts of the last start, as stderr has them, with the total there."""
  total, parts = re.search(r'first step after ([\d.]+) s: (.*)', err).groups()
  names, seconds = zip(*re.findall(r'(\w+) ([\d.]+)', parts), strict=True)
  expected = ['imports', 'devices', 'setup', 'weights', 'tracing', 'compile', 'data', 'step']
  assert [name for name in names if name != 'checkpoint'] == expected
  assert abs(sum(map(float, seconds)) - float(total)) <= 0.05 * (len(seconds) + 1)
  written = json.loads((workdir / 'metrics.jsonl').read_text().splitlines()[-1])
  for name, value in zip(names, seconds, strict=True):
    assert written[f'seconds/{name}'] >= float(value) - 0.05


def assert_watchable(err, workdir):
  """Checks what stderr, status.json and the last line of metrics.jsonl say of a finished run."""
  assert re.search(r'step 34/36 .* left  checkpoint and evaluation in \d+ s', err)
  top1 = json.loads((workdir / 'results.json').read_text())['toy']['none']['top1']
  last = json.loads((workdir / 'metrics.jsonl').read_text().splitlines()[-1])
  assert last['toy/none/top1'] == top1
  seconds = [value for name, value in last.items() if name.startswith('seconds/')]
  assert last['goodput'] == pytest.approx(last['seconds/step'] / sum(seconds), abs=2e-3)
  assert 'mfu' not in last, 'the peak of a CPU is not known'
  status = json.loads((workdir / 'status.json').read_text())
  assert (status['state'], status['step'], status['steps']) == ('finished', 36, 36)
  assert status['evaluation'] == {'step': 36, 'top1': {'toy': {'none': top1}}}


def wait_for_step(process, workdir, step):
  path = workdir / 'metrics.jsonl'
  while process.poll() is None:
    if path.exists() and len(path.read_text().splitlines()) >= step:
      return
    time.sleep(0.005)


def test_interrupted_runs_continue_bit_for_bit(tmp_path, data_dir):
  """A run that is killed, then terminated, then left alone equals one that is never disturbed.

  It is killed at a random moment of a random step, which may be while a checkpoint is written.
  """
  seed = int(os.environ.get('MOMENT_SEED', time.time_ns() % 2**32))
  print(f'MOMENT_SEED={seed} draws the same moments')
  moment = random.Random(seed)
  (tmp_path / 'config.py').write_text(CONFIG.format(root=str(ROOT), data_dir=str(data_dir)))
  undisturbed, disturbed = tmp_path / 'undisturbed', tmp_path / 'disturbed'
  process = run_main(tmp_path, undisturbed)
  out, err = process.communicate()
  assert process.returncode == 0, err
  assert 'top-1' in out
  assert re.search(r'first step after .* compile [\d.]+ \(not from the cache\)', err)
  assert json.loads((undisturbed / 'results.json').read_text())['toy']['none']['count'] == 4
  imported = tmp_path / 'imported'
  assert not imported.exists(), imported.read_text()
  assert_watchable(err, undisturbed)
  values = list(losses(undisturbed)[0].values())
  assert np.mean(values[-10:]) < np.mean(values[:10])

  process = run_main(tmp_path, disturbed)
  wait_for_step(process, disturbed, moment.randint(1, 15))
  time.sleep(moment.random() * 0.05)
  process.kill()
  process.communicate()
  killed_at = len((disturbed / 'metrics.jsonl').read_text().splitlines())
  assert killed_at < 36

  process = run_main(tmp_path, disturbed)
  wait_for_step(process, disturbed, killed_at + 2)
  process.send_signal(signal.SIGTERM)
  _, err = process.communicate()
  assert process.returncode == 0, err
  interrupted_at = max(losses(disturbed)[1])
  assert interrupted_at < 36
  assert f'interrupted after step {interrupted_at}' in err

  process = run_main(tmp_path, disturbed)
  out, err = process.communicate()
  assert process.returncode == 0, err
  assert f'after step {interrupted_at}' in err
  assert re.search(r'first step after .* compile [\d.]+ \(from the cache\)', err)
  assert_seconds_add_up(err, disturbed)
  assert losses(disturbed) == losses(undisturbed)
  assert losses(disturbed)[1] == list(range(1, 37))
  results = [json.loads((run / 'results.json').read_text()) for run in (disturbed, undisturbed)]
  assert results[0] == results[1]
  assert_watchable(err, disturbed)

  # Evaluating the finished run gives the same results; changes to the run are refused.
  process = run_main(tmp_path, disturbed, '--mode=eval')
  out, err = process.communicate()
  assert process.returncode == 0, err
  assert json.loads((disturbed / 'results.json').read_text()) == results[0]
  changed = functools.partial(toy_config, data_dir, steps=36, checkpoint__every=3)
  with pytest.raises(UserError, match='config.optim.lr was 0.001.*--workdir'):
    loop.train(changed(optim__lr=0.5), disturbed)
  with pytest.raises(UserError, match='config.model.temporal_layers was 1'):
    evaluate_checkpoint(changed(model__temporal_layers=2), disturbed)
  started = changed(model__temporal_layers=2, model__init_from=str(disturbed))
  lacking = 'lacks temporal/transformer/resblocks/1.*config.model.allow_missing'
  with pytest.raises(UserError, match=lacking):
    loop.train(started, tmp_path / 'other')


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'data__batch_size': 12}, ['config.data.batch_size', 'multiple of 16']),
    ({'eval__batch_size': 9}, ['config.eval.batch_size', 'multiple of 8']),
    ({'mesh__fsdp': 3}, ['config.mesh', '8 devices']),
    ({'recipe': 'none', 'model__preset': 'vit_b17'}, ['vit_b17', 'vit_b16']),
    ({'model__temporal': 'lstm'}, ['lstm', 'transformer']),
    ({'data__dir': '/nowhere'}, ['/nowhere']),
    ({'model__init_from': '/nowhere'}, ['config.model.init_from', '/nowhere']),
    ({'data__train__split': 'trian'}, ["'trian'", 'train, validation']),
  ],
)
def test_refusals(tmp_path, data_dir, changes, words):
  with pytest.raises(UserError) as error:
    loop.train(toy_config(data_dir, **changes), tmp_path)
  for word in words:
    assert word in str(error.value)
