"""Recognizes the action in a video.

    zsar predict clip.mp4 --classes='archery,arm wrestling' --checkpoint=runs/mine

prints the classes with their probabilities, the most probable first. The report of the
load is printed to stderr.
"""

import argparse
import sys

from zsar_jax.command_line import parse_arguments, path_type
from zsar_jax.errors import UserError
from zsar_jax.runtime.reporting import exit_on_user_error


def _make_parser() -> argparse.ArgumentParser:
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
    help='the possible actions, separated by commas, or a file with one name per line',
  )
  parser.add_argument(
    '--checkpoint',
    required=True,
    metavar='SRC',
    help='a run, weights in any format that zsar convert reads, or hf://OWNER/NAME',
  )
  parser.add_argument(
    '--template',
    action='append',
    metavar='TEXT',
    help='a sentence with {} for the class name; may be repeated',
  )
  parser.add_argument(
    '--tokenizer',
    metavar='NAME',
    help="see config.text.tokenizer; default: the run's, the files beside the weights, or CLIP's",
  )
  parser.add_argument(
    '--num-frames',
    type=int,
    metavar='T',
    help="the number of frames of a clip; default: the run's, or that of the weights",
  )
  parser.add_argument(
    '--tokens-from',
    default='',
    metavar='SRC',
    help='the CLIP model whose token embedding is used with a file of ViFi-CLIP',
  )
  parser.add_argument(
    '--preset',
    default='',
    metavar='NAME',
    help='the model of a file of weights that nothing describes, such as vit_b16_gelu',
  )
  parser.add_argument(
    '--top',
    type=int,
    default=5,
    metavar='N',
    help='the number of classes to print; default: %(default)s',
  )
  parser.add_argument(
    '--picture',
    type=path_type('--picture'),
    metavar='PNG',
    help='draws the frames and the scores into this file',
  )
  return parser


def main(argv: list[str] | None = None) -> None:
  """Runs the program; see the module docstring."""
  args = parse_arguments(_make_parser(), argv)
  # Imported here because they are slow, and --help does not need them.
  from zsar_jax import api
  from zsar_jax.data.splits import is_class_file, read_classes
  from zsar_jax.storage.files import make_folder
  from zsar_jax.weights.formats.hints import PREDICTION

  with exit_on_user_error():
    if args.top < 1:
      raise UserError(f'--top: {args.top} must be at least 1')
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
      preset=args.preset,
      hints=PREDICTION,
    )
    print(model.report.describe(), file=sys.stderr)
    ranked = model.zero_shot(args.video, classes)[: args.top]
    width = max(len(name) for name, _ in ranked)
    for name, probability in ranked:
      print(f'{name:<{width}}  {100 * probability:5.1f} %')
    if args.picture:
      from . import score_charts

      score_charts.draw_scores(model.frames(args.video), ranked, args.picture)
      print(args.picture)


if __name__ == '__main__':
  main()
