"""Finds the devices of the GPU tests."""

import jax
import pytest


def find_gpu() -> jax.Device:
  """Returns the first NVIDIA GPU; skips the test where there is none."""
  try:
    return jax.devices('cuda')[0]
  except RuntimeError:
    pytest.skip('JAX has no NVIDIA GPU here, or the tests were not started by pytest -m gpu')
