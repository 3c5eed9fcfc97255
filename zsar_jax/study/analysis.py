"""Writes study.json: every figure of a study with its interval, from the predictions of all runs.

The report is made from study.json; docs/bias.md describes both.
"""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from zsar_jax import config as config_lib
from zsar_jax.data.view import View
from zsar_jax.evaluation import predictions, protocol
from zsar_jax.models.from_config import model_spec
from zsar_jax.models.video_model import VideoModel
from zsar_jax.recipes import language
from zsar_jax.runtime.progress import log
from zsar_jax.storage.files import read_file, write_file
from zsar_jax.study import clip_images, findings, ranking
from zsar_jax.study.dataset_figures import ByRun, measure_dataset
from zsar_jax.study.dataset_masks import describe_masks
from zsar_jax.study.plan import Job, is_evaluated

_PACKAGES = ('zsar_jax', 'jax', 'jaxlib', 'flax', 'optax', 'grain', 'orbax-checkpoint', 'numpy')

# The least number of runs that are ranked; for two, the differences say the same.
_MIN_RANKED = 3

# The most points of a training curve.
_MAX_POINTS = 200


def write_study(
  study: ConfigDict, jobs: Sequence[Job], workdir: pathlib.Path, command: str
) -> None:
  """Writes study.json, and the pictures that it names.

  Args:
    study: the study's config.
    jobs: all runs of the study, finished.
    workdir: the folder of the study.
    command: the command line that the report shows.

  Raises:
    UserError: predictions are damaged, or runs were evaluated on different clips.
  """
  experiments = _load_predictions(jobs, len(study.seeds))
  content = {
    'title': study.title,
    'about': study.about,
    'created': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'versions': {package: _version(package) for package in _PACKAGES},
    'hardware': _hardware(),
    'seeds': list(study.seeds),
    'command': command,
    'masks': describe_masks(jobs),
    'clips': study.clips,
    'experiments': {
      name: _experiment(study, name, jobs, by_dataset, workdir)
      for name, by_dataset in experiments.items()
    },
    'findings': [findings.decide(finding, experiments, study.draws) for finding in study.findings],
  }
  write_file(workdir / 'study.json', json.dumps(content, indent=1, allow_nan=False) + '\n')


def _load_predictions(jobs: Sequence[Job], seeds: int) -> dict[str, dict[str, ByRun]]:
  """Reads {experiment: {data set: {run: predictions}}}.

  The predictions of a model that is only evaluated stand for each of the seeds, so that it can be
  compared in pairs with runs that were trained with them.
  """
  experiments: dict[str, dict[str, ByRun]] = {}
  for job in jobs:
    for dataset in job.config.eval.datasets:
      of_job = predictions.load(job.folder / 'predictions' / f'{dataset}.npz')
      by_run = experiments.setdefault(job.experiment, {}).setdefault(dataset, {})
      by_run.setdefault(job.run, []).extend([of_job] * (seeds if job.seed is None else 1))
      predictions.check_same_clips(next(iter(by_run.values()))[0], of_job)
  return experiments


def _experiment(
  study: ConfigDict,
  name: str,
  jobs: Sequence[Job],
  by_dataset: dict[str, ByRun],
  workdir: pathlib.Path,
) -> dict[str, Any]:
  """Measures an experiment on each data set, and draws clips of them."""
  experiment = study.experiments[name]
  jobs = [job for job in jobs if job.experiment == name]
  # The baseline first, as in `jobs`, the other runs in the config's order.
  order = sorted(experiment.runs, key=lambda run: run != experiment.baseline)
  datasets = {}
  for dataset, by_run in by_dataset.items():
    log(f'measuring {name} on {dataset}')
    by_run = {run: by_run[run] for run in order}
    datasets[dataset] = measure_dataset(by_run, experiment.baseline, study.draws)
    if len(by_run) >= _MIN_RANKED:
      datasets[dataset]['ranking'] = ranking.rank(by_run, datasets[dataset], study.draws)
    first_seeds = {run: seeds[0] for run, seeds in by_run.items()}
    choices = clip_images.choose_clips(first_seeds, experiment.baseline, study.gallery)
    datasets[dataset]['gallery'] = clip_images.draw_clips(
      jobs[0].config,
      dataset,
      first_seeds,
      choices,
      workdir,
      f'{name}-{dataset}',
      animate=study.clips != 'stills',
    )
  return {
    'about': experiment.about,
    'baseline': experiment.baseline,
    'recipes': [str(language.parse(text)) for text in experiment.base.eval.recipes],
    'runs': {
      run: _run(experiment.runs[run], [job for job in jobs if job.run == run], workdir)
      for run in order
    },
    'datasets': datasets,
  }


def _run(run: ConfigDict, jobs: Sequence[Job], workdir: pathlib.Path) -> dict[str, Any]:
  """Describes a run; `jobs` has one for each seed, or one if the run is only evaluated."""
  config = jobs[0].config
  described = {
    'about': run.about,
    'changes': dict(run.changes),
    'config': json.loads(config_lib.to_json(config)),
    'folders': {job.trial: str(job.folder.relative_to(workdir)) for job in jobs},
  }
  if is_evaluated(run):
    of_model = protocol.load(jobs[0].folder)
    return described | {
      'recipe': None,
      'curves': {},
      'source': run.source,
      'trained_on': run.trained_on or None,
      'license': run.license or of_model.get('license'),
      'protocol': of_model,
    }
  return described | {
    'recipe': str(language.parse(config.recipe)),
    'curves': {str(job.seed): _curve(job.folder / 'metrics.jsonl') for job in jobs},
    'source': None,
    'trained_on': _training_data(config),
    'license': None,
    'protocol': _training_protocol(config),
  }


def _training_data(config: ConfigDict) -> str:
  """Names what a run was trained on."""
  train = config.data.train
  classes = train.classes if isinstance(train.classes, str) else f'{len(train.classes)} classes'
  start = f'; started from {config.model.init_from}' if config.model.init_from else ''
  labels = f', labels: {train.labels}' if train.get('labels') else ''
  return f'{train.dataset}, {train.split}, classes: {classes}{labels}{start}'


def _training_protocol(config: ConfigDict) -> dict[str, Any]:
  """Describes the evaluation of a run by its config."""
  text = config.text
  return protocol.describe_model(VideoModel(*model_spec(config))) | protocol.describe_use(
    config, View.from_config(config), text.templates, text.split_words, text.placeholders
  )


def _curve(path: pathlib.Path) -> dict[str, list[float]]:
  """Reads a training curve, thinned to `_MAX_POINTS`."""
  lines = [json.loads(line) for line in read_file(path).splitlines()]
  lines = lines[:: -(-len(lines) // _MAX_POINTS)] if lines else []
  return {name: [line[name] for line in lines] for name in ('step', 'loss', 'accuracy')}


def _version(package: str) -> str:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:  # The program runs from a source folder.
    return 'not installed'


def _hardware() -> str:
  """Names the devices and the processor of this machine."""
  devices = jax.devices()
  kinds = f'{len(devices)} x {devices[0].device_kind}'
  model = platform.processor() or platform.machine()
  try:
    with open('/proc/cpuinfo') as file:
      model = next(line.split(':', 1)[1].strip() for line in file if line.startswith('model name'))
  except (OSError, StopIteration):
    pass
  return f'{kinds}; {os.cpu_count()} cores of {model}'
