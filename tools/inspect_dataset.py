"""Shows what went into a data set: the build's report again, and clips with their regions.

    zsar inspect data/kinetics400

prints the report and draws the contact sheet kinetics400.png: clips of every split, as they are,
with people in red and objects in blue, and with the background painted over. Frames that are not
annotated have a dashed edge. With --outline the regions are outlined and not painted.
"""

import argparse
import json
import pathlib
from typing import TYPE_CHECKING

from zsar_jax.errors import UserError
from zsar_jax.runtime.command_line import parse_arguments
from zsar_jax.runtime.reporting import exit_on_user_error

if TYPE_CHECKING:
  from zsar_jax.data.subset import Subset

  from .drawing import Column


def main(argv: list[str] | None = None) -> None:
  """Runs the program; see the head of this file."""
  parser = argparse.ArgumentParser(
    'zsar inspect',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    'folder',
    metavar='DIR',
    type=pathlib.Path,
    help='the --out of zsar build-dataset, or one data set below it',
  )
  parser.add_argument(
    '--out', metavar='DIR', type=pathlib.Path, default='.', help='of the sheets; default: here'
  )
  parser.add_argument(
    '--outline', action='store_true', help='outline people and objects instead of painting them'
  )
  parser.add_argument('--clips', type=int, default=12, help='in a sheet; default: %(default)s')
  parser.add_argument('--frames', type=int, default=4, help='of a clip; default: %(default)s')
  parser.add_argument(
    '--size', type=int, default=112, help="a frame's side in pixels; default: %(default)s"
  )
  args = parse_arguments(parser, argv)
  # Imported late: they are slow, and --help needs none of them.
  from zsar_jax.data.dataset import find_dataset, list_datasets, open_dataset
  from zsar_jax.data.pipeline import View
  from zsar_jax.data.subset import select
  from zsar_jax.runtime.files import make_folder

  from .drawing import choose_clips, contact_sheet

  with exit_on_user_error():
    for flag in ('clips', 'frames', 'size'):
      if getattr(args, flag) < 1:
        raise UserError(f'--{flag}: {getattr(args, flag)} is too small; at least 1')
    make_folder(args.out, '--out')
    folder = args.folder
    if (folder / 'dataset_info.json').is_file():  # A version of a data set.
      folder = folder.absolute().parent
    names = list_datasets(folder)
    if not names:
      raise UserError(f'{folder} holds no data set; build one with zsar build-dataset')
    view = View(num_frames=args.frames, size=args.size, centre_crop=1.0)
    for name in names:
      splits, words = _read_report(name, find_dataset(folder, name) / 'build_report.json')
      print(words)
      subsets = [
        select(open_dataset(folder, name, split), 'all', 'nearest', name) for split in splits
      ]
      out = args.out / f'{name.replace("/", "-")}.png'
      rows = choose_clips(subsets, args.clips)
      contact_sheet(rows, _columns(subsets[0], args.outline), view, out)
      print(out)


def _columns(subset: 'Subset', outline: bool) -> list['Column']:
  """The columns of a sheet, of those regions that the data set knows."""
  from zsar_jax.recipes import language

  from .drawing import COLORS, Column

  nothing = language.parse('none')
  columns = [Column('none', nothing)]
  known = [region for region in ('person', 'object') if region in subset.region_names]
  if known:
    painted = language.parse(','.join(f'{region}={COLORS[region]}' for region in known))
    white = language.parse('background=white')
    columns += [
      Column('regions', nothing if outline else painted, outline),
      Column(str(white), white),
    ]
  return columns


def _read_report(name: str, path: pathlib.Path) -> tuple[list[str], str]:
  """The splits of a build's report, and the report in words."""
  from zsar_jax.datasets.build_report import describe

  try:
    report = json.loads(path.read_text())
    words = describe(name, report)
    if not report:
      raise ValueError('it has no split')
  except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
    raise UserError(
      f'{path} is damaged, or from an earlier version ({error}); delete its folder and build the'
      ' data set again'
    ) from None
  return list(report), words


if __name__ == '__main__':
  main()
