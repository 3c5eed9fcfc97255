"""Shows what went into a data set: the build's report again, and clips with their regions.

    python -m tools.inspect_dataset data/kinetics400

prints the report and draws the contact sheet kinetics400.png: clips of every split, as they are,
with people in red and objects in blue, and with the background painted over.
"""

import argparse
import json
import pathlib

from tools.show_clips import choose_clips, draw
from zsar_jax.data.dataset import find_dataset, list_datasets, open_dataset
from zsar_jax.data.pipeline import View
from zsar_jax.data.report import describe
from zsar_jax.data.subset import Subset, select
from zsar_jax.errors import UserError, reported
from zsar_jax.ops import recipes
from zsar_jax.writers import make_folder

_COLOURS = {'person': '#e41a1c', 'object': '#377eb8'}


def main(argv: list[str] | None = None) -> None:
  """Runs the program; see the head of this file."""
  parser = argparse.ArgumentParser(
    'python -m tools.inspect_dataset',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    'folder',
    metavar='DIR',
    type=pathlib.Path,
    help='the --out of tools.build_dataset, or one data set below it',
  )
  parser.add_argument(
    '--out', metavar='DIR', type=pathlib.Path, default='.', help='of the sheets; default: here'
  )
  parser.add_argument('--clips', type=int, default=12, help='in a sheet; default: %(default)s')
  parser.add_argument('--frames', type=int, default=4, help='of a clip; default: %(default)s')
  parser.add_argument(
    '--size', type=int, default=112, help="a frame's side in pixels; default: %(default)s"
  )
  args = parser.parse_args(argv)
  with reported():
    for flag in ('clips', 'frames', 'size'):
      if getattr(args, flag) < 1:
        raise UserError(f'--{flag}: {getattr(args, flag)} is too small; at least 1')
    make_folder(args.out, '--out')
    folder = args.folder
    if (folder / 'dataset_info.json').is_file():  # A version of a data set.
      folder = folder.absolute().parent
    names = list_datasets(folder)
    if not names:
      raise UserError(f'{folder} holds no data set; build one with python -m tools.build_dataset')
    view = View(num_frames=args.frames, size=args.size, centre_crop=1.0)
    for name in names:
      splits, words = _read_report(name, find_dataset(folder, name) / 'build_report.json')
      print(words)
      subsets = [
        select(open_dataset(folder, name, split), 'all', 'nearest', name) for split in splits
      ]
      out = args.out / f'{name.replace("/", "-")}.png'
      draw(choose_clips(subsets, args.clips), _columns(subsets[0]), view, out)
      print(out)


def _columns(subset: Subset) -> list[recipes.Recipe]:
  """The recipes of a sheet, of those regions that the data set knows."""
  columns = ['none']
  known = [region for region in _COLOURS if region in subset.region_names]
  if known:
    columns += [','.join(f'{region}={_COLOURS[region]}' for region in known), 'background=white']
  return [recipes.parse(column) for column in columns]


def _read_report(name: str, path: pathlib.Path) -> tuple[list[str], str]:
  """The splits of a build's report, and the report in words."""
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
