"""Opens a data set on disk: an index of its clips, and their records by position.

`zsar_jax.datasets.builder` writes the folder of a data set:

    {data_dir}/{name}/{version}/      name is 'ssv2', or 'pantomime/scenes' with a configuration
      dataset_info.json, features.json, label.labels.txt, *.array_record-*   files of TFDS
      metadata.json                   class splits, annotated regions, the build's parameters
      build_report.json               see `zsar_jax.datasets.build_report`
      index-{split}.npz               a table of the split's clips, see `clip_index`
      part-{split}.npz                a split that is a part of another, see `clip_index`
      *.array_record-*.frames.npy     the offsets of the frames in the records, see `frame_table`
      checksums.json                  the size and checksum of each file; for records and tables
                                      only the size, because the index has a mark of each clip

Opening a split checks the checksums of all files that it reads, and the marks of the first and
the last clip of each file of records; in a bucket, process 0 checks the last clips. Reading a clip
checks its mark.
"""

import collections
import copy
import functools
import itertools
import json
import os
import pathlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module

from zsar_jax.data import records
from zsar_jax.data.catalog import find_dataset, list_datasets
from zsar_jax.data.clip_index import ClipIndex, concatenate, load_part, part_files
from zsar_jax.data.dataset_files import COMMON_FILES, DatasetFiles
from zsar_jax.data.frame_table import ClipFrames, FrameFile, table_path
from zsar_jax.data.reading import Reading, finish, finish_together
from zsar_jax.data.shard_cache import CacheSettings
from zsar_jax.errors import UserError, error_reason, first_line
from zsar_jax.runtime import distributed
from zsar_jax.runtime.progress import log
from zsar_jax.storage import bucket_requests, checksums

# The key in metadata.json that is true if the data set was built with checksums.
HAS_CHECKSUMS = 'has_checksums'


