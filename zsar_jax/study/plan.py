"""What a study consists of: its config, and the runs that follow from it.

study        seeds, experiments, findings
experiment   runs that differ in how they train, and are evaluated alike
run          one training config; with each seed of the study, a folder of its own:
             WORKDIR/runs/EXPERIMENT/RUN/seedN
"""

import copy
import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from zsar_jax import config as config_lib
from zsar_jax.errors import UserError

# In the changes of a run: the folder of the baseline's run with the same seed.
BASELINE = '{baseline}'

_NAME = re.compile(r'[A-Za-z0-9][\w+-]*')


def default_study() -> ConfigDict:
  """The default of every setting of a study."""
  study = ConfigDict()
  study.title = 'Static bias'
  study.about = ''
  # Every run is trained with each of them.
  study.seeds = (1, 2, 3)
  # {name: experiment(...)}
  study.experiments = ConfigDict()
  # `config.data.dir` of every experiment; '' leaves each its own.
  study.data = ConfigDict({'dir': ''})
  # What the study is to decide, each a `finding(...)`.
  study.findings = ()
  # Clips of each data set in the report's gallery.
  study.gallery = 6
  # Bootstrap draws behind each interval.
  study.draws = 2000
  return study


def experiment(
  base: ConfigDict, baseline: str, runs: Mapping[str, ConfigDict], about: str = ''
) -> ConfigDict:
  """An experiment.

  Args:
    base: the config that every run starts from; its `eval` is that of all of them.
    baseline: the run that the others are compared with.
    runs: each from `run`.
    about: a sentence for the report.
  """
  return ConfigDict(dict(base=base, baseline=baseline, runs=ConfigDict(dict(runs)), about=about))


def run(about: str, changes: Mapping[str, Any] | None = None) -> ConfigDict:
  """A run.

  Args:
    about: a phrase for the report.
    changes: of the experiment's base config, by dotted field: {'optim.confusion': 0.5}. The value
      `BASELINE` stands for the folder of the baseline's run.
  """
  # As pairs: a ConfigDict has no keys with dots.
  return ConfigDict(dict(about=about, changes=tuple((changes or {}).items())))


def finding(
  name: str,
  statement: str,
  *,
  better: Sequence[str],
  worse: Sequence[str],
  threshold: float,
) -> ConfigDict:
  """A difference in top-1 that the study is to decide on.

  Args:
    name: short, for tables.
    statement: what holds if the difference is at least `threshold`.
    better: (experiment, run, data set, validation recipe).
    worse: the same, of what is subtracted.
    threshold: in [0, 1]; 0.1 is 10 points.
  """
  return ConfigDict(
    dict(
      name=name,
      statement=statement,
      better=tuple(better),
      worse=tuple(worse),
      threshold=threshold,
    )
  )


@dataclasses.dataclass(frozen=True)
class Job:
  """A run with one seed.

  Attributes:
    experiment: its name.
    run: its name.
    seed: of the training.
    folder: its workdir.
    config: its whole config, validated.
    after: the folder of a run that has to be finished before, or None.
  """

  experiment: str
  run: str
  seed: int
  folder: pathlib.Path
  config: ConfigDict
  after: pathlib.Path | None

  @property
  def name(self) -> str:
    """What `--only` calls it."""
    return f'{self.experiment}/{self.run}/{self.seed}'


def plan(study: ConfigDict, workdir: pathlib.Path) -> list[Job]:
  """The jobs of a study, in the order in which they are to be done: baselines come first.

  Raises:
    UserError: for a study or a config that makes no sense, before anything is trained.
  """
  _check_study(study)
  _check(study)
  jobs = []
  for seed in study.seeds:
    for name, one in study.experiments.items():
      common = copy.deepcopy(one.base)
      common.seed = seed
      if study.data.dir:
        common.data.dir = study.data.dir
      base = folder(workdir, name, one.baseline, seed)
      for run_name, changed in sorted(one.runs.items(), key=lambda item: item[0] != one.baseline):
        config, after = _config(common, changed.changes, base)
        if run_name == one.baseline and after:
          raise UserError(f'config.experiments.{name}: the baseline cannot start from {BASELINE}')
        jobs.append(Job(name, run_name, seed, folder(workdir, name, run_name, seed), config, after))
  return jobs


def folder(workdir: pathlib.Path, experiment: str, run: str, seed: int) -> pathlib.Path:
  """The workdir of a run."""
  return workdir / 'runs' / experiment / run / f'seed{seed}'


