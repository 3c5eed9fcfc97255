"""Finding a chip by the name that JAX gives a device."""

import pytest

from zsar_jax.runtime import chips


@pytest.mark.parametrize(
  ('device_kind', 'name'),
  [
    ('TPU v5 lite', 'TPU v5e'),
    ('TPU v5', 'TPU v5p'),
    ('TPU v6 lite', 'TPU v6e'),
    ('NVIDIA H100 80GB HBM3', 'H100 SXM'),
    ('NVIDIA A100-SXM4-80GB', 'A100 SXM 80 GB'),
  ],
)
def test_known_devices(device_kind, name):
  assert chips.find_chip(device_kind).name == name


@pytest.mark.parametrize('device_kind', ['cpu', 'TPU v4', 'NVIDIA H100 PCIe'])
def test_unknown_devices(device_kind):
  """A name that only begins like a known one is not guessed."""
  assert chips.find_chip(device_kind) is None
