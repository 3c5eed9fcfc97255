"""Splits a vocabulary into classes for training and for zero-shot evaluation.

Examples:

  zsar split --kind=base-to-novel --dataset-dir=data --dataset=ucf101 \\
      --split=train --out=splits/ucf101.json

  zsar split --kind=difference --classes=data:kinetics600 \\
      --others=data:kinetics400 --out=splits/k600.json

  zsar split --kind=random --classes=splits/k600.json:difference --count=160 \\
      --seed=0 --repeats=3 --out=splits/k600_outside_k400.json

--classes and --others take a data set as DIR:NAME, or a file: .txt or .csv with one class per line
or `id,name`, or FILE.json:PART written by this program. A config names a part of the written file
as FILE.json:PART, see docs/evaluation.md.
"""

import argparse
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from zsar_jax.command_line import path_type
from zsar_jax.data import splits
from zsar_jax.data.catalog import find_dataset, list_datasets
from zsar_jax.data.dataset import open_dataset
from zsar_jax.errors import UserError, error_reason
from zsar_jax.runtime.reporting import exit_on_user_error
from zsar_jax.runtime.wording import pluralize
from zsar_jax.storage.files import make_parent, write_file

from .shared_flags import FlagTable, add_flags_of_choices, given_flags, parse_values

Parts = dict[str, tuple[str, ...]]


def _base_to_novel(values: dict[str, Any]) -> Parts:
  clips = open_dataset(values['dataset-dir'], values['dataset'], values['split'])
  return splits.base_to_novel(clips.classes, clips.index.labels)


def _difference(values: dict[str, Any]) -> Parts:
  return {'difference': splits.difference(*_vocabularies(values, 'classes', 'others'))}


def _intersection(values: dict[str, Any]) -> Parts:
  return {'intersection': splits.intersection(*_vocabularies(values, 'classes', 'others'))}


def _random(values: dict[str, Any]) -> Parts:
  (classes,) = _vocabularies(values, 'classes')
  for flag, least in (('count', 1), ('repeats', 1), ('seed', 0)):
    if values[flag] < least:
      raise UserError(f'--{flag} must be {least} or more, not {values[flag]}')
  return splits.random_split(classes, values['count'], values['seed'], values['repeats'])


class Kind(NamedTuple):
  """A kind of split.

  Attributes:
    split: maps the values of the flags to the parts.
    required: the flags that must be given.
    defaults: the flags that may be given, with their defaults.
  """

  split: Callable[[dict[str, Any]], Parts]
  required: tuple[str, ...]
  defaults: dict[str, Any]


KINDS = {
  'base-to-novel': Kind(_base_to_novel, ('dataset-dir', 'dataset'), {'split': 'train'}),
  'difference': Kind(_difference, ('classes', 'others'), {}),
  'intersection': Kind(_intersection, ('classes', 'others'), {}),
  'random': Kind(_random, ('classes', 'count'), {'seed': 0, 'repeats': 1}),
}

# The flags that only some kinds take.
FLAGS: FlagTable = {
  'dataset-dir': {'metavar': 'DIR', 'help': 'the --out of zsar build-dataset'},
  'dataset': {'metavar': 'NAME', 'help': 'the data set whose clips are counted'},
  'split': {'metavar': 'NAME', 'help': 'the split whose clips are counted (default: train)'},
  'classes': {'metavar': 'SOURCE', 'help': 'the classes to split'},
  'others': {'metavar': 'SOURCE', 'help': 'the classes to compare them with'},
  'count': {'metavar': 'N', 'type': int, 'help': 'the number of classes to draw'},
  'seed': {'metavar': 'N', 'type': int, 'help': 'the random seed (default: 0)'},
  'repeats': {
    'metavar': 'N',
    'type': int,
    'help': 'how many times to draw; the parts are called 1, 2, ... (default: 1)',
  },
}


def _vocabularies(values: dict[str, Any], *flags: str) -> list[tuple[str, ...]]:
  """Reads the classes that each flag names."""
  return [_vocabulary(values[flag], f'--{flag}') for flag in flags]


def _vocabulary(source: str, flag: str) -> tuple[str, ...]:
  """Reads the classes of a source, a file or a data set as DIR:NAME."""
  if splits.is_class_file(source):
    return splits.read_classes(source, flag)
  data_dir, _, name = source.rpartition(':')
  if not data_dir or not name:
    raise UserError(
      f'{flag}: {source!r} is neither a file that ends in .txt, .csv or .json:PART nor a data set'
      ' as DIR:NAME'
    )
  directory = find_dataset(data_dir, name)
  if directory is None:
    present = ', '.join(list_datasets(data_dir)) or 'no data set'
    raise UserError(
      f'{flag}: there is no data set {name!r} in {data_dir}, which has {present}; build it with'
      ' zsar build-dataset, or name a file of its classes'
    )
  return splits.read_classes(str(directory / 'label.labels.txt'), flag)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    'zsar split',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument('--kind', required=True, choices=sorted(KINDS), help='how to split')
  parser.add_argument(
    '--out',
    type=path_type('--out'),
    required=True,
    metavar='FILE',
    help='the .json file to write',
  )
  group = parser.add_argument_group('flags of some kinds')
  choices = {name: (*kind.required, *kind.defaults) for name, kind in KINDS.items()}
  add_flags_of_choices(group, FLAGS, choices)
  return parser


def write_parts(path: pathlib.Path, parts: Parts, made_by: dict[str, Any]) -> None:
  """Writes named lists of classes in the format of `splits.read_classes`.

  Args:
    path: the file; its folder is created.
    parts: the lists.
    made_by: the program and flags that made them.

  Raises:
    UserError: The file exists with other content, or cannot be written.
  """
  text = json.dumps({'made_by': made_by, 'parts': parts}, indent=1) + '\n'
  if path.exists() and path.read_bytes() != text.encode():
    raise UserError(f'--out: {path} exists with other content; delete it or choose another name')
  try:
    make_parent(path)
    write_file(path, text)
  except OSError as error:
    raise UserError(f'--out: {path} cannot be written ({error_reason(error)})') from None


def main(argv: Sequence[str] | None = None) -> None:
  """Splits the classes that the command line names."""
  arguments = parse_values(_parser(), argv)
  name, out = arguments['kind'], arguments['out']
  kind = KINDS[name]
  with exit_on_user_error():
    if out.suffix != '.json':
      raise UserError(f'--out: {out} does not end in .json, which configs require')
    given = given_flags(arguments, FLAGS, f'--kind={name}', kind.required, kind.defaults)
    values = kind.defaults | given
    parts = kind.split(values)
    empty = [part for part, classes in parts.items() if not classes]
    if empty:
      raise UserError(f'--kind={name}: no class remains for the part {empty[0]!r}; nothing written')
    write_parts(out, parts, {'program': 'tools.make_split', 'kind': name} | values)
    for part, classes in parts.items():
      print(f'{out}:{part}  {pluralize(len(classes), "class")}')


if __name__ == '__main__':
  main()
