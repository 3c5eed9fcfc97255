"""Checks a study's data before anything is trained."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from zsar_jax.data.subset import open_subset
from zsar_jax.errors import UserError
from zsar_jax.pantomime import worlds
from zsar_jax.recipes import language
from zsar_jax.study.plan import Job
from zsar_jax.training.setup import open_training_subset


def check_data(jobs: Sequence[Job]) -> None:
  """Opens every data set of a study; renders the embedded ones if they are missing.

  Raises:
    UserError: a data set is missing, has a single class, or lacks masks that a recipe needs.
  """
  checked = set()
  for job in jobs:
    if (job.experiment, job.run) in checked:
      continue  # Another seed of a run has the same data.
    checked.add((job.experiment, job.run))
    if job.config.data.embedded:
      references = [job.config.data.train, *job.config.eval.datasets.values()]
      names = [reference.dataset for reference in references if reference.dataset]
      worlds.build_worlds(job.config.data.dir, names)
    if job.mode == 'train':
      open_training_subset(job.config)
    for name in job.config.eval.datasets:
      field = f'config.experiments.{job.experiment}.base.eval.datasets.{name}'
      _check_eval_set(job.config, name, field)


def _check_eval_set(config: ConfigDict, name: str, field: str) -> None:
  """Checks the classes and masks of a data set of the evaluation."""
  reference = config.eval.datasets[name]
  subset = open_subset(config.data.dir, reference, config.view.unannotated, field)
  if len(subset.classes) < 2:
    raise UserError(
      f'{field}: it has only the class {subset.classes[0]!r}, so that every prediction is correct;'
      ' name two or more classes'
    )
  for text in config.eval.recipes:
    subset.check_recipe(language.parse(text), field)
