"""Builds a data set for training and evaluation out of videos, their lists and their masks.

Examples:

  zsar build-dataset --dataset=pantomime --out=data

  zsar build-dataset --dataset=ssv2 --out=data --videos=20bn-something-something-v2 \\
      --annotations=labels --boxes boxes_part1.json boxes_part2.json

  zsar build-dataset --dataset=kinetics400 --out=data --videos=k400 \\
      --annotations train.csv val.csv --masks grey:k400_seg --short-side=256

  zsar build-dataset --dataset=folder --name=mine --out=data --videos=clips \\
      --masks coco:detections.json,values=1:person/*:object --boxes-from-shapes

A build that was interrupted continues when the same command is given again. Clips that are
missing or cannot be read are left out and listed, also in the data set's build_report.json, which
zsar inspect shows again.
"""

import argparse
import dataclasses
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from zsar_jax import pantomime
from zsar_jax.data import records
from zsar_jax.datasets.beam import Beam
from zsar_jax.datasets.build import build
from zsar_jax.datasets.builder import ClipBuilder
from zsar_jax.datasets.masks.something_else import SomethingElseBoxes
from zsar_jax.datasets.masks.spec import FORMATS, open_masks
from zsar_jax.datasets.sources.folder import list_files, list_folder
from zsar_jax.datasets.sources.kinetics import list_kinetics, list_mimetics
from zsar_jax.datasets.sources.listing import Listing
from zsar_jax.datasets.sources.ssv2 import list_ssv2
from zsar_jax.datasets.sources.ucf_hmdb import list_hmdb51, list_ucf101
from zsar_jax.datasets.video import DEFAULT_FPS, Storage
from zsar_jax.datasets.video_builder import VideoBuilder
from zsar_jax.errors import UserError
from zsar_jax.pantomime.worlds import TEST_CLIPS, TRAIN_CLIPS, VALIDATION_CLIPS, Pantomime
from zsar_jax.runtime.command_line import parse_arguments
from zsar_jax.runtime.paths import local_path
from zsar_jax.runtime.reporting import exit_on_user_error

Values = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Source:
  """A data set that can be built.

  Attributes:
    builders: from --out, the data set's name and the values of the flags below that were given.
    required: the flags, of `FLAGS`, that it must be given.
    optional: the flags that it may be given.
  """

  builders: Callable[[str, str, Values], list[ClipBuilder]]
  required: tuple[str, ...] = ()
  optional: tuple[str, ...] = ()


def _pantomime(out: str, name: str, given: Values) -> list[ClipBuilder]:
  del name
  options = {flag.replace('-', '_'): value for flag, value in given.items()}
  return [Pantomime(out, world, **options) for world in pantomime.WORLDS]


# What every data set of videos may be given.
_VIDEO_FLAGS = ('masks', 'boxes-from-shapes', 'short-side', 'jpeg-quality', 'keep', 'fps')


def _videos(
  list_clips: Callable[[Values], Listing],
  required: tuple[str, ...] = ('videos', 'annotations'),
  optional: tuple[str, ...] = (),
) -> Source:
  """A data set of videos, whose clips `list_clips` lists."""

  def builders(out: str, name: str, given: Values) -> list[ClipBuilder]:
    listing = list_clips(given)
    masks = [open_masks(text) for text in given.get('masks', ())]
    if 'boxes' in given:
      ids = {clip.id for clips in listing.splits.values() for clip in clips}
      masks.append(SomethingElseBoxes(given['boxes'], ids))
    storage = Storage(
      given.get('short-side'),
      given.get('jpeg-quality', records.JPEG_QUALITY),
      given.get('keep', 'all'),
    )
    from_shapes = given.get('boxes-from-shapes', False)
    fps = given.get('fps', DEFAULT_FPS)
    return [VideoBuilder(out, name, listing, storage, masks, from_shapes, fps)]

  return Source(builders, required, optional + _VIDEO_FLAGS)


def _kinetics(given: Values) -> Listing:
  return list_kinetics(given['videos'], given['annotations'], given.get('labels'))


def _folder(given: Values) -> Listing:
  if 'lists' not in given:
    return list_folder(given['videos'], given.get('labels'))
  lists = {}
  for text in given['lists']:
    split, equals, path = text.partition('=')
    if not equals or not re.fullmatch(r'[a-z][a-z0-9_]*', split) or split in lists:
      raise UserError(f'--lists: {text!r} must be SPLIT=FILE, such as train=train.txt, each once')
    lists[split] = local_path(path, '--lists')
  return list_files(given['videos'], lists, given.get('labels'))


def _one(given: Values) -> str:
  """The one folder of annotations of a data set whose lists are published together."""
  if len(given['annotations']) > 1:
    raise UserError(f'--annotations: one folder, not {len(given["annotations"])} of them')
  return given['annotations'][0]


