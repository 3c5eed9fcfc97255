"""FLOPs, bytes and traffic by formula, compared with textbook counts and with real arrays."""

import math

import jax
import jax.numpy as jnp
import pytest

from configs import ssv2_objmask
from tests.runtime.sharding_test import slices_of_4x4
from zsar_jax.models import flops
from zsar_jax.models.from_config import build_model
from zsar_jax.performance import estimate
from zsar_jax.performance.programs import Program, evaluation_programs, train_program
from zsar_jax.runtime import sharding
from zsar_jax.training import optim


def traced(program):
  return flops.of_jaxpr(program.trace().jaxpr)


def tiny(**changes):
  config = ssv2_objmask.get_config('smoke')
  config.data.batch_size = 32
  config.eval.batch_size = 16
  config.mesh.fsdp_min_bytes = 1024
  config.update_from_flattened_dict({k.replace('__', '.'): v for k, v in changes.items()})
  return config


def test_flops_of_a_forward_pass_are_the_textbooks():
  """24 D^2 + 4 L D for each token and block, and both ends (Kaplan et al., 2020, table 1).

  The last block computes only the keys and values of all tokens.
  """
  config = tiny()
  mesh = sharding.make_mesh(config.mesh)
  score = evaluation_programs(config, mesh, 20)[-1]
  images, tokens, width, layers, patch = 16 * 4, 37, 96, 3, 8
  block = 24 * width**2 + 4 * tokens * width
  expected = images * tokens * (layers - 1) * block
  expected += images * (tokens * 4 * width**2 + block - 4 * width**2)
  expected += images * 2 * 36 * 3 * patch**2 * width  # Patches to tokens.
  expected += images * 2 * width * 64 + 16 * 2 * 64 * 20  # The projection, and the cosines.
  assert traced(score) == expected


def test_flops_count_loops_and_recomputed_operations():
  def function(x):
    block = jax.checkpoint(lambda x: jnp.sin(x @ x))
    return jax.lax.scan(lambda x, _: (block(x), None), x, length=7)[0].sum()

  shape = jax.ShapeDtypeStruct((8, 8), jnp.float32)
  forward = Program('f', jax.jit(function), {'x': shape})
  assert traced(forward) == 7 * 2 * 8**3
  # Two products for the gradient, and the recomputed one.
  backward = Program('g', jax.jit(jax.grad(function)), {'x': shape})
  assert traced(backward) == 7 * 2 * 8**3 * (1 + 3)


def test_a_training_step_takes_about_three_forward_passes():
  config = tiny(optim__accumulation=1)
  mesh = sharding.make_mesh(config.mesh)
  score = traced(evaluation_programs(config, mesh, 20)[-1]) * 2
  step = traced(train_program(config, mesh, 20))
  config.optim.accumulation = 4
  config.text.templates = ('{}', 'a {}')
  assert traced(train_program(config, mesh, 20)) == step
  # 24 texts of 32 tokens through two blocks of width 64.
  texts = 24 * (32 * 2 * (24 * 64**2 + 4 * 32 * 64) + 2 * 64**2)
  assert step == pytest.approx(3 * (score + texts), rel=0.05)


def test_bytes_of_a_device_agree_with_real_arrays():
  config = tiny(mesh__data=2, mesh__fsdp=2, mesh__tensor=2)
  mesh = sharding.make_mesh(config.mesh)
  model = build_model(config)
  shapes = sharding.sharded_shapes(model.abstract_params, mesh, 1024)
  params = jax.jit(model.init, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, shapes))(
    jax.random.key(0)
  )
  nbytes = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(params))
  assert estimate.device_bytes(shapes) == nbytes


def traffic_of(config, devices=None):
  mesh = sharding.make_mesh(config.mesh, devices)
  model = build_model(config)
  params = sharding.sharded_shapes(model.abstract_params, mesh, config.mesh.fsdp_min_bytes)
  _, trained = optim.make_optimizer(config.optim, model.abstract_params, config.steps)
  return estimate.required_traffic(config, model.spec, params, trained, mesh, 20), params


def test_data_parallelism_reduces_all_gradients_once():
  traffic, params = traffic_of(tiny(optim__accumulation=1))
  size = sum(leaf.size for leaf in jax.tree.leaves(params))
  assert traffic.reduced == pytest.approx(2 * 4 * size * 7 / 8)
  assert traffic.total == traffic.reduced + traffic.texts


def test_fsdp_gathers_and_scatters():
  traffic, params = traffic_of(tiny(optim__accumulation=3, mesh__data=1, mesh__fsdp=8))
  split = {True: 0, False: 0}
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    if 'fsdp' in leaf.sharding.spec:
      split[path[0].key == 'text'] += 4 * leaf.size
  # The gradient of the embedding table is reduced like those of arrays that are not split.
  table = 4 * params['text']['token_embedding']['embedding'].size
  scattered = split[True] - table + 3 * split[False]
  assert traffic.scattered == pytest.approx(scattered * 7 / 8)
  assert traffic.gathered == pytest.approx((split[True] + split[False]) * 7 / 8)
  assert traffic.reduced > 2 * table * 7 / 8


@pytest.mark.parametrize('fsdp', [1, 4])
def test_each_slice_sends_every_gradient_once(fsdp):
  """With two slices, the chips of one send its sums to the other, however they share the work."""
  config = tiny(optim__accumulation=1, mesh__data=-1, mesh__fsdp=fsdp)
  traffic, params = traffic_of(config, slices_of_4x4(2))
  gradients = sum(4 * leaf.size for leaf in jax.tree.leaves(params))
  embeddings = 4 * 20 * 64
  # Half of the embeddings are gathered, and their gradient is summed.
  assert 16 * traffic.between_slices == pytest.approx(gradients + 1.5 * embeddings)
  assert traffic_of(config)[0].between_slices == 0


def test_frozen_parameters_send_no_gradient():
  frozen, _ = traffic_of(tiny(mesh__data=1, mesh__fsdp=8, optim__lr_rules=(('text/.*', 0.0),)))
  trained, _ = traffic_of(tiny(mesh__data=1, mesh__fsdp=8))
  assert frozen.texts == 0
  assert frozen.scattered < trained.scattered
  assert frozen.gathered < trained.gathered


def test_tensor_parallelism_reduces_four_times_per_block():
  traffic, _ = traffic_of(tiny(mesh__data=4, mesh__tensor=2, optim__accumulation=1))
  images, texts = 32 * 4 / 4 * 37 * 96 * 3, 20 / 4 * 32 * 64 * 2
  assert traffic.tensor == pytest.approx(4 * 2 * (images + texts) * 4 / 2)
  recomputed, _ = traffic_of(
    tiny(mesh__data=4, mesh__tensor=2, optim__accumulation=1, model__remat='full')
  )
  assert recomputed.tensor == pytest.approx(traffic.tensor * 5 / 4)


def test_activations_shrink_with_recomputation():
  config = tiny()
  spec = build_model(config).spec
  mesh = sharding.make_mesh(config.mesh)
  sizes = []
  for remat in ('none', 'dots', 'full'):
    config.model.remat = remat
    sizes.append(estimate.activation_bytes(config, spec, 20, mesh, 'xla'))
  assert sizes == sorted(sizes, reverse=True)
  config.data.batch_size *= 2
  assert estimate.activation_bytes(config, spec, 20, mesh, 'xla') == pytest.approx(
    2 * sizes[-1], rel=0.1
  )
  assert all(math.isfinite(size) for size in sizes)
