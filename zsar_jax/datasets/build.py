"""Runs a builder: stages its clips in parallel, then publishes the data set.

The tasks of a split are cut into chunks. Worker processes stage each chunk under `{out}/.staging`
(see `zsar_jax.datasets.staging`), so that an interrupted build can continue. The staged files
become the shards of the data set, which is published in one step, complete. How tasks are cut into
chunks depends only on their number, so the records are the same bytes for any number of processes,
with or without interruptions.
"""

import collections
import contextlib
import json
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core.constants import INCOMPLETE_PREFIX

from zsar_jax.data.dataset_files import DatasetFiles
from zsar_jax.datasets import build_report
from zsar_jax.datasets.beam import Beam
from zsar_jax.datasets.bucket_build import upload
from zsar_jax.datasets.builder import ClipBuilder
from zsar_jax.datasets.stage_runners import stage_in_processes, stage_with_beam
from zsar_jax.datasets.staging import Chunk, ClipTask, StagedChunk, serialized_size
from zsar_jax.errors import UserError
from zsar_jax.runtime.wording import pluralize
from zsar_jax.storage import buckets, file_systems, locks

# The minimum number of clips in a chunk, and the maximum number of chunks in a split. Chunks become
# shards, and a reader may keep all shards open: the limit of open files is often 1024.
_CHUNK_CLIPS = 32
_MAX_CHUNKS = 256

# The number of clips from which the required disk space is estimated.
_SAMPLED_CLIPS = 8


def build(
  builder: ClipBuilder,
  workers: int | None = None,
  strict: bool = False,
  beam: Beam | None = None,
) -> pathlib.Path:
  """Builds a data set, or continues an interrupted build.

  Args:
    builder: the data set and where to write it.
    workers: the number of processes that encode clips; 0 or 1 encodes in this process, None uses
      all cores.
    strict: whether a clip that is missing or cannot be read is an error.
    beam: encodes the clips on Apache Beam instead of in processes of this machine.

  Returns:
    The folder of the data set's version.

  Raises:
    UserError: if the data set exists with other parameters, the disk is too small, a split would
      have no clips, or, with `strict`, a clip failed.
  """
  if builder.bucket is None:
    return _build_here(builder, workers, strict, beam)
  if beam is not None and beam.runner != 'DirectRunner':
    raise UserError(
      '--beam_runner: a data set for a bucket is built on this machine and then uploaded; give a'
      ' folder that all machines share as --out, or DirectRunner'
    )
  if not _is_built(builder, builder.destination, strict):
    with _lock(builder.bucket.joinpath('.staging', *builder.full_name.split('/'))):
      # Another machine may have built the data set while this one waited for the lock.
      if not _is_built(builder, builder.destination, strict):
        upload(_build_here(builder, workers, strict, beam), builder.destination)
        print(f'{builder.full_name}: built in {builder.destination}')
  # An earlier build leaves them if it is killed after its upload.
  shutil.rmtree(builder.data_dir, ignore_errors=True)
  parents = pathlib.Path(builder.data_dir).parents[: len(builder.full_name.split('/')) + 1]
  if builder.builder_config:
    shutil.rmtree(parents[1] / '.config', ignore_errors=True)  # Of TFDS.
  _remove_empty(parents)
  return builder.destination


@contextlib.contextmanager
def _lock(folder: pathlib.Path) -> Iterator[None]:
  """Holds the lock of a folder in a bucket; waits while another machine holds it."""
  with contextlib.ExitStack() as stack:
    with buckets.reporting_errors(folder, '--out'):
      stack.enter_context(locks.lock_folder(folder))
    yield


