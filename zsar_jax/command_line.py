"""Parses the command lines of programs.

Programs with a config file have absl's flags, --config=NAME and --config.FIELD=VALUE, and use
`parse_flags`; other programs have an argparse parser and use `parse_arguments`.
"""

import argparse
import difflib
import functools
import os
import pathlib
import re
import sys
import traceback
from collections.abc import Callable, Sequence

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from zsar_jax.errors import UserError, first_line
from zsar_jax.runtime import terminal
from zsar_jax.runtime.host_memory import keep_freed_memory
from zsar_jax.runtime.reporting import exit_on_user_error
from zsar_jax.storage import buckets
from zsar_jax.storage.paths import as_path, local_argument

# The packaged experiments; in a clone this is a link to the folder configs/.
_CONFIGS = pathlib.Path(__file__).parent / 'configs'

_HELP = ('-?', '-h', '-help', '--help', '--helpshort')


def parse_arguments(
  parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> argparse.Namespace:
  """Parses the command line of a program without a config file.

  Args:
    parser: defines the flags.
    argv: the arguments without the program's name; None for those of the process.
  """
  terminal.escape_output()
  with exit_on_user_error():
    arguments = [local_argument(text) for text in (sys.argv[1:] if argv is None else argv)]
    return parser.parse_args(arguments)


def path_type(field: str) -> Callable[[str], pathlib.Path]:
  """Returns the `type` of a flag that names a file or folder, for `ArgumentParser.add_argument`.

  `pathlib.Path` would take a URL for a path of this machine.

  Args:
    field: the flag, for errors.
  """
  return functools.partial(as_path, field=field)


def config_names(studies: bool) -> list[str]:
  """Returns the packaged configs that --config takes: of studies, or of trainings."""
  names = []
  for path in sorted(_CONFIGS.glob('*.py')):
    text = path.read_text(encoding='utf-8')
    if 'def get_config(' in text and ('default_study(' in text) == studies:
      names.append(path.stem)
  return names


def resolve_config_file(text: str) -> str:
  """Returns the file of an experiment, with the ':VARIANT' that the text may end with.

  Args:
    text: a file, or the name of a packaged experiment, optionally followed by ':VARIANT'.

  Raises:
    UserError: if there is no such file or name.
  """
  name, colon, variant = text.partition(':')
  if not name.endswith('.py') and '/' not in name:
    path = _CONFIGS / f'{name}.py'
    if not path.is_file():
      names = config_names(studies=False) + config_names(studies=True)
      guess = difflib.get_close_matches(name, names, n=1)
      hint = f'did you mean {guess[0]}?' if guess else f'there are {", ".join(names)}'
      raise UserError(f'--config: no packaged config is named {name!r}; {hint}')
    return f'{path}{colon}{variant}'
  if not os.path.isfile(name):
    stem = pathlib.PurePath(name).stem
    packaged = (_CONFIGS / f'{stem}.py').is_file()
    hint = f'the packaged config is --config={stem}' if packaged else 'name a Python file'
    raise UserError(f'--config: {name} is not there; {hint}')
  return text


def start_program(argv: list[str]) -> pathlib.Path:
  """Prepares memory and logging, checks the flags `config` and `workdir`, returns the workdir.

  Args:
    argv: the arguments that `parse_flags` left.

  Raises:
    UserError: if an argument is no flag, or one of the two flags is missing.
  """
  keep_freed_memory()
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.WARNING)  # Libraries log a lot below that.
  if len(argv) > 1:
    raise UserError(f'{argv[1]!r} is no flag; settings are written --config.NAME=VALUE')
  if flags.FLAGS['config'].value is None or not flags.FLAGS['workdir'].value:
    raise UserError('both --config=FILE and --workdir=DIR are needed; see --help')
  # Absolute, because configs contain it and are compared when a run goes on.
  workdir = as_path(flags.FLAGS['workdir'].value, '--workdir').absolute()
  with buckets.reporting_errors(workdir, '--workdir'):
    is_file = workdir.exists() and not workdir.is_dir()
  if is_file:
    raise UserError(f'--workdir: {workdir} is a file; name a folder')
  return workdir


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the command line and returns what is no flag.

  A mistake in the command line or in the config file ends the program with one sentence.

  Args:
    argv: the process's arguments, the program's name first.
  """
  terminal.escape_output()
  if any(argument in _HELP for argument in argv[1:]):
    names = ', '.join(config_names(studies='study' in pathlib.Path(argv[0]).stem))
    print(f'{sys.modules["__main__"].__doc__}\nflags:{_flags_help(argv[0])}')
    print(f'\npackaged configs: {names}')
    raise SystemExit(0)
  with exit_on_user_error():
    arguments = _with_config_file([local_argument(argument) for argument in argv])
    try:
      rest = flags.FLAGS(arguments)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
      raise UserError(_describe_flag_error(error, argv)) from None
    except (OSError, SyntaxError) as error:
      raise UserError(f'--config: {error}') from None
    except UserError:
      raise
    except Exception as error:  # A config file is a program and may raise anything.
      raise UserError(_describe_config_error(error, arguments)) from None
    config = flags.FLAGS['config'].value
    if config is not None and not isinstance(config, ConfigDict):
      file = config_flags.get_config_filename(flags.FLAGS['config'])
      raise UserError(f'--config: get_config of {file} returns no ConfigDict')
    return rest


def _with_config_file(arguments: list[str]) -> list[str]:
  """Replaces a packaged config's name by its file, in --config=NAME or --config NAME."""
  result = list(arguments)
  for i, argument in enumerate(arguments):
    flag = re.match('--?config(=|$)', argument)
    if flag and flag[1]:
      result[i] = f'{flag[0]}{resolve_config_file(argument[flag.end() :])}'
    elif flag and i + 1 < len(arguments):
      result[i + 1] = resolve_config_file(arguments[i + 1])
  return result


