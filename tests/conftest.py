"""Eight CPU devices in one process, so that meshes can be tested anywhere.

What runs in this process is compiled without optimization, in half the time; the tests that start
the trainer as a program do so as a user does.
"""

import os

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = (
  os.environ.get('XLA_FLAGS', '')
  + ' --xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0'
)

# The files that take longest, in order: begun last, one would keep one process busy alone.
_LONG = ('loop_test', 'initial_test', 'bias_study_test', 'benchmark_test', 'still_bank_test')


def pytest_collection_modifyitems(items):
  """Has the files that take longest begun first."""
  places = {name: place for place, name in enumerate(_LONG)}
  items.sort(key=lambda item: places.get(item.path.stem, len(_LONG)))
