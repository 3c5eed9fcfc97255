"""Measures how well masks agree with masks that are trusted.

    zsar compare-masks A B --videos=VIDEOS

A are the masks to measure and B those that are trusted. Each is FORMAT:PATH, as for --masks of zsar
build-dataset, or the --out of zsar make-masks, which knows the folder of its videos. For every
video that both have masks of, and every region that both draw:

    IoU         the common area, as a share of the area that either has; mean over frames
    boundary F  the measure F of DAVIS: boundaries within 0.008 of the diagonal match; mean as well
    missed      the area that only B has, as a share of B
    added       the area that only A has, as a share of A

Frames that both annotate count; a frame in which both are empty has IoU 1. The means over clips are
printed with the worst clips. comparison.json has all clips. comparison.png shows the worst clips in
their worst frames.
"""

import argparse
import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from zsar_jax.command_line import parse_arguments, path_type
from zsar_jax.errors import UserError
from zsar_jax.runtime.reporting import exit_on_user_error

if TYPE_CHECKING:
  from zsar_jax.datasets.mask_comparison import ClipComparison, ComparisonTask
  from zsar_jax.datasets.masks.source import MaskSource

# The number of clips that are printed and drawn.
_WORST_CLIPS = 12

# {measure: its name in the printed table}.
_TITLES = {'iou': 'IoU', 'boundary_f': 'boundary F', 'missed': 'missed', 'added': 'added'}


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    'zsar compare-masks',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('masks', metavar='A', help='the masks to measure')
  parser.add_argument('reference', metavar='B', help='the masks that are trusted')
  parser.add_argument(
    '--videos',
    metavar='DIR',
    help='the folder of the videos that both belong to; default: that from which A or B was made',
  )
  parser.add_argument(
    '--out',
    metavar='DIR',
    type=path_type('--out'),
    default='.',
    help='the folder for comparison.json and comparison.png; default: the current folder',
  )
  parser.add_argument(
    '--keep',
    metavar='FRAMES',
    default='all',
    help='the frames to compare, as in zsar build-dataset (default: all)',
  )
  parser.add_argument(
    '--short-side',
    metavar='PIXELS',
    type=int,
    help="compare with the frames' shorter side scaled down to this many pixels (default: keep the"
    ' size)',
  )
  parser.add_argument(
    '--workers', metavar='N', type=int, help='the number of processes (default: all cores)'
  )
  return parser


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the program; see the module's documentation."""
  args = parse_arguments(_parser(), argv)
  # Imported here because they are slow and --help needs none of them.
  from zsar_jax.datasets import mask_provenance
  from zsar_jax.datasets.video import Storage
  from zsar_jax.mask_making.work import list_videos
  from zsar_jax.storage.files import make_folder, write_file

  with exit_on_user_error():
    for flag, value, minimum in (
      ('workers', args.workers, 0),
      ('short-side', args.short_side, 16),
    ):
      if value is not None and value < minimum:
        raise UserError(f'--{flag} must be {minimum} or more, not {value}')
    storage = Storage(args.short_side, keep=args.keep)
    make_folder(args.out, '--out')
    sides = [_open(text) for text in (args.masks, args.reference)]
    clips = list_videos(args.videos or _noted_videos(sides))
    tasks, unmatched = _match(clips, sides, storage)
    compared = list(_compare(tasks, args.workers))
    report = {
      name: mask_provenance.summarize(side.parameters)
      for name, side in zip(('masks', 'reference'), sides, strict=True)
    }
    report |= {'keep': args.keep, 'short_side': args.short_side}
    report |= _summarize(compared) | unmatched
    write_file(args.out / 'comparison.json', json.dumps(report, indent=1) + '\n')
    print(_describe(report))
    if not report['clips']:
      name, reason = next(iter(report['failed'].items()))
      raise UserError(f'no clip can be compared; {name}: {reason}')
    print(args.out / 'comparison.json')
    if _draw_worst(tasks, report, args.out / 'comparison.png'):
      print(args.out / 'comparison.png')