def _describe_config_error(error: Exception, arguments: list[str]) -> str:
  """Returns an exception from a config file, with the line of the file."""
  frames = traceback.extract_tb(error.__traceback__)
  lines = [
    f'{frame.filename}, line {frame.lineno}: '
    for frame in frames
    if frame.filename in ' '.join(arguments)
  ]
  return f'--config: {lines[-1] if lines else ""}{type(error).__name__}: {first_line(error)}'


def _flags_help(program: str) -> str:
  """Returns the help on a program's flags, without the heading with its file's name."""
  return flags.FLAGS.module_help(program).partition(':')[2]


# By a part of what Python, absl or ml_collections says about a value, the words of our message.
_WRONG_VALUES = {
  'could not convert string to float': 'is no number',
  'invalid literal for int()': 'is no whole number',
  'Non-boolean argument': 'is neither true nor false',
  'as a ConfigDict': 'is no value for a group of settings; set one of its fields',
}


def _describe_flag_error(error: Exception, argv: list[str]) -> str:
  """Returns an error of ml_collections or absl as a sentence, without traceback and quotes."""
  # A KeyError quotes its text once more whenever it is raised again.
  text = str(error).replace('\\n', '\n').replace('\\', '').strip('\'"\n ')
  if wrong := re.fullmatch('flag (--[^=]+)=(.*?): (.*)', text, re.DOTALL):
    for reason, words in _WRONG_VALUES.items():
      if reason in wrong[3]:
        return f'{wrong[1]}: {wrong[2]!r} {words}'
  if "'config_config' has no attribute 'get_config" in text:
    return '--config: the file has no function get_config'
  key = re.search(r'Key "(\w+)" does not exist|^\'*(\w+)\'*$', text, re.MULTILINE)
  if not key:
    return str(error).strip().splitlines()[-1]
  name = key[1] or key[2]
  overrides = [arg.split('=')[0] for arg in argv if re.match(rf'--config\..*\b{name}\b', arg)]
  flag = (overrides or [arg for arg in argv if arg.startswith('--config')])[0]
  guess = re.search(r'Did you mean "(\w+)"', text)
  hint = f'did you mean {guess[1]!r}?' if guess else 'see zsar_jax/config.py for the keys'
  return f'{flag}: the config has no key {name!r}; {hint}'
