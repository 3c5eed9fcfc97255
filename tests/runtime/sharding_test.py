"""What the sharding sends about: the compiled steps of a small model on eight CPU devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from configs import ssv2_objmask
from zsar_jax.errors import UserError
from zsar_jax.models.from_config import build_model
from zsar_jax.performance import estimate, planner, topologies
from zsar_jax.performance.programs import train_program
from zsar_jax.runtime import sharding

EIGHT = topologies.parse('cpu:8')
CLASSES = 20


def small(**changes):
  config = ssv2_objmask.get_config('smoke')
  config.data.batch_size = 32
  config.eval.batch_size = 16
  config.eval.recipes = ('background=normal,object=normal',)
  config.mesh.fsdp_min_bytes = 2**13
  config.update_from_flattened_dict({k.replace('__', '.'): v for k, v in changes.items()})
  return config


@pytest.fixture(scope='module')
def split():
  """Parameters over eight devices."""
  return planner.make_plan(small(mesh__data=1, mesh__fsdp=8), EIGHT, CLASSES, 'skip')


def sent(step, *kinds):
  return {row['what'] for row in step['collectives'] if row['kind'] in kinds}


@pytest.mark.parametrize('step', ['train', 'evaluation'])
def test_batches_stay_where_they_are(split, step):
  """Frames fold into the batch, and parameters come to them: nothing else is moved or gathered."""
  assert not sent(split[step], 'all-to-all', 'collective-permute')
  gathers = [row for row in split[step]['collectives'] if row['kind'] == 'all-gather']
  others = sum(row['bytes'] for row in gathers if row['what'] == 'other')
  # What every host reads: the logits f32[16, 20], and which clips are in a batch, two i32[B].
  read = 16 * CLASSES if step == 'evaluation' else 2 * split[step]['batch']
  assert others <= 4 * read
  assert {row['what'] for row in gathers} >= {'parameters'}


def test_no_more_is_gathered_than_the_sharding_asks_for(split):
  step = split['train']
  gathered = sum(row['moved'] for row in step['collectives'] if row['kind'] == 'all-gather')
  assert 0 < gathered <= 1.1 * (step['must_move']['gathered'] + step['must_move']['texts'])


def test_loops_count_in_the_compiled_step(split):
  """Two micro-batches: the compiler's own count has the loop's body once."""
  flops = split['train']['flops']
  assert flops['compiled'] == pytest.approx(flops['traced'], rel=0.02)
  assert flops['compiler'] < 0.7 * flops['compiled']
  assert not split['train']['unknown_loops']


def test_tensor_parallelism_sums_up_activations():
  config = small(mesh__data=2, mesh__fsdp=2, mesh__tensor=2, optim__accumulation=1)
  config.eval.datasets = ConfigDict()
  step = planner.make_plan(config, EIGHT, CLASSES, 'skip')['train']
  assert not sent(step, 'all-to-all')
  assert any('tensor' in row['axes'] for row in step['collectives'] if row['kind'] == 'all-reduce')


@pytest.mark.parametrize('fsdp', [2, 8])
def test_a_device_has_its_share_of_the_state(fsdp):
  """Within 10 % of 1 / N of a full-size model's parameters and optimizer state."""
  config = ssv2_objmask.get_config()
  config.mesh.data, config.mesh.fsdp = 8 // fsdp, fsdp
  state = train_program(config, sharding.make_mesh(config.mesh), 80).arguments['state']
  whole = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
  assert whole == 4 * (3 * 149_620_737 + 3)
  assert estimate.device_bytes(state) == pytest.approx(whole / fsdp, rel=0.1)


def test_gathered_parameters_have_the_values_and_split_gradients():
  config = small(mesh__data=2, mesh__fsdp=4)
  mesh = sharding.make_mesh(config.mesh)
  params = build_model(config).init(jax.random.key(0))['visual']
  least = config.mesh.fsdp_min_bytes
  shapes = sharding.sharded_shapes(params, mesh, least)
  split = jax.tree.map(lambda leaf: leaf.sharding, shapes)
  placed = jax.device_put(params, split)

  def loss(params):
    whole = sharding.gather_fsdp(params, mesh, least)
    return sum(jnp.sum(leaf**3) for leaf in jax.tree.leaves(whole)), whole

  gradients, whole = jax.jit(jax.grad(loss, has_aux=True))(placed)
  kernel = whole['transformer']['resblocks']['0']['mlp']['c_fc']['kernel']
  assert kernel.sharding.is_equivalent_to(NamedSharding(mesh, PartitionSpec()), 2)
  for leaf, one, gradient, place in zip(
    *map(jax.tree.leaves, (params, whole, gradients, split)), strict=True
  ):
    np.testing.assert_array_equal(one, leaf)
    np.testing.assert_allclose(gradient, 3 * leaf**2, rtol=1e-6)
    if leaf.nbytes >= least:
      assert gradient.sharding.is_equivalent_to(place, leaf.ndim)


def test_a_mesh_that_does_not_multiply():
  with pytest.raises(UserError, match='config.mesh: .* do not multiply to the 8 devices'):
    planner.make_plan(small(mesh__fsdp=3), EIGHT, CLASSES)
