"""Defines the config of a study and derives its jobs.

study        seeds, experiments, findings
experiment   runs that are evaluated in the same way
run          a training config, trained with each seed of the study, or a model that is only
             evaluated
job          a run with a seed, in the folder WORKDIR/runs/EXPERIMENT/RUN/seedN, or the evaluation
             of a model, in WORKDIR/runs/EXPERIMENT/RUN/evaluated
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
from zsar_jax.models.from_config import AUTO

# This value in the changes of a run stands for the folder of the baseline with the same seed.
BASELINE = '{baseline}'

# The name of a function that returns a model: 'package.module:function'.
_FUNCTION = re.compile(r'[A-Za-z_][\w.]*:[A-Za-z_]\w*')

# The name of the job of a model that is only evaluated, in place of a seed.
EVALUATED = 'evaluated'

# Clips play inside report.html as long as it stays small, or from files beside it, which keeps the
# page smaller; or there are only still frames.
CLIPS = ('inside', 'beside', 'stills')

_NAME = re.compile(r'[A-Za-z0-9][\w+-]*')


def default_study() -> ConfigDict:
  """Returns the default of every setting of a study."""
  study = ConfigDict()
  study.title = 'Static bias'
  study.about = ''
  # The training seeds; every run is trained with each of them.
  study.seeds = (1, 2, 3)
  # {name: experiment(...)}
  study.experiments = ConfigDict()
  # Replaces `config.data.dir` of every experiment; '' keeps that of each experiment.
  study.data = ConfigDict({'dir': ''})
  # The differences that the study tests, each a `finding(...)`.
  study.findings = ()
  # The number of clips of each data set in the report's gallery.
  study.gallery = 6
  # How the report plays the clips of its gallery, one of `CLIPS`.
  study.clips = 'inside'
  # The number of bootstrap draws of each interval.
  study.draws = 2000
  return study


def experiment(
  base: ConfigDict, baseline: str, runs: Mapping[str, ConfigDict], about: str = ''
) -> ConfigDict:
  """Defines an experiment.

  Args:
    base: the config that every run starts from; all runs share its `eval`.
    baseline: the run that the others are compared with.
    runs: the runs by name, each from `run` or `model`.
    about: a sentence for the report.
  """
  return ConfigDict(dict(base=base, baseline=baseline, runs=ConfigDict(dict(runs)), about=about))


def run(about: str, changes: Mapping[str, Any] | None = None) -> ConfigDict:
  """Defines a run.

  Args:
    about: a phrase for the report.
    changes: changes to the experiment's base config, by dotted field: {'optim.confusion': 0.5}. The
      value `BASELINE` stands for the folder of the baseline with the same seed.
  """
  # Stored as pairs, because keys of a ConfigDict cannot contain dots.
  return ConfigDict(dict(about=about, changes=tuple((changes or {}).items())))


def model(
  about: str,
  source: str,
  changes: Mapping[str, Any] | None = None,
  *,
  trained_on: str = '',
  license: str = '',
) -> ConfigDict:
  """Defines a model that a study evaluates and does not train.

  Args:
    about: a phrase for the report.
    source: the model: 'hf://OWNER/NAME', a file or folder of weights, the workdir of a run, or
      'module:function', a function that returns somebody's model (see `config.model.external`).
    changes: changes to the experiment's base config, by dotted field, such as
      {'view.num_frames': 16}. The weights describe the model and its preprocessing
      (`config.model.preset='auto'`), unless 'model.preset' is changed to that of weights that do
      not.
    trained_on: what the model was trained on, for the report.
    license: the license of the weights, for the report; '' for that of the card beside them.
  """
  if _FUNCTION.fullmatch(source) and not pathlib.Path(source).exists():
    # Instead of the base's weights, and without saliency, which needs gradients.
    named = {'model.external': source, 'model.init_from': '', 'eval.saliency': 0}
  elif 'model.preset' in (changes or {}):
    named = {'model.init_from': source}
  else:
    named = {'model.preset': AUTO, 'model.init_from': source, 'text.templates': ()}
  entry = run(about, named | dict(changes or {}))
  entry.update(source=source, trained_on=trained_on, license=license)
  return entry


def is_evaluated(entry: ConfigDict) -> bool:
  """Returns whether a run of an experiment is only evaluated."""
  return 'source' in entry


def finding(
  name: str,
  statement: str,
  *,
  better: Sequence[str],
  worse: Sequence[str],
  threshold: float,
) -> ConfigDict:
  """Defines a difference in top-1 accuracy that the study tests.

  Args:
    name: a short name for tables.
    statement: a sentence that holds if the difference is at least `threshold`.
    better: (experiment, run, data set, validation recipe) of the accuracy to subtract from.
    worse: (experiment, run, data set, validation recipe) of the accuracy to subtract.
    threshold: the minimum difference, in [0, 1]; 0.1 is 10 points.
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
  """A run with one seed, or a model that is only evaluated.

  Attributes:
    experiment: name of the experiment.
    run: name of the run.
    seed: the training seed; None for a model that is only evaluated.
    folder: its workdir.
    config: its complete config, validated.
    depends_on: the folder of the job that must finish first, or None.
  """

  experiment: str
  run: str
  seed: int | None
  folder: pathlib.Path
  config: ConfigDict
  depends_on: pathlib.Path | None

  @property
  def trial(self) -> str:
    """The seed as text, or `EVALUATED`."""
    return EVALUATED if self.seed is None else str(self.seed)

  @property
  def name(self) -> str:
    """The name of the job, as `--only` takes it."""
    return f'{self.experiment}/{self.run}/{self.trial}'

  @property
  def mode(self) -> str:
    """The mode of `experiment.run`."""
    return 'eval' if self.seed is None else 'train'


