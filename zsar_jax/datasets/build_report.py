"""What went into a data set: the content of build_report.json, and how it is printed.

    {split: {
      "written": clips, "frames": stored frames, "bytes": of the records,
      "missing": {clip id: why}, "unreadable": {clip id: why},
      "remarks": {kind: {clip id: what}, "files passed over": {extension: how many}},
      "unannotated": clips without any annotated frame,
      "regions": {region: {"annotated": share of the frames, in clips of which the region is known,
        "empty": share of these without it, "never": clips without it in any annotated frame,
        "coverage": {"5%": share of the pixels, ...}}}}}

Coverage is of a clip: the mean over its annotated frames; its quantiles are over the clips that
show the region at all.
"""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from zsar_jax.datasets.sources.listing import SKIPPED_FILES
from zsar_jax.datasets.staging import Staged
from zsar_jax.recipes.regions import REGION_BITS
from zsar_jax.runtime.wording import counted

_QUANTILES = (5, 25, 50, 75, 95)

# How many clips of a kind are printed; build_report.json has all of them.
_PRINTED = 20


def make_report(
  staged: Mapping[str, Iterable[Staged]],
  region_names: Iterable[str],
  listed: Mapping[str, Mapping[str, Mapping[str, str]]],
) -> dict[str, Any]:
  """The report of a build.

  Args:
    staged: the chunks of each split.
    region_names: the regions that the data set is annotated with.
    listed: what was noticed in the lists: {split: {kind: {clip id: what}}}.
  """
  report = {}
  for split, chunks in staged.items():
    chunks = list(chunks)
    entries = [entry for chunk in chunks for entry in chunk.entries]
    failures = [failure for chunk in chunks for failure in chunk.failures]
    remarks = {kind: dict(clips) for kind, clips in listed.get(split, {}).items()}
    for entry in entries:
      for kind, what in entry.remarks.items():
        remarks.setdefault(kind, {})[entry.id] = what
    frames = np.array([entry.num_frames for entry in entries], np.int64)
    annotated = np.array([entry.num_annotated for entry in entries], np.int64)
    coverage = np.array([entry.coverage for entry in entries]).reshape(-1, len(REGION_BITS))
    empty = np.array([entry.empty for entry in entries], np.int64).reshape(-1, len(REGION_BITS))
    report[split] = {
      'written': len(entries),
      'frames': int(frames.sum()),
      'bytes': sum(chunk.records.stat().st_size for chunk in chunks if chunk.entries),
      'missing': {f.id: f.reason for f in failures if f.missing},
      'unreadable': {f.id: f.reason for f in failures if not f.missing},
      'remarks': dict(sorted(remarks.items())),
      'unannotated': int((annotated == 0).sum()),
      'regions': {
        name: _region(frames, annotated, coverage[:, place], empty[:, place])
        for place, name in enumerate(REGION_BITS)
        if name in region_names
      },
    }
  return report


def _region(
  frames: np.ndarray, annotated: np.ndarray, coverage: np.ndarray, empty: np.ndarray
) -> dict[str, Any]:
  """A region's part of the report, from columns with one number for each clip."""
  annotated = np.where(np.isnan(coverage), 0, annotated)
  shown = coverage[coverage > 0]
  quantiles = np.percentile(shown, _QUANTILES) if len(shown) else []
  return {
    'annotated': float(annotated.sum() / max(1, frames.sum())),
    'empty': float(empty.sum() / max(1, annotated.sum())),
    'never': int((coverage == 0).sum()),
    'coverage': {f'{q}%': float(value) for q, value in zip(_QUANTILES, quantiles, strict=False)},
  }


def describe(name: str, report: Mapping[str, Any]) -> str:
  """The report in words, a paragraph for each split."""
  lines = []
  for split, part in report.items():
    lines.append(
      f'{name}, {split}: {counted(part["written"], "clip")},'
      f' {counted(part["frames"], "frame")},'
      f' {part["bytes"] / 1e6:.1f} MB; {len(part["missing"])} missing,'
      f' {len(part["unreadable"])} unreadable'
    )
    if part['regions']:
      lines.append(
        f'  {"region":12} {"annotated":>10} {"of these":>10} {"clips":>10}   share of the frame,'
        ' over clips that show it'
      )
      lines.append(
        f'  {"":12} {"frames":>10} {"empty":>10} {"without":>10}   '
        + ' '.join(f'{q}%'.rjust(6) for q in _QUANTILES)
      )
    for region, found in part['regions'].items():
      quantiles = ' '.join(f'{100 * value:6.1f}' for value in found['coverage'].values())
      lines.append(
        f'  {region:12} {100 * found["annotated"]:9.1f}% {100 * found["empty"]:9.1f}%'
        f' {found["never"]:10}   {quantiles}'
      )
    if part['regions'] and part['unannotated']:
      lines.append(f'  {counted(part["unannotated"], "clip")} without any annotated frame')
    for kind in ('missing', 'unreadable'):
      lines += _named(kind, part[kind])
    for kind, clips in part['remarks'].items():
      lines += _named(kind, clips)
  return '\n'.join(lines)


def _named(kind: str, clips: Mapping[str, str]) -> list[str]:
  if not clips:
    return []
  lines = [f'  {kind}:' if kind == SKIPPED_FILES else f'  {kind}: {counted(len(clips), "clip")}']
  lines += [f'    {clip}: {what}' for clip, what in itertools.islice(clips.items(), _PRINTED)]
  if len(clips) > _PRINTED:
    lines.append(f'    ... and {len(clips) - _PRINTED} more, see build_report.json')
  return lines
