"""Full-width CLIP B/16 of few blocks, compiled for H100s by XLA's compiler, without a GPU."""

import dataclasses
import json

import pytest

from configs import ssv2_objmask
from zsar_jax.models import from_config
from zsar_jax.performance import plan_text, planner, topologies

IMAGE_BLOCKS, TEXT_BLOCKS = 2, 2

# The last block of each tower computes one token, without cuDNN.
FUSED_BLOCKS = IMAGE_BLOCKS - 1 + TEXT_BLOCKS - 1

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(
    not topologies.parse('gpu:1xH100').compiles,
    reason='the compiler for GPUs is not installed (extra cuda12)',
  ),
]


@pytest.fixture(scope='module')
def plans():
  """Plans by topology and attention."""
  made = {}
  preset = from_config.preset

  def few_blocks(*arguments, **options):
    spec = preset(*arguments, **options)
    return dataclasses.replace(spec, image_layers=IMAGE_BLOCKS, text_layers=TEXT_BLOCKS)

  def plan(topology, attention):
    if (topology, attention) not in made:
      config = ssv2_objmask.get_config()
      config.model.attention = attention
      config.optim.accumulation = 1
      config.eval.recipes = config.eval.recipes[:2]
      devices = topologies.parse(topology).count
      config.data.batch_size = config.eval.batch_size = 32 * devices
      config.mesh.data, config.mesh.fsdp = (2, 4) if devices == 8 else (1, 1)
      with pytest.MonkeyPatch.context() as patch:
        patch.setattr(from_config, 'preset', few_blocks)
        made[topology, attention] = planner.make_plan(
          config, topologies.parse(topology), 400, 'skip'
        )
    return made[topology, attention]

  return plan


def kernel_counts(step):
  return {row['kind']: row['count'] for row in step['kernels']}


# Each process of pytest-xdist has the plans of one topology.
ONE = pytest.param('gpu:1xH100', marks=pytest.mark.xdist_group('one'))
EIGHT = pytest.param('gpu:8xH100', marks=pytest.mark.xdist_group('eight'))


@pytest.mark.parametrize('topology', [ONE, EIGHT])
@pytest.mark.parametrize('attention', ['xla', 'cudnn'])
def test_steps_for_gpus(plans, topology, attention):
  plan = plans(topology, attention)
  assert plan['model']['attention'] == attention
  train, evaluation = plan['train'], plan['evaluation']
  for step in (train, evaluation):
    assert step['fits']
    assert not step['unknown_loops']
    # Products with one row, which XLA writes as sums, are the difference.
    assert step['flops']['compiled'] == pytest.approx(step['flops']['traced'], rel=0.02)
    assert sum(row['flops'] for row in step['kernels']) == step['flops']['compiled']
    assert sum(row['bytes'] for row in step['kernels']) == pytest.approx(step['bytes'])
  fused = {kind: 0 for kind in ('cuDNN attention', 'cuDNN attention, backward')}
  counts = fused | kernel_counts(train)
  assert [counts[kind] for kind in fused] == [FUSED_BLOCKS * (attention == 'cudnn')] * 2
  # Under each recipe; the texts are encoded before.
  counts = fused | kernel_counts(evaluation)
  expected = evaluation['recipes'] * (IMAGE_BLOCKS - 1) * (attention == 'cudnn')
  assert [counts[kind] for kind in fused] == [expected, 0]
  assert json.loads(json.dumps(plan, allow_nan=False))['machines'] == 1
  assert 'layers.quick_gelu, backward' in plan_text.describe(plan)


@pytest.mark.parametrize('topology', [EIGHT])
@pytest.mark.parametrize('attention', ['xla', 'cudnn'])
def test_what_eight_gpus_send(plans, topology, attention):
  plan = plans(topology, attention)
  for step in (plan['train'], plan['evaluation']):
    rows = step['collectives']
    assert not [row for row in rows if row['kind'] in ('all-to-all', 'collective-permute')]
    # Sums of scalars and of small gradients, and the logits under each recipe.
    others = [row for row in rows if row['what'] == 'other']
    gathered = sum(row['bytes'] for row in others if row['kind'] == 'all-gather')
    assert gathered <= 4 * 400 * 256 * plan['evaluation']['recipes']
    assert sum(row['bytes'] for row in others) < 4 * 2**20
  train = plan['train']
  assert 'reduce-scatter' in {row['kind'] for row in train['collectives']}
  moved = sum(row['moved'] for row in train['collectives'])
  required = train['must_move']
  assert moved == pytest.approx(required['total'], rel=0.1)
  gathered = sum(row['moved'] for row in train['collectives'] if row['kind'] == 'all-gather')
  assert gathered == pytest.approx(required['gathered'] + required['texts'] / 3, rel=0.02)


@pytest.mark.parametrize('topology', [ONE])
def test_cudnn_attention_keeps_no_logits(plans, topology):
  memory = {
    attention: plans(topology, attention)['train']['memory']['temporaries']
    for attention in ('xla', 'cudnn')
  }
  # Of each fused block of the image tower at least the weights, for 8 frames of 12 heads.
  weights = 2 * 32 * 8 * 12 * 197**2
  assert memory['xla'] - memory['cudnn'] > (IMAGE_BLOCKS - 1) * weights
