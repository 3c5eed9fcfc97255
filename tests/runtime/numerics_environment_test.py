"""The recorded environment, and the description of a changed one."""

import importlib.metadata
import os
import types

import jax
import pytest

from zsar_jax.runtime import numerics_environment


def test_the_threads_are_the_cores_that_the_process_may_use():
  cores = os.sched_getaffinity(0)
  assert numerics_environment.current() == {
    'platform': 'cpu',
    'devices': jax.device_count(),
    'jax': jax.__version__,
    'threads': len(cores),
  }
  try:
    os.sched_setaffinity(0, {min(cores)})
    assert numerics_environment.current()['threads'] == 1
  finally:
    os.sched_setaffinity(0, cores)


def test_a_gpu_is_recorded_with_the_libraries_of_its_kernels(monkeypatch):
  gpu = types.SimpleNamespace(platform='gpu', device_kind='NVIDIA H100 80GB HBM3')
  monkeypatch.setattr(jax, 'devices', lambda: [gpu] * 8)
  monkeypatch.setattr(jax, 'device_count', lambda: 8)
  installed = {'nvidia-cublas': '13.1.0.3', 'nvidia-cudnn-cu13': '9.15.1.9'}

  def version(package):
    if package not in installed:
      raise importlib.metadata.PackageNotFoundError
    return installed[package]

  monkeypatch.setattr(importlib.metadata, 'version', version)
  expected = {'platform': 'gpu', 'devices': 8, 'jax': jax.__version__}
  expected |= {'device': gpu.device_kind, 'cublas': '13.1.0.3', 'cudnn': '9.15.1.9'}
  assert numerics_environment.current() == expected
  installed.clear()  # CUDA may be installed by other means.
  assert numerics_environment.current()['cudnn'] is None


@pytest.mark.parametrize(
  ('saved', 'changes'),
  [
    ({'platform': 'cpu', 'threads': 2}, 'threads: 4, and 2 before'),
    ({'platform': 'gpu'}, 'platform: cpu, and gpu before'),
    ({'platform': 'cpu', 'jax': '0.1', 'threads': 4}, ''),
    # An old checkpoint without the record, or a damaged record.
    (None, ''),
    ([3], ''),
  ],
)
def test_changes(saved, changes):
  assert numerics_environment.describe_changes(saved, {'platform': 'cpu', 'threads': 4}) == changes
