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
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from zsar_jax.data import records
from zsar_jax.data.builder import ClipBuilder, build
from zsar_jax.errors import UserError, reported


@dataclasses.dataclass(frozen=True)
class Source:
  """A data set that can be built.

  Attributes:
    describe: adds the data set's own flags to its group of the help text.
    builders: from --out and the values of those flags that were given, to what is to be built.
  """

  describe: Callable[[Any], None]
  builders: Callable[..., list[ClipBuilder]]


def _describe_pantomime(group: Any) -> None:
  group.add_argument('--seed', type=int, help='of all that is drawn at random (default 0)')
  group.add_argument('--train-clips', type=int, help='for each world (default 3000)')
  group.add_argument('--validation-clips', type=int, help='for each world (default 800)')


def _pantomime(out: str, **options: Any) -> list[ClipBuilder]:
  from zsar_jax.data import pantomime, pantomime_builder  # pylint: disable=g-import-not-at-top

  return [pantomime_builder.Pantomime(out, world, **options) for world in pantomime.WORLDS]


def _describe_ssv2(group: Any) -> None:
  group.add_argument('--videos', metavar='DIR', help='the folder of the videos, {id}.webm')
  group.add_argument(
      '--annotations',
      metavar='DIR',
      help='the folder of something-something-v2-{train,validation,labels}.json, which may also'
      ' be called {train,validation,labels}.json',
  )
  group.add_argument(
      '--boxes',
      metavar='FILE',
      nargs='+',
      help='Something-Else boxes, in one or more files; without them nothing can be masked',
  )
  group.add_argument(
      '--short-side', type=int, metavar='PIXELS', help="scale frames (default: the videos' size)"
  )


def _ssv2(
    out: str, videos: str | None = None, annotations: str | None = None, **options: Any
) -> list[ClipBuilder]:
  from zsar_jax.data import ssv2  # pylint: disable=g-import-not-at-top

  if videos is None or annotations is None:
    raise UserError('--dataset=ssv2 needs --videos and --annotations')
  return [ssv2.Ssv2(out, videos, annotations, **options)]


# Every builder has an option --jpeg-quality as well.
SOURCES = {
    'pantomime': Source(_describe_pantomime, _pantomime),
    'ssv2': Source(_describe_ssv2, _ssv2),
}


def parse(argv: Sequence[str] | None = None) -> tuple[argparse.Namespace, dict[str, Any]]:
  """Parses the command line.

  Returns:
    The flags that every data set has, and the chosen data set's own that were given.

  Raises:
    UserError: for a flag of another data set.
  """
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
  parser.add_argument(
      '--jpeg-quality',
      type=int,
      metavar='Q',
      default=records.JPEG_QUALITY,
      help='of the stored frames, 1 to 100 (default %(default)s)',
  )
  owner = {}
  for name, source in SOURCES.items():
    before = {action.dest for action in parser._actions}  # pylint: disable=protected-access
    source.describe(parser.add_argument_group(f'--dataset={name}'))
    for action in parser._actions:  # pylint: disable=protected-access
      if action.dest not in before:
        owner[action.dest] = name
  common = parser.parse_args(argv)
  return common, owner


def main(argv: Sequence[str] | None = None) -> None:
  """Builds what the command line says."""
  with reported():
    pass


if __name__ == '__main__':
  main()
