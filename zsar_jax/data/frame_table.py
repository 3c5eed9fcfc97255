"""Reading some frames of a clip without the rest of its record.

Of the frames of a record training decodes a few, and ArrayRecord reads nothing less than a record:
with 300 frames that takes longer than decoding 8 of them, even where the disk's cache has them. So
beside each file of records there is a table of where its frames are:

    {file}.frames.npy    a row of `ROW_DTYPE` for each frame, in the order of the records

An ArrayRecord file is a Riegeli file: chunks, here of one uncompressed record each, as a stream
that a block header interrupts every 64 KiB. Places in the table are places in that stream. The
format: https://github.com/google/riegeli/blob/master/doc/riegeli_records_file_format.md

A chunk begins with a header that holds a 64-bit hash of the chunk. The checksum of a clip's header
and rows is its *mark*. The index of the data set has the marks, so that records, tables and index
of different builds are not taken for one data set.
"""

import collections
import dataclasses
import os
import pathlib
import threading
import zlib
from collections.abc import Hashable, Sequence

import numpy as np

from zsar_jax.errors import UserError

# One frame: where its JPEG and its region plane are, in bytes, and their size in pixels. The
# plane of a frame that nobody annotated has no bytes.
ROW_DTYPE = np.dtype(
  [
    ('frame_start', '<u8'),
    ('plane_start', '<u8'),
    ('frame_bytes', '<u4'),
    ('plane_bytes', '<u4'),
    ('height', '<u4'),
    ('width', '<u4'),
  ]
)

_BLOCK = 1 << 16
_BLOCK_HEADER = 24
_CHUNK_HEADER = 40

_MIXED = 'not all of one build; copy the whole folder again or build the data set again'

# The beginning of a .npy file: its magic string, its version, and the length of its header.
_NPY_HEADER = 10

# A process keeps so many files of records open, of all data sets together, each with its table.
MAX_OPEN_FILES = 32


def locate_frames(serialized: bytes) -> np.ndarray:
  """Returns `ROW_DTYPE`[N] of a serialized record of N frames, with offsets from its first byte."""
  # Imported here, so that reading does not need TFDS.
  from tensorflow_datasets.proto import tf_example_pb2

  fields = tf_example_pb2.Example.FromString(serialized).features.feature
  rows = np.zeros(len(fields['frames'].bytes_list.value), ROW_DTYPE)
  rows['height'] = fields['height'].int64_list.value[0]
  rows['width'] = fields['width'].int64_list.value[0]
  for field, name in (('frames', 'frame'), ('regions', 'plane')):
    start = 0
    for row, content in zip(rows, fields[field].bytes_list.value, strict=True):
      start = serialized.index(content, start)
      row[f'{name}_start'], row[f'{name}_bytes'] = start, len(content)
      start += len(content)
  return rows


def write_table(
  path: pathlib.Path, records: pathlib.Path, located: Sequence[np.ndarray], sizes: Sequence[int]
) -> list[tuple[int, int]]:
  """Writes the table of a finished file of records.

  Args:
    path: of the table.
    records: the file.
    located: what `locate_frames` says of each record.
    sizes: of each record, in bytes.

  Returns:
    Of each record where its chunk begins in the stream, and its mark.

  Raises:
    ValueError: if the file is not laid out as is said above.
  """
  tables, marks = [np.zeros(0, ROW_DTYPE)], []
  file = _File(records)
  position = 0
  for rows, size in zip(located, sizes, strict=True):
    header = b''
    while header[24:25] != b'r':  # Another kind of chunk has no records.
      header = _read(file, position, _CHUNK_HEADER)
      stored = int.from_bytes(header[8:16], 'little')
      start, position = position, position + _CHUNK_HEADER + stored
    decoded = int.from_bytes(header[32:40], 'little')
    if decoded != size or _read(file, start + _CHUNK_HEADER, 1) != b'\0':
      raise ValueError(f'the chunk at {start} is not one uncompressed record of {size} bytes')
    placed = rows.copy()
    # Before the record, at the end of its chunk, only the chunk's own lengths are stored.
    placed['frame_start'] += position - size
    placed['plane_start'] += position - size
    tables.append(placed)
    marks.append((start, _mark(header, placed.tobytes())))
  with open(path, 'wb') as output:
    np.save(output, np.concatenate(tables))
  return marks


def _mark(header: bytes, rows: bytes) -> int:
  """Of a clip, from the header of its record's chunk and its rows of the table."""
  return zlib.crc32(rows, zlib.crc32(header))


def table_path(records: str | os.PathLike[str]) -> pathlib.Path:
  """The table of a file of records."""
  return pathlib.Path(f'{os.fspath(records)}.frames.npy')