def _build_here(
  builder: ClipBuilder, workers: int | None, strict: bool, beam: Beam | None
) -> pathlib.Path:
  """Builds a data set on this machine, as `build` does; returns the version's folder."""
  directory = pathlib.Path(builder.data_dir)
  if builder.staging_dir.exists() or not _is_built(builder, directory, strict):
    with contextlib.ExitStack() as stack:
      try:
        stack.enter_context(locks.lock_folder(builder.staging_dir))
      except OSError as error:
        raise UserError(
          f'--out: {builder.staging_dir} cannot be written ({error.strerror}); build in another'
          ' folder (for a data set of config.data.embedded, in another config.data.dir)'
        ) from None
      # An earlier build leaves this folder if it is killed while it publishes.
      for incomplete in directory.parent.glob(f'{INCOMPLETE_PREFIX}*_{directory.name}'):
        shutil.rmtree(incomplete)
      # Another process may have built the data set while this one waited for the lock.
      if not _is_built(builder, directory, strict):
        file_systems.check_moving(pathlib.Path(builder.data_dir_root), '--out')
        _stage_and_publish(builder, workers, strict, beam)
      _clear_staging(builder)
  return directory


def _is_built(builder: ClipBuilder, directory: pathlib.Path, strict: bool) -> bool:
  """Returns whether the data set exists.

  Raises:
    UserError: if it exists and is not what the builder would build.
  """
  expected = json.loads(json.dumps(builder.parameters))
  files = DatasetFiles(directory)
  try:
    with files.open_small_files():
      folder = files.local
      if not (folder / 'dataset_info.json').exists():
        return False
      actual = json.loads((folder / 'metadata.json').read_text())['parameters']
      report = json.loads((folder / 'build_report.json').read_text())
      classes = tfds.builder_from_directory(folder).info.features['label'].names
      if damage := files.find_damage():
        raise ValueError(damage)
    differing = sorted(key for key in actual | expected if actual.get(key) != expected.get(key))
    failed = [clip for split in report.values() for clip in split['missing'] | split['unreadable']]
  except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
    raise UserError(
      f'{directory} is damaged, or from an earlier version ({error}); delete that folder and'
      ' build it again'
    ) from None
  if differing:
    key = differing[0]
    raise UserError(
      f'{directory} was built with {key} = {actual.get(key)}, not {key} ='
      f' {expected.get(key)}; choose another --out, or delete that folder'
    )
  if tuple(classes) != builder.classes:
    raise UserError(
      f'{directory} was built with another vocabulary, of {len(classes)} classes instead of'
      f' {len(builder.classes)}; choose another --out, or delete that folder'
    )
  if strict and failed:
    raise UserError(
      f'{directory} was built without {len(failed)} clips, the first is {failed[0]}; repair them,'
      ' delete that folder and build again, or leave out --strict'
    )
  if directory == builder.destination:
    print(f'{builder.full_name} already exists: {directory}')
  return True


def _stage_and_publish(
  builder: ClipBuilder, workers: int | None, strict: bool, beam: Beam | None
) -> None:
  """Stages all chunks of the data set, prints the build report and publishes the data set."""
  splits = builder.tasks()
  chunks = [
    (split, chunk, os.fspath(builder.staging_dir / f'{split}-{number:05d}'))
    for split, tasks in splits.items()
    for number, chunk in enumerate(_cut_into_chunks(builder, split, tasks))
  ]
  if any(builder.staging_dir.glob('*.json')):
    print(
      f'{builder.full_name}: continues an earlier build; if videos or masks have changed since,'
      f' delete {builder.staging_dir} to begin anew',
      file=sys.stderr,
    )
  else:
    _check_disk(builder, [chunk for _, chunk, _ in chunks])
  chunk_paths = [(chunk, path) for _, chunk, path in chunks]
  if beam is None:
    results = stage_in_processes(chunk_paths, builder.full_name, workers)
  else:
    results = stage_with_beam(chunk_paths, builder.full_name, beam)
  staged: dict[str, list[StagedChunk]] = {split: [] for split in splits}
  for (split, _, _), result in zip(chunks, results, strict=True):
    staged[split].append(result)

  report = builder.report(staged)
  print(build_report.describe(builder.full_name, report))
  _check_failures(builder.full_name, report, strict)
  try:
    builder.publish(staged)
  except OSError as error:
    raise UserError(
      f'{builder.data_dir} cannot be written ({error.strerror or error}); make room, and the same'
      ' command continues'
    ) from None
  if builder.bucket is None:
    print(f'{builder.full_name}: built in {builder.data_dir}')


