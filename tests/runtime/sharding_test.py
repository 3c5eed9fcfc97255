"""Traffic and shardings of the compiled steps of a small model on eight CPU devices."""

import dataclasses

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
  """A plan with the parameters split over eight devices."""
  return planner.make_plan(small(mesh__data=1, mesh__fsdp=8), EIGHT, CLASSES, 'skip')


def contents(step, *kinds):
  return {row['what'] for row in step['collectives'] if row['kind'] in kinds}


@pytest.mark.parametrize('step', ['train', 'evaluation'])
def test_batches_are_not_moved(split, step):
  """Only parameters are gathered, because frames are folded into the batch dimension."""
  assert not contents(split[step], 'all-to-all', 'collective-permute')
  gathers = [row for row in split[step]['collectives'] if row['kind'] == 'all-gather']
  others = sum(row['bytes'] for row in gathers if row['what'] == 'other')
  # Every host reads the logits f32[16, 20], and the clips of a batch, two i32[B].
  read_by_hosts = 16 * CLASSES if step == 'evaluation' else 2 * split[step]['batch']
  assert others <= 4 * read_by_hosts
  assert {row['what'] for row in gathers} >= {'parameters'}


def test_no_more_is_gathered_than_the_sharding_requires(split):
  step = split['train']
  gathered = sum(row['moved'] for row in step['collectives'] if row['kind'] == 'all-gather')
  assert 0 < gathered <= 1.1 * (step['must_move']['gathered'] + step['must_move']['texts'])


def test_loops_count_as_often_as_they_are_run(split):
  """With two micro-batches; the compiler's own count has the body of the loop once."""
  flops = split['train']['flops']
  assert flops['compiled'] == pytest.approx(flops['traced'], rel=0.02)
  assert flops['compiler'] < 0.7 * flops['compiled']
  assert not split['train']['unknown_loops']


def test_tensor_parallelism_reduces_activations():
  config = small(mesh__data=2, mesh__fsdp=2, mesh__tensor=2, optim__accumulation=1)
  config.eval.datasets = ConfigDict()
  step = planner.make_plan(config, EIGHT, CLASSES, 'skip')['train']
  assert not contents(step, 'all-to-all')
  assert any('tensor' in row['axes'] for row in step['collectives'] if row['kind'] == 'all-reduce')


@pytest.mark.parametrize('fsdp', [2, 8])
def test_a_device_has_its_share_of_the_state(fsdp):
  """Within 10 % of 1 / N of the parameters and optimizer state of a full-size model."""
  config = ssv2_objmask.get_config()
  config.mesh.data, config.mesh.fsdp = 8 // fsdp, fsdp
  state = train_program(config, sharding.make_mesh(config.mesh), 80).arguments['state']
  total = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
  assert total == 4 * (3 * 149_620_737 + 3)
  assert estimate.device_bytes(state) == pytest.approx(total / fsdp, rel=0.1)


def test_gathered_parameters_keep_their_values_and_have_split_gradients():
  config = small(mesh__data=2, mesh__fsdp=4)
  mesh = sharding.make_mesh(config.mesh)
  params = build_model(config).init(jax.random.key(0))['visual']
  min_bytes = config.mesh.fsdp_min_bytes
  shapes = sharding.sharded_shapes(params, mesh, min_bytes)
  shardings = jax.tree.map(lambda leaf: leaf.sharding, shapes)
  sharded = jax.device_put(params, shardings)

  def loss(params):
    gathered = sharding.gather_fsdp(params, mesh, min_bytes, np.float32)
    return sum(jnp.sum(leaf**3) for leaf in jax.tree.leaves(gathered)), gathered

  gradients, gathered = jax.jit(jax.grad(loss, has_aux=True))(sharded)
  kernel = gathered['transformer']['resblocks']['0']['mlp']['c_fc']['kernel']
  assert kernel.sharding.is_equivalent_to(NamedSharding(mesh, PartitionSpec()), 2)
  for leaf, copy, gradient, expected in zip(
    *map(jax.tree.leaves, (params, gathered, gradients, shardings)), strict=True
  ):
    np.testing.assert_array_equal(copy, leaf)
    np.testing.assert_allclose(gradient, 3 * leaf**2, rtol=1e-6)
    if leaf.nbytes >= min_bytes:
      assert gradient.sharding.is_equivalent_to(expected, leaf.ndim)


