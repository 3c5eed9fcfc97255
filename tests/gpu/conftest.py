"""The device that the GPU tests run on. They run with `pytest -m gpu`, see `tests/conftest.py`."""

import jax
import pytest

from tests.gpu import devices


@pytest.fixture(scope='session')
def gpu():
  return devices.find_gpu()


@pytest.fixture(scope='session')
def cpu():
  return jax.devices('cpu')[0]
