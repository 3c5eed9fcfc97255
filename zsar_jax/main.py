"""Trains or evaluates, as a config file says.

    python -m zsar_jax.main --config=configs/pantomime.py --workdir=runs/pantomime

Any setting can be changed on the command line: --config.optim.lr=1e-4. The same command
continues a run that was interrupted. Exit status: 0 done, 2 something to mend.
"""

import pathlib
import re
import sys

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from zsar_jax.errors import UserError, reported
from zsar_jax.host_memory import keep_freed_memory

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'The experiment: configs/NAME.py, or configs/NAME.py:VARIANT.'
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


def main(argv: list[str]) -> None:
  """Runs the program; see the head of this file."""
  keep_freed_memory()
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.WARNING)  # The libraries tell a lot.
  with reported():
    if len(argv) > 1:
      raise UserError(f'{argv[1]!r} is no flag; settings are written --config.NAME=VALUE')
    if _CONFIG.value is None or not _WORKDIR.value:
      raise UserError('both --config=FILE and --workdir=DIR are needed; see --help')
    workdir = pathlib.Path(_WORKDIR.value)
    if workdir.exists() and not workdir.is_dir():
      raise UserError(f'--workdir: {workdir} is a file; name a folder')
    _run(workdir)


def _run(workdir: pathlib.Path) -> None:
  # Imported late, so that --help and a misspelt flag answer at once.
  from zsar_jax import config as config_lib
  from zsar_jax import evaluate, train
  from zsar_jax.interruption import Interrupted

  config = _CONFIG.value
  config_lib.validate(config)
  try:
    if config.data.embedded:
      from zsar_jax.data import pantomime_builder

      references = [config.data.train, *config.eval.datasets.values()]
      pantomime_builder.build_worlds(config.data.dir, [one.dataset for one in references])
    if _MODE.value == 'train':
      results = train.train(config, workdir)
    else:
      results = evaluate.evaluate_checkpoint(config, workdir)
  except Interrupted as interrupted:
    print(interrupted, file=sys.stderr)
    sys.exit(interrupted.status)
  except KeyboardInterrupt:
    print('\ninterrupted; the same command goes on', file=sys.stderr)
    sys.exit(130)
  evaluate.save_results(results, workdir)
  print(evaluate.table(results))
  print(f'results: {workdir / "results.json"}')


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the command line; a mistake in it, or in the config file, is one sentence."""
  with reported():
    try:
      rest = flags.FLAGS(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
      raise UserError(_sentence(error, argv)) from None
    if _CONFIG.value is not None and not isinstance(_CONFIG.value, ConfigDict):
      file = config_flags.get_config_filename(flags.FLAGS['config'])
      raise UserError(f'--config: {file} is not there, or its get_config returns no ConfigDict')
    return rest


def _sentence(error: Exception, argv: list[str]) -> str:
  """What ml_collections or absl has to say, without its traceback and its quotation marks."""
  # A KeyError's text is quoted once for each time that it was raised again.
  text = str(error).replace('\\n', '\n').replace('\\', '').strip('\'"\n ')
  key = re.search(r'Key "(\w+)" does not exist|^\'*(\w+)\'*$', text, re.MULTILINE)
  if not key:
    return str(error).strip().splitlines()[-1]
  name = key[1] or key[2]
  overrides = [arg.split('=')[0] for arg in argv if re.match(rf'--config\..*\b{name}\b', arg)]
  place = (overrides or [arg for arg in argv if arg.startswith('--config')])[0]
  guess = re.search(r'Did you mean "(\w+)"', text)
  hint = f'did you mean {guess[1]!r}?' if guess else 'see zsar_jax/config.py for those there are'
  return f'{place}: the config has no key {name!r}; {hint}'


if __name__ == '__main__':
  app.run(main, flags_parser=parse_flags)
