"""Plans of small models: the shapes of batches, and a plan without a compiler as text."""

import json

import pytest

from configs import ssv2_objmask
from tests.toy import build_toy
from zsar_jax.config import dataset_ref
from zsar_jax.data.clip_loader import ClipLoader
from zsar_jax.data.dataset import open_dataset
from zsar_jax.data.pipeline import evaluation_batches, training_batches
from zsar_jax.data.subset import select
from zsar_jax.data.view import View
from zsar_jax.errors import UserError
from zsar_jax.performance import plan_text, planner, topologies
from zsar_jax.runtime import sharding
from zsar_jax.training.compilation import batch_shapes


def small():
  config = ssv2_objmask.get_config('smoke')
  config.data.batch_size = 32
  config.eval.batch_size = 16
  config.mesh.fsdp, config.mesh.data = 8, 1
  return config


def test_batch_shapes_agree_with_the_pipeline(tmp_path):
  config = small()
  config.data.dir = build_toy(tmp_path)
  config.view.num_frames, config.view.size = 2, 16
  config.data.batch_size = config.eval.batch_size = 8
  mesh = sharding.make_mesh(config.mesh)
  for split, make in (('train', training_batches), ('validation', evaluation_batches)):
    reference = dataset_ref('toy', split)
    dataset = open_dataset(config.data.dir, reference.dataset, reference.split)
    subset = select(dataset, 'all', config.view.unannotated, 'field')
    loader = ClipLoader(subset, View.from_config(config))
    numbers = (0, 0, 0) if split == 'train' else (0,)
    batches = make(loader, 8, *numbers)
    batch = sharding.shard_batch(next(batches), mesh)
    batches.close()
    training = split == 'train'
    shapes = batch_shapes(config, 8, mesh, training=training)
    assert batch.keys() == shapes.keys() - ({'stop'} if training else set())  # The loop adds it.
    for name, array in batch.items():
      assert (array.shape, array.dtype, array.sharding) == (
        shapes[name].shape,
        shapes[name].dtype,
        shapes[name].sharding,
      ), name


@pytest.fixture
def no_compiler(monkeypatch):
  monkeypatch.setattr(topologies.importlib.util, 'find_spec', lambda name: None)


def test_a_plan_without_a_compiler(no_compiler):
  gpus = planner.make_plan(small(), topologies.parse('gpu:8xH100'), 20)
  train = gpus['train']
  assert not gpus['compiled']
  assert 'collectives' not in train
  assert train['roofline']['bound_by'] in ('compute', 'network')
  assert train['roofline']['compute'] == train['flops']['traced'] / 989.5e12
  assert train['fits']
  assert train['largest_batch']['batch'] % 16 == 0
  text = plan_text.describe(gpus)
  assert 'The compiler for GPUs is not installed' in text
  assert text.count('(estimate)') == 4
  assert json.loads(json.dumps(gpus))['topology'] == 'gpu:8xH100'


def test_attention_without_a_compiler(no_compiler):
  """It is what a run would use, and cuDNN's keeps no logits for the backward pass."""
  activations = {}
  for dtype, attention, planned in (
    ('bfloat16', 'auto', 'cudnn'),
    ('bfloat16', 'xla', 'xla'),
    ('float32', 'auto', 'xla'),
  ):
    config = small()
    config.model.dtype, config.model.attention = dtype, attention
    plan = planner.make_plan(config, topologies.parse('gpu:8xH100'), 20)
    assert plan['model']['attention'] == planned
    assert f'attention {planned}' in plan_text.describe(plan)
    activations[dtype, attention] = plan['train']['memory']['activations']
  assert activations['bfloat16', 'auto'] < activations['bfloat16', 'xla']


@pytest.mark.parametrize(
  ('topology', 'dtype', 'says'),
  [
    ('gpu:8xH100', 'float32', 'cudnn computes attention in bfloat16 only'),
    ('cpu:8', 'bfloat16', 'cudnn needs an NVIDIA GPU'),
  ],
)
def test_cudnn_attention_that_a_run_would_refuse(no_compiler, topology, dtype, says):
  config = small()
  config.model.dtype, config.model.attention = dtype, 'cudnn'
  with pytest.raises(UserError, match=rf'config\.model\.attention: {says}'):
    planner.make_plan(config, topologies.parse(topology), 20)
