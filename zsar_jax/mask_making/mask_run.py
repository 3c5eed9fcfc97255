"""A run of `zsar make-masks`: from the clips and a maker to a folder of masks and its report.

    {out}/made.json      how the masks were made, see `made_files`
    {out}/clips/...      the masks, see `made_files`
    {out}/report.json    what became of each clip; report-{i}-of-{n}.json for a shard

Only the report differs if a run is interrupted or divided.
"""

import concurrent.futures
import dataclasses
import functools
import itertools
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from zsar_jax.datasets.beam import Beam
from zsar_jax.datasets.masks.made_files import (
  INPAINTING,
  NOTES,
  SETTINGS_FILE,
  VIDEOS,
  clip_path,
  read_settings,
  settings_checksum,
  write_settings,
)
from zsar_jax.datasets.video import Storage
from zsar_jax.errors import UserError
from zsar_jax.mask_making.inpainting import Inpainter
from zsar_jax.mask_making.licenses import restrictions
from zsar_jax.mask_making.maker import Maker, MakerSpec
from zsar_jax.mask_making.making import Making, Outcome, have_all_failed, read_outcome
from zsar_jax.mask_making.making_runners import (
  Groups,
  run_in_processes,
  run_on_device,
  run_with_beam,
  show_progress,
)
from zsar_jax.mask_making.refinement import Refinement
from zsar_jax.mask_making.work import ClipWork, group_works, select_shard
from zsar_jax.runtime.wording import pluralize
from zsar_jax.storage import locks
from zsar_jax.storage.files import make_folder, write_file
from zsar_jax.storage.folders import open_folders

# The threads that read the outcomes of earlier runs.
_READERS = 32

# The maximum number of clips that are printed of a kind; the report has all of them.
_MAX_PRINTED = 10


@dataclasses.dataclass(frozen=True)
class MaskRun:
  """The settings of a run.

  Attributes:
    out: the folder of the masks.
    spec: creates the maker.
    storage: which frames and pixels of each video the maker gets.
    refinement: how the maker's masks are refined.
    inpainter: removes people from the frames, or None.
    inputs: other facts that determine the masks, such as the file of boxes, as JSON values.
    videos: the absolute path of the folder of the videos, for made.json.
    shard: (i, n): only every n-th group of clips from the i-th on, counted from 0.
    workers: the number of worker processes.
    beam: makes the masks on Apache Beam instead.
  """

  out: pathlib.Path
  spec: MakerSpec
  storage: Storage
  refinement: Refinement
  inpainter: Inpainter | None
  inputs: dict[str, Any]
  videos: str
  shard: tuple[int, int] = (0, 1)
  workers: int = 1
  beam: Beam | None = None

  def make(self, works: Sequence[ClipWork]) -> list[Outcome]:
    """Makes the masks of those clips that have none yet, writes the report and prints it.

    Args:
      works: all clips, also those of other shards.

    Returns:
      The outcome of each clip of the shard.

    Raises:
      UserError: the folder has masks that were made in another way, the maker cannot be created, or
        all clips of the shard failed.
    """
    make_folder(self.out, '--out')
    maker = self.spec.open()
    if self.inpainter and 'person' not in maker.regions:
      raise UserError(
        f'--inpaint removes people, and these masks show {" and ".join(maker.regions)} alone; leave'
        ' it out'
      )
    settings = self._settings(maker)
    # Shards may start at the same moment.
    with locks.lock_folder(self.out / '.locks' / 'settings'):
      self._check_settings(settings)
    making = Making(
      self.out.absolute(),
      maker.regions,
      settings_checksum(settings),
      self.spec,
      self.storage,
      self.refinement,
      self.inpainter,
    )
    groups = select_shard(group_works(works, self.spec.batch_frames, self.storage), self.shard)
    with locks.lock_folder(self.out / '.locks' / self._report_name()):
      done = _clips_with_masks(making.root, groups)
      pending = [group for group in groups if not all(work.name in done for work in group)]
      clips = sum(map(len, groups))
      remaining = sum(work.name not in done for group in pending for work in group)
      self._announce(settings, clips, clips - remaining)
      made = {outcome.name: outcome for outcome in self._run(pending, remaining, making, maker)}
      names = [work.name for group in groups for work in group]
      known = [name for name in names if name not in made]
      # Each read of a bucket waits for its answer.
      with concurrent.futures.ThreadPoolExecutor(_READERS) as readers:
        read = functools.partial(read_outcome, making)
        made.update(zip(known, readers.map(read, known), strict=True))
      outcomes = [made[name] for name in names]
      report = make_report(outcomes, settings)
      write_file(self.out / f'{self._report_name()}.json', json.dumps(report, indent=1) + '\n')
    print(describe(report))
    if report['failed'] and not report['made']:
      name, reason = next(iter(report['failed'].items()))
      raise UserError(f'no clip has masks; {name}: {reason}')
    print(f'the masks are in {self.out}; build with --masks made:{self.out}')
    return outcomes

  def _run(self, pending: Groups, clips: int, making: Making, maker: Maker) -> list[Outcome]:
    """Makes the masks of `clips` clips, those in pending groups that have none.

    Returns their outcomes, except those that other processes of Beam know.
    """
    if not pending:
      return []
    if self.beam:
      run_with_beam(pending, making, self.beam)
      return []
    if self.spec.uses_device:
      outcomes = run_on_device(pending, making, maker, self.workers)
    else:
      outcomes = run_in_processes(pending, making, self.workers)
    return show_progress(outcomes, clips)

  def _settings(self, maker: Maker) -> dict[str, Any]:
    """Returns the content of made.json."""
    settings = {
      'regions': list(maker.regions),
      **maker.provenance,
      **self.inputs,
      'keep': self.storage.keep,
      'short_side': self.storage.short_side,
      'jpeg_quality': self.storage.jpeg_quality,
      'refinement': self.refinement.parameters,
      INPAINTING: self.inpainter.parameters if self.inpainter else None,
      NOTES: {VIDEOS: self.videos, **maker.provenance.get(NOTES, {})},
    }
    return json.loads(json.dumps(settings))

  def _check_settings(self, settings: dict[str, Any]) -> None:
    """Writes made.json, or compares it; raises a `UserError` if the masks there differ."""
    if not (self.out / SETTINGS_FILE).exists():
      write_settings(self.out, settings)
      return
    earlier = read_settings(self.out)
    # The sentence about the masks says least about what differs.
    for key in sorted({*earlier, *settings} - {NOTES}, key=lambda key: (key == 'about', key)):
      if earlier.get(key) != settings.get(key):
        # What made all clips fail, such as a command, may be corrected.
        if have_all_failed(self.out):
          write_settings(self.out, settings)
          return
        raise UserError(
          f'--out: the masks in {self.out} were made with {key} = {_text(earlier.get(key))}, not'
          f' {_text(settings.get(key))}; choose another folder, or delete that'
        )

  def _announce(self, settings: dict[str, Any], clips: int, done: int) -> None:
    """Prints what is about to happen to `clips` clips, of which `done` have masks already."""
    index, count = self.shard
    shard = f' of shard {index} of {count} (counted from 0)' if count > 1 else ''
    print(f'{settings["about"]}: {pluralize(clips, "clip")}{shard}', file=sys.stderr)
    if settings.get('weak'):
      print('  these masks are weak; use them to try things out', file=sys.stderr)
    for sentence in restrictions(settings['licenses']):
      print(f'  {sentence}', file=sys.stderr)
    if done:
      print(f'  masks made earlier: {done}', file=sys.stderr)

  def _report_name(self) -> str:
    index, count = self.shard
    return 'report' if count == 1 else f'report-{index}-of-{count}'