def _check_study(study: ConfigDict) -> None:
  """Raises a `UserError` for a config that is no study, such as that of one training."""
  if 'experiments' not in study and 'optim' in study:
    raise UserError(
      '--config: this is the config of one training, not of a study; run it with zsar train, or'
      ' name a study such as pantomime_study'
    )
  missing = [name for name in default_study() if name not in study]
  if missing:
    raise UserError(
      f'--config: this is no study, it has no field {missing[0]!r}; start from default_study() of'
      ' zsar_jax/study/plan.py'
    )


def _check(study: ConfigDict) -> None:
  if not study.seeds or len(set(study.seeds)) < len(study.seeds):
    raise UserError(f'config.seeds: {tuple(study.seeds)} are not one or more different seeds')
  if not study.experiments:
    raise UserError('config.experiments: there is none, so there is nothing to study')
  for name, one in study.experiments.items():
    field = f'config.experiments.{name}'
    for text in (name, *one.runs):
      if not _NAME.fullmatch(text):
        raise UserError(f'{field}: {text!r} becomes a folder; use letters, digits, _, + and -')
    if one.baseline not in one.runs:
      raise UserError(f'{field}.baseline: {one.baseline!r} is none of {", ".join(one.runs)}')
    if not one.base.eval.datasets:
      raise UserError(f'{field}.base.eval.datasets: there is none, so there is nothing to measure')
    for run_name, changed in one.runs.items():
      for what, _ in changed.changes:
        if what.startswith(('eval.recipes', 'eval.datasets')):
          raise UserError(
            f'{field}.runs.{run_name}: it changes {what}, but all runs of an experiment are'
            ' evaluated alike; change it in the base'
          )
    if list(one.base.eval.recipes) == ['none']:
      raise UserError(
        f"{field}.base.eval.recipes: 'none' alone measures no bias; add a recipe that masks, such"
        " as 'background=normal'"
      )
  for name, least in (('gallery', 0), ('draws', 1)):
    if study[name] < least:
      raise UserError(f'config.{name}: {study[name]} is less than {least}')
  for asked in study.findings:
    _check_finding(study, asked)


def _check_finding(study: ConfigDict, asked: ConfigDict) -> None:
  field = f'config.findings, {asked.name}'
  for side in (asked.better, asked.worse):
    _check_place(study, side, field)
  if not 0 <= asked.threshold <= 1:
    raise UserError(
      f'{field}: the threshold {asked.threshold} is not in [0, 1]; 10 points are written 0.1'
    )
  better, worse = (_clips_of(study, side) for side in (asked.better, asked.worse))
  for name, value in better.items():
    if value != worse[name]:
      raise UserError(
        f'{field}: it compares different clips, {name} is {value!r} on one side and'
        f' {worse[name]!r} on the other; name the same clips on both sides'
      )


def _clips_of(study: ConfigDict, place: Sequence[str]) -> dict[str, Any]:
  """What decides which clips a side of a finding is about."""
  base = study.experiments[place[0]].base
  reference = base.eval.datasets[place[2]]
  return {
    'data.dir': study.data.dir or base.data.dir,
    'view.unannotated': base.view.unannotated,
    **{name: reference[name] for name in ('dataset', 'split', 'classes')},
  }


def _check_place(study: ConfigDict, place: Sequence[str], field: str) -> None:
  name, run_name, dataset, recipe = place
  config_lib.check_choice(field, name, tuple(study.experiments))
  one = study.experiments[name]
  config_lib.check_choice(field, run_name, tuple(one.runs))
  config_lib.check_choice(field, dataset, tuple(one.base.eval.datasets))
  config_lib.check_choice(field, recipe, tuple(one.base.eval.recipes))


def _config(
  common: ConfigDict, changes: Sequence[tuple[str, Any]], baseline: pathlib.Path
) -> tuple[ConfigDict, pathlib.Path | None]:
  """The config of a run, and the folder of the run that it needs.

  Args:
    common: the config of all runs of the experiment.
    changes: of this run.
    baseline: the folder that `BASELINE` stands for.
  """
  config = copy.deepcopy(common)
  after = None
  for field, value in changes:
    if value == BASELINE:
      value, after = str(baseline), baseline
    config_lib.set_value(config, field, value)
  config_lib.validate(config)
  return config, after
