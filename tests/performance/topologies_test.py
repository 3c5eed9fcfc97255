"""Names of topologies, and the environment that compiling for them needs."""

import dataclasses

import numpy as np
import pytest

from zsar_jax.errors import UserError
from zsar_jax.performance import topologies
from zsar_jax.runtime.chips import CHIPS


@pytest.mark.parametrize(
  ('text', 'platform', 'count', 'chip'),
  [
    ('v5e:16x16', 'tpu', 256, 'TPU v5e'),
    ('v5p:2x2x2', 'tpu', 8, 'TPU v5p'),
    ('v6e:2x4', 'tpu', 8, 'TPU v6e'),
    ('2xv5e:4x4', 'tpu', 32, 'TPU v5e'),
    ('12xv5p:2x2x2', 'tpu', 96, 'TPU v5p'),
    ('gpu:8xH100', 'gpu', 8, 'H100 SXM'),
  ],
)
def test_names(text, platform, count, chip):
  topology = topologies.parse(text)
  assert (topology.platform, topology.count, topology.chip.name) == (platform, count, chip)
  assert topology.compiles or platform == 'gpu'


def test_gpus_fill_their_machines():
  assert topologies.parse('gpu:6xH200').machines == 1
  assert topologies.parse('gpu:16xB200').machines == 2
  with pytest.raises(UserError, match=r"'gpu:12xH100' does not fill its machines"):
    topologies.parse('gpu:12xH100')


def test_a_cpu_has_no_published_figures():
  assert topologies.parse('cpu:8') == topologies.Topology('cpu:8', 'cpu', 8, None)


@pytest.mark.parametrize(
  'text',
  ['', 'v5e', 'v5e:', 'v5e:16', 'v9:4x4', 'gpu:H100', 'gpu:8xB9', 'cpu:0', 'cpu:x']
  + ['1xv5e:4x4', '0xv5e:4x4', '2x2xv5e:4x4', '2v5e:4x4', '2xgpu:8xH100'],
)
def test_unknown_topologies_are_refused(text):
  with pytest.raises(UserError, match=r'--topology: .* is not known; write .*gpu:8xH100.*cpu:8'):
    topologies.parse(text)


def test_libtpu_missing(monkeypatch):
  monkeypatch.setattr(topologies.importlib.util, 'find_spec', lambda name: None)
  monkeypatch.setattr(topologies.os, 'environ', {})
  with pytest.raises(UserError, match=r"libtpu: pip install 'zsar_jax\[tpu\]'"):
    topologies.prepare_environment(topologies.parse('v5e:4x4'))


def test_environment(monkeypatch):
  environment = {'XLA_FLAGS': '--xla_a', 'TPU_WORKER_ID': '7'}
  monkeypatch.setattr(topologies.os, 'environ', environment)
  monkeypatch.setattr(topologies.importlib.util, 'find_spec', lambda name: object())
  topologies.prepare_environment(topologies.parse('v5e:4x4'))
  assert environment['JAX_PLATFORMS'] == 'cpu'
  assert environment['TPU_WORKER_ID'] == '7'
  assert environment['TPU_SKIP_MDS_QUERY'] == '1'
  topologies.prepare_environment(topologies.parse('gpu:16xA100'))
  assert environment['XLA_FLAGS'] == '--xla_a'
  # Without the compiler, devices of this host represent the GPUs.
  monkeypatch.setattr(topologies.importlib.util, 'find_spec', lambda name: None)
  topologies.prepare_environment(topologies.parse('gpu:16xA100'))
  assert environment['XLA_FLAGS'] == '--xla_a --xla_force_host_platform_device_count=16'


@dataclasses.dataclass(frozen=True)
class _Device:
  coords: tuple[int, int, int]


def test_a_ring_has_the_links_of_its_dimensions():
  devices = np.empty((4, 2, 2), object)
  for index in np.ndindex(4, 2, 2):
    # The second axis takes the upper digit of y, the third the lower.
    devices[index] = _Device((index[0], 2 * index[1] + index[2], 0))
  assert topologies.torus_dimensions(devices, (0,)) == 1
  assert topologies.torus_dimensions(devices, (1, 2)) == 1
  assert topologies.torus_dimensions(devices, (0, 1)) == 2
  chip = CHIPS['v5e']
  # Four links of 50 GB/s in each direction.
  assert chip.ring_bandwidth(1) == 100e9
  assert chip.ring_bandwidth(2) == 200e9
  assert CHIPS['H100'].ring_bandwidth(0) == 450e9
