"""Trains under several mask recipes, evaluates under all, reports whether models see the action.

    zsar study --config=pantomime_study --workdir=studies/pantomime

Writes study.json, report.html and report.md, and below runs/ each run's checkpoints, metrics and
predictions. The same command continues a study that was interrupted, and with more seeds or runs
in the config trains only those that are new. Exit status: 0 done, 2 something to mend.
"""

import os
import pathlib
import shlex
import sys
from typing import TYPE_CHECKING

from absl import app, flags
from ml_collections import config_flags

from zsar_jax.errors import UserError
from zsar_jax.runtime.command_line import parse_flags, start_program
from zsar_jax.runtime.host_memory import is_cpu_only
from zsar_jax.runtime.interruption import exit_with_parent, interruptible_program
from zsar_jax.runtime.reporting import exit_on_user_error

if TYPE_CHECKING:
  from zsar_jax.study.plan import Job

_CONFIG = config_flags.DEFINE_config_file(
  'config',
  None,
  'The study: the name of a packaged one, or FILE.py; either with :VARIANT behind it.',
)
_WORKDIR = flags.DEFINE_string('workdir', None, 'The folder of the study.')
_PROCESSES = flags.DEFINE_integer(
  'processes',
  0,
  'Runs that are trained at a time; 0: one where there is an accelerator, else one for each core,'
  ' and at most four.',
  lower_bound=0,
)
_ONLY = flags.DEFINE_string(
  'only',
  None,
  'EXPERIMENT/RUN/SEED: trains this run and does nothing else, so that a cluster can do the runs;'
  ' the command without it then writes the report.',
)
_PARENT = flags.DEFINE_integer(
  'parent', None, 'With --only: ends with the process of this number. The study itself sets it.'
)


def main(argv: list[str]) -> None:
  """Runs the program; see the head of this file."""
  with exit_on_user_error():
    workdir = start_program(argv)
    # Imported late, so that --help and a misspelt flag answer at once.
    from zsar_jax.study import plan

    planned = plan.plan(_CONFIG.value, workdir)
    if _ONLY.value:
      if _PARENT.value:
        exit_with_parent(_PARENT.value)
      _train(planned, _ONLY.value)
    else:
      _study(planned, workdir)


def _train(planned: list['Job'], name: str) -> None:
  chosen = [job for job in planned if job.name == name]
  if not chosen:
    raise UserError(
      f'--only: {name!r} is no run; there are {", ".join(job.name for job in planned)}'
    )
  # Imported late: the process that starts the others leaves the devices to them.
  from zsar_jax import experiment
  from zsar_jax.evaluation import run_results
  from zsar_jax.training import compilation

  compilation.enable_compilation_cache()
  print(run_results.format_table(experiment.run(chosen[0].config, chosen[0].folder)))


def _study(planned: list['Job'], workdir: pathlib.Path) -> None:
  from zsar_jax.runtime.files import make_folder
  from zsar_jax.study import jobs
  from zsar_jax.study.checks import check_data

  check_data(planned)
  make_folder(workdir, '--workdir')
  # As `zsar` does and `python -m` does not, -P keeps files of this folder from hiding modules.
  safe = [] if os.getcwd() in sys.path else ['-P']
  command = [sys.executable, *safe, '-m', 'zsar_jax.tools.bias_study', *sys.argv[1:]]
  jobs.train_all(planned, command, _PROCESSES.value or _room())
  from zsar_jax.study.analysis import write_study
  from zsar_jax.study.report import write_report

  text = shlex.join(['zsar', 'study', *sys.argv[1:]])
  write_study(_CONFIG.value, planned, workdir, text)
  write_report(workdir)
  print(workdir / 'report.html')


def _room() -> int:
  """How many runs at a time this machine has room for."""
  return min(os.cpu_count() or 1, 4) if is_cpu_only() else 1


if __name__ == '__main__':
  with interruptible_program():
    app.run(main, flags_parser=parse_flags)
