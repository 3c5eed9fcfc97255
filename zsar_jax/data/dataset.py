"""A data set on disk, opened for reading: clips by position, and an index to choose them by.

The folder of a data set, as `zsar_jax.datasets.builder` writes it:

    {data_dir}/{name}/{version}/      name is 'ssv2', or 'pantomime/scenes' with a configuration
      dataset_info.json, features.json, label.labels.txt, *.array_record-*   as TFDS has them
      metadata.json                   class splits, annotated regions, what it was built with
      index-{split}.npz               what is known of the split's clips, in record order
      *.array_record-*.frames.npy     where the frames of the records are, see `frame_table`
      part-{name}.npz                 a split that is a part of another: which, and its places in it
      checksums.json                  the size and checksum of each file; of records and tables the
                                      size alone, as the index has a mark of each clip

Opening a split compares the checksums of all that it reads, and the marks of the first and the last
clip of each file of records; reading a clip compares its mark.
"""

import dataclasses
import functools
import itertools
import json
import os
import pathlib
import re
import zipfile
import zlib
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module

from zsar_jax.data import frame_table, records
from zsar_jax.data.frame_table import ClipFrames, FrameFile, table_path
from zsar_jax.errors import UserError, first_line
from zsar_jax.runtime import checksums
from zsar_jax.runtime.paths import local_path
from zsar_jax.runtime.progress import log

# What NumPy raises for a damaged .npz file.
_DAMAGE = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)

# The files of every data set; those of the records and of each split come on top.
_COMMON = (
  'dataset_info.json',
  'features.json',
  'label.labels.txt',
  'metadata.json',
  'build_report.json',
)

# In metadata.json: that the data set has checksums.
CHECKED = 'has_checksums'

_VERSION = re.compile(r'(\d+)\.(\d+)\.(\d+)')


