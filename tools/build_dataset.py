"""Builds a data set for training and evaluation from videos, their lists and their masks.

Examples:

  zsar build-dataset --dataset=pantomime --out=data

  zsar build-dataset --dataset=ssv2 --out=data --videos=20bn-something-something-v2 \\
      --annotations=labels --boxes boxes_part1.json boxes_part2.json

  zsar build-dataset --dataset=kinetics400 --out=data --videos=k400 \\
      --annotations train.csv val.csv --masks grey:k400_seg --short-side=256

  zsar build-dataset --dataset=folder --name=mine --out=data --videos=clips \\
      --masks coco:detections.json,values=1:person/*:object --boxes-from-shapes

To continue an interrupted build, give the same command again. Clips that are missing or cannot be
read are left out and listed, both here and in the data set's build_report.json, which zsar inspect
prints.
"""

import argparse
import re
import sys
from collections.abc import Sequence

from zsar_jax.data import records
from zsar_jax.datasets.build import build
from zsar_jax.datasets.builder import ClipBuilder
from zsar_jax.datasets.masks.spec import FORMATS
from zsar_jax.datasets.video import DEFAULT_FPS
from zsar_jax.errors import UserError
from zsar_jax.pantomime.worlds import TEST_CLIPS, TRAIN_CLIPS, VALIDATION_CLIPS
from zsar_jax.runtime.reporting import exit_on_user_error

from .dataset_sources import SOURCES, Values
from .shared_flags import (
  FlagTable,
  add_beam_flags,
  add_flags_of_choices,
  given_flags,
  parse_beam,
  parse_values,
)

# The flags that only some data sets take.
FLAGS: FlagTable = {
  'videos': {
    'metavar': 'DIR',
    'help': 'the folder of the videos; each is a file or a folder of numbered images',
  },
  'annotations': {
    'metavar': 'PATH',
    'nargs': '+',
    'help': "the folder of the data set's lists and labels; for Kinetics, the csv files",
  },
  'lists': {
    'metavar': 'SPLIT=FILE',
    'nargs': '+',
    'help': 'lists with lines "path label", "path,label" or "path frames label"; without lists, the'
    ' folders of the videos are the classes',
  },
  'labels': {
    'metavar': 'FILE',
    'help': 'the class names in the order of their labels, one per line, or as "id,name"',
  },
  'name': {'metavar': 'NAME', 'help': 'the name of the data set below --out (default: folder)'},
  'masks': {
    'metavar': 'FORMAT:PATH[,OPTION=VALUE...]',
    'nargs': '+',
    'help': 'the masks of people and objects; the formats are listed below',
  },
  'boxes': {
    'metavar': 'FILE',
    'nargs': '+',
    'help': 'the Something-Else boxes of hands and objects',
  },
  'boxes-from-shapes': {
    'action': 'store_true',
    'default': None,
    'help': 'draw the boxes person_box and object_box around the shapes of the masks',
  },
  'short-side': {
    'metavar': 'PIXELS',
    'type': int,
    'help': "scale the frames' shorter side down to this many pixels (default: keep the size)",
  },
  'jpeg-quality': {
    'metavar': 'Q',
    'type': int,
    'help': f'the quality of the stored frames, 1 to 100 (default: {records.JPEG_QUALITY})',
  },
  'keep': {
    'metavar': 'FRAMES',
    'help': 'the frames to store: all, every:N for every N-th, or N spread evenly: segments:N,'
    ' starts:N or ends:N, see config.view.sampling (default: all)',
  },
  'fps': {
    'metavar': 'RATE',
    'type': float,
    'help': f'frames per second of clips that are folders of frames (default: {DEFAULT_FPS:g})',
  },
  'seed': {'metavar': 'N', 'type': int, 'help': 'the random seed (default: 0)'},
  'train-clips': {
    'metavar': 'N',
    'type': int,
    'help': f'clips to render for training in each world (default: {TRAIN_CLIPS})',
  },
  'validation-clips': {
    'metavar': 'N',
    'type': int,
    'help': f'clips to render for validation in each world (default: {VALIDATION_CLIPS})',
  },
  'test-clips': {
    'metavar': 'N',
    'type': int,
    'help': f'clips to render for testing in each world (default: {TEST_CLIPS})',
  },
}

# (minimum, maximum) of the flags that are numbers.
_RANGES = {
  'workers': (0, None),
  'short-side': (16, None),
  'jpeg-quality': (1, 100),
  'fps': (0.01, 1000),
  'seed': (0, None),
  'train-clips': (1, None),
  'validation-clips': (1, None),
  'test-clips': (1, None),
}


def _parser() -> argparse.ArgumentParser:
  formats = '\n'.join(
    f'  {name:8} {mask_format.description}' for name, mask_format in FORMATS.items()
  )
  parser = argparse.ArgumentParser(
    'zsar build-dataset',
    description=__doc__,
    epilog=f'formats of --masks (docs/data.md describes their options):\n\n{formats}',
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument(
    '--dataset', required=True, choices=sorted(SOURCES), help='the data set to build'
  )
  parser.add_argument('--out', required=True, metavar='DIR', help='the folder of data sets')
  parser.add_argument(
    '--workers', type=int, metavar='N', help='processes that encode clips (default: all cores)'
  )
  parser.add_argument(
    '--strict', action='store_true', help='fail if a clip is missing or unreadable'
  )
  add_beam_flags(parser, 'encode')
  group = parser.add_argument_group('flags of some data sets')
  choices = {dataset: source.flags for dataset, source in SOURCES.items()}
  add_flags_of_choices(group, FLAGS, choices)
  return parser


def _check_ranges(values: Values) -> None:
  for flag, (minimum, maximum) in _RANGES.items():
    value = values[flag]
    if value is not None and not minimum <= value <= (value if maximum is None else maximum):
      limits = f'{minimum} or more' if maximum is None else f'{minimum} to {maximum}'
      raise UserError(f'--{flag} must be {limits}, not {value}')


def _builders(values: Values) -> list[ClipBuilder]:
  """Creates the builders, given the values of all flags."""
  dataset = values['dataset']
  source = SOURCES[dataset]
  given = given_flags(values, FLAGS, f'--dataset={dataset}', source.required, source.optional)
  _check_ranges(values)
  name = given.pop('name', dataset)
  if not re.fullmatch(r'[a-z][a-z0-9_]*', name):
    raise UserError(f'--name: {name!r} must consist of small letters, digits and underscores')
  return source.builders(values['out'], name, given)


def main(argv: Sequence[str] | None = None) -> None:
  """Builds the data set that the command line describes."""
  values = parse_values(_parser(), argv)
  with exit_on_user_error():
    try:
      for builder in _builders(values):
        build(builder, values['workers'], values['strict'], parse_beam(values))
    except KeyboardInterrupt:
      print('\ninterrupted; give the same command again to continue', file=sys.stderr)
      raise SystemExit(130) from None


if __name__ == '__main__':
  main()
