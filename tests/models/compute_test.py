"""The compiler's options, by device."""

from types import SimpleNamespace

import numpy as np
import pytest

from zsar_jax.models.compute import compiler_options


def mesh_of(platform):
  return SimpleNamespace(devices=np.array([SimpleNamespace(platform=platform)], object))


@pytest.mark.parametrize('deterministic', [False, True])
def test_the_options_of_gpus_are_for_gpus_alone(deterministic):
  # XLA refuses options that it does not know, so these would be errors on TPUs.
  assert compiler_options(mesh_of('tpu'), deterministic) is None
  cpu = compiler_options(mesh_of('cpu'), deterministic)
  assert cpu == compiler_options(None, deterministic)  # The tests run on CPUs.
  assert not any('gpu' in name for name in cpu)


def test_only_a_deterministic_program_keeps_xla_from_its_choice_of_kernels():
  assert compiler_options(mesh_of('gpu')) is None
  options = compiler_options(mesh_of('gpu'), deterministic=True)
  assert options['xla_gpu_exclude_nondeterministic_ops'] is True
  assert options['xla_gpu_per_fusion_autotune_cache_dir'] == ''
