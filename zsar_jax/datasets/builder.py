"""The base of the data sets' builders: what a data set consists of, and how it is written.

A builder lists the clips of each split as tasks, and assembles the staged chunks (see
`zsar_jax.datasets.staging`) into a TFDS data set of ArrayRecord files. `zsar_jax.datasets.build`
runs a builder.

TFDS' own generator-based builders are not used: for data sets of more than a gigabyte they sort
the examples in temporary files that TensorFlow writes.
"""

import abc
import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import dataset_builder

from zsar_jax.data import records
from zsar_jax.data.clip_index import ClipIndex, save_part
from zsar_jax.data.dataset import HAS_CHECKSUMS
from zsar_jax.data.dataset_files import is_record_file
from zsar_jax.data.frame_table import table_path
from zsar_jax.datasets import build_report
from zsar_jax.datasets.bucket_build import build_folder
from zsar_jax.datasets.staging import ClipTask, Encode, StagedChunk
from zsar_jax.storage import buckets, checksums, file_systems
from zsar_jax.storage.paths import as_path


# The stubs of TFDS lack `skip_registration`.
class ClipBuilder(dataset_builder.FileReaderBuilder, skip_registration=True):  # type: ignore[call-arg]
  """Base class of the data sets' builders.

  A subclass sets `name`, `VERSION` and, for several configurations, `BUILDER_CONFIGS`; checks
  its inputs and sets the attributes below before it calls `super().__init__`; and overrides
  `tasks`.

  Attributes:
    classes: the vocabulary, in label order.
    class_splits: named parts of the vocabulary, like 'base' and 'novel'.
    class_texts: how each class is called in prompts, or None for its name.
    clip_splits: splits that are parts of another split: {name: clip ids}.
    remarks: the remarks on the lists: {split: {kind: {clip id: text}}}.
    region_names: which of `regions.REGION_BITS` the clips are annotated with.
    has_inpainted: whether the records have inpainted frames.
    mask_sources: where their masks come from, see `mask_provenance.summarize`.
    parameters: everything else that determines the records, as JSON values: a finished data set
      with other parameters is refused.
    encode: a module-level function from a task to the encoded clip; raises `records.ClipError`.
    bucket: the folder of data sets, if it is in a bucket. The data set is then built in a folder of
      this machine, and uploaded.
  """

  classes: tuple[str, ...]
  class_splits: Mapping[str, tuple[str, ...]]
  class_texts: tuple[str, ...] | None = None
  clip_splits: Mapping[str, Sequence[str]] = {}
  remarks: Mapping[str, Mapping[str, Mapping[str, str]]] = {}
  region_names: tuple[str, ...]
  has_inpainted: bool = False
  mask_sources: Sequence[dict[str, Any]] = ()
  parameters: dict[str, Any]
  encode: Encode

  def __init__(self, data_dir: str | os.PathLike[str], config: str | None = None):
    """Sets where to build.

    Args:
      data_dir: the folder of data sets; this one becomes a folder in it.
      config: the name of one of `BUILDER_CONFIGS`.
    """
    self._staged: dict[str, list[StagedChunk]] = {}
    folder = as_path(data_dir, '--out').absolute()
    self.bucket = folder if buckets.is_remote(folder) else None
    super().__init__(
      data_dir=build_folder(folder) if self.bucket else folder,
      config=config,
      file_format='array_record',
    )

  @abc.abstractmethod
  def tasks(self) -> Mapping[str, Sequence[ClipTask]]:
    """Returns the clips of each split, one task each, in the order of the records."""

  @property
  def full_name(self) -> str:
    """The name that `dataset.open_dataset` takes."""
    return '/'.join(filter(None, (self.name, self.builder_config_name)))

  @property
  def destination(self) -> pathlib.Path:
    """The folder of the data set's version, on this machine or in a bucket."""
    directory = pathlib.Path(self.data_dir)
    if self.bucket is None:
      return directory
    return self.bucket.joinpath(*self.full_name.split('/'), directory.name)

  @property
  def staging_dir(self) -> pathlib.Path:
    """The folder of the chunks of an unfinished build."""
    return pathlib.Path(self.data_dir_root, '.staging', *self.full_name.split('/'))

  def report(self, staged: dict[str, list[StagedChunk]]) -> dict[str, Any]:
    """Returns the report of the build, see `zsar_jax.datasets.build_report`."""
    return build_report.make_report(staged, self.region_names, self.remarks, self.mask_sources)

  def publish(self, staged: dict[str, list[StagedChunk]]) -> None:
    """Writes the data set from the staged chunks of every split."""
    self._staged = staged
    if self.builder_config and file_systems.REPLACING in file_systems.missing_features(
      self.staging_dir
    ):
      # TFDS would replace this file, which has the name of the default configuration.
      shutil.rmtree(pathlib.Path(self.data_dir).parent.parent / '.config', ignore_errors=True)
    # TFDS announces a download on stdout, and makes folders for it.
    with contextlib.redirect_stdout(None):
      self.download_and_prepare(download_dir=self.staging_dir / 'downloads')

  def _info(self) -> tfds.core.DatasetInfo:
    return _ChecksummedInfo(
      builder=self,
      features=records.record_features(self.classes, self.has_inpainted),
      metadata=tfds.core.MetadataDict(
        class_splits=dict(self.class_splits),
        class_texts=self.class_texts,
        region_names=self.region_names,
        parameters=self.parameters,
        **{HAS_CHECKSUMS: True},
      ),
    )

  def _download_and_prepare(self, dl_manager: Any, download_config: Any) -> None:
    """Writes all files to `data_path`, a temporary folder that TFDS renames afterwards."""
    del dl_manager, download_config
    infos = [self._write_split(split, chunks) for split, chunks in self._staged.items()]
    content = json.dumps(self.report(self._staged), indent=1)
    pathlib.Path(self.data_path, 'build_report.json').write_text(content)
    self.info.set_splits(tfds.core.splits.SplitDict(infos))

  def _write_split(self, split: str, chunks: list[StagedChunk]) -> tfds.core.SplitInfo:
    """Writes the records, tables and index of a split, and the parts of it."""
    shards = [chunk for chunk in chunks if chunk.entries]
    template = self._get_filename_template(split_name=split)
    for number, shard in enumerate(shards):
      path = pathlib.Path(template.sharded_filepath(shard_index=number, num_shards=len(shards)))
      _link_or_copy(shard.records, path)
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
    self._write_parts(split, index)
    return tfds.core.SplitInfo(
      name=split,
      shard_lengths=[len(shard.entries) for shard in shards],
      num_bytes=sum(shard.records.stat().st_size for shard in shards),
      filename_template=template,
    )

  def _write_parts(self, split: str, index: ClipIndex) -> None:
    """Writes those of `clip_splits` that have clips of `split`."""
    position_of = {clip_id: position for position, clip_id in enumerate(index.ids)}
    for name, ids in self.clip_splits.items():
      positions = [position_of[clip_id] for clip_id in ids if clip_id in position_of]
      if positions:
        save_part(pathlib.Path(self.data_path, f'part-{name}.npz'), split, np.array(positions))


class _ChecksummedInfo(tfds.core.DatasetInfo):
  """Writes the checksums after the other files: TFDS writes this object last."""

  def write_to_directory(self, dataset_info_dir: Any, all_metadata: bool = True) -> None:
    """Writes TFDS' own files and then the checksums of all files."""
    super().write_to_directory(dataset_info_dir, all_metadata)
    # Records are too large to be read in full; the index has a mark of each clip instead.
    checksums.write(pathlib.Path(dataset_info_dir), size_only=is_record_file)


def _link_or_copy(source: pathlib.Path, target: pathlib.Path) -> None:
  """Links `target` to `source`, so that a kill in between loses nothing."""
  try:
    target.hardlink_to(source)
  except OSError:  # Not every file system has hard links.
    shutil.copyfile(source, target)
