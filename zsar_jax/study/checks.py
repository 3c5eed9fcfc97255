"""What must be so for a study to mean anything, looked at before anything is trained."""

from collections.abc import Sequence

from zsar_jax.data.dataset import open_dataset
from zsar_jax.data.subset import select
from zsar_jax.errors import UserError
from zsar_jax.pantomime import worlds
from zsar_jax.recipes import language
from zsar_jax.study.plan import Job
from zsar_jax.training.setup import open_training_subset


def check_data(jobs: Sequence[Job]) -> None:
  """Opens every data set of a study; builds the embedded ones.

  Raises:
    UserError: where one is not there, has one class, or has no masks to paint by.
  """
  looked_at = set()
  for job in jobs:
    if (job.experiment, job.run) in looked_at:
      continue
    config = job.config
    looked_at.add((job.experiment, job.run))
    if config.data.embedded:
      references = [config.data.train, *config.eval.datasets.values()]
      worlds.build_worlds(config.data.dir, [one.dataset for one in references])
    open_training_subset(config)
    for name, reference in config.eval.datasets.items():
      field = f'config.experiments.{job.experiment}.base.eval.datasets.{name}'
      dataset = open_dataset(config.data.dir, reference.dataset, reference.split)
      subset = select(dataset, reference.classes, config.view.unannotated, f'{field}.classes')
      if len(subset.classes) < 2:
        raise UserError(
          f'{field}: there is one class, {subset.classes[0]!r}, so that every model is right; take'
          ' classes to choose between'
        )
      for text in config.eval.recipes:
        subset.check_recipe(language.parse(text), field)
