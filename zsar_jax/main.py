"""Trains or evaluates the experiment of a config file.

    zsar train --config=pantomime --workdir=runs/pantomime

Any setting can be changed on the command line: --config.optim.lr=1e-4. The same command
continues an interrupted run. Exit status: 0 for success, 2 for an error that the user can correct.
"""

import pathlib
import time

from absl import app, flags
from ml_collections import config_flags

from zsar_jax.command_line import parse_flags, start_program
from zsar_jax.runtime import distributed
from zsar_jax.runtime.interruption import interruptible_program
from zsar_jax.runtime.reporting import exit_on_user_error

_CONFIG = config_flags.DEFINE_config_file(
  'config',
  None,
  'The experiment: the name of a packaged config, or FILE.py, optionally followed by :VARIANT.',
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'The folder of this run: checkpoints, metrics.jsonl, results.json.'
)
_MODE = flags.DEFINE_enum(
  'mode',
  'train',
  ['train', 'eval'],
  "train: to the last step, then evaluate. eval: evaluate the workdir's newest checkpoint, or"
  ' that of --config.model.init_from in a workdir without one.',
)
_MODEL = flags.DEFINE_string(
  'model',
  None,
  "MODULE:FUNCTION: evaluates somebody's model, as --config.model.external does; implies"
  ' --mode=eval. See docs/external_models.md.',
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator_address', None, 'With several hosts: HOST:PORT of process 0. See docs/pods.md.'
)
_PROCESSES = flags.DEFINE_integer(
  'num_processes', None, 'With several hosts: the number of processes.'
)
_PROCESS = flags.DEFINE_integer(
  'process_id', None, 'With several hosts: the number of this process, from 0.'
)

_WAIT = flags.DEFINE_float(
  'wait_for_processes', 100.0, 'With several hosts: seconds to wait for the others at the start.'
)

_STARTED = time.monotonic()


def main(argv: list[str]) -> None:
  """Runs the program; see the module docstring."""
  with exit_on_user_error():
    _run(start_program(argv))


def _run(workdir: pathlib.Path) -> None:
  # Imported late, so that --help and errors in flags answer at once.
  import jax

  from zsar_jax import config, experiment
  from zsar_jax.evaluation import run_results
  from zsar_jax.training import compilation
  from zsar_jax.training.goodput import Goodput

  mode = _MODE.value
  if _MODEL.value is not None:
    config.validate(_CONFIG.value)
    _CONFIG.value.model.external = _MODEL.value
    if 'config.model.init_from' not in flags.FLAGS:
      _CONFIG.value.model.init_from = ''  # The model replaces the weights that the config names.
    mode = mode if flags.FLAGS['mode'].present else 'eval'
  goodput = Goodput(_STARTED)
  goodput.lap('imports')
  compilation.enable_compilation_cache()
  process = _COORDINATOR.value, _PROCESSES.value, _PROCESS.value
  with distributed.process_group(*process, timeout=_WAIT.value):
    jax.devices()  # Reports missing devices before anything is built.
    goodput.lap('devices')
    results = experiment.run(_CONFIG.value, workdir, mode, goodput)
    if distributed.is_main():
      print(run_results.format_table(results))
      print(f'results: {workdir / "results.json"}')


if __name__ == '__main__':
  with interruptible_program(distributed.request_stop):
    app.run(main, flags_parser=parse_flags)