SOURCES = {
  'pantomime': Source(
    _pantomime,
    optional=('seed', 'train-clips', 'validation-clips', 'test-clips', 'jpeg-quality'),
  ),
  'kinetics400': _videos(_kinetics, optional=('labels',)),
  'kinetics600': _videos(_kinetics, optional=('labels',)),
  'kinetics700': _videos(_kinetics, optional=('labels',)),
  'mimetics': _videos(lambda given: list_mimetics(given['videos'], _one(given))),
  'ssv2': _videos(lambda given: list_ssv2(given['videos'], _one(given)), optional=('boxes',)),
  'ucf101': _videos(lambda given: list_ucf101(given['videos'], _one(given))),
  'hmdb51': _videos(lambda given: list_hmdb51(given['videos'], _one(given))),
  'folder': _videos(_folder, required=('videos',), optional=('lists', 'labels', 'name')),
}

# What argparse is told of each flag. None has a default: a flag that is not given is not passed.
FLAGS: dict[str, dict[str, Any]] = {
  'videos': {
    'metavar': 'DIR',
    'help': 'the folder of the videos; each is a file or a folder of numbered images',
  },
  'annotations': {
    'metavar': 'PATH',
    'nargs': '+',
    'help': "the folder of the data set's lists and labels; of Kinetics, the csv files",
  },
  'lists': {
    'metavar': 'SPLIT=FILE',
    'nargs': '+',
    'help': 'lists of lines "path label", "path,label" or "path frames label"; without them the'
    ' folders of the videos are the classes',
  },
  'labels': {
    'metavar': 'FILE',
    'help': 'the class names in the order of their labels, one in a line or as "id,name"',
  },
  'name': {'metavar': 'NAME', 'help': "the data set's name below --out (default: folder)"},
  'masks': {
    'metavar': 'FORMAT:PATH[,OPTION=VALUE...]',
    'nargs': '+',
    'help': 'where the regions come from, see below',
  },
  'boxes': {
    'metavar': 'FILE',
    'nargs': '+',
    'help': 'Something-Else boxes of hands and objects',
  },
  'boxes-from-shapes': {
    'action': 'store_true',
    'default': None,
    'help': 'draw the boxes person_box and object_box around the shapes of the masks',
  },
  'short-side': {
    'metavar': 'PIXELS',
    'type': int,
    'help': "scale the frames' shorter side down to this (default: keep the size)",
  },
  'jpeg-quality': {
    'metavar': 'Q',
    'type': int,
    'help': f'of the stored frames, 1 to 100 (default: {records.JPEG_QUALITY})',
  },
  'keep': {
    'metavar': 'FRAMES',
    'help': 'the frames to store: all, every:N for each N-th, or segments:N for N spread evenly'
    ' (default: all)',
  },
  'fps': {
    'metavar': 'RATE',
    'type': float,
    'help': f'frames per second of clips that are folders of frames (default: {DEFAULT_FPS:g})',
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
  'test-clips': {
    'metavar': 'N',
    'type': int,
    'help': f'rendered for testing, in each world (default: {TEST_CLIPS})',
  },
}

# The least and the most that a number may be.
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
  masks = '\n'.join(f'  {name:8} {one.description}' for name, one in FORMATS.items())
  parser = argparse.ArgumentParser(
    'zsar build-dataset',
    description=__doc__,
    epilog=f'Formats of --masks; docs/data.md has their options:\n\n{masks}',
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
  parser.add_argument(
    '--beam_runner',
    metavar='RUNNER',
    help='encode on this engine of Apache Beam, such as DirectRunner (extra beam); every process'
    ' must see the paths given here',
  )
  parser.add_argument(
    '--beam_options',
    metavar='NAME=VALUE,...',
    default='',
    help='options of the engine, such as direct_running_mode=multi_processing,direct_num_workers=4',
  )
  group = parser.add_argument_group('of some data sets')
  for flag, options in FLAGS.items():
    users = [n for n, source in SOURCES.items() if flag in source.required + source.optional]
    everywhere = len(users) >= len(SOURCES) - 1
    named = '' if everywhere else f'{", ".join(users)}: '
    group.add_argument(f'--{flag}', **options | {'help': f'{named}{options["help"]}'})
  return parser


def _builders(values: Values) -> list[ClipBuilder]:
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
  name = given.pop('name', dataset)
  if not re.fullmatch(r'[a-z][a-z0-9_]*', name):
    raise UserError(f'--name: {name!r} must be of small letters, digits and underscores')
  return source.builders(values['out'], name, given)


def _beam(values: Values) -> Beam | None:
  if values['beam_runner'] is None:
    if values['beam_options']:
      raise UserError('--beam_options needs --beam_runner')
    return None
  return Beam(values['beam_runner'], tuple(filter(None, values['beam_options'].split(','))))


def main(argv: Sequence[str] | None = None) -> None:
  """Builds what the command line says."""
  arguments = vars(parse_arguments(_parser(), argv))
  values = {
    name if name.startswith('beam_') else name.replace('_', '-'): value
    for name, value in arguments.items()
  }
  with exit_on_user_error():
    try:
      for builder in _builders(values):
        build(builder, values['workers'], values['strict'], _beam(values))
    except KeyboardInterrupt:
      print('\ninterrupted: the same command continues', file=sys.stderr)
      raise SystemExit(130) from None


if __name__ == '__main__':
  main()
