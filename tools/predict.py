"""Names the action in a video.

    zsar predict clip.mp4 --classes='archery,arm wrestling' --checkpoint=runs/mine

prints the classes with their probabilities, the likeliest first; and on stderr, what was read of
the weights.
"""

import argparse
import pathlib
import sys

from zsar_jax.errors import UserError
from zsar_jax.runtime.command_line import parse_arguments
from zsar_jax.runtime.reporting import exit_on_user_error


def main(argv: list[str] | None = None) -> None:
  """Runs the program; see the head of this file."""
  parser = argparse.ArgumentParser(
    'zsar predict',
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
    help='a run, weights of any format that zsar convert reads, or hf://OWNER/NAME',
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
  args = parse_arguments(parser, argv)
  # Imported late: they are slow, and --help needs none of them.
  from zsar_jax import api
  from zsar_jax.data.splits import is_class_file, read_classes
  from zsar_jax.runtime.files import make_folder
  from zsar_jax.weights.formats.hints import PREDICTION

  with exit_on_user_error():
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
      from . import drawing

      drawing.draw_scores(model.frames(args.video), ranked, args.picture)
      print(args.picture)


if __name__ == '__main__':
  main()