def _clips_with_masks(root: pathlib.Path, groups: Groups) -> set[str]:
  """Returns the names of the clips that have masks."""
  folders = open_folders(str(root), '--out')
  return {
    work.name
    for group in groups
    for work in group
    if folders.is_file(str(clip_path(root, work.name)))
  }


def _text(value: Any) -> str:
  """Returns a JSON value as text for an error."""
  if isinstance(value, dict):
    return ', '.join(f'{name}={_text(item)}' for name, item in value.items())
  return 'none' if value is None else str(value)


def make_report(outcomes: Sequence[Outcome], settings: dict[str, Any]) -> dict[str, Any]:
  """Returns the report of a run as JSON values."""
  made = [outcome for outcome in outcomes if outcome.failure is None]
  gates: dict[str, dict[str, float]] = {}
  for outcome in made:
    for gate, value in outcome.gates.items():
      gates.setdefault(gate, {})[outcome.name] = value
  return {
    'settings': settings,
    'clips': len(outcomes),
    'made': len(made),
    'frames': sum(outcome.frames for outcome in made),
    'failed': {outcome.name: outcome.failure for outcome in outcomes if outcome.failure},
    'gates': dict(sorted(gates.items())),
  }


def describe(report: dict[str, Any]) -> str:
  """Returns the report as text."""
  failed, clips = report['failed'], pluralize(report['clips'], 'clip')
  lines = [
    f'masks: {report["made"]} of {clips}, {pluralize(report["frames"], "frame")};'
    f' {len(failed)} failed'
  ]
  for name, reason in itertools.islice(failed.items(), _MAX_PRINTED):
    lines.append(f'  {name}: {reason}')
  if len(failed) > _MAX_PRINTED:
    lines.append(f'  ... and {len(failed) - _MAX_PRINTED} more, see the report')
  if report['gates']:
    lines.append('masks that look wrong, which the report names:')
  for gate, values in report['gates'].items():
    lines.append(f'  {gate}: {pluralize(len(values), "clip")}')
  return '\n'.join(lines)
