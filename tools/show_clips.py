"""Draws clips under mask recipes, so that one can see what the model sees.

    zsar show --dataset-dir=data --out=sheet.png \\
        --recipes='none;background=normal;background=normal,object_box=normal'

A row is a clip, a column a recipe. Frames, crop and colors are those of an evaluation. Where a
recipe has clips meet, each meets that of the row above. Frames that are not annotated have a dashed
edge. With --outline the regions are outlined: people in red, objects in blue.
"""

import argparse
import pathlib
from typing import TYPE_CHECKING

from zsar_jax.errors import UserError
from zsar_jax.runtime.command_line import parse_arguments
from zsar_jax.runtime.reporting import exit_on_user_error

if TYPE_CHECKING:
  from zsar_jax.data.subset import Subset


def main() -> None:
  """Runs the program; see the head of this file."""
  parser = argparse.ArgumentParser(
    'zsar show', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument(
    '--dataset-dir',
    type=pathlib.Path,
    required=True,
    help='the --out of zsar build-dataset, or one data set below it',
  )
  parser.add_argument('--out', type=pathlib.Path, required=True, help='the PNG to write')
  parser.add_argument(
    '--recipes',
    help="mask recipes, parted by semicolons; default: 'none;background=normal', with --outline"
    " 'none'",
  )
  parser.add_argument(
    '--outline', action='store_true', help='outline the regions, people in red, objects in blue'
  )
  parser.add_argument('--split', help='default: train, or where there is none another one')
  parser.add_argument('--clips', type=int, default=6, help='rows; default: %(default)s')
  parser.add_argument('--frames', type=int, default=4, help='of a clip; default: %(default)s')
  parser.add_argument(
    '--size', type=int, default=112, help="a frame's side in pixels; default: %(default)s"
  )
  args = parse_arguments(parser)
  # Imported late: they are slow, and --help needs none of them.
  from zsar_jax.data.pipeline import View
  from zsar_jax.recipes import language
  from zsar_jax.runtime.files import make_folder

  from . import drawing

  with exit_on_user_error():
    for flag in ('clips', 'frames', 'size'):
      if getattr(args, flag) < 1:
        raise UserError(f'--{flag}: {getattr(args, flag)} is too small; at least 1')
    if args.out.suffix != '.png':
      raise UserError(f'--out: {args.out} does not end in .png')
    make_folder(args.out.parent, '--out')
    texts = args.recipes
    if texts is None:
      texts = 'none' if args.outline else 'none;background=normal'
    columns = []
    for text in texts.split(';'):
      recipe = language.parse(text, '--recipes')
      if recipe.effect('stillmix_bank'):
        raise UserError("--recipes: stillmix_bank needs a run's bank; 'stillmix' shows the same")
      columns.append(drawing.Column(str(recipe), recipe, args.outline))
    rows = drawing.choose_clips(_subsets(args.dataset_dir, args.split), args.clips)
    for subset, _ in rows:
      for column in columns:
        subset.check_recipe(column.recipe, '--recipes')
    view = View(num_frames=args.frames, size=args.size, centre_crop=1.0)
    drawing.contact_sheet(rows, columns, view, args.out)
    print(args.out)


def _subsets(folder: pathlib.Path, split: str | None) -> list['Subset']:
  """A split of each data set below a folder: the one that is named, or one that is there."""
  from zsar_jax.data.dataset import list_datasets, open_dataset, split_names
  from zsar_jax.data.subset import select

  subsets = []
  for name in list_datasets(folder):
    present = split_names(folder, name)
    chosen = split or ('train' if 'train' in present else [*present, 'train'][0])
    subsets.append(select(open_dataset(folder, name, chosen), 'all', 'nearest', '--split'))
  if not subsets:
    raise UserError(f'--dataset-dir: {folder} holds no data set; build one with zsar build-dataset')
  return subsets


if __name__ == '__main__':
  main()