class _File:
  """A file that is open for reading as long as somebody holds it."""

  def __init__(self, path: str | os.PathLike[str]):
    self.name = os.fspath(path)
    self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

  def __del__(self) -> None:
    if hasattr(self, '_descriptor'):
      os.close(self._descriptor)

  def read(self, start: int, size: int) -> bytes:
    """`size` bytes from `start` on; a `UserError` where the file has fewer."""
    content = os.pread(self._descriptor, size, start)
    if len(content) != size:
      raise UserError(f'{self.name} is cut short; copy it again or build the data set again')
    return content

  def size(self) -> int:
    """In bytes."""
    return os.fstat(self._descriptor).st_size


@dataclasses.dataclass(frozen=True)
class ClipFrames:
  """The N frames of one clip, still encoded; each is read when it is asked for."""

  _file: _File
  _rows: np.ndarray  # ROW[N]

  def __len__(self) -> int:
    return len(self._rows)

  @property
  def size(self) -> tuple[int, int]:
    """Height and width of every frame and plane, in pixels."""
    row = self._rows[0]
    return int(row['height']), int(row['width'])

  @property
  def annotated(self) -> np.ndarray:
    """bool[N], whether anybody annotated the frame."""
    return self._rows['plane_bytes'] > 0

  def frame(self, number: int) -> bytes:
    """A frame, for `records.decode_frame`."""
    start, _, size, *_ = self._rows[number].item()
    return _read(self._file, start, size)

  def plane(self, number: int) -> bytes:
    """The region plane of an annotated frame, for `records.decode_plane`."""
    _, start, _, size, *_ = self._rows[number].item()
    return _read(self._file, start, size)


class FrameFile:
  """A file of records and its table, opened for reading single frames."""

  def __init__(self, records: str | os.PathLike[str], frames: int):
    """Opens both.

    Args:
      records: the file of records.
      frames: how many the file has, as the index says.

    Raises:
      OSError: where one cannot be opened.
      UserError: where the table is of another number of frames.
    """
    self._records, self._table = _File(records), _File(table_path(records))
    header = self._table.read(0, _NPY_HEADER)
    self._first_row = _NPY_HEADER + int.from_bytes(header[8:], 'little')
    if self._table.size() != self._first_row + frames * ROW_DTYPE.itemsize:
      raise UserError(
        f'{self._table.name} has not the {frames} frames of the index, so the two are {_MIXED}'
      )

  def clip(self, first: int, count: int, start: int = 0, mark: int | None = None) -> ClipFrames:
    """The frames of one clip.

    Args:
      first: the clip's first row of the table.
      count: of its frames.
      start: where the chunk of its record begins.
      mark: of the clip; None, where the index has none, is not compared.

    Raises:
      UserError: where the record or the rows are not those of the index.
    """
    rows = self._table.read(
      self._first_row + first * ROW_DTYPE.itemsize, count * ROW_DTYPE.itemsize
    )
    if mark is not None and mark != _mark(_read(self._records, start, _CHUNK_HEADER), rows):
      raise UserError(f'{self._records.name}: the records, their table and the index are {_MIXED}')
    return ClipFrames(self._records, np.frombuffer(rows, ROW_DTYPE))


_opened: collections.OrderedDict[tuple[str, Hashable], FrameFile] = collections.OrderedDict()
_opening = threading.Lock()


def open_frame_file(records: str | os.PathLike[str], frames: int, build: Hashable) -> FrameFile:
  """A `FrameFile` of the `MAX_OPEN_FILES` that the process keeps open.

  One that makes room for another is closed when no clip of it is in use.

  Args:
    records: the file of records.
    frames: how many the file has, as the index says.
    build: differs where the file may have been replaced by another of its name.

  Raises:
    OSError, UserError: as `FrameFile` does.
  """
  key = os.fspath(records), build
  with _opening:
    file = _opened.pop(key, None) or FrameFile(records, frames)
    _opened[key] = file
    while len(_opened) > MAX_OPEN_FILES:
      _opened.popitem(last=False)
  return file


def _read(file: _File, start: int, size: int) -> bytes:
  """`size` bytes from the place `start` of the stream on."""
  begin, end = _in_file(start), _in_file(start + size - 1) + 1
  content = file.read(begin, end - begin)
  header = -begin % _BLOCK
  if header >= len(content):
    return content
  parts = [content[:header]]
  for at in range(header, len(content), _BLOCK):
    parts.append(content[at + _BLOCK_HEADER : at + _BLOCK])
  return b''.join(parts)


def _in_file(position: int) -> int:
  """The place in the file of a place in the stream."""
  return position + _BLOCK_HEADER * (position // (_BLOCK - _BLOCK_HEADER) + 1)