def _open(text: str) -> 'MaskSource':
  """Opens masks that are given as FORMAT:PATH, or as the folder of masks that were made here."""
  from zsar_jax.datasets.masks.made_files import SETTINGS_FILE
  from zsar_jax.datasets.masks.spec import open_masks
  from zsar_jax.storage.paths import as_path

  if (as_path(text, 'A and B') / SETTINGS_FILE).is_file():
    text = f'made:{text}'
  try:
    return open_masks(text)
  except UserError as error:
    raise UserError(str(error).replace('--masks: ', f'{text}: ', 1)) from None


def _noted_videos(sides: Sequence['MaskSource']) -> str:
  """Returns the folder of the videos from which the masks of a side were made here."""
  from zsar_jax.datasets.masks.made_files import NOTES, VIDEOS
  from zsar_jax.storage.paths import as_path

  for side in sides:
    notes = side.parameters.get('made', {}).get(NOTES)
    folder = notes.get(VIDEOS) if isinstance(notes, dict) else None
    if not isinstance(folder, str) or not _may_be_read(folder, side):
      continue
    if as_path(folder, '--videos').is_dir():
      return folder
  raise UserError('--videos: give the folder of the videos that the masks belong to')


def _may_be_read(folder: str, side: 'MaskSource') -> bool:
  """Returns whether a noted folder is one of this machine, or in the bucket of the masks.

  Files of others must not name what this program asks other servers for.
  """
  from zsar_jax.storage.buckets import is_url

  return not is_url(folder) or folder.split('/')[:3] == str(side.parameters['path']).split('/')[:3]


def _match(
  clips: Sequence[Any], sides: Sequence['MaskSource'], storage: Any
) -> tuple[list['ComparisonTask'], dict[str, list[str]]]:
  """Returns the clips to compare, and the names of those that only one side has masks of."""
  from zsar_jax.datasets.mask_comparison import ComparisonTask

  regions = tuple(name for name in sides[0].region_names if name in sides[1].region_names)
  if not regions:
    names = [', '.join(side.region_names) for side in sides]
    raise UserError(f'A has masks of {names[0]} and B of {names[1]}; give masks of the same region')
  tasks: list[ComparisonTask] = []
  unmatched: dict[str, list[str]] = {'only_in_masks': [], 'only_in_reference': []}
  for clip in clips:
    masks, reference = (side.for_clip(clip) for side in sides)
    if masks is not None and reference is not None:
      tasks.append(ComparisonTask(clip, masks, reference, regions, storage))
    elif masks is not None:
      unmatched['only_in_masks'].append(clip.name)
    elif reference is not None:
      unmatched['only_in_reference'].append(clip.name)
  if not tasks:
    counts = [len(names) for names in unmatched.values()]
    raise UserError(
      f'--videos: A has masks of {counts[0]} and B of {counts[1]} of the {len(clips)} videos, and'
      f' no video has masks of both; the masks must be named as the videos are, such as'
      f' {clips[0].name!r}'
    )
  return tasks, unmatched


def _compare(tasks: list['ComparisonTask'], workers: int | None) -> Iterator['ClipComparison']:
  """Compares clips in worker processes; yields them in order."""
  from zsar_jax.data.workers import hold_interrupts, worker_pool
  from zsar_jax.datasets.mask_comparison import compare_clip
  from zsar_jax.datasets.stage_runners import progress_bar

  workers = min(os.cpu_count() or 1 if workers is None else workers, len(tasks))
  with progress_bar(len(tasks), 'comparing masks') as progress:
    if workers <= 1:
      for task in tasks:
        yield compare_clip(task)
        progress.update()
      return
    with worker_pool(workers) as pool:
      with hold_interrupts():
        results = pool.map(compare_clip, tasks)
      for compared in results:
        yield compared
        progress.update()


