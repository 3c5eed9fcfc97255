"""Reports the content of a data set: build_report.json, and its printed form.

    {split: {
      "written": number of clips, "frames": number of stored frames, "bytes": size of the records,
      "missing": {clip id: reason}, "unreadable": {clip id: reason},
      "remarks": {kind: {clip id: details}, "files passed over": {extension: number of files}},
      "unannotated": number of clips without any annotated frame,
      "masks": [where masks come from, see `mask_provenance.summarize`],
      "gates": {what looks wrong: {clip id: measure}}, see `mask_gates`; null if the masks come
        from no source, and were not checked,
      "regions": {region: {
        "annotated": annotated frames, of clips whose region is known, as a share of all frames,
        "empty": share of these that do not show the region,
        "never": number of clips that do not show it in any annotated frame,
        "coverage": {"5%": share of the pixels, ...}}}}}

The coverage of a clip is a mean over its annotated frames; the quantiles are over the clips that
show the region in any of them. Reports of early versions have neither "masks" nor "gates".
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from zsar_jax.datasets import mask_gates, mask_provenance
from zsar_jax.datasets.sources.listing import SKIPPED_FILES
from zsar_jax.datasets.staging import StagedChunk
from zsar_jax.recipes.regions import REGION_BITS
from zsar_jax.runtime.wording import pluralize

_QUANTILES = (5, 25, 50, 75, 95)

# The maximum number of clips that are printed of a kind; build_report.json has all of them.
_MAX_PRINTED = 20

# The maximum number of clips that are printed of those that fail a gate.
_MAX_WORST = 3


def make_report(
  staged: Mapping[str, Iterable[StagedChunk]],
  region_names: Iterable[str],
  listed: Mapping[str, Mapping[str, Mapping[str, str]]],
  mask_sources: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
  """Returns the report of a build.

  Args:
    staged: the chunks of each split.
    region_names: the regions that the data set is annotated with.
    listed: the remarks on the lists: {split: {kind: {clip id: details}}}.
    mask_sources: where the masks come from, see `mask_provenance.summarize`.
  """
  report = {}
  for split, chunks in staged.items():
    chunks = list(chunks)
    entries = [entry for chunk in chunks for entry in chunk.entries]
    failures = [failure for chunk in chunks for failure in chunk.failures]
    remarks = {kind: dict(clips) for kind, clips in listed.get(split, {}).items()}
    for entry in entries:
      for kind, details in entry.remarks.items():
        remarks.setdefault(kind, {})[entry.id] = details
    gates: dict[str, dict[str, float]] = {}
    for entry in entries:
      for gate, value in entry.failed_gates.items():
        gates.setdefault(gate, {})[entry.id] = value
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
      'masks': list(mask_sources),
      'gates': dict(sorted(gates.items())) if mask_sources else None,
      'regions': {
        name: _region_report(frames, annotated, coverage[:, column], empty[:, column])
        for column, name in enumerate(REGION_BITS)
        if name in region_names
      },
    }
  return report


def _region_report(
  frames: np.ndarray, annotated: np.ndarray, coverage: np.ndarray, empty: np.ndarray
) -> dict[str, Any]:
  """Returns a region's part of the report, from columns with one number for each clip."""
  annotated = np.where(np.isnan(coverage), 0, annotated)
  visible = coverage[coverage > 0]
  quantiles = np.percentile(visible, _QUANTILES) if len(visible) else []
  return {
    'annotated': float(annotated.sum() / max(1, frames.sum())),
    'empty': float(empty.sum() / max(1, annotated.sum())),
    'never': int((coverage == 0).sum()),
    'coverage': {f'{q}%': float(value) for q, value in zip(_QUANTILES, quantiles, strict=False)},
  }


def describe(name: str, report: Mapping[str, Any]) -> str:
  """Returns the report as text, with a paragraph for each split."""
  lines = []
  for split, part in report.items():
    lines.append(
      f'{name}, {split}: {pluralize(part["written"], "clip")},'
      f' {pluralize(part["frames"], "frame")},'
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
    for region, result in part['regions'].items():
      quantiles = ' '.join(f'{100 * value:6.1f}' for value in result['coverage'].values())
      lines.append(
        f'  {region:12} {100 * result["annotated"]:9.1f}% {100 * result["empty"]:9.1f}%'
        f' {result["never"]:10}   {quantiles}'
      )
    if part['regions'] and part['unannotated']:
      lines.append(f'  {pluralize(part["unannotated"], "clip")} without any annotated frame')
    for source in part.get('masks', ()):
      lines.append(f'  masks: {mask_provenance.describe(source)}')
      lines += [f'    WARNING: {text}' for text in mask_provenance.warnings(source)]
    lines += _list_gates(part.get('gates') or {}, part['written'])
    for kind in ('missing', 'unreadable'):
      lines += _list_clips(kind, part[kind])
    for kind, clips in part['remarks'].items():
      lines += _list_clips(kind, clips)
  return '\n'.join(lines)


def failed_by_clip(gates: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
  """Returns the gates that each clip fails, the worst clip first.

  Args:
    gates: those of a split in the report.

  Returns:
    {clip id: {gate: measure}}.
  """
  failed: dict[str, dict[str, float]] = {}
  for gate, values in gates.items():
    for clip, value in values.items():
      failed.setdefault(clip, {})[gate] = value
  return dict(sorted(failed.items(), key=lambda item: -mask_gates.severity(item[1])))


def _list_gates(gates: Mapping[str, Mapping[str, float]], written: int) -> list[str]:
  """Lists the gates that clips fail, each with its worst clips."""
  failed = failed_by_clip(gates)
  if not failed:
    return []
  lines = [
    f'  masks that look wrong: {len(failed)} of {pluralize(written, "clip")}; zsar inspect'
    ' --worst=20 draws them'
  ]
  for name, values in gates.items():
    if gate := mask_gates.GATES.get(name):
      ranked = sorted(values, key=lambda clip: -gate.severity(values[clip]))
      worst = ', '.join(f'{clip} {gate.format(values[clip])}' for clip in ranked[:_MAX_WORST])
      more = f', and {len(ranked) - _MAX_WORST} more' if len(ranked) > _MAX_WORST else ''
      lines.append(f'    {name}: {worst}{more}: {gate.reason}')
  return lines


def _list_clips(kind: str, clips: Mapping[str, str]) -> list[str]:
  if not clips:
    return []
  lines = [f'  {kind}:' if kind == SKIPPED_FILES else f'  {kind}: {pluralize(len(clips), "clip")}']
  printed = itertools.islice(clips.items(), _MAX_PRINTED)
  lines += [f'    {clip}: {details}' for clip, details in printed]
  if len(clips) > _MAX_PRINTED:
    lines.append(f'    ... and {len(clips) - _MAX_PRINTED} more, see build_report.json')
  return lines
