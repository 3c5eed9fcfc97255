"""Says what a run needs and how fast it can be at best, before a device is rented.

    zsar plan --config=ssv2_objmask --topology=v5e:16x16
    zsar plan --config=ssv2_objmask --topology=gpu:8xH100

The devices' own compiler (extra `tpu` or `cuda12`) compiles the training and evaluation steps,
which takes minutes, but no TPU and no GPU. Without the extra `cuda12` a plan for GPUs is an
estimate. cpu:8 compiles for 8 CPU devices of this host. No data are read. Settings are changed as
in training: --config.mesh.fsdp=16. See docs/planning.md.
"""

import json
import re
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from zsar_jax.command_line import parse_flags
from zsar_jax.errors import UserError
from zsar_jax.performance import topologies
from zsar_jax.runtime.reporting import exit_on_user_error
from zsar_jax.storage.files import make_folder, write_file
from zsar_jax.storage.paths import as_path

_CONFIG = config_flags.DEFINE_config_file('config', None, 'The experiment: see zsar train --help.')
_TOPOLOGY = flags.DEFINE_string(
  'topology', None, 'v5e:4x4, v5p:2x2x2, v6e:2x4, ...; gpu:8xH100; cpu:8.'
)
_CLASSES = flags.DEFINE_integer(
  'classes', 400, 'The number of classes; it is not read from any data.', lower_bound=1
)
_LARGEST = flags.DEFINE_enum(
  'largest',
  'estimate',
  ['estimate', 'verify', 'skip'],
  'The largest batch that fits. estimate: from two compiles; verify: also compile it; skip: no.',
)
_JSON = flags.DEFINE_string('json', None, 'Also writes the plan to this file.')


def main(argv: list[str]) -> None:
  """Runs the program; see the head of this file."""
  logging.set_verbosity(logging.ERROR)
  with exit_on_user_error():
    if len(argv) > 1:
      raise UserError(f'{argv[1]!r} is no flag; settings are written --config.NAME=VALUE')
    if _CONFIG.value is None or not _TOPOLOGY.value:
      raise UserError('both --config=FILE and --topology=NAME are needed; see --help')
    # Imported late: the modules are slow to import, and JAX reads the environment set before.
    from zsar_jax import config
    from zsar_jax.performance import plan_text, planner

    config.validate(_CONFIG.value)
    out = as_path(_JSON.value, '--json') if _JSON.value else None
    if out:
      make_folder(out.parent, '--json')
    topology = topologies.parse(_TOPOLOGY.value)
    plan = planner.make_plan(_CONFIG.value, topology, _CLASSES.value, _LARGEST.value)
    if out:
      write_file(out, json.dumps(plan, indent=2) + '\n')
  print(plan_text.describe(plan))


def prepare_environment(argv: list[str]) -> None:
  """Sets the environment for the topology on the command line, if there is one."""
  words = '\n'.join(argv)
  names = re.findall(r'^--?topology[=\n](.*)$', words, re.MULTILINE)
  with exit_on_user_error():
    for name in names[-1:]:
      topologies.prepare_environment(topologies.parse(name))


if __name__ == '__main__':
  # libtpu reads the environment when jax is imported, which config files do.
  prepare_environment(sys.argv)
  app.run(main, flags_parser=parse_flags)
