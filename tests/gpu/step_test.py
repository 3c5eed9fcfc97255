"""The training step on the GPU: against the CPU's, and what it moves between host and device."""

import jax
import numpy as np
import pytest

from tests.toy import build_toy
from tests.training.loop_test import assert_same_training, take_steps, toy_config
from zsar_jax.data.clip_loader import ClipLoader
from zsar_jax.data.pipeline import training_batches
from zsar_jax.data.view import View
from zsar_jax.performance import traces
from zsar_jax.runtime import sharding
from zsar_jax.training.inputs import make_inputs
from zsar_jax.training.setup import Setup, open_training_subset
from zsar_jax.training.step import jit_train_step

pytestmark = pytest.mark.gpu


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return build_toy(tmp_path_factory.mktemp('toy'))


@pytest.mark.parametrize('temporal', ['transformer', 'xclip'])
def test_steps_in_float32_are_the_cpus(gpu, cpu, data_dir, temporal):
  """Within the limits that hold between meshes on one CPU, which only round in another order.

  Products in TF32, JAX's default on GPUs, exceed them.
  """
  config = toy_config(data_dir, model__temporal=temporal, optim__lr=1e-4)
  assert_same_training(take_steps(config, [gpu], 3), take_steps(config, [cpu], 3))


def test_a_step_copies_nothing_between_host_and_device(gpu, data_dir, tmp_path):
  """Its batch and its state are on the device, and the new state takes the place of the old."""
  config = toy_config(data_dir, model__dtype='bfloat16', optim__accumulation=1)
  mesh = sharding.make_mesh(config.mesh, [gpu])
  subset = open_training_subset(config)
  setup = Setup.from_config(config, mesh, subset.classes)
  key = sharding.random_key(config.seed, mesh)
  params = jax.jit(setup.model.init, out_shardings=setup.state_shardings['params'])(key)
  state = jax.jit(setup.init_state, out_shardings=setup.state_shardings)(params)
  inputs = make_inputs(setup, key, setup.tokens(subset.texts), params, None, subset, tmp_path)
  loader = ClipLoader(subset, View.from_config(config))
  batches = training_batches(loader, config.data.batch_size, 0, 0, 0)
  host_batch = next(batches) | {'stop': np.zeros(config.data.batch_size, bool)}
  batches.close()
  batch = sharding.shard_batch(host_batch, mesh)
  assert {leaf.device for leaf in jax.tree.leaves(batch)} == {gpu}

  compiled = jit_train_step(setup).lower(state, batch, inputs).compile()
  state, *_ = compiled(state, batch, inputs)
  jax.block_until_ready(state)
  first = state
  with jax.transfer_guard('disallow'), jax.profiler.trace(tmp_path / 'trace'):
    for _ in range(3):
      state, *_ = compiled(state, batch, inputs)
    jax.block_until_ready(state)
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first))
  assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(batch))
  sizes = compiled.memory_analysis()
  state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
  assert sizes.alias_size_in_bytes >= state_bytes

  (path,) = traces.newest_files(tmp_path / 'trace')
  (spans,) = traces.read_trace(path).ops.values()
  assert spans
  assert not [span for span in spans if span.category == 'infeed and transfers']
