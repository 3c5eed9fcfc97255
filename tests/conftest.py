"""Eight CPU devices in one process, so that meshes can be tested anywhere.

What runs in this process is compiled without optimisation, in half the time; the tests that start
the trainer as a program do so as a user does.
"""

import os

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = (
  os.environ.get('XLA_FLAGS', '')
  + ' --xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0'
)
