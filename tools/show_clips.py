"""Draws clips under mask recipes, as the model sees them.

    zsar show --dataset-dir=data --out=sheet.png \\
        --recipes='none;background=normal;background=normal,object_box=normal'

Each row is a clip, each column a recipe. Frames, crop and colors are those of an evaluation. If a
recipe combines clips, each clip is combined with that of the row above. Frames that are not
annotated have a dashed edge. With --outline, the regions are outlined: people in red, objects in
blue.
"""

import argparse
import pathlib
from typing import TYPE_CHECKING

from zsar_jax.command_line import parse_arguments, path_type
from zsar_jax.errors import UserError
from zsar_jax.runtime.reporting import exit_on_user_error

from .shared_flags import add_sheet_flags, check_sheet_flags

if TYPE_CHECKING:
  from zsar_jax.data.subset import Subset


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    'zsar show', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument(
    '--dataset-dir',
    type=path_type('--dataset-dir'),
    required=True,
    help='the --out of zsar build-dataset, or one data set below it',
  )
  parser.add_argument('--out', type=path_type('--out'), required=True, help='the PNG to write')
  parser.add_argument(
    '--recipes',
    help="mask recipes, separated by semicolons; default: 'none;background=normal', or 'none' with"
    ' --outline',
  )
  parser.add_argument(
    '--outline', action='store_true', help='outline the regions, people in red, objects in blue'
  )
  parser.add_argument(
    '--split', help='the split to show; default: train, or another if the data set has none'
  )
  add_sheet_flags(parser, clips=6)
  return parser


def main() -> None:
  """Runs the program; see the module's documentation."""
  args = parse_arguments(_parser())
  # Imported here because they are slow and --help needs none of them.
  from zsar_jax.data.view import View
  from zsar_jax.evaluation import contact_sheets
  from zsar_jax.recipes import language
  from zsar_jax.storage.files import make_folder

  with exit_on_user_error():
    check_sheet_flags(args)
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
        raise UserError("--recipes: stillmix_bank needs a run's bank; 'stillmix' looks the same")
      columns.append(contact_sheets.Column(str(recipe), recipe, args.outline))
    rows = contact_sheets.choose_clips(_subsets(args.dataset_dir, args.split), args.clips)
    for subset, _ in rows:
      for column in columns:
        subset.check_recipe(column.recipe, '--recipes')
    view = View(num_frames=args.frames, size=args.size, centre_crop=1.0)
    contact_sheets.draw_contact_sheet(rows, columns, view, args.out)
    print(args.out)


def _subsets(folder: pathlib.Path, split: str | None) -> list['Subset']:
  """Opens a split of each data set below a folder: `split`, or else one that exists."""
  from zsar_jax.data.catalog import list_datasets, split_names
  from zsar_jax.data.dataset import open_dataset
  from zsar_jax.data.subset import select

  subsets = []
  for name in list_datasets(folder):
    splits = split_names(folder, name)
    chosen = split or ('train' if 'train' in splits else [*splits, 'train'][0])
    subsets.append(select(open_dataset(folder, name, chosen), 'all', 'nearest', '--split'))
  if not subsets:
    raise UserError(f'--dataset-dir: {folder} holds no data set; build one with zsar build-dataset')
  return subsets


if __name__ == '__main__':
  main()
