"""Trains or loads models, evaluates each under several mask recipes, and reports static bias.

    zsar study --config=pantomime_study --workdir=studies/pantomime

Writes study.json, report.html and report.md, and under runs/ each run's checkpoints, metrics and
predictions. The same command continues an interrupted study. If seeds or runs were added to the
config, it trains only these. Exit status: 0 success, 2 an error in the config or the data.
"""

import os
import pathlib
import shlex
import sys
from typing import TYPE_CHECKING

from absl import app, flags
from ml_collections import config_flags

from zsar_jax.command_line import parse_flags, start_program
from zsar_jax.errors import UserError
from zsar_jax.runtime.host_memory import is_cpu_only
from zsar_jax.runtime.interruption import exit_with_parent, interruptible_program
from zsar_jax.runtime.reporting import exit_on_user_error

if TYPE_CHECKING:
  from zsar_jax.study.plan import Job

_CONFIG = config_flags.DEFINE_config_file(
  'config',
  None,
  'The study: the name of a packaged config or FILE.py, with :VARIANT appended if it has variants.',
)
_WORKDIR = flags.DEFINE_string('workdir', None, 'The folder of the study.')
_PROCESSES = flags.DEFINE_integer(
  'processes',
  0,
  'The number of runs that train at the same time; 0: one with an accelerator, otherwise one for'
  ' each core, at most four.',
  lower_bound=0,
)
_ONLY = flags.DEFINE_string(
  'only',
  None,
  'EXPERIMENT/RUN/SEED, or EXPERIMENT/RUN/evaluated: only this run, for clusters that start each'
  ' run separately; then the command without --only writes the report.',
)
_PARENT = flags.DEFINE_integer(
  'parent',
  None,
  'With --only: exits when the process with this number ends. Studies set it for their jobs.',
)


def main(argv: list[str]) -> None:
  """Runs the program; see the head of this file."""
  with exit_on_user_error():
    workdir = start_program(argv)
    # Imported late, so that --help and errors in flags are fast.
    from zsar_jax.study import plan

    jobs = plan.plan(_CONFIG.value, workdir)
    if _ONLY.value:
      if _PARENT.value:
        exit_with_parent(_PARENT.value)
      _train_job(jobs, _ONLY.value)
    else:
      _run_study(jobs, workdir)


def _train_job(jobs: list['Job'], name: str) -> None:
  """Trains and evaluates a single job in this process."""
  job = next((job for job in jobs if job.name == name), None)
  if job is None:
    raise UserError(
      f'--only: {name!r} is not a run; name one of {", ".join(job.name for job in jobs)}'
    )
  # Imported late, so that the process that starts the jobs does not occupy the devices.
  from zsar_jax import config as config_lib
  from zsar_jax import experiment
  from zsar_jax.evaluation import run_results
  from zsar_jax.runtime import distributed
  from zsar_jax.storage.files import write_file
  from zsar_jax.training import compilation

  compilation.enable_compilation_cache()
  results = experiment.run(job.config, job.folder, job.mode)
  if job.mode == 'eval' and distributed.is_main():
    # Marks the evaluation as finished, see `jobs.is_finished`. A training has written it already.
    write_file(job.folder / 'config.json', config_lib.to_json(job.config))
  print(run_results.format_table(results))


def _run_study(jobs: list['Job'], workdir: pathlib.Path) -> None:
  """Trains all jobs in processes of their own, and writes the report."""
  from zsar_jax.storage.files import make_folder
  from zsar_jax.study.checks import check_data
  from zsar_jax.study.jobs import train_all

  check_data(jobs)
  make_folder(workdir, '--workdir')
  # `zsar` does not have the current folder in sys.path. -P also removes it from that of the jobs,
  # so that no file in it hides a module.
  options = [] if os.getcwd() in sys.path else ['-P']
  command = [sys.executable, *options, '-m', 'zsar_jax.tools.bias_study', *sys.argv[1:]]
  train_all(jobs, command, _PROCESSES.value or _default_processes())
  # Imported late, so that the jobs have the devices to themselves.
  from zsar_jax.study.analysis import write_study
  from zsar_jax.study.report import write_report

  shown_command = shlex.join(['zsar', 'study', *sys.argv[1:]])
  write_study(_CONFIG.value, jobs, workdir, shown_command)
  write_report(workdir)
  print(workdir / 'report.html')


def _default_processes() -> int:
  """Returns the number of runs that this machine trains at the same time."""
  return min(os.cpu_count() or 1, 4) if is_cpu_only() else 1


if __name__ == '__main__':
  with interruptible_program():
    app.run(main, flags_parser=parse_flags)
