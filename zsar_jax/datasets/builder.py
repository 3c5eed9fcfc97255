"""Building a data set: TFDS builders that write ArrayRecord, in parallel, and can be interrupted.

Every clip is a task. The tasks of a split are cut into chunks, the chunks are staged under
`{out}/.staging` by as many processes as there are (see `zsar_jax.datasets.staging`), and the staged
files then become the shards of the TFDS data set, which appears at once and complete. How the
tasks are cut depends on their number alone, so the records are the same bytes for any number of
processes, interrupted or not.

The generator-based builders of TFDS are not used: past a gigabyte they sort the examples in
temporary files that TensorFlow writes.
"""

import abc
import collections
import concurrent.futures
import contextlib
import dataclasses
import json
import multiprocessing
import os
import pathlib
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
import tqdm
from tensorflow_datasets.core import dataset_builder
from tensorflow_datasets.core.constants import INCOMPLETE_PREFIX

from zsar_jax.data import records
from zsar_jax.data.dataset import CHECKED, ClipIndex, save_part
from zsar_jax.data.frame_table import table_path
from zsar_jax.data.workers import start_worker
from zsar_jax.datasets import build_report
from zsar_jax.datasets.staging import Chunk, ClipTask, Encode, Staged, serialized_size, stage_chunk
from zsar_jax.errors import UserError, error_reason
from zsar_jax.runtime import checksums, file_systems, locks, terminal
from zsar_jax.runtime.paths import local_path
from zsar_jax.runtime.wording import format_bytes, pluralize

# The fewest clips of a chunk, and the most chunks of a split. Each is a shard in the end, and a
# reader keeps all of them open: the limit of open files is often 1024.
_CHUNK_CLIPS = 32
_MAX_CHUNKS = 256

# How often one looks whether processes of Beam have finished a chunk.
_WATCH_SECONDS = 2.0

# The disk need is estimated from this many clips, where there are many more.
_SAMPLED_CLIPS = 8


@dataclasses.dataclass(frozen=True)
class Beam:
  """An engine of Apache Beam to stage chunks on.

  Attributes:
    runner: the name of the runner, like 'DirectRunner'.
    options: its options, each as 'name=value', or 'name' for a switch.
  """

  runner: str
  options: tuple[str, ...] = ()


