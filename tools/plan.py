"""Says what a run needs and how fast it can be, before any device is rented.

    zsar plan --config=ssv2_objmask --topology=v5e:16x16
    zsar plan --config=ssv2_objmask --topology=gpu:8xH100

For TPUs the very training and evaluation step are compiled by the TPU's own compiler (extra
`tpu`), which takes minutes and no TPU; for GPUs what can be known without a compiler is worked
out; cpu:8 compiles for so many devices of this host. No data are read. Settings are changed as
in training: --config.mesh.fsdp=16. See docs/planning.md.
"""

import json
import pathlib
import re
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from zsar_jax.errors import UserError
from zsar_jax.performance import topologies
from zsar_jax.runtime.command_line import parse_flags
from zsar_jax.runtime.files import make_folder
from zsar_jax.runtime.reporting import exit_on_user_error

_CONFIG = config_flags.DEFINE_config_file('config', None, 'The experiment: see zsar train --help.')
_TOPOLOGY = flags.DEFINE_string(
  'topology', None, 'v5e:4x4, v5p:2x2x2, v6e:2x4, ...; gpu:8xH100; cpu:8.'
)
_CLASSES = flags.DEFINE_integer(
  'classes', 400, 'The number of classes, of which no data are read here.', lower_bound=1
)
_LARGEST = flags.DEFINE_enum(
  'largest',
  'estimate',
  ['estimate', 'verify', 'skip'],
  'The largest batch that fits. estimate: from two compiles; verify: and compile it; skip: none.',
)
_JSON = flags.DEFINE_string('json', None, 'Writes the plan to this file as well.')


def main(argv: list[str]) -> None:
  """Runs the program; see the head of this file."""
  logging.set_verbosity(logging.ERROR)
  with exit_on_user_error():
    if len(argv) > 1:
      raise UserError(f'{argv[1]!r} is no flag; settings are written --config.NAME=VALUE')
    if _CONFIG.value is None or not _TOPOLOGY.value:
      raise UserError('both --config=FILE and --topology=NAME are needed; see --help')
    # Imported late: they are slow, and JAX's devices are made with the environment that is now set.
    from zsar_jax.performance import plan_text, planner

    planner.check_config(_CONFIG.value)
    if _JSON.value:
      make_folder(pathlib.Path(_JSON.value).parent, '--json')
    topology = topologies.parse(_TOPOLOGY.value)
    found = planner.make_plan(_CONFIG.value, topology, _CLASSES.value, _LARGEST.value)
    if _JSON.value:
      pathlib.Path(_JSON.value).write_text(json.dumps(found, indent=2) + '\n')
  print(plan_text.describe(found))


def prepare(argv: list[str]) -> None:
  """Sets the environment for the topology that the command line names, if it names one."""
  words = '\n'.join(argv)
  names = re.findall(r'^--?topology[=\n](.*)$', words, re.MULTILINE)
  with exit_on_user_error():
    for name in names[-1:]:
      topologies.prepare_environment(topologies.parse(name))


if __name__ == '__main__':
  # libtpu reads the environment when jax is imported, which the config file does.
  prepare(sys.argv)
  app.run(main, flags_parser=parse_flags)