def _cut_into_chunks(builder: ClipBuilder, split: str, tasks: Sequence[ClipTask]) -> list[Chunk]:
  """Cuts a split's tasks into chunks, in a way that depends only on their number."""
  counts = collections.Counter(task.id for task in tasks)
  repeated = [clip_id for clip_id, count in counts.items() if count > 1]
  if repeated:
    raise UserError(
      f'{builder.full_name}, split {split!r}: clip {repeated[0]} is listed more than once;'
      ' remove the repetition'
    )
  size = max(_CHUNK_CLIPS, -(-len(tasks) // _MAX_CHUNKS))
  encode = type(builder).encode
  shared = builder.classes, builder.parameters, builder.has_inpainted
  return [
    Chunk(tuple(tasks[start : start + size]), encode, *shared)
    for start in range(0, len(tasks), size)
  ]


def _check_disk(builder: ClipBuilder, chunks: list[Chunk]) -> None:
  """Estimates the disk space that the records need; raises a `UserError` if less is free."""
  tasks = [(chunk, task) for chunk in chunks for task in chunk.tasks]
  if len(tasks) < 8 * _SAMPLED_CLIPS:
    return
  sizes: list[int] = []
  num_tried = 0
  # More candidates than needed: many may be missing if the lists are older than the videos.
  candidates = 4 * _SAMPLED_CLIPS
  while len(sizes) < _SAMPLED_CLIPS and num_tried < candidates:
    # Candidates are spread evenly over the tasks. The stride 11 and their number are coprime, so
    # each candidate is tried once, and candidates close to each other are tried far apart.
    chunk, task = tasks[len(tasks) * (2 * (11 * num_tried % candidates) + 1) // (2 * candidates)]
    size = serialized_size(chunk, task)
    sizes += [size] if size else []
    num_tried += 1
  if not sizes:
    return  # The clips are missing or cannot be read; the build reports each of them.
  needed = len(tasks) * sum(sizes) / num_tried
  free = shutil.disk_usage(builder.staging_dir).free
  print(
    f'{builder.full_name}: {pluralize(len(tasks), "clip")} will take about {_format_size(needed)},'
    f' estimated from {num_tried} of them; {_format_size(free)} are free',
    file=sys.stderr,
  )
  if needed > free:
    remedy = 'choose another --out' if builder.bucket is None else 'set TMPDIR to another folder'
    raise UserError(
      f'{builder.staging_dir}: the records need about {_format_size(needed)} and'
      f' {_format_size(free)} are free; {remedy}, or a smaller --short-side, --jpeg-quality or'
      ' --keep'
    )


def _format_size(count: float) -> str:
  """Formats a number of bytes."""
  return f'{count / 1e9:.1f} GB' if count >= 1e9 else f'{count / 1e6:.3g} MB'


def _check_failures(name: str, report: dict[str, Any], strict: bool) -> None:
  """Raises a `UserError` if a split has no clip or, with `strict`, if any clip failed."""
  for split, result in report.items():
    failures = result['missing'] | result['unreadable']
    if not result['written']:
      if not failures:
        raise UserError(f'{name}, split {split!r}: no clip is listed')
      # A missing clip says less about what is wrong.
      clip_id, reason = next(iter((result['unreadable'] or failures).items()))
      raise UserError(
        f'{name}, split {split!r}: none of its {len(failures)} clips can be built,'
        f' for example {clip_id} because {reason}; check the given paths'
      )
    if strict and failures:
      raise UserError(
        f'{name}, split {split!r}: {pluralize(len(failures), "clip")} failed,'
        f' the first is {next(iter(failures))}; repair them and run the same command, or leave out'
        ' --strict'
      )


def _clear_staging(builder: ClipBuilder) -> None:
  """Deletes the staging folder, and its parents if they are empty."""
  # Another process may have deleted it while this one waited for the lock.
  with contextlib.suppress(FileNotFoundError):
    shutil.rmtree(builder.staging_dir)
  _remove_empty(builder.staging_dir.parents[: len(builder.full_name.split('/'))])


def _remove_empty(folders: Sequence[pathlib.Path]) -> None:
  """Removes those folders that are empty."""
  for folder in folders:
    with contextlib.suppress(OSError):  # Another data set's build may be in it.
      folder.rmdir()
