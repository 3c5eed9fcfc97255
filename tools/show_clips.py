"""Draws clips under mask recipes, so that one can see what the model sees.

    python -m tools.show_clips --dataset-dir=data --out=sheet.png \\
        --recipes='none;background=normal;background=normal,object_box=normal'

A row is a clip, a column a recipe. Frames, crop and colours are those of an evaluation. Where a
recipe has clips meet, each meets that of the row above.
"""

import argparse
import pathlib
import textwrap

import jax
import matplotlib
import matplotlib.pyplot as plt
import numpy as np

from zsar_jax.data.dataset import list_datasets, open_dataset
from zsar_jax.data.pipeline import PARTNER, ClipLoader, View
from zsar_jax.data.subset import Subset, select
from zsar_jax.errors import UserError, reported
from zsar_jax.evaluate import COLOUR_SEED
from zsar_jax.ops import recipes
from zsar_jax.ops.photometric import denormalise
from zsar_jax.ops.prepare import prepare
from zsar_jax.writers import make_folder


def main() -> None:
  """Runs the program; see the head of this file."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument(
    '--dataset-dir',
    type=pathlib.Path,
    required=True,
    help='the --out of tools.build_dataset, or one data set below it',
  )
  parser.add_argument('--out', type=pathlib.Path, required=True, help='the PNG to write')
  parser.add_argument(
    '--recipes', default='none;background=normal', help='mask recipes, parted by semicolons'
  )
  parser.add_argument('--split', default='train', help='default: %(default)s')
  parser.add_argument('--clips', type=int, default=6, help='rows; default: %(default)s')
  parser.add_argument('--frames', type=int, default=4, help='of a clip; default: %(default)s')
  parser.add_argument(
    '--size', type=int, default=112, help="a frame's side in pixels; default: %(default)s"
  )
  args = parser.parse_args()
  with reported():
    for flag in ('clips', 'frames', 'size'):
      if getattr(args, flag) < 1:
        raise UserError(f'--{flag}: {getattr(args, flag)} is too small; at least 1')
    if args.out.suffix != '.png':
      raise UserError(f'--out: {args.out} does not end in .png')
    make_folder(args.out.parent, '--out')
    asked = [recipes.parse(text, '--recipes') for text in args.recipes.split(';')]
    if any(recipe.effect('stillmix_bank') for recipe in asked):
      raise UserError("--recipes: stillmix_bank needs a run's bank; 'stillmix' shows the same")
    rows = choose_clips(_subsets(args.dataset_dir, args.split), args.clips)
    for subset, _ in rows:
      for recipe in asked:
        subset.check_recipe(recipe, '--recipes')
    draw(rows, asked, View(num_frames=args.frames, size=args.size, centre_crop=1.0), args.out)
  print(args.out)


def _subsets(folder: pathlib.Path, split: str) -> list[Subset]:
  """A split of each data set below a folder."""
  subsets = [
    select(open_dataset(folder, name, split), 'all', 'nearest', '--split')
    for name in list_datasets(folder)
  ]
  if not subsets:
    raise UserError(
      f'--dataset-dir: {folder} holds no data set; build one with python -m tools.build_dataset'
    )
  return subsets


def choose_clips(subsets: list[Subset], count: int) -> list[tuple[Subset, int]]:
  """`count` clips or fewer, spread over the subsets and over their classes.

  Returns:
    (subset, position in it) for each.
  """
  rows = []
  for i, subset in enumerate(subsets):
    share = min(len(subset), count // len(subsets) + (i < count % len(subsets)))
    by_class = np.argsort(subset.labels, kind='stable')
    # Each data set begins at other classes, for several may share a vocabulary.
    places = (np.arange(share) + (i + 0.5) / len(subsets)) * len(subset) / max(share, 1)
    rows += [(subset, int(position)) for position in by_class[places.astype(int)]]
  return rows


def draw(
  rows: list[tuple[Subset, int]],
  asked: list[recipes.Recipe],
  view: View,
  out: pathlib.Path,
) -> None:
  """Writes the contact sheet to `out`."""
  matplotlib.use('Agg')
  clips = [ClipLoader(subset, view).evaluation_clip(position) for subset, position in rows]
  batch = jax.tree.map(lambda *leaves: np.stack(leaves), *clips)
  key = jax.random.key(COLOUR_SEED)
  batch |= {
    f'{PARTNER}{name}': np.roll(batch[name], 1, axis=0)
    for name in ('frames', 'regions', 'annotated')
  }
  columns = [np.asarray(denormalise(prepare(key, batch, recipe))) for recipe in asked]

  # In inches; a row has its strip of frames and a line of text below it.
  strip = 0.9 * view.num_frames
  figure, axes = plt.subplots(
    len(rows),
    len(asked),
    squeeze=False,
    figsize=((strip + 0.1) * len(asked), (strip / view.num_frames + 0.25) * len(rows) + 0.3),
    layout='constrained',
  )
  figure.get_layout_engine().set(w_pad=0.03, h_pad=0.02, wspace=0, hspace=0)
  for row, (subset, position) in enumerate(rows):
    name = f'{subset.classes[subset.labels[position]]}  ({subset.clip_id(position)})'
    for column, recipe in enumerate(asked):
      # White lines between the frames: a painted background would melt them into one.
      frames = np.pad(columns[column][row], ((0, 0), (0, 0), (0, 2), (0, 0)), constant_values=1)
      axis = axes[row, column]
      axis.imshow(np.clip(np.concatenate(list(frames), axis=1), 0, 1))  # [S, T * (S + 2), 3]
      axis.set_axis_off()
      if row == 0:
        axis.set_title(str(recipe), fontsize=9, fontweight='bold')
      if column == 0:
        axis.text(
          0,
          -0.03,
          textwrap.shorten(name, 70),
          fontsize=7,
          va='top',
          transform=axis.transAxes,
          parse_math=False,
        )
  figure.savefig(out, dpi=110)
  plt.close(figure)


if __name__ == '__main__':
  main()
