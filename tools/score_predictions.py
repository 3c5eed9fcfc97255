"""Scores another program's logits of exported clips, with the figures of an evaluation.

    zsar score-predictions --exported=exported --logits=theirs --out=runs/theirs

reads theirs/DATASET.csv or theirs/DATASET.npz for each data set that zsar export-clips has written,
and writes predictions/ and results.json as an evaluation does. No data set is needed. A study takes
the folder as config.model.init_from of a run. docs/external_models.md describes the files.
"""

import argparse
import pathlib

from zsar_jax.command_line import parse_arguments, path_type
from zsar_jax.errors import UserError
from zsar_jax.runtime.reporting import exit_on_user_error


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    'zsar score-predictions',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    '--exported',
    type=path_type('--exported'),
    required=True,
    metavar='DIR',
    help='the --workdir of zsar export-clips, or the folder of one data set in it',
  )
  parser.add_argument(
    '--logits',
    type=path_type('--logits'),
    required=True,
    metavar='PATH',
    help='a folder with DATASET.csv or DATASET.npz for each data set, or the file of the only one',
  )
  parser.add_argument(
    '--out', type=path_type('--out'), required=True, metavar='DIR', help='the folder to write to'
  )
  return parser


def main(argv: list[str] | None = None) -> None:
  """Runs the program; see the module docstring."""
  args = parse_arguments(_parser(), argv)
  # Imported here because they are slow, and --help does not need them.
  from zsar_jax.evaluation import clip_list, run_results, scored_run
  from zsar_jax.runtime.progress import log
  from zsar_jax.storage.files import make_folder
  from zsar_jax.weights.checkpoint import has_checkpoint

  with exit_on_user_error():
    if has_checkpoint(args.out, '--out'):
      raise UserError(f'--out: {args.out} holds a trained run; name another folder')
    folders = [args.exported, *sorted(args.exported.glob('*'))]
    folders = [folder for folder in folders if (folder / clip_list.LIST).is_file()]
    if not folders:
      raise UserError(
        f'--exported: {args.exported} holds no {clip_list.LIST}; name the --workdir of zsar'
        ' export-clips'
      )
    lists = [clip_list.load(folder) for folder in folders]
    files = [_find_logits(args.logits, clips.blank.dataset, len(lists)) for clips in lists]
    make_folder(args.out, '--out')
    scored, results = scored_run.write_scored(lists, files, args.out)
    for of_dataset in scored:
      for line in run_results.describe_not_finite(of_dataset):
        log(line)
    print(run_results.format_table(results))
    print(f'results: {args.out / "results.json"}')


def _find_logits(path: pathlib.Path, dataset: str, datasets: int) -> pathlib.Path:
  """Returns the file with the logits of a data set."""
  from zsar_jax.evaluation.scored_logits import SUFFIXES

  if path.is_file():
    if path.suffix not in SUFFIXES:
      raise UserError(f'--logits: {path} ends in none of {", ".join(SUFFIXES)}; rename it')
    if datasets > 1:
      raise UserError(
        f'--logits: {path} is one file, but {datasets} data sets are exported; name a folder with a'
        ' file for each, or one data set in --exported'
      )
    return path
  present = [file for suffix in SUFFIXES if (file := path / f'{dataset}{suffix}').is_file()]
  if len(present) != 1:
    names = ' and '.join(f'{dataset}{suffix}' for suffix in SUFFIXES)
    which = 'both' if present else 'neither'
    raise UserError(f'--logits: {path} has {which} of {names}; give one of them')
  return present[0]


if __name__ == '__main__':
  main()