class ClipBuilder(dataset_builder.FileReaderBuilder, skip_registration=True):
  """Base of the data sets' builders. `build` runs one.

  A subclass sets `name`, `VERSION` and, for several configurations, `BUILDER_CONFIGS`; checks
  its inputs and sets the attributes below before calling `super().__init__`; and overrides
  `tasks`.

  Attributes:
    classes: the vocabulary, in label order.
    class_splits: named parts of the vocabulary, like 'base' and 'novel'.
    class_texts: how each class is called in prompts, or None for its name.
    clip_splits: splits that are parts of one of the others: {name: clip ids}.
    remarks: what was noticed in the lists: {split: {kind: {clip id: what}}}.
    region_names: which of `regions.REGION_BITS` the clips are annotated with.
    parameters: what else determines the records, as JSON values: a finished data set with
      other parameters is refused.
    encode: a function of a module, from a task to the encoded clip; raises
      `records.ClipError`.
  """

  classes: tuple[str, ...]
  class_splits: Mapping[str, tuple[str, ...]]
  class_texts: tuple[str, ...] | None = None
  clip_splits: Mapping[str, Sequence[str]] = {}
  remarks: Mapping[str, Mapping[str, Mapping[str, str]]] = {}
  region_names: tuple[str, ...]
  parameters: dict[str, Any]
  encode: Encode

  def __init__(self, data_dir: str | os.PathLike[str], config: str | None = None):
    """Sets where to build.

    Args:
      data_dir: the folder of data sets; this one becomes a folder in it.
      config: the name of one of `BUILDER_CONFIGS`.
    """
    self._staged: dict[str, list[Staged]] = {}
    data_dir = pathlib.Path(local_path(data_dir, '--out')).absolute()
    super().__init__(data_dir=data_dir, config=config, file_format='array_record')

  @abc.abstractmethod
  def tasks(self) -> dict[str, Sequence[ClipTask]]:
    """The clips of each split, one task each, in the order of the records."""

  @property
  def full_name(self) -> str:
    """The name that `dataset.open_dataset` takes."""
    return '/'.join(filter(None, (self.name, self.builder_config_name)))

  @property
  def staging(self) -> pathlib.Path:
    """The folder of what is not finished yet."""
    return pathlib.Path(self.data_dir_root, '.staging', *self.full_name.split('/'))

  def report(self, staged: dict[str, list[Staged]]) -> dict[str, Any]:
    """What went in, see `zsar_jax.datasets.build_report`."""
    return build_report.make_report(staged, self.region_names, self.remarks)

  def publish(self, staged: dict[str, list[Staged]]) -> None:
    """Makes the data set out of every split's staged chunks."""
    self._staged = staged
    if self.builder_config and file_systems.REPLACING in file_systems.missing_features(
      self.staging
    ):
      # TFDS writes the name of the default configuration anew.
      shutil.rmtree(pathlib.Path(self.data_dir).parent.parent / '.config', ignore_errors=True)
    # TFDS announces a download on stdout, and makes folders for it.
    with contextlib.redirect_stdout(None):
      self.download_and_prepare(download_dir=self.staging / 'downloads')

  def _info(self) -> tfds.core.DatasetInfo:
    return _CheckedInfo(
      builder=self,
      features=records.features(self.classes),
      metadata=tfds.core.MetadataDict(
        class_splits=dict(self.class_splits),
        class_texts=self.class_texts,
        region_names=self.region_names,
        parameters=self.parameters,
        **{CHECKED: True},
      ),
    )

  def _download_and_prepare(self, dl_manager: Any, download_config: Any) -> None:
    """Called by TFDS with `data_path` a temporary folder that it renames in the end."""
    del dl_manager, download_config
    splits = []
    for split, chunks in self._staged.items():
      shards = [chunk for chunk in chunks if chunk.entries]
      template = self._get_filename_template(split_name=split)
      for number, shard in enumerate(shards):
        path = template.sharded_filepath(shard_index=number, num_shards=len(shards))
        _link_or_copy(shard.records, pathlib.Path(path))
        _link_or_copy(table_path(shard.records), table_path(path))
      entries = [entry for shard in shards for entry in shard.entries]
      index = ClipIndex(
        ids=[entry.id for entry in entries],
        labels=np.array([entry.label for entry in entries], np.int32),
        num_frames=np.array([entry.num_frames for entry in entries], np.int32),
        num_annotated=np.array([entry.num_annotated for entry in entries], np.int32),
        coverage=np.array([entry.coverage for entry in entries], np.float32),
        attributes=[entry.attributes for entry in entries],
        starts=np.array([entry.start for entry in entries], np.uint64),
        marks=np.array([entry.mark for entry in entries], np.uint32),
      )
      index.save(pathlib.Path(self.data_path, f'index-{split}.npz'))
      self._save_parts(split, index)
      splits.append(
        tfds.core.SplitInfo(
          name=split,
          shard_lengths=[len(shard.entries) for shard in shards],
          num_bytes=sum(shard.records.stat().st_size for shard in shards),
          filename_template=template,
        )
      )
    content = json.dumps(self.report(self._staged), indent=1)
    pathlib.Path(self.data_path, 'build_report.json').write_text(content)
    self.info.set_splits(tfds.core.splits.SplitDict(splits))

  def _save_parts(self, split: str, index: ClipIndex) -> None:
    """Writes the clip splits that have clips of `split`."""
    place = {clip_id: number for number, clip_id in enumerate(index.ids)}
    for name, ids in self.clip_splits.items():
      places = [place[clip_id] for clip_id in ids if clip_id in place]
      if places:
        save_part(pathlib.Path(self.data_path, f'part-{name}.npz'), split, np.array(places))


class _CheckedInfo(tfds.core.DatasetInfo):
  """TFDS writes it last, into the folder that then gets its final name."""

  def write_to_directory(self, dataset_info_dir: Any, all_metadata: bool = True) -> None:
    """Writes the files of TFDS and then the checksums of all files."""
    super().write_to_directory(dataset_info_dir, all_metadata)
    # The index has a mark of each clip, for what is too large to be read whole.
    checksums.write(pathlib.Path(dataset_info_dir), size_only=lambda name: '.array_record-' in name)


def build(
  builder: ClipBuilder,
  workers: int | None = None,
  strict: bool = False,
  beam: Beam | None = None,
) -> pathlib.Path:
  """Builds a data set, or finishes what an interrupted build has left.

  Args:
    builder: the data set and where it goes.
    workers: processes that encode clips; 0 or 1 works in this one, None takes all cores.
    strict: whether a clip that is missing or cannot be read is an error.
    beam: encodes the clips on this engine, instead of in processes of its own.

  Returns:
    The folder of the data set's version.

  Raises:
    UserError: if the data set is there with other parameters, the disk is too small, a split
      would have no clip at all, or, with `strict`, a clip failed.
  """
  directory = pathlib.Path(builder.data_dir)
  if builder.staging.exists() or not _finished(builder, directory, strict):
    with contextlib.ExitStack() as stack:
      try:
        stack.enter_context(locks.lock_folder(builder.staging))
      except OSError as error:
        raise UserError(
          f'--out: {builder.staging} cannot be written ({error_reason(error)})'
        ) from None
      for unfinished in directory.parent.glob(f'{INCOMPLETE_PREFIX}*_{directory.name}'):
        shutil.rmtree(unfinished)  # Of a build that was killed while it published.
      # It may have been another process's build that this one waited for.
      if not _finished(builder, directory, strict):
        _build(builder, workers, strict, beam)
      _clear_staging(builder)
  return directory


