"""Plans of small models: what the compiler says, what is worked out without it, the text."""

import json

import jax
import numpy as np
import pytest

from configs import ssv2_objmask
from tests.toy import build_toy
from zsar_jax.config import dataset_ref
from zsar_jax.data.dataset import open_dataset
from zsar_jax.data.pipeline import ClipLoader, View, evaluation_batches, training_batches
from zsar_jax.data.subset import select
from zsar_jax.performance import plan_text, planner, programs, topologies
from zsar_jax.performance.chips import CHIPS, GIB
from zsar_jax.runtime import sharding


def small():
  config = ssv2_objmask.get_config('smoke')
  config.data.batch_size = 32
  config.eval.batch_size = 16
  config.mesh.fsdp, config.mesh.data = 8, 1
  return config


def test_the_shapes_of_batches_are_the_pipelines(tmp_path):
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
    rest = (0, 0, 0) if split == 'train' else (0,)
    batches = make(loader, 8, *rest)
    placed = sharding.shard_batch(next(batches), mesh)
    batches.close()
    shapes = programs.batch_shapes(config, 8, mesh, training=split == 'train')
    assert placed.keys() == shapes.keys()
    for name, array in placed.items():
      assert (array.shape, array.dtype, array.sharding) == (
        shapes[name].shape,
        shapes[name].dtype,
        shapes[name].sharding,
      ), name


@pytest.fixture(scope='module')
def gpus():
  return planner.make_plan(small(), topologies.parse('gpu:8xH100'), 20)


def test_without_a_compiler(gpus):
  train = gpus['train']
  assert not gpus['compiled']
  assert 'collectives' not in train
  assert train['roofline']['bound_by'] in ('compute', 'network')
  assert train['roofline']['compute'] == train['flops']['traced'] / 989.5e12
  assert train['fits']
  assert train['largest_batch']['batch'] % 16 == 0
  text = plan_text.describe(gpus)
  assert 'There is no compiler for these devices here' in text
  assert text.count('(estimate)') == 4
  assert json.loads(json.dumps(gpus))['topology'] == 'gpu:8xH100'


def test_a_largest_batch_lies_on_the_line_through_two():
  chip = CHIPS['v5e']
  planned = planner._Planner(small(), topologies.parse('v5e:2x4'), None, 20)
  asked = []

  def needed(size):
    asked.append(size)
    return 1 * GIB + size * GIB / 16

  step = {'batch': 32, 'memory': {'total': needed(32)}, 'fits': True}
  asked.clear()
  found = planned._largest(step, needed, 16, 'estimate')
  # 1 + B / 16 <= 15.75 GiB.
  assert found == {'batch': 224, 'from': [16, 32], 'verified': False}
  assert asked == [16]
  assert planned._largest(step, needed, 16, 'verify') == found | {'verified': True}
  # A batch that does not fit is halved until one does.
  step = {'batch': 1024, 'memory': {'total': needed(1024)}, 'fits': False}
  asked.clear()
  assert planned._largest(step, needed, 16, 'estimate')['batch'] == 224
  assert asked == [512, 256, 128]
  assert needed(224) <= chip.memory < needed(240)
  assert planned._largest(step, needed, 16, 'skip') is None


@pytest.mark.parametrize(
  ('message', 'needed'),
  [
    (
      'RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm.'
      ' Used 25.41G of 15.75G hbm. Exceeded hbm capacity by 9.66G.',
      25.41 * GIB,
    ),
    (
      'RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries'
      ' (40.00G) exceeds available HBM (15.75G).',
      40 * GIB,
    ),
    ('INTERNAL: something else', None),
  ],
)
def test_what_the_compiler_says_of_too_little_memory(message, needed):
  assert planner.parse_required_bytes(message) == needed


def test_a_program_that_does_not_fit_is_an_answer(monkeypatch):
  class Lowered:
    def lower(self):
      return self

    def compile(self):
      raise jax.errors.JaxRuntimeError('Ran out of memory in memory space hbm. Used 20.00G of 9G')

  program = programs.Program('train', None, {})
  monkeypatch.setattr(programs.Program, 'trace', lambda self: Lowered())
  compiled = planner.compile_program(program)
  assert not compiled.fits
  assert compiled.needed == 20 * GIB
  assert np.isnan(compiled.flops)
