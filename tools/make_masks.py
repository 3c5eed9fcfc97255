"""Makes masks of people and objects from raw videos.

Examples:

  zsar make-masks --videos=k400/train --out=masks --keep=segments:32 --person

  zsar make-masks --videos=ssv2 --out=masks --boxes=something-else.json \\
      --object=facebook/sam2.1-hiera-small

  zsar make-masks --videos=clips --out=masks --track=facebook/sam2.1-hiera-small --person

  zsar make-masks --videos=ssv2 --out=masks --text=IDEA-Research/grounding-dino-tiny \\
      --words=placeholders --annotations=labels --object=facebook/sam2.1-hiera-small

  zsar make-masks --videos=clips --out=masks --motion

  zsar make-masks --videos=clips --out=masks --command='python segment.py {frames} {masks}'

A data set is built with the result as zsar build-dataset ... --masks made:MASKS. To continue an
interrupted run, give the same command again. Models are names on the Hugging Face hub, or folders
that were downloaded from it (extra masks).
"""

import argparse
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import sys
from collections.abc import Callable, Sequence

from zsar_jax.command_line import path_type
from zsar_jax.datasets.mask_provenance import without_folders
from zsar_jax.datasets.masks.box_sources import open_boxes
from zsar_jax.datasets.video import Storage
from zsar_jax.errors import UserError
from zsar_jax.mask_making.box_maker import BoxesSpec
from zsar_jax.mask_making.command import CommandSpec
from zsar_jax.mask_making.inpainting import open_inpainter
from zsar_jax.mask_making.maker import MakerSpec
from zsar_jax.mask_making.mask_run import MaskRun
from zsar_jax.mask_making.motion import MotionSpec
from zsar_jax.mask_making.person import DEFAULT_MODEL, PersonSpec
from zsar_jax.mask_making.phrases import HAND, PLACEHOLDERS, parse_words, read_placeholders
from zsar_jax.mask_making.refinement import Refinement
from zsar_jax.mask_making.text_maker import TextSpec
from zsar_jax.mask_making.tracking import TrackSpec
from zsar_jax.mask_making.work import ClipWork, list_videos, with_boxes
from zsar_jax.runtime.reporting import exit_on_user_error
from zsar_jax.storage.folders import open_folders
from zsar_jax.storage.paths import as_path

from .dataset_sources import Values
from .shared_flags import (
  FlagTable,
  add_beam_flags,
  add_flags_of_choices,
  given_flags,
  parse_beam,
  parse_values,
)

# The flags that only some makers take.
FLAGS: FlagTable = {
  'person': {
    'metavar': 'MODEL',
    'nargs': '?',
    'const': DEFAULT_MODEL,
    'help': 'segments people in each frame: RF-DETR-Seg, Mask2Former, OneFormer, EoMT, or'
    f' torchvision:NAME (default model: {DEFAULT_MODEL})',
  },
  'boxes': {
    'metavar': 'FILE',
    'nargs': '+',
    'help': 'boxes of people and objects: the files of Something-Else, or coco:PATH or yolo:PATH,'
    ' with the options of zsar build-dataset --masks',
  },
  'object': {
    'metavar': 'MODEL',
    'help': 'SAM 2.1, which turns boxes into shapes, such as facebook/sam2.1-hiera-small',
  },
  'track': {
    'metavar': 'MODEL',
    'help': 'SAM 2.1, which tracks what --person or --boxes shows in some of the frames',
  },
  'text': {
    'metavar': 'MODEL',
    'help': 'finds what --words says: Grounding DINO or OWLv2 (with --object), or SAM 3',
  },
  'words': {
    'metavar': 'TEXT:REGION/...',
    'help': "what to find, such as person:person/cup:object; 'placeholders' stands for the nouns in"
    ' the labels of Something-Something (needs --annotations)',
  },
  'annotations': {
    'metavar': 'DIR',
    'help': 'the folder of the lists of Something-Something',
  },
  'accept-license': {
    'action': 'store_true',
    'default': None,
    'help': 'you have read the license of weights that restrict their use, such as those of SAM 3',
  },
  'motion': {
    'action': 'store_true',
    'default': None,
    'help': 'marks what moves in front of the background, without a network: weak, but works'
    ' offline',
  },
  'command': {
    'metavar': 'COMMAND',
    'help': 'a program that turns a folder of frames, {frames}/NUMBER.png, into a folder of masks,'
    ' {masks}/NUMBER.png',
  },
  'region': {
    'choices': ('person', 'object'),
    'help': 'the region of the masks (default: person)',
  },
  'threshold': {
    'metavar': 'SCORE',
    'type': float,
    'help': 'detections with lower scores are left out; low, as a person who is missed stays'
    ' visible in the background (default: 0.3 for people; for --text that of the model)',
  },
  'batch': {
    'metavar': 'N',
    'type': int,
    'help': 'the frames that a network takes at once (default: depends on the maker)',
  },
  'device': {
    'metavar': 'NAME',
    'help': 'where networks run: auto, cpu, cuda or cuda:N (default: auto)',
  },
}

