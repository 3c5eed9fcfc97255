"""The index of a split: a table of its clips, for use without reading their records.

A split either has records of its own, and an index of them, or it is a *part* of such a stored
split: a list of positions in it. UCF101's test1 is a part of the split that has all of its clips.
"""

import dataclasses
import itertools
import os
import pathlib
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from zsar_jax.errors import UserError

# The exceptions that NumPy raises for a damaged .npz file.
_NPZ_ERRORS = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)


@dataclasses.dataclass(frozen=True)
class ClipIndex:
  """The columns of a split's index, for N clips in record order.

  Attributes:
    ids: N clip ids.
    labels: i32[N], indices into the vocabulary.
    num_frames: i32[N].
    num_annotated: i32[N], the number of annotated frames.
    coverage: f32[N, R], the share of the pixels that each of `regions.REGION_BITS` covers, as a
      mean over a clip's annotated frames; NaN if no frame is annotated or the region is unknown.
    attributes: N JSON objects, the records' own.
    starts: u64[N], where each record begins in its file, see `frame_table.FrameFile.clip`; None
      in the index of an earlier version.
    marks: u32[N], the checksum of each clip, see `frame_table`; None likewise.
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

  def take(self, positions: np.ndarray) -> 'ClipIndex':
    """Returns the index of the clips at `positions`."""
    columns: dict[str, Any] = {
      name: column[positions]
      if isinstance(column, np.ndarray)
      else [column[position] for position in positions]
      for name, column in self._columns().items()
    }
    return ClipIndex(**columns)

  def _columns(self) -> dict[str, Any]:
    return {name: column for name, column in vars(self).items() if column is not None}

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes the index as an .npz file."""
    # As lines of text: in an array of strings each takes the space of the longest.
    lines = np.frombuffer('\n'.join(self.attributes).encode(), np.uint8)
    np.savez_compressed(path, **self._columns() | {'attributes': lines})

  @classmethod
  def load(cls, path: str | os.PathLike[str]) -> 'ClipIndex':
    """Reads a file that `save` wrote.

    Raises:
      UserError: if the file is damaged.
    """
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
    except _NPZ_ERRORS as error:
      raise UserError(f'{path} is damaged ({error}); build the data set again') from None
    if len({len(column) for column in index._columns().values()}) > 1:
      raise UserError(f'{path} has columns of different lengths; build the data set again')
    return index


def concatenate(indexes: Sequence[ClipIndex]) -> ClipIndex:
  """Returns the index of the clips of several splits of one build, one split after another."""
  columns: dict[str, Any] = {}
  for name, first in indexes[0]._columns().items():
    parts = [getattr(index, name) for index in indexes]
    if isinstance(first, np.ndarray):
      columns[name] = np.concatenate(parts)
    else:
      columns[name] = list(itertools.chain(*parts))
  return ClipIndex(**columns)


def save_part(path: str | os.PathLike[str], stored_split: str, positions: np.ndarray) -> None:
  """Writes a split that has the clips of `stored_split` at `positions`."""
  np.savez_compressed(path, of=stored_split, places=positions.astype(np.int64))


def load_part(path: str | os.PathLike[str]) -> tuple[str, np.ndarray]:
  """Returns the stored split and the positions that `save_part` wrote.

  Raises:
    UserError: if the file is damaged.
  """
  try:
    with np.load(path, allow_pickle=False) as arrays:
      return str(arrays['of']), arrays['places'].astype(np.int64)
  except _NPZ_ERRORS as error:
    raise UserError(f'{path} is damaged ({error}); build the data set again') from None


def part_files(directory: pathlib.Path) -> dict[str, pathlib.Path]:
  """Returns the files of a data set's part splits, by the splits' names."""
  return {path.stem.removeprefix('part-'): path for path in directory.glob('part-*.npz')}
