"""Names the action in a video.

    python -m tools.predict clip.mp4 --classes='archery,arm wrestling' --checkpoint=runs/mine

prints the classes with their probabilities, the likeliest first; and on stderr, what was read of
the weights.
"""

import argparse
import pathlib
import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np

from zsar_jax import api
from zsar_jax.data.splits import is_class_file, read_classes
from zsar_jax.errors import UserError, reported
from zsar_jax.interop.hints import PREDICTION
from zsar_jax.writers import make_folder


def main(argv: list[str] | None = None) -> None:
  """Runs the program; see the head of this file."""
  parser = argparse.ArgumentParser(
    'python -m tools.predict',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('video', metavar='VIDEO', help='a file, or a folder of numbered images')
  parser.add_argument(
    '--classes',
    required=True,
    metavar='NAMES',
    help='what it may be, parted by commas; or a file with one name in a line',
  )
  parser.add_argument(
    '--checkpoint',
    required=True,
    metavar='SRC',
    help='a run, weights of any format that tools.convert_checkpoint reads, or hf://OWNER/NAME',
  )
  parser.add_argument(
    '--template',
    action='append',
    metavar='TEXT',
    help="a sentence for the class's name, with {} in its place; may be given again",
  )
  parser.add_argument(
    '--tokenizer',
    metavar='NAME',
    help="as config.text.tokenizer; default: the run's, the files beside the weights, or CLIP's",
  )
  parser.add_argument(
    '--num-frames',
    type=int,
    metavar='T',
    help="frames of a clip; default: the run's, or the weights'",
  )
  parser.add_argument(
    '--tokens-from',
    default='',
    metavar='SRC',
    help='the CLIP model whose token embedding a file of ViFi-CLIP lacks',
  )
  parser.add_argument(
    '--top', type=int, default=5, metavar='N', help='classes to print; default: %(default)s'
  )
  parser.add_argument(
    '--picture', type=pathlib.Path, metavar='PNG', help='draws the frames and the scores'
  )
  args = parser.parse_args(argv)
  with reported():
    if args.top < 1:
      raise UserError(f'--top: {args.top} is too small; at least 1')
    if args.picture:
      if args.picture.suffix != '.png':
        raise UserError(f'--picture: {args.picture} does not end in .png')
      make_folder(args.picture.parent, '--picture')
    if is_class_file(args.classes):
      classes = read_classes(args.classes, '--classes')
    else:
      classes = [name.strip() for name in args.classes.split(',') if name.strip()]
    model = api.load(
      args.checkpoint,
      templates=args.template,
      tokenizer=args.tokenizer,
      num_frames=args.num_frames,
      tokens_from=args.tokens_from,
      hints=PREDICTION,
    )
    print(model.report.describe(), file=sys.stderr)
    ranked = model.zero_shot(args.video, classes)[: args.top]
    width = max(len(name) for name, _ in ranked)
    for name, share in ranked:
      print(f'{name:<{width}}  {100 * share:5.1f} %')
    if args.picture:
      draw(model.frames(args.video), ranked, args.picture)
      print(args.picture)


def draw(frames: np.ndarray, ranked: list[tuple[str, float]], out: pathlib.Path) -> None:
  """Writes a picture of u8[T, S, S, 3] frames over the bars of the ranked classes."""
  matplotlib.use('Agg')
  strips = [
    np.concatenate(list(frames[start : start + 8]), axis=1) for start in range(0, len(frames), 8)
  ]
  strips[-1] = np.pad(
    strips[-1],
    ((0, 0), (0, strips[0].shape[1] - strips[-1].shape[1]), (0, 0)),
    constant_values=255,
  )
  sheet = np.concatenate(strips)
  height = 10 * sheet.shape[0] / sheet.shape[1]
  figure, (above, below) = plt.subplots(
    2,
    1,
    figsize=(10, height + 0.35 * len(ranked) + 0.5),
    height_ratios=(height, 0.35 * len(ranked) + 0.2),
    layout='constrained',
  )
  above.imshow(sheet)
  above.set_axis_off()
  names, shares = zip(*ranked[::-1], strict=True)
  bars = below.barh(range(len(names)), [100 * share for share in shares], color='#377eb8')
  below.set_yticks(range(len(names)), names, parse_math=False)
  below.bar_label(bars, fmt='%.1f %%', padding=3)
  below.set_xlim(0, 110)
  below.spines[['top', 'right', 'bottom']].set_visible(False)
  below.set_xticks([])
  figure.savefig(out, dpi=110)
  plt.close(figure)


if __name__ == '__main__':
  main()
