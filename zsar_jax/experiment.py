"""One experiment: from a config to a folder with everything that came of it."""

import pathlib

from ml_collections import ConfigDict

from zsar_jax import agreement, distributed, evaluate, train
from zsar_jax import config as config_lib
from zsar_jax.data import pantomime_builder
from zsar_jax.data.handles import reserve_handles


def run(
  config: ConfigDict, workdir: pathlib.Path, mode: str = 'train', started: float | None = None
) -> evaluate.Results:
  """Trains and evaluates, or only evaluates, and saves predictions and results.

  Args:
    config: the config.
    workdir: the run's folder; what is there already is gone on with.
    mode: 'train' or 'eval'.
    started: when the program started, by `time.monotonic`; None for now.

  Raises:
    UserError: for a config, data or a workdir that do not go together.
    Interrupted: after Ctrl-C or SIGTERM, with a checkpoint written.
  """
  config_lib.validate(config)
  agreement.check_command(config, mode)
  reserve_handles(config.data.workers)
  if config.data.embedded:
    references = [config.data.train, *config.eval.datasets.values()]
    names = [one.dataset for one in references]
    distributed.main_first(lambda: pantomime_builder.build_worlds(config.data.dir, names))
  if mode == 'train':
    predictions = train.train(config, workdir, started)
  else:
    predictions = evaluate.evaluate_checkpoint(config, workdir)
  return evaluate.save_results(predictions, config.eval.groups, workdir)