class ClipDataset:
  """A split of a data set: an index and records by position. Its pickle holds no open files.

  Attributes:
    directory: the version's folder.
    files: the files in it.
    name: the name of the data set, such as 'pantomime/scenes'.
    split: the name of the split, such as 'train', or of several, such as 'train+validation'.
    classes: the vocabulary, in label order.
    class_texts: the text of each class in prompts. It is the name of the class or, if the data
      set's lists have such texts, a text with [brackets] around the placeholders of objects.
    class_splits: named parts of the vocabulary, such as 'base' and 'novel'.
    region_names: the names in `regions.REGION_BITS` of the annotated regions.
    has_inpainted: whether its records have a field of inpainted frames.
    index: the split's ids, labels and frame counts.
  """

  index: ClipIndex

  def __init__(
    self, directory: pathlib.Path, name: str, split: str, cache: CacheSettings | None = None
  ):
    """Opens a split.

    Args:
      directory: the version's folder.
      name: the name of the data set.
      split: the name of the split, or the names of several joined by '+'.
      cache: what keeps on a local disk what is read from a bucket, if anything.

    Raises:
      UserError: if there is no such split, it is empty, damaged or inconsistent, or a clip is in
        two of the splits.
    """
    self.directory = directory
    self.name = name
    self.split = split
    self.files = DatasetFiles(directory, cache)
    with self.files.open_small_files():
      self._open()

  def _open(self) -> None:
    """Reads the small files."""
    directory = self.files.local
    self._check_files(COMMON_FILES)
    try:
      info = tfds.builder_from_directory(directory).info
      metadata = json.loads((directory / 'metadata.json').read_text())
      self.classes: tuple[str, ...] = tuple(info.features['label'].names)
      self.class_splits: dict[str, tuple[str, ...]] = {
        part: tuple(names) for part, names in metadata['class_splits'].items()
      }
      self.class_texts = tuple(metadata['class_texts'] or self.classes)
      self.region_names: tuple[str, ...] = tuple(metadata['region_names'])
      self.has_inpainted = 'inpainted' in info.features
    except Exception as error:  # TFDS and protobuf raise classes of their own.
      raise UserError(
        f'{directory} is damaged ({first_line(error)}); build the data set again'
      ) from None
    self._record_classes = self.classes
    # For each split, the split that stores its records and, if it is a part of that split, the
    # positions of its clips there.
    sources = [self._find_records(name, info.splits) for name in self.split.split('+')]
    stored = [info.splits[name] for name in dict.fromkeys(name for name, _ in sources)]
    self._open_records(stored, metadata.get(HAS_CHECKSUMS, False))
    self._positions = self._positions_in_records(sources, stored)
    if self._positions is not None:
      self.index = self.index.take(self._positions)
      self._check_unique()

  def _find_records(self, split: str, stored: Collection[str]) -> tuple[str, np.ndarray | None]:
    """Returns the split that stores the records of `split`, and their positions in a larger one.

    Args:
      split: the name of a split.
      stored: the names of all splits that have records.
    """
    parts = part_files(self.files.local)
    if split in parts:
      self._check_files([parts[split].name])
      return load_part(parts[split])
    if split not in stored:
      present = ', '.join(sorted({*stored, *parts}))
      raise UserError(
        f'{self.directory} has no split {split!r}; it has {present}, and several are joined by +'
      )
    return split, None

  def _open_records(self, splits: Sequence[tfds.core.SplitInfo], has_checksums: bool) -> None:
    """Loads the indexes of stored splits and checks them against the files of records."""
    indexes, self._shards, shard_lengths = [], [], []
    for info in splits:
      path = self.files.local / f'index-{info.name}.npz'
      shards = [self.directory / pathlib.Path(shard).name for shard in info.filepaths]
      tables = [table_path(shard) for shard in shards]
      self._check_files([path.name, *(file.name for file in (*shards, *tables))])
      index = ClipIndex.load(path)
      self._check_index(path, index, info)
      indexes.append(index)
      self._shards += shards
      shard_lengths += info.shard_lengths
    self.index = indexes[0] if len(indexes) == 1 else concatenate(indexes)
    # The first clip of each shard, counted over all shards.
    self._shard_clips = np.cumsum([0, *shard_lengths])
    self._check_has_checksums(has_checksums)
    # The first frame of each clip, counted over all shards.
    self._clip_frames = np.concatenate([[0], np.cumsum(self.index.num_frames, dtype=np.int64)])
    # Where the records end, for a data set in a bucket; 0 where that is not known.
    self._chunk_ends: np.ndarray | None = None
    if self.files.remote and self.index.starts is not None:
      self._chunk_ends = np.append(self.index.starts[1:], np.uint64(0))
      self._chunk_ends[self._shard_clips[1:] - 1] = 0
    # Another build may replace the files while this process holds some of them open.
    self._build = self.files.build(path.name)
    if not self.files.remote:
      for first, end in itertools.pairwise(self._shard_clips.tolist()):
        for stored in {first, end - 1}:
          finish(self._check_mark(stored))
    elif distributed.is_main():
      # All hosts read the same bucket, and objects are not damaged in part: one clip of each file
      # on one host tells whether the files are of one build.
      checks = [self._check_mark(int(end) - 1) for end in self._shard_clips[1:]]
      for first in range(0, len(checks), bucket_requests.MAX_REQUESTS):
        finish_together(checks[first : first + bucket_requests.MAX_REQUESTS])

  def _check_mark(self, stored: int) -> Reading[None]:
    """Compares the mark of a stored clip with the index."""
    start = None if self.index.starts is None else int(self.index.starts[stored])
    open_file = functools.partial(self.files.open_records, start=start)
    yield from self._read_frames(stored, stored, open_file)

  def _positions_in_records(
    self,
    sources: Sequence[tuple[str, np.ndarray | None]],
    stored: Sequence[tfds.core.SplitInfo],
  ) -> np.ndarray | None:
    """Returns i64[N], the clips' positions in the records; None for all records in their order.

    Args:
      sources: what `_find_records` returns for each of the splits.
      stored: the splits that have records, in the order in which they were opened.
    """
    if len(sources) == 1 and sources[0][1] is None:
      return None
    sizes = [sum(info.shard_lengths) for info in stored]
    offsets = dict(zip((info.name for info in stored), np.cumsum([0, *sizes]), strict=False))
    size_of = {info.name: size for info, size in zip(stored, sizes, strict=True)}
    selected = []
    for name, part in sources:
      positions = np.arange(size_of[name]) if part is None else part
      if not (len(positions) and 0 <= positions.min() <= positions.max() < size_of[name]):
        raise UserError(
          f'{self.directory}: split {self.split!r} has positions outside the split {name!r}; build'
          ' the data set again'
        )
      selected.append(offsets[name] + positions)
    return np.concatenate(selected)

  def _check_unique(self) -> None:
    """Raises a `UserError` if a clip is in two of several splits."""
    if '+' not in self.split:
      return
    repeated = [name for name, n in collections.Counter(self.index.ids).items() if n > 1]
    if repeated:
      raise UserError(
        f'{self.directory}: {len(repeated)} clips, such as {repeated[0]!r}, are in two of the'
        f' splits {self.split}; name splits that share no clip'
      )

  def _check_files(self, names: Collection[str]) -> None:
    """Raises a `UserError` if files differ from those that the build wrote."""
    damage = self.files.find_damage(names)
    if damage:
      raise UserError(
        f'{self.directory}: {damage}: its files are missing or not all of one build; copy'
        ' the whole folder again or build the data set again'
      )

  def _check_has_checksums(self, expected: bool) -> None:
    """Raises a `UserError` if checksums are lost; warns if an earlier version wrote none."""
    if (self.files.local / checksums.FILE).exists():
      return
    if expected or self.index.marks is not None:
      raise UserError(
        f'{self.directory / checksums.FILE} is missing; copy the whole folder again or build the'
        ' data set again'
      )
    _warn_unchecked(self.directory)

  def _check_index(self, path: pathlib.Path, index: ClipIndex, info: tfds.core.SplitInfo) -> None:
    """Compares an index with the vocabulary and the records."""
    if not len(index):
      raise UserError(f'{path}: split {info.name!r} is empty; build the data set again')
    if len(index) != sum(info.shard_lengths):
      raise UserError(
        f'{path} lists {len(index)} clips, but there are {sum(info.shard_lengths)} records;'
        ' build the data set again'
      )
    labels = index.labels
    outside = np.flatnonzero((labels < 0) | (labels >= len(self.classes)))
    if len(outside):
      position = outside[0]
      raise UserError(
        f'{path}: clip {index.ids[position]} has label {labels[position]}, outside the'
        f' vocabulary of {len(self.classes)} classes; build the data set again'
      )

  def relabeled(
    self,
    positions: np.ndarray,
    index: ClipIndex,
    classes: tuple[str, ...],
    class_texts: tuple[str, ...],
    class_splits: dict[str, tuple[str, ...]],
  ) -> 'ClipDataset':
    """Returns some clips of this split with labels of another vocabulary.

    The records are the same, so that `__getitem__` returns the label that they were built with.

    Args:
      positions: i64[N], the clips' positions in this split.
      index: their index, with the new labels and attributes.
      classes: the new vocabulary, in label order.
      class_texts: the text of each class.
      class_splits: named parts of the vocabulary.
    """
    clips = copy.copy(self)
    clips.classes, clips.class_texts, clips.class_splits = classes, class_texts, class_splits
    clips.index = index
    clips._positions = positions if self._positions is None else self._positions[positions]
    return clips

  def __len__(self) -> int:
    return len(self.index)

  def __getitem__(self, position: int) -> dict[str, Any]:
    """Returns the record at `position`: the fields of `zsar_jax.data.records`, still encoded."""
    stored = self._stored_position(position)
    shard = self._shard_of(stored)
    try:
      if self.files.remote:
        serialized = self._remote_record(stored, position)
      else:
        reader = array_record_module.ArrayRecordReader(os.fspath(self._shards[shard]))
        serialized = reader.read([stored - int(self._shard_clips[shard])])[0]
        reader.close()
      features = records.record_features(self._record_classes, self.has_inpainted)
      record = features.deserialize_example_np(serialized)
      record['id'] = record['id'].decode()
      record['attributes'] = json.loads(record['attributes'])
      record['annotated'] = np.asarray(record['annotated'], bool)
      if record['id'] != self.index.ids[position]:
        raise ValueError(f'it is the record of {record["id"]}')
    except bucket_requests.UnreachableError:
      raise
    except Exception as error:  # ArrayRecord and protobuf raise classes of their own.
      raise UserError(
        f'{self.name}, clip {self.index.ids[position]}: the record in {self.directory} cannot'
        f' be read ({error}); copy the file again or build the data set again'
      ) from None
    return record

  def frames(self, position: int) -> ClipFrames:
    """Returns the frames of the clip at `position`, which are read one by one on request."""
    return finish(self.read_frames(position))

  def read_frames(self, position: int) -> Reading[ClipFrames]:
    """The reading of `frames`, with the same result and errors."""
    open_file = functools.partial(self.files.keep_records, build=self._build)
    stored = self._stored_position(position)
    end = None
    if self._chunk_ends is not None:
      end = int(self._chunk_ends[stored]) or None
    return (yield from self._read_frames(stored, position, open_file, end))

  def _read_frames(
    self,
    stored: int,
    position: int,
    open_file: Callable[[pathlib.Path, int], Reading[FrameFile]],
    end: int | None = None,
  ) -> Reading[ClipFrames]:
    """Returns the frames of a clip, which are read on request.

    Args:
      stored: the clip's position in the records.
      position: the clip's position in the index.
      open_file: opens a file of records, given its path and its number of frames.
      end: see `FrameFile.clip`.
    """
    shard = self._shard_of(stored)
    first, last = self._clip_frames[stored : stored + 2]
    shard_first, shard_end = self._clip_frames[self._shard_clips[shard : shard + 2]]
    start, mark = 0, None
    if self.index.starts is not None and self.index.marks is not None:
      start, mark = int(self.index.starts[position]), int(self.index.marks[position])
    path = self._shards[shard]
    try:
      file = yield from open_file(path, int(shard_end - shard_first))
      clip = file.clip(int(first - shard_first), int(last - first), start, mark, end)
      return (yield from clip)
    except OSError as error:
      raise UserError(
        f'{path} cannot be read ({error_reason(error)}); copy it again or build the data set again'
      ) from None

  def _remote_record(self, stored: int, position: int) -> bytes:
    """Returns a serialized record of a data set in a bucket."""
    if self.index.starts is None:
      raise ValueError('an earlier version built the data set')
    shard = self._shard_of(stored)
    shard_first, shard_end = self._clip_frames[self._shard_clips[shard : shard + 2]]
    frames = int(shard_end - shard_first)
    file = finish(self.files.keep_records(self._shards[shard], frames, self._build))
    return file.record(int(self.index.starts[position]))

  def _stored_position(self, position: int) -> int:
    return position if self._positions is None else int(self._positions[position])

  def _shard_of(self, stored: int) -> int:
    return int(np.searchsorted(self._shard_clips, stored, side='right')) - 1


@functools.lru_cache
def _warn_unchecked(directory: pathlib.Path) -> None:
  """Warns, once per data set, that its files have no checksums."""
  log(
    f'{directory} was built by an earlier version: its files cannot be checked to be of one'
    ' build; build it again to add checksums'
  )


def open_dataset(
  data_dir: str | os.PathLike[str], name: str, split: str, cache: CacheSettings | None = None
) -> ClipDataset:
  """Opens the newest version of a data set.

  Args:
    data_dir: the folder of data sets, or in it the folder of this data set.
    name: the name, such as 'ssv2', or with a configuration 'pantomime/scenes'.
    split: the split, such as 'train', or several, such as 'train+validation'.
    cache: what keeps on a local disk what is read from a bucket, if anything.

  Raises:
    UserError: if the folder, the data set or the split does not exist.
  """
  directory = find_dataset(data_dir, name)
  if directory is None:
    present = ', '.join(list_datasets(data_dir)) or 'no data set'
    raise UserError(
      f'there is no data set {name!r} in {data_dir}, which has {present}; build it'
      f' with zsar build-dataset --out={data_dir}, whose --help lists the data sets'
    )
  return ClipDataset(directory, name, split, cache)
