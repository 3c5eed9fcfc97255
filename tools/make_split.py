"""Splits a vocabulary into classes for training and classes for zero-shot evaluation.

Examples:

  zsar split --kind=base-to-novel --dataset-dir=data --dataset=ucf101 \\
      --split=train --out=splits/ucf101.json

  zsar split --kind=difference --classes=data:kinetics600 \\
      --others=data:kinetics400 --out=splits/k600.json

  zsar split --kind=random --classes=splits/k600.json:difference --count=160 \\
      --seed=0 --repeats=3 --out=splits/k600_outside_k400.json

--classes and --others take a data set that was built, as DIR:NAME, or a file: one class a line, or
`id,name` (.txt, .csv), or FILE.json:PART from this program. A config refers to what is written as
FILE.json:PART, see docs/evaluation.md.
"""

import argparse
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from zsar_jax.data import splits
from zsar_jax.data.catalog import find_dataset, list_datasets
from zsar_jax.data.dataset import open_dataset
from zsar_jax.errors import UserError
from zsar_jax.runtime.command_line import parse_arguments
from zsar_jax.runtime.files import write_file
from zsar_jax.runtime.reporting import exit_on_user_error
from zsar_jax.runtime.wording import pluralize

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


# Of each kind: the function, the flags that it needs, and those that have a default.
KINDS: dict[str, tuple[Callable[[dict[str, Any]], Parts], tuple[str, ...], dict[str, Any]]] = {
  'base-to-novel': (_base_to_novel, ('dataset-dir', 'dataset'), {'split': 'train'}),
  'difference': (_difference, ('classes', 'others'), {}),
  'intersection': (_intersection, ('classes', 'others'), {}),
  'random': (_random, ('classes', 'count'), {'seed': 0, 'repeats': 1}),
}

# What argparse is told of each flag. None has a default there: it is known which were given.
FLAGS: dict[str, dict[str, Any]] = {
  'dataset-dir': {'metavar': 'DIR', 'help': 'the --out of zsar build-dataset'},
  'dataset': {'metavar': 'NAME', 'help': 'the data set whose clips are counted'},
  'split': {'metavar': 'NAME', 'help': 'whose clips are counted (default: train)'},
  'classes': {'metavar': 'SOURCE', 'help': 'the classes to split'},
  'others': {'metavar': 'SOURCE', 'help': 'the classes to compare them with'},
  'count': {'metavar': 'N', 'type': int, 'help': 'classes to draw'},
  'seed': {'metavar': 'N', 'type': int, 'help': 'another one draws other classes (default: 0)'},
  'repeats': {'metavar': 'N', 'type': int, 'help': 'draws; parts 1, 2, ... (default: 1)'},
}


def _vocabularies(values: dict[str, Any], *flags: str) -> list[tuple[str, ...]]:
  """The classes that flags name, each a file or a data set as DIR:NAME."""
  return [_vocabulary(values[flag], f'--{flag}') for flag in flags]


def _vocabulary(source: str, flag: str) -> tuple[str, ...]:
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
  parser.add_argument('--out', required=True, metavar='FILE', help='the .json file to write')
  group = parser.add_argument_group('of some kinds')
  for flag, options in FLAGS.items():
    users = [kind for kind, (_, needed, defaults) in KINDS.items() if flag in (*needed, *defaults)]
    group.add_argument(f'--{flag}', **options | {'help': f'{", ".join(users)}: {options["help"]}'})
  return parser


def _values(arguments: dict[str, Any], kind: str) -> dict[str, Any]:
  """The flags of a kind, each with its value."""
  _, needed, defaults = KINDS[kind]
  given = {flag: arguments[flag] for flag in FLAGS if arguments[flag] is not None}
  for flag in given:
    if flag not in (*needed, *defaults):
      raise UserError(f'--{flag} is not a flag of --kind={kind}; leave it out')
  for flag in needed:
    if flag not in given:
      raise UserError(f'--kind={kind} needs --{flag}: {FLAGS[flag]["help"]}')
  return defaults | given


def write_parts(path: pathlib.Path, parts: Parts, made_by: dict[str, Any]) -> None:
  """Writes named lists of classes, as `splits.read_classes` reads them.

  Args:
    path: its folder is made.
    parts: the lists.
    made_by: what they were made from.

  Raises:
    UserError: if there is another file already.
  """
  text = json.dumps({'made_by': made_by, 'parts': parts}, indent=1) + '\n'
  if path.exists() and path.read_bytes() != text.encode():
    raise UserError(f'--out: {path} is there with other content; delete it or take another name')
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, text)
  except OSError as error:
    raise UserError(f'--out: {path} cannot be written ({error.strerror})') from None


def main(argv: Sequence[str] | None = None) -> None:
  """Splits what the command line says."""
  given = vars(parse_arguments(_parser(), argv))
  arguments = {name.replace('_', '-'): value for name, value in given.items()}
  kind, out = arguments['kind'], pathlib.Path(arguments['out'])
  with exit_on_user_error():
    if out.suffix != '.json':
      raise UserError(f'--out: {out} does not end in .json, by which a config knows such a file')
    values = _values(arguments, kind)
    parts = KINDS[kind][0](values)
    empty = [name for name, names in parts.items() if not names]
    if empty:
      raise UserError(f'--kind={kind}: no class remains for the part {empty[0]!r}; nothing written')
    write_parts(out, parts, {'program': 'tools.make_split', 'kind': kind} | values)
    for name, names in parts.items():
      print(f'{out}:{name}  {pluralize(len(names), "class")}')


if __name__ == '__main__':
  main()
