"""Checkpoints: what comes back, and what is refused."""

import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from zsar_jax.checkpoint import Checkpoints, load_params
from zsar_jax.errors import UserError

STATE = {
  'params': {'visual': {'0': {'kernel': jnp.arange(64.0).reshape(16, 4)}}, 'logit_scale': 2.0},
  'opt': ({'mu': jnp.ones(3), 'nu': None},),
  'step': jnp.int32(7),
}


def shapes(tree, mesh=None, spec=()):
  mesh = mesh or jax.make_mesh((1,), ('x',), (AxisType.Auto,), devices=jax.devices()[:1])

  def shape(leaf):
    place = NamedSharding(mesh, PartitionSpec(*spec) if jnp.ndim(leaf) == 2 else PartitionSpec())
    return jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.asarray(leaf).dtype, sharding=place)

  return jax.tree.map(shape, tree)


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('run')
  with Checkpoints(workdir, keep=2) as checkpoints:
    for step in (3, 5, 7):
      checkpoints.save(step, jax.tree.map(jnp.asarray, STATE), {'clips': step})
  return workdir


def test_round_trip_onto_another_mesh(saved):
  mesh = jax.make_mesh((8,), ('x',), (AxisType.Auto,))
  with Checkpoints(saved, keep=2) as checkpoints:
    assert checkpoints.latest == 7
    assert checkpoints.meta(7) == {'clips': 7}
    state = checkpoints.restore(5, shapes(STATE, mesh, ('x',)))
  kernel = state['params']['visual']['0']['kernel']
  assert len(kernel.sharding.device_set) == 8
  assert kernel.addressable_shards[0].data.shape == (2, 4)
  jax.tree.map(np.testing.assert_array_equal, state, STATE)
  assert not (saved / 'checkpoints' / '3').exists()


def test_parameters_alone(saved):
  params = load_params(saved, shapes(STATE['params']), '--workdir')
  jax.tree.map(np.testing.assert_array_equal, params, STATE['params'])


def test_other_models_are_refused(saved):
  wider = {**STATE['params'], 'visual': {'0': {'kernel': jnp.zeros((16, 5))}}}
  deeper = {**STATE['params'], 'visual': {**STATE['params']['visual'], '1': jnp.zeros(1)}}
  smaller = {'visual': STATE['params']['visual']}
  for params, words in (
    (wider, r'visual/0/kernel is \(16, 4\) there and \(16, 5\) here'),
    (deeper, 'lacks params/visual/1'),
    (smaller, 'also holds params/logit_scale'),
  ):
    with pytest.raises(UserError, match=f'another model: .*{words}.*config.model'):
      load_params(saved, shapes(params), '--workdir')


@pytest.mark.parametrize('part', ['state', 'meta', 'state/_METADATA', 'state/d', 'meta/metadata'])
def test_damage_is_named(saved, tmp_path, part):
  shutil.copytree(saved, tmp_path / 'run')
  damaged = tmp_path / 'run' / 'checkpoints' / '7' / part
  if damaged.is_dir():
    shutil.rmtree(damaged)
  else:
    damaged.write_bytes(damaged.read_bytes()[:5])

  def read():
    with Checkpoints(tmp_path / 'run', keep=2) as checkpoints:
      checkpoints.meta(7)
      checkpoints.restore(7, shapes(STATE))

  with pytest.raises(UserError, match='checkpoints/7: the checkpoint is damaged'):
    read()


def test_no_checkpoint(tmp_path):
  with pytest.raises(UserError, match='--workdir: .* holds no checkpoint'):
    load_params(pathlib.Path(tmp_path), shapes(STATE['params']), '--workdir')