def plan(study: ConfigDict, workdir: pathlib.Path) -> list[Job]:
  """Returns the jobs of a study in order; baselines come first.

  Raises:
    UserError: the study or the config of a run is invalid.
  """
  _check_fields(study)
  _check_values(study)
  jobs = []
  for seed in study.seeds:
    for name, entry in study.experiments.items():
      common = copy.deepcopy(entry.base)
      common.seed = seed
      if study.data.dir:
        common.data.dir = study.data.dir
      baseline = _folder(workdir, name, entry.baseline, seed)
      for run_name in sorted(entry.runs, key=lambda run_name: run_name != entry.baseline):
        evaluated = is_evaluated(entry.runs[run_name])
        if evaluated and seed != study.seeds[0]:
          continue  # Its predictions are those of every seed.
        config, depends_on = _job_config(common, entry.runs[run_name].changes, baseline)
        if depends_on and is_evaluated(entry.runs[entry.baseline]):
          raise UserError(
            f'config.experiments.{name}.runs.{run_name}: {BASELINE} is the run {entry.baseline},'
            ' which the study only evaluates; name its weights'
          )
        if run_name == entry.baseline and depends_on:
          raise UserError(f'config.experiments.{name}: the baseline cannot start from {BASELINE}')
        job_seed = None if evaluated else seed
        folder = _folder(workdir, name, run_name, job_seed)
        jobs.append(Job(name, run_name, job_seed, folder, config, depends_on))
  return jobs


def _folder(workdir: pathlib.Path, experiment: str, run: str, seed: int | None) -> pathlib.Path:
  """Returns the workdir of a job."""
  return workdir / 'runs' / experiment / run / (EVALUATED if seed is None else f'seed{seed}')


def _check_fields(study: ConfigDict) -> None:
  """Raises a `UserError` if the config is not a study but, for example, one training."""
  if 'experiments' not in study and 'optim' in study:
    raise UserError(
      '--config: this is the config of one training, not of a study; run it with zsar train, or'
      ' name a study such as pantomime_study'
    )
  missing = [name for name in default_study() if name not in study]
  if missing:
    raise UserError(
      f'--config: this is not a study, because it has no field {missing[0]!r}; start from'
      ' default_study() of zsar_jax/study/plan.py'
    )