_NETWORK = ('threshold', 'batch', 'device')


@dataclasses.dataclass(frozen=True)
class _Maker:
  """A way to make masks.

  Attributes:
    spec: maps the given flags, and the regions of the given boxes, to what creates the maker.
    required: the flags that must be given; the first one chooses this maker.
    optional: the flags that may be given.
  """

  spec: Callable[[Values, tuple[str, ...]], MakerSpec]
  required: tuple[str, ...]
  optional: tuple[str, ...] = ()


def _options(given: Values, *flags: str) -> Values:
  """Returns the given flags among `flags` as keyword arguments."""
  names = {flag: flag.replace('-', '_') for flag in flags} | {'batch': 'batch_frames'}
  return {names[flag]: given[flag] for flag in flags if flag in given}


def _person(given: Values, regions: tuple[str, ...]) -> MakerSpec:
  return PersonSpec(given['person'], **_options(given, *_NETWORK))


def _boxes(given: Values, regions: tuple[str, ...]) -> MakerSpec:
  return BoxesSpec(given['object'], regions, **_options(given, 'batch', 'device'))


def _track(given: Values, regions: tuple[str, ...]) -> MakerSpec:
  detector = (
    PersonSpec(given['person'], **_options(given, *_NETWORK)) if 'person' in given else None
  )
  return TrackSpec(given['track'], detector, regions or ('person',), **_options(given, 'device'))


def _text(given: Values, regions: tuple[str, ...]) -> MakerSpec:
  options = _options(given, *_NETWORK, 'accept-license')
  return TextSpec(given['text'], given['words'], given.get('object'), **options)


def _motion(given: Values, regions: tuple[str, ...]) -> MakerSpec:
  return MotionSpec(**_options(given, 'region'))


def _command(given: Values, regions: tuple[str, ...]) -> MakerSpec:
  return CommandSpec(given['command'], **_options(given, 'region'))


# In the order in which they are chosen, as a flag that chooses one may be optional for an earlier.
MAKERS = {
  'track': _Maker(_track, ('track',), ('person', 'boxes', *_NETWORK)),
  'text': _Maker(_text, ('text', 'words'), ('object', 'annotations', 'accept-license', *_NETWORK)),
  'boxes': _Maker(_boxes, ('boxes', 'object'), ('batch', 'device')),
  'person': _Maker(_person, ('person',), _NETWORK),
  'motion': _Maker(_motion, ('motion',), ('region',)),
  'command': _Maker(_command, ('command',), ('region',)),
}


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    'zsar make-masks',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument(
    '--videos',
    required=True,
    metavar='DIR',
    help='the folder of the videos; each is a file or a folder of numbered images',
  )
  parser.add_argument(
    '--out',
    type=path_type('--out'),
    required=True,
    metavar='DIR',
    help='the folder of the masks',
  )
  group = parser.add_argument_group('makers; the help of a flag begins with those that take it')
  choices = {name: maker.required + maker.optional for name, maker in MAKERS.items()}
  add_flags_of_choices(group, FLAGS, choices)
  group = parser.add_argument_group('frames')
  group.add_argument(
    '--keep',
    metavar='FRAMES',
    default='all',
    help='the frames that get masks, as in zsar build-dataset (default: all)',
  )
  group.add_argument(
    '--short-side',
    metavar='PIXELS',
    type=int,
    help="scale the frames' shorter side down to this many pixels (default: keep the size)",
  )
  group = parser.add_argument_group('refinement')
  defaults = Refinement()
  group.add_argument(
    '--dilate',
    metavar='SHARE',
    type=float,
    default=defaults.dilate,
    help="widen shapes by this share of a frame's shorter side (default: %(default)s)",
  )
  group.add_argument(
    '--union',
    metavar='N',
    type=int,
    default=defaults.union,
    help='add the shapes of N kept frames before and after; for frames that are less than about 0.2'
    ' seconds apart (default: %(default)s)',
  )
  group.add_argument(
    '--fill-holes',
    metavar='SHARE',
    type=float,
    default=defaults.fill_holes,
    help="fill holes up to this share of a frame's area (default: %(default)s)",
  )
  group.add_argument(
    '--inpaint',
    metavar='telea|COMMAND',
    help="also store the frames without people: 'telea' fills each frame from its surroundings; or"
    ' a program that reads {frames} and {masks} and writes {out}/NUMBER.png',
  )
  group = parser.add_argument_group('scale')
  group.add_argument(
    '--workers',
    type=int,
    metavar='N',
    help='processes that read videos, or make masks without a network (default: all cores)',
  )
  group.add_argument(
    '--shard',
    metavar='I/N',
    default='0/1',
    help='make every N-th part of the masks only, beginning with part I, counted from 0',
  )
  add_beam_flags(group, 'make masks')
  return parser


