"""Converts weights between codebases.

    zsar convert --to=zsar ViT-B-16.pt weights/vit_b16
    zsar convert --to=hf runs/vifi exported

SRC is a file, a folder, a run's workdir or hf://OWNER/NAME. The program prints which arrays were
read and which were not. `config.model.init_from` accepts the same sources as SRC, so a conversion
is needed only to use the weights elsewhere or to keep the result.
"""

import argparse

from zsar_jax.command_line import parse_arguments, path_type
from zsar_jax.errors import UserError
from zsar_jax.models.video_model import VideoModel
from zsar_jax.runtime.reporting import exit_on_user_error
from zsar_jax.storage.files import make_folder
from zsar_jax.weights.formats import infer, load, save
from zsar_jax.weights.formats.hints import CONVERSION
from zsar_jax.weights.formats.read import read_weights
from zsar_jax.weights.formats.recognition import FAMILIES, FORMATS


def _make_parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    'zsar convert',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('source', metavar='SRC')
  parser.add_argument(
    'out',
    type=path_type('OUT'),
    metavar='OUT',
    help='the file or folder to write; must not exist',
  )
  parser.add_argument(
    '--from',
    dest='format_name',
    default='auto',
    choices=['auto', *sorted([*FAMILIES, *(form.name for form in FORMATS)])],
    help='the format of SRC; hf means hf_clip or hf_xclip; default: recognized by its keys',
  )
  parser.add_argument(
    '--to',
    required=True,
    choices=save.TARGETS,
    help='hf: a folder for transformers; scenic: a msgpack file; zsar: a folder of this project',
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
    '--allow-left-over',
    action='append',
    default=[],
    metavar='REGEX',
    help='ignores the keys of SRC that match in full; may be repeated',
  )
  return parser


def main() -> None:
  """Runs the program; see the module docstring."""
  args = parse_arguments(_make_parser())
  with exit_on_user_error():
    out = args.out
    if out.exists():
      raise UserError(f'{args.out} exists; name another path or remove it')
    make_folder(out.parent, 'OUT')
    weights = read_weights(
      args.source,
      CONVERSION.source,
      args.format_name,
      args.tokens_from,
      CONVERSION,
      args.preset,
    )
    model = VideoModel(*infer.infer_spec(weights))
    params, report = load.fit_to_model(weights, model, allow_left_over=args.allow_left_over)
    print(report.describe())
    note = save.save_weights(params, model, args.to, out, weights.folder, weights.preprocessing)
  print(f'{args.out}: written as {args.to}' + (f'; {note}' if note else ''))


if __name__ == '__main__':
  main()