def _check_values(study: ConfigDict) -> None:
  """Raises a `UserError` if a value of the study is invalid."""
  if not study.seeds or len(set(study.seeds)) < len(study.seeds):
    raise UserError(f'config.seeds: {tuple(study.seeds)} must be one or more distinct seeds')
  if not study.experiments:
    raise UserError('config.experiments: it is empty, so there is nothing to study')
  for name, entry in study.experiments.items():
    _check_experiment(name, entry)
  for name, minimum in (('gallery', 0), ('draws', 1)):
    if study[name] < minimum:
      raise UserError(f'config.{name}: {study[name]} is less than {minimum}')
  config_lib.check_choice('config.clips', study.clips, CLIPS)
  for entry in study.findings:
    _check_finding(study, entry)


def _check_experiment(name: str, entry: ConfigDict) -> None:
  field = f'config.experiments.{name}'
  for folder_name in (name, *entry.runs):
    if not _NAME.fullmatch(folder_name):
      raise UserError(
        f'{field}: {folder_name!r} becomes a folder name; use letters, digits, _, + and -'
      )
  if entry.baseline not in entry.runs:
    raise UserError(f'{field}.baseline: {entry.baseline!r} is none of {", ".join(entry.runs)}')
  if not entry.base.eval.datasets:
    raise UserError(f'{field}.base.eval.datasets: it is empty, so there is nothing to measure')
  for run_name, run_entry in entry.runs.items():
    for changed_field, _ in run_entry.changes:
      if changed_field.startswith(('eval.recipes', 'eval.datasets')):
        raise UserError(
          f'{field}.runs.{run_name}: it changes {changed_field}, but all runs of an experiment are'
          ' evaluated in the same way; change the base'
        )
  if list(entry.base.eval.recipes) == ['none']:
    raise UserError(
      f"{field}.base.eval.recipes: 'none' alone measures no bias; add a recipe that masks, such"
      " as 'background=normal'"
    )


def _check_finding(study: ConfigDict, entry: ConfigDict) -> None:
  field = f'config.findings, {entry.name}'
  for side in (entry.better, entry.worse):
    _check_side(study, side, field)
  if not 0 <= entry.threshold <= 1:
    raise UserError(
      f'{field}: the threshold {entry.threshold} is not in [0, 1]; 10 points are written 0.1'
    )
  better, worse = (_clip_selection(study, side) for side in (entry.better, entry.worse))
  for name, value in better.items():
    if value != worse[name]:
      raise UserError(
        f'{field}: it compares different clips, {name} is {value!r} on one side and'
        f' {worse[name]!r} on the other; name the same clips on both sides'
      )


def _clip_selection(study: ConfigDict, side: Sequence[str]) -> dict[str, Any]:
  """Returns the settings that determine the clips of one side of a finding."""
  experiment_name, _, dataset, _ = side
  base = study.experiments[experiment_name].base
  reference = base.eval.datasets[dataset]
  return {
    'data.dir': study.data.dir or base.data.dir,
    'view.unannotated': base.view.unannotated,
    **{name: reference[name] for name in ('dataset', 'split', 'classes')},
    'labels': reference.get('labels', ''),
  }


def _check_side(study: ConfigDict, side: Sequence[str], field: str) -> None:
  """Checks that the study measures the accuracy of one side of a finding."""
  name, run_name, dataset, recipe = side
  config_lib.check_choice(field, name, tuple(study.experiments))
  entry = study.experiments[name]
  config_lib.check_choice(field, run_name, tuple(entry.runs))
  config_lib.check_choice(field, dataset, tuple(entry.base.eval.datasets))
  config_lib.check_choice(field, recipe, tuple(entry.base.eval.recipes))


def _job_config(
  common: ConfigDict, changes: Sequence[tuple[str, Any]], baseline: pathlib.Path
) -> tuple[ConfigDict, pathlib.Path | None]:
  """Returns the config of a job, and the folder of the job that it depends on.

  Args:
    common: the config of all runs of the experiment.
    changes: the changes of this run.
    baseline: the folder that `BASELINE` stands for.
  """
  config = copy.deepcopy(common)
  depends_on = None
  for field, value in changes:
    if value == BASELINE:
      value, depends_on = str(baseline), baseline
    config_lib.set_value(config, field, value)
  config_lib.validate(config)
  return config, depends_on
