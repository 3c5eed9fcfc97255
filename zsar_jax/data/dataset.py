"""A data set on disk, opened for reading: clips by position, and an index to choose them by.

The folder of a data set, as `zsar_jax.data.builder` writes it:

    {data_dir}/{name}/{version}/      name is 'ssv2', or 'pantomime/scenes' with a configuration
      dataset_info.json, features.json, label.labels.txt, *.array_record-*   as TFDS has them
      metadata.json                   class splits, annotated regions, what it was built with
      index-{split}.npz               the split's ids, labels and frame counts, in record order
"""

import dataclasses
import json
import os
import pathlib
import re
import zipfile
import zlib
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from zsar_jax.errors import UserError

_VERSION = re.compile(r'(\d+)\.(\d+)\.(\d+)')


@dataclasses.dataclass(frozen=True)
class ClipIndex:
  """What is known of a split's N clips without reading a record, in record order.

  Attributes:
    ids: N clip ids.
    labels: i32[N], places in the vocabulary.
    num_frames: i32[N].
    num_annotated: i32[N], how many of a clip's frames are annotated.
  """

  ids: list[str]
  labels: np.ndarray
  num_frames: np.ndarray
  num_annotated: np.ndarray

  def __len__(self) -> int:
    return len(self.ids)

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes the index as an .npz file."""
    np.savez_compressed(path, **dataclasses.asdict(self))

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
        )
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
      raise UserError(f'{path} is damaged ({error}); build the data set again') from None
    if len({len(index.ids), *map(len, (index.labels, index.num_frames, index.num_annotated))}) > 1:
      raise UserError(f'{path} has columns of different lengths; build the data set again')
    return index


class ClipDataset:
  """A split of a data set: records by position. Pickles as its path; opens files when read.

  Attributes:
    name: of the data set, like 'pantomime/scenes'.
    split: like 'train'.
    classes: the vocabulary, in label order.
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
    self._opened: tuple[int, Any] | None = None
    self.name = name
    self.split = split
    try:
      info = tfds.builder_from_directory(directory).info
      metadata = json.loads((directory / 'metadata.json').read_text())
      self.classes: tuple[str, ...] = tuple(info.features['label'].names)
      self.class_splits: dict[str, tuple[str, ...]] = {
        part: tuple(names) for part, names in metadata['class_splits'].items()
      }
      self.region_names: tuple[str, ...] = tuple(metadata['region_names'])
    except Exception as error:  # TFDS and protobuf raise classes of their own.
      reason = (str(error).strip() or type(error).__name__).splitlines()[0]
      raise UserError(f'{directory} is damaged ({reason}); build the data set again') from None
    if split not in info.splits:
      raise UserError(
        f'{directory} has no split {split!r}; it has {", ".join(sorted(info.splits))}'
      )
    path = directory / f'index-{split}.npz'
    self.index = ClipIndex.load(path)
    self._check(path, info.splits[split])

  def _check(self, path: pathlib.Path, split_info: tfds.core.SplitInfo) -> None:
    """Compares the index with the vocabulary and with the records."""
    if not len(self.index):
      raise UserError(f'{path}: split {self.split!r} is empty; build the data set again')
    if len(self.index) != split_info.num_examples:
      raise UserError(
        f'{path} lists {len(self.index)} clips and the records are {split_info.num_examples};'
        ' build the data set again'
      )
    labels = self.index.labels
    outside = np.flatnonzero((labels < 0) | (labels >= len(self.classes)))
    if len(outside):
      position = outside[0]
      raise UserError(
        f'{path}: clip {self.index.ids[position]} has label {labels[position]}, outside the'
        f' vocabulary of {len(self.classes)} classes; build the data set again'
      )
    for shard in split_info.filepaths:
      if not shard.exists():
        raise UserError(f'{shard} is missing; copy it again or build the data set again')

  def __len__(self) -> int:
    return len(self.index)

  def __getitem__(self, position: int) -> dict[str, Any]:
    """The record at `position`, with the fields of `zsar_jax.data.records`, still encoded."""
    try:
      record = self._source()[position]
    except Exception as error:  # ArrayRecord and protobuf raise classes of their own.
      raise UserError(
        f'{self.name}, clip {self.index.ids[position]}: the record in {self._directory} cannot'
        f' be read ({error}); copy the file again or build the data set again'
      ) from None
    record['id'] = record['id'].decode()
    record['annotated'] = np.asarray(record['annotated'], bool)
    return record

  def _source(self) -> Any:
    # Open files belong to one process, whether this one was forked or unpickled.
    if self._opened is None or self._opened[0] != os.getpid():
      builder = tfds.builder_from_directory(self._directory)
      self._opened = os.getpid(), builder.as_data_source(self.split)
    return self._opened[1]

  def __getstate__(self) -> dict[str, Any]:
    return self.__dict__ | {'_opened': None}


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
      f' with python -m tools.build_dataset --out={data_dir}, whose --help lists the data sets'
    )
  return ClipDataset(directory, name, split)


def find_dataset(data_dir: str | os.PathLike[str], name: str) -> pathlib.Path | None:
  """The folder of a data set's newest version, or None if there is none."""
  root, parts = pathlib.Path(data_dir).expanduser().absolute(), tuple(name.split('/'))
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
  root = pathlib.Path(data_dir).expanduser().absolute()
  if not root.is_dir():
    raise UserError(f'{data_dir} is not a folder; give the --out of python -m tools.build_dataset')
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


def _versions(folder: pathlib.Path) -> list[pathlib.Path]:
  """The versions of a data set in its folder, oldest first."""
  found = []
  if folder.is_dir():
    for child in folder.iterdir():
      match = _VERSION.fullmatch(child.name)
      if match and (child / 'dataset_info.json').is_file():
        found.append((tuple(map(int, match.groups())), child))
  return [child for _, child in sorted(found)]
