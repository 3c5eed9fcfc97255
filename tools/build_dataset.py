"""Builds a data set for training and evaluation out of videos and their annotations.

Examples:

  python -m tools.build_dataset --dataset=pantomime --out=data

  python -m tools.build_dataset --dataset=ssv2 --out=data --videos=20bn-something-something-v2 \\
      --annotations=labels --boxes boxes_part1.json boxes_part2.json

A build that was interrupted continues when the same command is given again. Clips that are
missing or cannot be read are left out and listed, also in the data set's build_report.json.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any

from zsar_jax.data import pantomime, records
from zsar_jax.data.builder import ClipBuilder, build
from zsar_jax.data.pantomime_builder import TRAIN_CLIPS, VALIDATION_CLIPS, Pantomime
from zsar_jax.data.ssv2 import Ssv2
from zsar_jax.errors import UserError, reported


@dataclasses.dataclass(frozen=True)
class Source:
  """A data set that can be built.

  Attributes:
    builders: from --out and the values of the flags below that were given to its builders.
    required: the flags, of `FLAGS`, that it must be given.
    optional: the flags that it may be given.
  """

  builders: Callable[..., list[ClipBuilder]]
  required: tuple[str, ...] = ()
  optional: tuple[str, ...] = ()


def _pantomime(out: str, **options: Any) -> list[ClipBuilder]:
  return [Pantomime(out, world, **options) for world in pantomime.WORLDS]


def _ssv2(out: str, **options: Any) -> list[ClipBuilder]:
  return [Ssv2(out, **options)]


SOURCES = {
  'pantomime': Source(
    _pantomime, optional=('seed', 'train-clips', 'validation-clips', 'jpeg-quality')
  ),
  'ssv2': Source(
    _ssv2,
    required=('videos', 'annotations'),
    optional=('boxes', 'short-side', 'jpeg-quality'),
  ),
}

# What argparse is told of each flag. None has a default: a flag that is not given is not passed.
FLAGS: dict[str, dict[str, Any]] = {
  'videos': {'metavar': 'DIR', 'help': 'the folder of the videos'},
  'annotations': {'metavar': 'DIR', 'help': "the folder of the data set's lists and labels"},
  'boxes': {
    'metavar': 'FILE',
    'nargs': '+',
    'help': 'Something-Else boxes; without them no region can be painted',
  },
  'short-side': {
    'metavar': 'PIXELS',
    'type': int,
    'help': "scale the frames' shorter side to this (default: keep the size)",
  },
  'jpeg-quality': {
    'metavar': 'Q',
    'type': int,
    'help': f'of the stored frames, 1 to 100 (default: {records.JPEG_QUALITY})',
  },
  'seed': {'metavar': 'N', 'type': int, 'help': 'of all that is drawn at random (default: 0)'},
  'train-clips': {
    'metavar': 'N',
    'type': int,
    'help': f'rendered for training, in each world (default: {TRAIN_CLIPS})',
  },
  'validation-clips': {
    'metavar': 'N',
    'type': int,
    'help': f'rendered for validation, in each world (default: {VALIDATION_CLIPS})',
  },
}

# The least and the most that a number may be.
_RANGES = {
  'workers': (0, None),
  'short-side': (16, None),
  'jpeg-quality': (1, 100),
  'seed': (0, None),
  'train-clips': (1, None),
  'validation-clips': (1, None),
}


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    'python -m tools.build_dataset',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument('--dataset', required=True, choices=sorted(SOURCES), help='what to build')
  parser.add_argument('--out', required=True, metavar='DIR', help='the folder of data sets')
  parser.add_argument(
    '--workers', type=int, metavar='N', help='processes that encode clips (default: all cores)'
  )
  parser.add_argument(
    '--strict', action='store_true', help='a clip that is missing or unreadable is an error'
  )
  group = parser.add_argument_group('of some data sets')
  for flag, options in FLAGS.items():
    users = [n for n, source in SOURCES.items() if flag in source.required + source.optional]
    described = options | {'help': f'{", ".join(users)}: {options["help"]}'}
    group.add_argument(f'--{flag}', **described)
  return parser


def _builders(values: dict[str, Any]) -> list[ClipBuilder]:
  """What is to be built, from the values of all flags by their names."""
  dataset = values['dataset']
  source = SOURCES[dataset]
  given = {flag: values[flag] for flag in FLAGS if values[flag] is not None}
  for flag in given:
    if flag not in source.required + source.optional:
      raise UserError(f'--{flag} is not a flag of --dataset={dataset}; leave it out')
  for flag in source.required:
    if flag not in given:
      raise UserError(f'--dataset={dataset} needs --{flag}: {FLAGS[flag]["help"]}')
  for flag, (least, most) in _RANGES.items():
    value = values[flag]
    if value is not None and not least <= value <= (value if most is None else most):
      limits = f'{least} or more' if most is None else f'{least} to {most}'
      raise UserError(f'--{flag} must be {limits}, not {value}')
  options = {flag.replace('-', '_'): value for flag, value in given.items()}
  return source.builders(values['out'], **options)


def main(argv: Sequence[str] | None = None) -> None:
  """Builds what the command line says."""
  arguments = _parser().parse_args(argv)
  values = {name.replace('_', '-'): value for name, value in vars(arguments).items()}
  with reported():
    try:
      for builder in _builders(values):
        build(builder, arguments.workers, arguments.strict)
    except KeyboardInterrupt:
      print('\ninterrupted: the same command continues', file=sys.stderr)
      raise SystemExit(130) from None


if __name__ == '__main__':
  main()