@dataclasses.dataclass(frozen=True)
class ClipIndex:
  """What is known of a split's N clips without reading a record, in record order.

  Attributes:
    ids: N clip ids.
    labels: i32[N], places in the vocabulary.
    num_frames: i32[N].
    num_annotated: i32[N], how many of a clip's frames are annotated.
    coverage: f32[N, R], the share of the pixels that each of `regions.REGION_BITS` covers, as a
      mean over a clip's annotated frames; NaN where none is annotated or the region is unknown.
    attributes: N JSON objects, the records' own.
    starts: u64[N], where each record begins in its file, see `frame_table.FrameFile.clip`.
    marks: u32[N], of each clip, see `frame_table`. An index of an earlier version has neither.
  """

  ids: list[str]
  labels: np.ndarray
  num_frames: np.ndarray
  num_annotated: np.ndarray
  coverage: np.ndarray
  attributes: list[str]
  starts: np.ndarray | None = None
  marks: np.ndarray | None = None

  def __len__(self) -> int:
    return len(self.ids)

  def take(self, places: np.ndarray) -> 'ClipIndex':
    """The index of the clips at `places`."""
    return ClipIndex(
      **{
        name: column[places] if isinstance(column, np.ndarray) else [column[n] for n in places]
        for name, column in self._columns().items()
      }
    )

  def _columns(self) -> dict[str, Any]:
    return {name: column for name, column in vars(self).items() if column is not None}

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes the index as an .npz file."""
    # As lines: an array of strings would give each the room of the longest.
    lines = np.frombuffer('\n'.join(self.attributes).encode(), np.uint8)
    np.savez_compressed(path, **self._columns() | {'attributes': lines})

  @classmethod
  def load(cls, path: str | os.PathLike[str]) -> 'ClipIndex':
    """Reads what `save` wrote; a `UserError` where the file is damaged."""
    try:
      with np.load(path, allow_pickle=False) as arrays:
        index = cls(
          ids=[str(name) for name in arrays['ids']],
          labels=arrays['labels'].astype(np.int32),
          num_frames=arrays['num_frames'].astype(np.int32),
          num_annotated=arrays['num_annotated'].astype(np.int32),
          coverage=arrays['coverage'].astype(np.float32),
          attributes=arrays['attributes'].tobytes().decode().splitlines(),
          starts=arrays['starts'].astype(np.uint64) if 'starts' in arrays else None,
          marks=arrays['marks'].astype(np.uint32) if 'marks' in arrays else None,
        )
    except _DAMAGE as error:
      raise UserError(f'{path} is damaged ({error}); build the data set again') from None
    if len({len(column) for column in index._columns().values()}) > 1:
      raise UserError(f'{path} has columns of different lengths; build the data set again')
    return index


class ClipDataset:
  """A split of a data set: records by position. Pickles without open files.

  Attributes:
    name: of the data set, like 'pantomime/scenes'.
    split: like 'train'.
    classes: the vocabulary, in label order.
    class_texts: how each class is called in prompts: its name, or with [brackets] around what
      stands for an object, where the data set's lists have them.
    class_splits: named parts of the vocabulary, like 'base' and 'novel'.
    region_names: which of `regions.REGION_BITS` the data set is annotated with.
    index: the split's ids, labels and frame counts.
  """

  def __init__(self, directory: pathlib.Path, name: str, split: str):
    """Opens a split.

    Args:
      directory: the version's folder.
      name: of the data set.
      split: of the data set.

    Raises:
      UserError: if there is no such split, or it is empty or not consistent.
    """
    self._directory = directory
    # Of a split that is a part of another: the places of its clips among the other's records.
    self._places: np.ndarray | None = None
    self.name = name
    self.split = split
    self._compare(_COMMON)
    try:
      info = tfds.builder_from_directory(directory).info
      metadata = json.loads((directory / 'metadata.json').read_text())
      self.classes: tuple[str, ...] = tuple(info.features['label'].names)
      self.class_splits: dict[str, tuple[str, ...]] = {
        part: tuple(names) for part, names in metadata['class_splits'].items()
      }
      self.class_texts = tuple(metadata['class_texts'] or self.classes)
      self.region_names: tuple[str, ...] = tuple(metadata['region_names'])
    except Exception as error:  # TFDS and protobuf raise classes of their own.
      raise UserError(
        f'{directory} is damaged ({first_line(error)}); build the data set again'
      ) from None
    parts = _part_files(directory)
    if split not in info.splits and split not in parts:
      present = ', '.join(sorted({*info.splits, *parts}))
      raise UserError(f'{directory} has no split {split!r}; it has {present}')
    self._stored = split
    if split in parts:
      self._compare([parts[split].name])
      self._stored, self._places = _read_part(parts[split])
    path = directory / f'index-{self._stored}.npz'
    # Of each shard its file and its first clip; of each clip its first frame, over all shards.
    self._shards = [pathlib.Path(shard) for shard in info.splits[self._stored].filepaths]
    self._shard_clips = np.cumsum([0, *info.splits[self._stored].shard_lengths])
    tables = [table_path(shard) for shard in self._shards]
    self._compare([path.name, *(file.name for file in (*self._shards, *tables))])
    self.index = ClipIndex.load(path)
    self._check(path)
    self._check_build(metadata.get(CHECKED, False))
    self._clip_frames = np.concatenate([[0], np.cumsum(self.index.num_frames, dtype=np.int64)])
    # Files of the same names may take the place of these, of which some are open.
    self._build = path.stat().st_mtime_ns
    for first, end in itertools.pairwise(self._shard_clips.tolist()):
      for stored in {first, end - 1}:
        self._clip(stored, stored, FrameFile)
    if self._places is not None:
      self.index = self.index.take(self._places)

  def _compare(self, names: Collection[str]) -> None:
    """Raises a `UserError` where files are not as the build has left them."""
    damage = checksums.find_damage(self._directory, names)
    if damage:
      raise UserError(
        f'{self._directory}: {damage}: its files are not all there, or not all of one build; copy'
        ' the whole folder again or build the data set again'
      )

  def _check_build(self, checked: bool) -> None:
    """Tells a data set of an earlier version from one that has lost its checksums."""
    if (self._directory / checksums.FILE).exists():
      return
    if checked or self.index.marks is not None:
      raise UserError(
        f'{self._directory / checksums.FILE} is missing; copy the whole folder again or build the'
        ' data set again'
      )
    _warn_unchecked(self._directory)

  def _check(self, path: pathlib.Path) -> None:
    """Compares the index with the vocabulary and with the records."""
    if not len(self.index):
      raise UserError(f'{path}: split {self._stored!r} is empty; build the data set again')
    if len(self.index) != self._shard_clips[-1]:
      raise UserError(
        f'{path} lists {len(self.index)} clips and the records are {self._shard_clips[-1]};'
        ' build the data set again'
      )
    if self._places is not None and not (
      len(self._places) and 0 <= self._places.min() <= self._places.max() < len(self.index)
    ):
      raise UserError(
        f'{path.parent}: split {self.split!r} has places outside the split {self._stored!r}; build'
        ' the data set again'
      )
    labels = self.index.labels
    outside = np.flatnonzero((labels < 0) | (labels >= len(self.classes)))
    if len(outside):
      position = outside[0]
      raise UserError(
        f'{path}: clip {self.index.ids[position]} has label {labels[position]}, outside the'
        f' vocabulary of {len(self.classes)} classes; build the data set again'
      )

  def __len__(self) -> int:
    return len(self.index)

  def __getitem__(self, position: int) -> dict[str, Any]:
    """The record at `position`, with the fields of `zsar_jax.data.records`, still encoded."""
    stored = position if self._places is None else int(self._places[position])
    shard = self._shard(stored)
    try:
      reader = array_record_module.ArrayRecordReader(os.fspath(self._shards[shard]))
      serialized = reader.read([stored - int(self._shard_clips[shard])])[0]
      reader.close()
      record = records.features(self.classes).deserialize_example_np(serialized)
      record['id'] = record['id'].decode()
      record['attributes'] = json.loads(record['attributes'])
      record['annotated'] = np.asarray(record['annotated'], bool)
      if record['id'] != self.index.ids[position]:
        raise ValueError(f'it is that of {record["id"]}')
    except Exception as error:  # ArrayRecord and protobuf raise classes of their own.
      raise UserError(
        f'{self.name}, clip {self.index.ids[position]}: the record in {self._directory} cannot'
        f' be read ({error}); copy the file again or build the data set again'
      ) from None
    return record

  def frames(self, position: int) -> ClipFrames:
    """The frames of the clip at `position`; what is not asked for is not read."""
    stored = position if self._places is None else int(self._places[position])
    return self._clip(stored, position, functools.partial(frame_table.opened, build=self._build))

  def _clip(
    self, stored: int, position: int, opened: Callable[[pathlib.Path, int], FrameFile]
  ) -> ClipFrames:
    """The frames of the clip that is number `stored` of the records and `position` of the index.

    Args:
      stored: among the records.
      position: in the index.
      opened: gives the file of records of that name, which has so many frames.
    """
    shard = self._shard(stored)
    first, end = self._clip_frames[stored : stored + 2]
    before, after = self._clip_frames[self._shard_clips[shard : shard + 2]]
    start, mark = 0, None
    if self.index.marks is not None:
      start, mark = int(self.index.starts[position]), int(self.index.marks[position])
    path = self._shards[shard]
    try:
      file = opened(path, int(after - before))
      return file.clip(int(first - before), int(end - first), start, mark)
    except OSError as error:
      raise UserError(
        f'{path} cannot be read ({error.strerror}); copy it again or build the data set again'
      ) from None

  def _shard(self, stored: int) -> int:
    return int(np.searchsorted(self._shard_clips, stored, side='right')) - 1


@functools.lru_cache
def _warn_unchecked(directory: pathlib.Path) -> None:
  """Says once that the files of a data set have no checksums."""
  log(
    f'{directory} was built by an earlier version: whether its files are of one build is not'
    ' checked; build it again to have that'
  )


def save_part(path: str | os.PathLike[str], of: str, places: np.ndarray) -> None:
  """Writes a split that is a part of the split `of`, which has its clips at `places`."""
  np.savez_compressed(path, of=of, places=places.astype(np.int64))


def _read_part(path: pathlib.Path) -> tuple[str, np.ndarray]:
  try:
    with np.load(path, allow_pickle=False) as arrays:
      return str(arrays['of']), arrays['places'].astype(np.int64)
  except _DAMAGE as error:
    raise UserError(f'{path} is damaged ({error}); build the data set again') from None


def open_dataset(data_dir: str | os.PathLike[str], name: str, split: str) -> ClipDataset:
  """Opens the newest version of a data set.

  Args:
    data_dir: the folder of data sets, or the folder of this one in it.
    name: 'ssv2', or with a configuration 'pantomime/scenes'.
    split: like 'train'.

  Raises:
    UserError: if the folder, the data set or the split is not there.
  """
  directory = find_dataset(data_dir, name)
  if directory is None:
    present = ', '.join(list_datasets(data_dir)) or 'no data set'
    raise UserError(
      f'there is no data set {name!r} in {data_dir}, which has {present}; build it'
      f' with zsar build-dataset --out={data_dir}, whose --help lists the data sets'
    )
  return ClipDataset(directory, name, split)


def split_names(data_dir: str | os.PathLike[str], name: str) -> list[str]:
  """The splits of a data set that is there, see `list_datasets`."""
  directory = find_dataset(data_dir, name)
  info = json.loads((directory / 'dataset_info.json').read_text())
  return sorted({*(split['name'] for split in info.get('splits', ())), *_part_files(directory)})


def _part_files(directory: pathlib.Path) -> dict[str, pathlib.Path]:
  """Of splits that are parts of others, their files by the splits' names."""
  return {path.stem.removeprefix('part-'): path for path in directory.glob('part-*.npz')}