def _summarize(compared: Sequence['ClipComparison']) -> dict[str, Any]:
  """Returns the means over clips, and the figures of each clip, as JSON values."""
  from zsar_jax.datasets.mask_comparison import MEASURES

  measured = [clip for clip in compared if clip.regions]
  failed = {clip.name: clip.failure for clip in compared if clip.failure}
  failed |= {
    clip.name: 'no frame has masks of both; give the --keep that they were made with'
    for clip in compared
    if not clip.regions and not clip.failure
  }
  regions = {
    region: {
      name: round(sum(getattr(clip.regions[region], name) for clip in measured) / len(measured), 4)
      for name in MEASURES
    }
    for region in (measured[0].regions if measured else ())
  }
  return {
    'regions': regions,
    'frames': sum(clip.frames for clip in measured),
    'only_masks': sum(clip.only_masks for clip in compared),
    'only_reference': sum(clip.only_reference for clip in compared),
    'clips': {clip.name: clip.to_json() for clip in measured},
    'failed': failed,
  }


def _ranked(report: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
  """Returns (clip, region, figures) for all clips and regions, the lowest IoU first."""
  rows = [
    (clip, region, figures)
    for clip, entry in report['clips'].items()
    for region, figures in entry['regions'].items()
  ]
  return sorted(rows, key=lambda row: row[2]['iou'])


def _describe(report: dict[str, Any]) -> str:
  """Returns the report as text: the means, and the clips with the lowest IoU."""
  from zsar_jax.datasets import mask_provenance
  from zsar_jax.runtime.wording import pluralize

  lines = [
    f'A: {mask_provenance.describe(report["masks"])}',
    f'B: {mask_provenance.describe(report["reference"])} (trusted)',
    f'{pluralize(len(report["clips"]), "clip")} with {pluralize(report["frames"], "frame")} that'
    ' both annotate',
  ]
  for key, text in (
    ('only_masks', 'frames that only A annotates'),
    ('only_reference', 'frames that only B annotates'),
    ('only_in_masks', 'clips that only A has masks of'),
    ('only_in_reference', 'clips that only B has masks of'),
    ('failed', 'clips that cannot be compared'),
  ):
    count = report[key] if isinstance(report[key], int) else len(report[key])
    if count:
      lines.append(f'{text}: {count}')
  for clip, reason in list(report['failed'].items())[:_WORST_CLIPS]:
    lines.append(f'  {clip}: {reason}')
  ranked = _ranked(report)
  rows = [(f'mean, {region}', figures) for region, figures in report['regions'].items()]
  rows += [(f'{clip}, {region}', figures) for clip, region, figures in ranked[:_WORST_CLIPS]]
  width = max((len(name) for name, _ in rows), default=0)
  if rows:
    lines.append(f'{"":{width}}  ' + '  '.join(f'{title:>10}' for title in _TITLES.values()))
  for name, figures in rows:
    lines.append(
      f'{name:{width}}  ' + '  '.join(_format(measure, figures[measure]) for measure in _TITLES)
    )
  if len(ranked) > _WORST_CLIPS:
    lines.append(f'... and {len(ranked) - _WORST_CLIPS} better ones, see comparison.json')
  return '\n'.join(lines)


def _format(measure: str, value: float) -> str:
  share = measure in ('missed', 'added')
  return f'{100 * value:.1f} %'.rjust(10) if share else f'{value:10.3f}'


def _draw_worst(tasks: list['ComparisonTask'], report: dict[str, Any], out: pathlib.Path) -> bool:
  """Draws the clips with the lowest IoU; returns False if all masks are equal."""
  from .mask_overlays import draw_overlays, read_overlays

  task_of = {task.clip.name: task for task in tasks}
  rows = []
  for clip, region, figures in _ranked(report)[:_WORST_CLIPS]:
    numbers = figures['worst_frames']
    if not numbers:
      continue
    values = ', '.join(
      f'{_TITLES[name]} {_format(name, figures[name]).strip()}' for name in _TITLES
    )
    frames = ', '.join(map(str, numbers))
    overlays = read_overlays(task_of[clip], region, numbers)
    rows.append((f'{clip}, {region}: {values}; frames {frames}', overlays))
  if not rows:
    return False
  draw_overlays(rows, out)
  return True


if __name__ == '__main__':
  main()
