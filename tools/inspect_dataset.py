"""Shows the content of a data set: the report of its build, and clips with their regions.

    zsar inspect data/kinetics400

prints the report and draws the contact sheet kinetics400.png: clips of every split, unmasked, with
people in red and objects in blue, with the background painted over and, if the data set has
inpainted frames, without people. Frames that are not annotated have a dashed edge. With --outline,
the regions are outlined instead of painted.

    zsar inspect data/kinetics400 --worst=20

draws kinetics400-worst.png instead: the clips whose masks look wrong, the worst first, each with
what looks wrong. The masks of such a clip may be right: an actor may leave the picture.
"""

import argparse
import json
import pathlib
from typing import TYPE_CHECKING, Any

from zsar_jax.command_line import parse_arguments, path_type
from zsar_jax.errors import UserError
from zsar_jax.runtime.reporting import exit_on_user_error

from .shared_flags import add_sheet_flags, check_sheet_flags

if TYPE_CHECKING:
  from zsar_jax.data.subset import Subset
  from zsar_jax.evaluation.contact_sheets import Column


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    'zsar inspect',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    'folder',
    metavar='DIR',
    type=path_type('DIR'),
    help='the --out of zsar build-dataset, or one data set below it',
  )
  parser.add_argument(
    '--out',
    metavar='DIR',
    type=path_type('--out'),
    default='.',
    help='the folder for the sheets; default: the current folder',
  )
  parser.add_argument(
    '--outline', action='store_true', help='outline people and objects instead of painting them'
  )
  parser.add_argument(
    '--worst',
    metavar='N',
    type=int,
    help='draw the N clips whose masks look worst, instead of clips of all classes',
  )
  add_sheet_flags(parser, clips=12)
  return parser


def main(argv: list[str] | None = None) -> None:
  """Runs the program; see the module's documentation."""
  args = parse_arguments(_parser(), argv)
  # Imported here because they are slow and --help needs none of them.
  from zsar_jax.data.catalog import find_dataset, list_datasets
  from zsar_jax.data.dataset import open_dataset
  from zsar_jax.data.subset import select
  from zsar_jax.data.view import View
  from zsar_jax.evaluation.contact_sheets import choose_clips, draw_contact_sheet
  from zsar_jax.storage.files import make_folder

  with exit_on_user_error():
    check_sheet_flags(args)
    if args.worst is not None and args.worst < 1:
      raise UserError(f'--worst must be 1 or more, not {args.worst}')
    make_folder(args.out, '--out')
    folder = args.folder
    if (folder / 'dataset_info.json').is_file():  # A version of a data set.
      folder = folder.absolute().parent
    names = list_datasets(folder)
    if not names:
      raise UserError(f'{folder} holds no data set; build one with zsar build-dataset')
    view = View(num_frames=args.frames, size=args.size, centre_crop=1.0)
    for name in names:
      directory = find_dataset(folder, name)
      assert directory is not None, f'{name} is not in {folder}'
      report, description = _read_report(name, directory / 'build_report.json')
      print(description)
      if args.worst and (reason := _why_none_looks_wrong(report)):
        print(f'{name}: {reason}')
        continue
      subsets = [
        select(open_dataset(folder, name, split), 'all', 'nearest', name) for split in report
      ]
      out = args.out / f'{name.replace("/", "-")}{"-worst" if args.worst else ""}.png'
      notes: list[str] = []
      if args.worst:
        rows, notes = _worst_clips(subsets, report, args.worst)
      else:
        rows = choose_clips(subsets, args.clips)
      draw_contact_sheet(rows, _columns(subsets[0], args.outline), view, out, notes)
      print(out)


def _worst_clips(
  subsets: list['Subset'], report: dict[str, Any], count: int
) -> tuple[list[tuple['Subset', int]], list[str]]:
  """Returns the clips whose masks look worst, as rows of a sheet, and what looks wrong with each.

  Args:
    subsets: the splits of the data set.
    report: its build report.
    count: the maximum number of clips.
  """
  from zsar_jax.datasets import build_report, mask_gates

  ranked = []
  for subset in subsets:
    failed = build_report.failed_by_clip(report[subset.dataset.split].get('gates') or {})
    for position in range(len(subset)):
      if gates := failed.get(subset.clip_id(position)):
        ranked.append(
          (mask_gates.severity(gates), mask_gates.describe_failed(gates), subset, position)
        )
  ranked.sort(key=lambda clip: -clip[0])
  rows = [(subset, position) for _, _, subset, position in ranked[:count]]
  return rows, [note for _, note, _, _ in ranked[:count]]


def _why_none_looks_wrong(report: dict[str, Any]) -> str | None:
  """Returns why a report names no clip whose masks look wrong, or None if it names one."""
  if any(split.get('gates') for split in report.values()):
    return None
  if not any(split['regions'] for split in report.values()):
    return 'it has no masks'
  if not any('gates' in split for split in report.values()):
    return 'an earlier version built it; build it again to have its masks checked'
  if all(split['gates'] is None for split in report.values()):
    return 'its masks are not checked, as they are drawn with the clips'
  return 'the masks of no clip look wrong'


def _columns(subset: 'Subset', outline: bool) -> list['Column']:
  """Returns the columns of a sheet, for the regions that the data set has."""
  from zsar_jax.evaluation.contact_sheets import COLORS, Column
  from zsar_jax.recipes import language

  unmasked = language.parse('none')
  columns = [Column('none', unmasked)]
  regions = [region for region in ('person', 'object') if region in subset.region_names]
  if regions:
    painted = language.parse(','.join(f'{region}={COLORS[region]}' for region in regions))
    white = language.parse('background=white')
    columns += [
      Column('regions', unmasked if outline else painted, outline),
      Column(str(white), white),
    ]
  if subset.dataset.has_inpainted:
    inpainted = language.parse('person=inpaint')
    columns.append(Column(str(inpainted), inpainted))
  return columns


def _read_report(name: str, path: pathlib.Path) -> tuple[dict[str, Any], str]:
  """Reads the report of a build, and describes it as text."""
  from zsar_jax.datasets.build_report import describe

  try:
    report = json.loads(path.read_text())
    description = describe(name, report)
    if not report:
      raise ValueError('it has no split')
  except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
    raise UserError(
      f'{path} is damaged, or from an earlier version ({error}); delete its folder and build the'
      ' data set again'
    ) from None
  return report, description


if __name__ == '__main__':
  main()