def find_dataset(data_dir: str | os.PathLike[str], name: str) -> pathlib.Path | None:
  """The folder of a data set's newest version, or None if there is none."""
  root, parts = _root(data_dir), tuple(name.split('/'))
  # `data_dir` itself may end with the name, or with its beginning.
  for shared in range(len(parts) + 1):
    if shared and root.parts[-shared:] != parts[:shared]:
      continue
    versions = _versions(root.joinpath(*parts[shared:]))
    if versions:
      return versions[-1]
  return None


def list_datasets(data_dir: str | os.PathLike[str]) -> list[str]:
  """The names of the data sets in a folder, each as `open_dataset` takes it.

  Args:
    data_dir: the folder of data sets, or the folder of one of them.

  Raises:
    UserError: if there is no such folder.
  """
  root = _root(data_dir)
  if not root.is_dir():
    raise UserError(f'{data_dir} is not a folder; give the --out of zsar build-dataset')
  names = set()
  for depth in ('.', '*', '*/*'):
    for folder in root.glob(depth) if depth != '.' else [root]:
      if versions := _versions(folder):
        path = versions[-1] / 'dataset_info.json'
        try:
          info = json.loads(path.read_text())
          names.add('/'.join(filter(None, (info['name'], info.get('configName')))))
        except (ValueError, KeyError, TypeError):
          raise UserError(f'{path} is damaged; build the data set again') from None
  return sorted(names)


def _root(data_dir: str | os.PathLike[str]) -> pathlib.Path:
  return pathlib.Path(local_path(data_dir, 'the folder of data sets')).absolute()


def _versions(folder: pathlib.Path) -> list[pathlib.Path]:
  """The versions of a data set in its folder, oldest first."""
  found = []
  if folder.is_dir():
    for child in folder.iterdir():
      match = _VERSION.fullmatch(child.name)
      if match and (child / 'dataset_info.json').is_file():
        found.append((tuple(map(int, match.groups())), child))
  return [child for _, child in sorted(found)]
