"""What programs for an H100 do to numbers: their precision, and sums whose order is not fixed.

XLA's compiler for GPUs compiles them without a GPU.
"""

import dataclasses
import re

import jax
import pytest

from zsar_jax.config import default_config
from zsar_jax.models import from_config
from zsar_jax.performance import programs, topologies
from zsar_jax.runtime import sharding

H100 = topologies.parse('gpu:1xH100')

pytestmark = [
  pytest.mark.slow,
  pytest.mark.xdist_group('numerics'),
  pytest.mark.skipif(
    not H100.compiles, reason='the compiler for GPUs is not installed (extra cuda12)'
  ),
]


def compile_step(program, **model):
  """Returns the text of a compiled step of a CLIP B/16 with one block in each tower."""
  preset = from_config.preset

  def one_block(*arguments, **options):
    return dataclasses.replace(preset(*arguments, **options), image_layers=1, text_layers=1)

  config = default_config()
  config.model.update(temporal='xclip', temporal_layers=1, **model)
  config.optim.update(distillation=1.0, confusion=1.0)
  config.view.num_frames = 2
  config.data.batch_size = config.eval.batch_size = 8
  mesh = sharding.make_mesh(config.mesh, H100.devices())
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(from_config, 'preset', one_block)
    if program == 'train':
      step = programs.train_program(config, mesh, 20)
    else:
      step = programs.evaluation_programs(config, mesh, 20)[-1]
    lowered = step.trace().lower()
  return lowered.compile(compiler_options=H100.compiler_options).as_text()


def precisions(text):
  """Returns the precisions of the factors of products, and the number of products."""
  found = []
  for line in text.splitlines():
    if re.search(r'custom_call_target="__cublas|custom_call_target="__cudnn\$conv', line):
      found.append(re.search(r'"operand_precision": ?\[([^]]*)\]', line)[1])
    elif re.search(r' = f32\[\S+ (dot|convolution)\(', line):
      precision = re.search(r'operand_precision=\{([^}]*)\}', line)
      found.append(precision[1].upper() if precision else 'DEFAULT')
  return {name.strip(' "') for names in found for name in names.split(',')}, len(found)


def scatters(text):
  """Returns for each scatter whether no two of its summands meet."""
  return ['unique_indices=true' in line for line in text.splitlines() if ' scatter(' in line]


@pytest.fixture(scope='module')
def float32_step():
  return compile_step('train', dtype='float32')


def test_float32_products_are_float32(float32_step):
  """In the forward and the backward pass, augmentation, losses and optimizer."""
  names, count = precisions(float32_step)
  # XLA takes TF32 for factors of the precisions DEFAULT and HIGH.
  assert names == {'HIGHEST'}
  # Of two towers: query, key, value, weights, mixing, output, and two of the MLP, in three passes.
  assert count > 2 * 8 * 3
  assert precisions(compile_step('evaluate', dtype='float32'))[0] == {'HIGHEST'}


def test_tensorfloat32_products_are_asked_for_by_name():
  names, count = precisions(compile_step('evaluate', dtype='tensorfloat32'))
  assert names == {'HIGH'}
  assert count > 8


def test_a_deterministic_step_adds_in_a_fixed_order(float32_step):
  """The gradients of token embeddings are sums over the tokens of the class texts."""
  assert not all(scatters(float32_step))
  deterministic = compile_step('train', dtype='bfloat16', attention='cudnn', deterministic=True)
  assert scatters(deterministic)
  assert all(scatters(deterministic))
  assert 'fmhaSoftmaxBackward' in deterministic  # XLA has a deterministic kernel of cuDNN for it.


def test_xla_refuses_unknown_options():
  """So the options of a deterministic program, which it compiled, are options that it has."""
  device = H100.devices()[0]
  shape = jax.ShapeDtypeStruct((2,), 'float32', sharding=jax.sharding.SingleDeviceSharding(device))
  with pytest.raises(jax.errors.JaxRuntimeError, match='No such compile option'):
    jax.jit(lambda x: x + 1).lower(shape).compile({'xla_gpu_exclude_nondeterministic_op': True})
