"""The weights that training starts from, those that are evaluated, and distillation."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from scipy.special import erf

from tests.models.towers_test import random_params
from tests.toy import build_toy
from tests.training.loop_test import assert_same_training, take_steps, toy_config
from zsar_jax.errors import UserError
from zsar_jax.evaluation.eval_mode import evaluate_checkpoint
from zsar_jax.evaluation.run_results import compute_results
from zsar_jax.models import presets
from zsar_jax.models.from_config import build_model
from zsar_jax.runtime import sharding
from zsar_jax.training import loop
from zsar_jax.training.resuming import check_meta
from zsar_jax.weights.checkpoint import Checkpoints, load_params
from zsar_jax.weights.initial import InitialWeights, load_weight_entries, weights_for_evaluation


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return build_toy(tmp_path_factory.mktemp('toy'))


def _config(data_dir, **changes):
  """Returns the config of a run on eight devices whose model has no temporal parameters."""
  config = toy_config(data_dir, model__temporal='mean', **changes)
  config.mesh.data = 1
  config.mesh.fsdp = 8
  config.mesh.fsdp_min_bytes = 1
  return config


def _saved(run, config):
  """Returns the parameters of a run's newest checkpoint, on the host."""
  mesh = sharding.make_mesh(config.mesh)
  shapes = sharding.sharded_shapes(build_model(config).abstract_params, mesh, 1)
  return jax.device_get(load_params(run, shapes, ''))


def _close(first, second):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), first, second)


@pytest.fixture(scope='module', name='first')
def _first(data_dir, tmp_path_factory):
  """A run to start from."""
  run = tmp_path_factory.mktemp('first')
  loop.train(_config(data_dir, steps=2), run)
  return run


@pytest.mark.slow
def test_average_and_interpolation(data_dir, first, tmp_path):
  changes = {
    'model__init_from': str(first),
    'eval__allow_seen_classes': True,
    'checkpoint__keep': 9,
    'checkpoint__every': 1,
    'optim__average_every': 2,
    'optim__average_from': 3,
  }
  config = _config(data_dir, steps=6, **changes)
  config.optim.lr_rules = (('text/token_embedding/.*', 0.0),)
  trained = compute_results(loop.train(config, tmp_path / 'run'), {})
  mesh = sharding.make_mesh(config.mesh)
  shapes = sharding.sharded_shapes(build_model(config).abstract_params, mesh, 1)
  with Checkpoints(tmp_path / 'run', 9) as checkpoints:
    states = {
      step: jax.device_get(checkpoints.restore(step, {'params': shapes})['params'])
      for step in (4, 6)
    }
  final = load_weight_entries(tmp_path / 'run', config, build_model(config), mesh)
  assert final['averaged'] == 2
  mean = jax.tree.map(lambda a, b: (a + b) / 2, states[4], states[6])

  start = InitialWeights(config, build_model(config), shapes)
  _close(jax.device_get(weights_for_evaluation(final, start, 0.0)), mean)
  initial_params = _saved(first, config)
  _close(
    jax.device_get(weights_for_evaluation(final, start, 0.25)),
    jax.tree.map(lambda a, b: 0.75 * a + 0.25 * b, mean, initial_params),
  )

  # An evaluation need not repeat how the run was trained; the checkpoint itself has the average.
  plain = _config(data_dir, eval__allow_seen_classes=True)
  assert compute_results(evaluate_checkpoint(plain, tmp_path / 'run'), {}) == trained
  # Only the weights that the run began with can be the other end of the interpolation.
  other = _config(data_dir, eval__interpolate=0.5, model__init_from=str(tmp_path / 'run'))
  with pytest.raises(UserError, match='config.model.init_from was'):
    evaluate_checkpoint(other, tmp_path / 'run')


def test_interpolation_needs_both_ends(data_dir, first, tmp_path):
  with pytest.raises(UserError, match='config.eval.interpolate needs the weights that training'):
    loop.train(_config(data_dir, eval__interpolate=0.5), tmp_path)
  config = _config(data_dir, eval__interpolate=0.5, model__init_from=str(first))
  with pytest.raises(UserError, match='holds no trained weights to mix'):
    evaluate_checkpoint(config, tmp_path)


