"""The command line of programs that take a config file: --config=FILE, --config.NAME=VALUE."""

import pathlib
import re

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from zsar_jax.errors import UserError, reported
from zsar_jax.host_memory import keep_freed_memory


def begin(argv: list[str]) -> pathlib.Path:
  """Checks the flags `config` and `workdir` of a program, and returns the workdir.

  Args:
    argv: what `parse_flags` left.

  Raises:
    UserError: for what is no flag, and where one of the two is missing.
  """
  keep_freed_memory()
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.WARNING)  # The libraries tell a lot.
  if len(argv) > 1:
    raise UserError(f'{argv[1]!r} is no flag; settings are written --config.NAME=VALUE')
  if flags.FLAGS['config'].value is None or not flags.FLAGS['workdir'].value:
    raise UserError('both --config=FILE and --workdir=DIR are needed; see --help')
  # Absolute: configs name it, and are compared when a run goes on.
  workdir = pathlib.Path(flags.FLAGS['workdir'].value).absolute()
  if workdir.exists() and not workdir.is_dir():
    raise UserError(f'--workdir: {workdir} is a file; name a folder')
  return workdir


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the command line; a mistake in it, or in the config file, is one sentence."""
  with reported():
    try:
      rest = flags.FLAGS(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
      raise UserError(_sentence(error, argv)) from None
    config = flags.FLAGS['config'].value
    if config is not None and not isinstance(config, ConfigDict):
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