def _finished(builder: ClipBuilder, directory: pathlib.Path, strict: bool) -> bool:
  """Whether the data set is there; a `UserError` if it is not what the builder would build."""
  if not (directory / 'dataset_info.json').exists():
    return False
  wanted = json.loads(json.dumps(builder.parameters))
  try:
    present = json.loads((directory / 'metadata.json').read_text())['parameters']
    found = json.loads((directory / 'build_report.json').read_text())
    classes = tfds.builder_from_directory(directory).info.features['label'].names
    differing = sorted(key for key in present | wanted if present.get(key) != wanted.get(key))
    left_out = [clip for split in found.values() for clip in split['missing'] | split['unreadable']]
    if damage := checksums.find_damage(directory):
      raise ValueError(damage)
  except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
    raise UserError(
      f'{directory} is damaged, or from an earlier version ({error}); delete that folder and'
      ' build it again'
    ) from None
  if differing:
    key = differing[0]
    raise UserError(
      f'{directory} was built with {key} = {present.get(key)} and now {key} ='
      f' {wanted.get(key)}; choose another --out, or delete that folder'
    )
  if tuple(classes) != builder.classes:
    raise UserError(
      f'{directory} was built with another vocabulary, of {len(classes)} classes where now'
      f' there are {len(builder.classes)}; choose another --out, or delete that folder'
    )
  if strict and left_out:
    raise UserError(
      f'{directory} was built without {len(left_out)} clips, {left_out[0]} first; mend them, delete'
      ' that folder and build again, or leave out --strict'
    )
  print(f'{builder.full_name} is there already: {directory}')
  return True


def _build(builder: ClipBuilder, workers: int | None, strict: bool, beam: Beam | None) -> None:
  splits = builder.tasks()
  chunks = [
    (split, chunk, os.fspath(builder.staging / f'{split}-{number:05d}'))
    for split, tasks in splits.items()
    for number, chunk in enumerate(_chunks(builder, split, tasks))
  ]
  if any(builder.staging.glob('*.json')):
    print(
      f'{builder.full_name}: an earlier build continues; if videos or masks have changed since,'
      f' delete {builder.staging} to begin anew',
      file=sys.stderr,
    )
  else:
    _check_disk(builder, [chunk for _, chunk, _ in chunks])
  work = [(chunk, path) for _, chunk, path in chunks]
  if beam is None:
    results = _stage(work, builder.full_name, workers)
  else:
    results = _stage_on_beam(work, builder.full_name, beam)
  staged: dict[str, list[Staged]] = {split: [] for split in splits}
  for (split, _, _), result in zip(chunks, results, strict=True):
    staged[split].append(result)

  found = builder.report(staged)
  print(build_report.describe(builder.full_name, found))
  _check_failures(builder.full_name, found, strict)
  try:
    builder.publish(staged)
  except OSError as error:
    raise UserError(
      f'{builder.data_dir} cannot be written ({error_reason(error)}); make room, and the same'
      ' command continues'
    ) from None
  print(f'{builder.full_name}: built in {builder.data_dir}')


def _clear_staging(builder: ClipBuilder) -> None:
  shutil.rmtree(builder.staging)
  for folder in builder.staging.parents[: len(builder.full_name.split('/'))]:
    with contextlib.suppress(OSError):  # Another data set's build may be in it.
      folder.rmdir()


