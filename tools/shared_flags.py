"""Command-line flags that several programs have in common."""

import argparse
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from zsar_jax.command_line import parse_arguments
from zsar_jax.datasets.beam import Beam
from zsar_jax.errors import UserError

# {flag without dashes: keyword arguments of `add_argument`}. None of these flags has a default, so
# that a program can tell which flags were given.
FlagTable = Mapping[str, dict[str, Any]]


def add_flags_of_choices(
  group: argparse._ArgumentGroup, flags: FlagTable, choices: Mapping[str, Collection[str]]
) -> None:
  """Adds flags that only some choices of another flag take.

  The help text of a flag begins with the choices that take it, unless all do.

  Args:
    group: where to add the flags.
    flags: the flags.
    choices: {choice: its flags}.
  """
  for flag, options in flags.items():
    users = [choice for choice, its_flags in choices.items() if flag in its_flags]
    others = [choice for choice in choices if choice not in users]
    named = f'all but {others[0]}' if len(others) == 1 else ', '.join(users)
    prefix = f'{named}: ' if others else ''
    group.add_argument(f'--{flag}', **options | {'help': f'{prefix}{options["help"]}'})


def parse_values(
  parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> dict[str, Any]:
  """Parses the command line as {flag without dashes: value}."""
  values = vars(parse_arguments(parser, argv))
  return {
    # Flags of Beam have underscores themselves.
    name if name.startswith('beam_') else name.replace('_', '-'): value
    for name, value in values.items()
  }


def given_flags(
  values: Mapping[str, Any],
  flags: FlagTable,
  choice: str,
  required: Sequence[str],
  optional: Collection[str],
) -> dict[str, Any]:
  """Returns the flags in `flags` that were given.

  Args:
    values: the values of all flags; None for a flag that was not given.
    flags: the flags that depend on the choice.
    choice: the choice, such as '--dataset=ssv2', for errors.
    required: the flags that the choice needs.
    optional: the flags that it may have.

  Raises:
    UserError: A given flag is not one of the choice, or a required flag is missing.
  """
  given = {flag: values[flag] for flag in flags if values[flag] is not None}
  for flag in given:
    if flag not in required and flag not in optional:
      raise UserError(f'--{flag} is not a flag of {choice}; leave it out')
  for flag in required:
    if flag not in given:
      raise UserError(f'{choice} needs --{flag}: {flags[flag]["help"]}')
  return given


def add_beam_flags(parser: argparse.ArgumentParser | argparse._ArgumentGroup, action: str) -> None:
  """Adds the flags that run a program's work on Apache Beam.

  Args:
    parser: where to add the flags.
    action: what is done on Beam, such as 'encode'.
  """
  parser.add_argument(
    '--beam_runner',
    metavar='RUNNER',
    help=f'{action} with this runner of Apache Beam, such as DirectRunner (extra beam); every'
    ' process must be able to read the paths in the flags',
  )
  parser.add_argument(
    '--beam_options',
    metavar='NAME=VALUE,...',
    default='',
    help='options of the runner, such as direct_running_mode=multi_processing,direct_num_workers=4',
  )


def parse_beam(values: Mapping[str, Any]) -> Beam | None:
  """Returns the runner that the flags of `add_beam_flags` describe, or None."""
  if values['beam_runner'] is None:
    if values['beam_options']:
      raise UserError('--beam_options needs --beam_runner')
    return None
  return Beam(values['beam_runner'], tuple(filter(None, values['beam_options'].split(','))))


def add_sheet_flags(parser: argparse.ArgumentParser, clips: int) -> None:
  """Adds the flags that determine the size of a contact sheet."""
  parser.add_argument(
    '--clips', type=int, default=clips, help='the number of rows; default: %(default)s'
  )
  parser.add_argument(
    '--frames', type=int, default=4, help='the frames of each clip; default: %(default)s'
  )
  parser.add_argument(
    '--size', type=int, default=112, help="a frame's side in pixels; default: %(default)s"
  )


def check_sheet_flags(args: argparse.Namespace) -> None:
  """Raises a `UserError` if a flag of `add_sheet_flags` is not positive."""
  for flag in ('clips', 'frames', 'size'):
    value = getattr(args, flag)
    if value < 1:
      raise UserError(f'--{flag}: {value} is too small; give at least 1')