def test_matrices_are_cast_before_they_are_gathered():
  """The model takes the same results from them: it multiplies in no other dtype."""
  config = small(mesh__data=1, mesh__fsdp=8, model__dtype='bfloat16')
  mesh = sharding.make_mesh(config.mesh)
  model = build_model(config, mesh)
  params = model.init(jax.random.key(0))
  shapes = sharding.sharded_shapes(params, mesh, config.mesh.fsdp_min_bytes)
  sharded = jax.device_put(params, jax.tree.map(lambda leaf: leaf.sharding, shapes))

  def gather(params):
    return sharding.gather_fsdp(params, mesh, config.mesh.fsdp_min_bytes, model.compute.dtype)

  gathered = jax.jit(gather)(sharded)
  assert gathered['visual']['transformer']['resblocks']['0']['mlp']['c_fc']['kernel'].dtype == (
    jnp.bfloat16
  )
  views = (config.view.num_frames, config.view.size, config.view.size, 3)
  clips = jax.random.uniform(jax.random.key(1), (1, *views))
  tokens = np.arange(2 * model.spec.context_length).reshape(2, -1) % model.spec.vocab_size
  for encode, inputs in ((model.encode_video, clips), (model.encode_text, tokens)):
    expected, result = (jax.jit(encode)(some, inputs) for some in (params, gathered))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(result), jax.device_get(expected))


def test_a_mesh_for_another_number_of_devices():
  with pytest.raises(UserError, match='config.mesh: .* do not multiply to the 8 devices'):
    planner.make_plan(small(mesh__fsdp=3), EIGHT, CLASSES)


@dataclasses.dataclass(frozen=True)
class TpuDevice:
  """What `sharding.make_mesh` and JAX look at in a TPU's device."""

  id: int
  slice_index: int
  coords: tuple[int, int, int]
  process_index: int
  platform: str = 'tpu'
  device_kind: str = 'TPU v5 lite'
  core_on_chip: int = 0


def slices_of_4x4(count):
  """Devices in the order of their processes, each of which has 2 x 2."""
  blocks = [(x, y) for y in (0, 2) for x in (0, 2)]
  return [
    TpuDevice(100 * index + 4 * (y + j) + x + i, index, (x + i, y + j, 0), 4 * index + process)
    for index in range(count)
    for process, (x, y) in enumerate(blocks)
    for j in range(2)
    for i in range(2)
  ]


@pytest.mark.parametrize('order', [1, -1])
def test_slices_lie_along_data(order):
  """In whatever order JAX lists the devices, fsdp and tensor use the links of a slice."""
  config = small(mesh__data=-1, mesh__fsdp=4, mesh__tensor=2)
  mesh = sharding.make_mesh(config.mesh, slices_of_4x4(3)[::order])
  assert dict(mesh.shape) == {'data': 6, 'fsdp': 4, 'tensor': 2}
  assert len({device.id for device in mesh.devices.flat}) == 48
  for position, devices in enumerate(mesh.devices):
    assert {device.slice_index for device in devices.flat} == {position // 2}
    # Each axis goes along one dimension of the torus.
    assert topologies.torus_dimensions(devices[None], (1,)) == 1
    assert topologies.torus_dimensions(devices[None], (2,)) == 1


@pytest.mark.parametrize(('data', 'fsdp'), [(1, 32), (-1, 32), (1, -1)])
def test_other_axes_do_not_go_over_slices(data, fsdp):
  config = small(mesh__data=data, mesh__fsdp=fsdp)
  with pytest.raises(UserError, match=r'config\.mesh: data is 1, .* the 2 TPU slices .* of 2$'):
    sharding.make_mesh(config.mesh, slices_of_4x4(2))