def _check_disk(builder: ClipBuilder, chunks: list[Chunk]) -> None:
  """Says how much space the records will take, from a few of them; refuses if there is less."""
  tasks = [(chunk, task) for chunk in chunks for task in chunk.tasks]
  if len(tasks) < 8 * _SAMPLED_CLIPS:
    return
  sizes, tried = [], 0
  # Many clips may be missing, where lists are older than the copy.
  places = 4 * _SAMPLED_CLIPS
  while len(sizes) < _SAMPLED_CLIPS and tried < places:
    # 11 has no divisor in common with the number of places: each has its turn, near ones late.
    chunk, task = tasks[len(tasks) * (2 * (11 * tried % places) + 1) // (2 * places)]
    size = serialized_size(chunk, task)
    sizes += [size] if size else []
    tried += 1
  if not sizes:
    return  # The clips are missing or cannot be read, which the build will say of each.
  need = len(tasks) * sum(sizes) / tried
  free = shutil.disk_usage(builder.staging).free
  print(
    f'{builder.full_name}: {pluralize(len(tasks), "clip")} will take about {format_bytes(need)}, as'
    f' {tried} of them tell; {format_bytes(free)} are free',
    file=sys.stderr,
  )
  if need > free:
    raise UserError(
      f'{builder.staging}: the records need about {format_bytes(need)} and {format_bytes(free)} are'
      ' free; choose another --out, or a smaller --short-side, --jpeg-quality or --keep'
    )


def _chunks(builder: ClipBuilder, split: str, tasks: Sequence[ClipTask]) -> list[Chunk]:
  """Cuts a split's tasks into chunks; how, depends on their number alone."""
  repeated = [name for name, n in collections.Counter(t.id for t in tasks).items() if n > 1]
  if repeated:
    raise UserError(
      f'{builder.full_name}, split {split!r}: clip {repeated[0]} is listed more than once;'
      ' remove the repetition'
    )
  size = max(_CHUNK_CLIPS, -(-len(tasks) // _MAX_CHUNKS))
  encode = type(builder).encode
  return [
    Chunk(tuple(tasks[start : start + size]), encode, builder.classes, builder.parameters)
    for start in range(0, len(tasks), size)
  ]


def _stage(work: list[tuple[Chunk, str]], name: str, workers: int | None) -> list[Staged]:
  """Stages all chunks, in this process or in others, and shows how far it is."""
  clips = sum(len(chunk.tasks) for chunk, _ in work)
  workers = min(os.cpu_count() or 1 if workers is None else workers, len(work))
  with _progress(clips, name) as progress:
    if workers <= 1:
      results = []
      for chunk, path in work:
        results.append(stage_chunk(chunk, path))
        progress.update(len(chunk.tasks))
      return results

    # JAX may run in this process, so it must not be forked.
    pool = concurrent.futures.ProcessPoolExecutor(
      workers, multiprocessing.get_context('spawn'), start_worker, (signal.SIG_DFL,)
    )
    try:
      futures = [pool.submit(stage_chunk, chunk, path) for chunk, path in work]
      for future in concurrent.futures.as_completed(futures):
        staged = future.result()
        progress.update(len(staged.entries) + len(staged.failures))
      return [future.result() for future in futures]
    except concurrent.futures.process.BrokenProcessPool:
      raise UserError(
        'a process that encoded clips was killed, perhaps for want of memory; the same command'
        ' with fewer --workers continues'
      ) from None
    finally:
      pool.shutdown(wait=False, cancel_futures=True)


def _stage_on_beam(work: list[tuple[Chunk, str]], name: str, beam: Beam) -> list[Staged]:
  """Stages all chunks on an engine of Apache Beam."""
  from zsar_jax.datasets.beam import stage_on_beam

  with _watched(work, f'{name} on {beam.runner}'):
    stage_on_beam(work, beam.runner, beam.options)
  # What Beam's processes left is finished now; this reads it, and repeats no clip that was read.
  return _stage(work, name, workers=0)


@contextlib.contextmanager
def _watched(work: list[tuple[Chunk, str]], name: str) -> Iterator[None]:
  """Shows how many chunks other processes have finished, as their reports tell."""
  done = threading.Event()
  left = {f'{path}.json': len(chunk.tasks) for chunk, path in work}

  def watch() -> None:
    with _progress(sum(left.values()), name) as progress:
      finished = False
      while not finished:
        finished = done.wait(_WATCH_SECONDS)
        for path in [path for path in left if os.path.exists(path)]:
          progress.update(left.pop(path))

  thread = threading.Thread(target=watch, daemon=True)
  thread.start()
  try:
    yield
  finally:
    done.set()
    thread.join()


def _progress(clips: int, name: str) -> tqdm.tqdm:
  # A log file is not to be filled with the states of a bar.
  interval = 0.2 if sys.stderr.isatty() else 60
  bars = terminal.raw_stderr()
  return tqdm.tqdm(total=clips, desc=name, unit=' clips', mininterval=interval, file=bars)


def _check_failures(name: str, found: dict[str, Any], strict: bool) -> None:
  for split, result in found.items():
    failures = result['missing'] | result['unreadable']
    if not result['written']:
      if not failures:
        raise UserError(f'{name}, split {split!r}: no clip is listed')
      clip_id, reason = next(iter(failures.items()))
      raise UserError(
        f'{name}, split {split!r}: none of its {len(failures)} clips can be built,'
        f' {clip_id} because {reason}; check the paths given'
      )
    if strict and failures:
      raise UserError(
        f'{name}, split {split!r}: {pluralize(len(failures), "clip")} failed,'
        f' {next(iter(failures))} first; mend them and the same command continues, or leave out'
        ' --strict'
      )


def _link_or_copy(source: pathlib.Path, target: pathlib.Path) -> None:
  """Makes `target` the same file as `source`, so that a kill in between loses nothing."""
  try:
    target.hardlink_to(source)
  except OSError:  # Not every file system has hard links.
    shutil.copyfile(source, target)