def _choose_maker(values: Values) -> tuple[str, Values]:
  """Returns the name of the maker, and the given flags that makers take."""
  for name, maker in MAKERS.items():
    if values[maker.required[0]] is not None:
      given = given_flags(values, FLAGS, f'--{maker.required[0]}', maker.required, maker.optional)
      _check_combination(given)
      return name, given
  first = ', '.join(f'--{maker.required[0]}' for maker in MAKERS.values())
  raise UserError(f'say how to make masks: give one of {first} (see zsar make-masks --help)')


def _check_combination(given: Values) -> None:
  """Raises a `UserError` if the flags of a maker contradict each other."""
  if 'track' in given:
    if ('person' in given) == ('boxes' in given):
      raise UserError(
        '--track needs --person or --boxes, which show what to track; give one of them'
      )
    for flag in ('threshold', 'batch'):
      if flag in given and 'boxes' in given:
        raise UserError(f'--{flag} belongs to the network of --person; leave it out with --boxes')
  if (given.get('words') == PLACEHOLDERS) != ('annotations' in given):
    raise UserError(
      '--words=placeholders and --annotations belong together; give both or none of them'
    )


def _list_works(videos: str, given: Values) -> tuple[list[ClipWork], tuple[str, ...], Values]:
  """Lists what a maker needs to know of each clip.

  Returns:
    works: the clips.
    regions: those of the given boxes.
    inputs: facts for made.json.
  """
  clips = list_videos(videos)
  if 'boxes' in given:
    source = open_boxes(given['boxes'], {clip.id for clip in clips})
    texts = [*source.parameters.get('boxes', ()), source.parameters.get('path', '')]
    paths = [as_path(text, '--boxes') for text in texts if text]
    files = [path for path in paths if path.is_file()]  # YOLO's are folders.
    inputs = {
      'boxes': without_folders(source.parameters),
      'boxes_checksum': _checksum_files(files) if files else None,
    }
    return with_boxes(clips, source), source.region_names, inputs
  if 'words' not in given:
    return [ClipWork(clip.name, clip.path) for clip in clips], (), {}
  if given['words'] != PLACEHOLDERS:
    phrases = parse_words(given['words'])
    return [ClipWork(clip.name, clip.path, phrases=phrases) for clip in clips], (), {}
  nouns = read_placeholders(given['annotations'])
  works = [ClipWork(clip.name, clip.path, phrases=nouns.get(clip.id, HAND)) for clip in clips]
  digest = hashlib.sha256(json.dumps(nouns, sort_keys=True).encode()).hexdigest()
  return works, (), {'words_checksum': digest[:16]}


def _checksum_files(paths: Sequence[pathlib.Path]) -> str:
  """Returns a text that differs for files with another content."""
  total = hashlib.sha256()
  for path in paths:
    with path.open('rb') as file:
      total.update(hashlib.file_digest(file, 'sha256').digest())
  return total.hexdigest()[:16]


def _parse_shard(text: str) -> tuple[int, int]:
  match = re.fullmatch(r'(\d{1,6})/(\d{1,6})', text)
  if not match or not int(match[1]) < int(match[2]):
    raise UserError(
      f'--shard: {text!r} must be I/N with I from 0 to N - 1, such as 0/4 for the first of four'
    )
  return int(match[1]), int(match[2])


def _check_ranges(values: Values) -> None:
  for flag, minimum in (('workers', 0), ('short-side', 16), ('batch', 1)):
    if values[flag] is not None and values[flag] < minimum:
      raise UserError(f'--{flag} must be {minimum} or more, not {values[flag]}')
  if values['threshold'] is not None and not 0 <= values['threshold'] <= 1:
    raise UserError(f'--threshold must be from 0 to 1, not {values["threshold"]}')


def main(argv: Sequence[str] | None = None) -> None:
  """Makes the masks that the command line describes."""
  values = parse_values(_parser(), argv)
  with exit_on_user_error():
    _check_ranges(values)
    name, given = _choose_maker(values)
    workers = values['workers']
    shard = _parse_shard(values['shard'])
    storage = Storage(values['short-side'], keep=values['keep'])
    refinement = Refinement(values['union'], values['dilate'], values['fill-holes'])
    inpainter = None
    if values['inpaint'] is not None:
      inpainter = open_inpainter(values['inpaint'], storage.jpeg_quality)
    # Files of boxes may take minutes to read, so the flags were checked before.
    works, regions, inputs = _list_works(values['videos'], given)
    run = MaskRun(
      out=values['out'],
      spec=MAKERS[name].spec(given, regions),
      storage=storage,
      refinement=refinement,
      inpainter=inpainter,
      inputs=inputs,
      videos=open_folders(values['videos'], '--videos').root,
      shard=shard,
      workers=os.cpu_count() or 1 if workers is None else workers,
      beam=parse_beam(values),
    )
    try:
      run.make(works)
    except KeyboardInterrupt:
      print('\ninterrupted; give the same command again to continue', file=sys.stderr)
      raise SystemExit(130) from None


if __name__ == '__main__':
  main()
