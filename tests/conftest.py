"""Where the tests run: on eight CPU devices in one process, or on a GPU for `pytest -m gpu`.

With eight CPU devices, meshes can be tested anywhere. What runs in this process is compiled without
optimization, in half the time; the tests that start the trainer as a program do so as a user does.
"""

import os
import re

import pytest

from tests.bucket_servers import (  # noqa: F401  Fixtures.
  bucket_url,
  gcs_bucket,
  gcs_server,
  s3_bucket,
  s3_server,
)

# The files that take longest, in order: begun last, one would keep one process busy alone.
_LONG = (
  *('survival_test', 'bucket_survival_test', 'loop_test', 'initial_test', 'bias_study_test'),
  *('benchmark_test', 'still_bank_test'),
)


def gpu_wanted(config) -> bool:
  """Returns whether the command line asks for the tests that need a GPU: -m gpu."""
  return bool(re.search(r'(?<!not )\bgpu\b', config.option.markexpr))


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
  """Keeps the GPU tests in one process, since several would share the GPU."""
  if gpu_wanted(config):
    config.option.numprocesses = 0


def pytest_configure(config):
  """Chooses JAX's devices, before anything imports JAX."""
  if gpu_wanted(config):
    os.environ.pop('JAX_PLATFORMS', None)  # The GPU, and the CPU to compare with.
    # The tests start programs that use the same GPU.
    os.environ['XLA_PYTHON_CLIENT_PREALLOCATE'] = 'false'
    return
  os.environ['JAX_PLATFORMS'] = 'cpu'
  os.environ['XLA_FLAGS'] = (
    os.environ.get('XLA_FLAGS', '')
    + ' --xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0'
  )


def pytest_collection_modifyitems(items):
  """Has the files that take longest begun first."""
  places = {name: place for place, name in enumerate(_LONG)}
  items.sort(key=lambda item: places.get(item.path.stem, len(_LONG)))