def test_a_start_that_went_on_and_odd_micro_batches_are_refused(data_dir, first, tmp_path):
  config = _config(data_dir, model__init_from=str(first), eval__interpolate=0.5)
  now = {'clips': 1, 'start': 2}
  check_meta({'clips': 1, 'start': 2}, now, tmp_path, config)
  with pytest.raises(UserError, match='other start .1, now 2.*has gone on since'):
    check_meta({'clips': 1, 'start': 1}, now, tmp_path, config)
  config.eval.interpolate = 0.0
  check_meta({'clips': 1, 'start': 1}, now, tmp_path, config)
  mixing = _config(data_dir, augment__mixup=0.8, data__batch_size=8, optim__accumulation=8)
  mixing.mesh.fsdp = mixing.mesh.data = 1
  with pytest.raises(UserError, match='even number of clips|does not divide|8 devices'):
    loop.train(mixing, tmp_path)


def test_missing_parameters_are_drawn_if_a_rule_allows_it(data_dir, first, tmp_path):
  changes = {'model__init_from': str(first), 'eval__allow_seen_classes': True, 'steps': 1}
  config = toy_config(data_dir, **changes)
  with pytest.raises(UserError, match='lacks temporal/.*config.model.allow_missing'):
    loop.train(config, tmp_path)
  config.model.allow_missing = ('temporal/.*',)
  model = build_model(config)
  mesh = sharding.make_mesh(config.mesh)
  shapes = sharding.sharded_shapes(model.abstract_params, mesh, 1)
  params = jax.device_get(InitialWeights(config, model, shapes).load_or_init(jax.random.key(3)))
  drawn = jax.device_get(jax.jit(model.init)(jax.random.key(3)))
  _close(params['temporal'], drawn['temporal'])
  with pytest.raises(UserError, match='lacks temporal/'):
    InitialWeights(config, model, shapes).load_all()  # Evaluations draw nothing.
  initial_params = _saved(first, _config(data_dir))
  _close({name: params[name] for name in initial_params}, initial_params)


def test_distillation_begins_at_the_start(data_dir, first, tmp_path):
  config = _config(
    data_dir,
    optim__distillation=2.0,
    model__init_from=str(first),
    model__allow_missing=('distillation/.*',),
    eval__allow_seen_classes=True,
    steps=3,
  )
  loop.train(config, tmp_path)
  lines = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
  # The residual networks start at zero, and the first step has a learning rate of 0.
  assert abs(lines[0]['distance']) < 1e-5
  assert lines[2]['distance'] > 1e-4
  assert lines[2]['loss'] > 2 * lines[2]['distance']


def test_distance_agrees_with_numpy(data_dir):
  model = build_model(_config(data_dir, optim__distillation=1.0))
  params = random_params(model)
  rng = np.random.default_rng(0)
  frames, teacher = rng.normal(size=(2, 4, 3, 64)).astype(np.float32)
  texts, named = rng.normal(size=(2, 5, 64)).astype(np.float32)

  def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)

  def network(x, p):
    hidden = x @ p['first']['kernel']
    return x + 0.1 * (hidden * (1 + erf(hidden / np.sqrt(2))) / 2) @ p['second']['kernel']

  expected = 0.0
  for x, y, tower in ((unit(frames), teacher, 'visual'), (unit(texts), named, 'text')):
    cosines = (unit(network(x, params['distillation'][tower])) * unit(y)).sum(-1)
    expected += np.mean(1 - cosines)
  distance = model.distance(params, {'frames': unit(frames)}, unit(texts), teacher, named)
  np.testing.assert_allclose(distance, expected, rtol=1e-5)


@pytest.mark.slow
def test_a_model_with_everything_trains_alike_on_every_mesh(data_dir, monkeypatch):
  # Two blocks exercise every part of the model, and compile in half the time.
  small = dataclasses.replace(presets.PRESETS['tiny'], image_layers=2, text_layers=2)
  monkeypatch.setattr(presets, 'PRESETS', {'tiny': small})
  config = toy_config(
    data_dir,
    model__temporal='xclip',
    optim__accumulation=1,
    augment__flip=0.0,
    mesh__fsdp_min_bytes=1,
  )
  config.model.prompts.image = config.model.prompts.text = 2
  config.model.prompts.depth = 2
  config.augment.mixup, config.augment.cutmix = 0.8, 1.0
  one_device = take_steps(config, 1)
  for axis, size in zip(sharding.AXES, (2, 2, 2), strict=True):
    config.mesh[axis] = size
  assert_same_training(take_steps(config, 8), one_device)
