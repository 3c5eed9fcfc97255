"""Reading some frames of a clip without the rest of its record.

Of the frames of a record training decodes a few, and ArrayRecord reads nothing less than a record:
with 300 frames that takes longer than decoding 8 of them, even where the disk's cache has them. So
beside each file of records there is a table of where its frames are:

    {file}.frames.npy    a row of `ROW` for each frame, in the order of the records

An ArrayRecord file is a Riegeli file: chunks, here of one uncompressed record each, as a stream
that a block header interrupts every 64 KiB. Places in the table are places in that stream. The
format: https://github.com/google/riegeli/blob/master/doc/riegeli_records_file_format.md
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

from zsar_jax.errors import UserError

# One frame: where its JPEG and its region plane are, in bytes, and their size in pixels. The
# plane of a frame that nobody annotated has no bytes.
ROW = np.dtype(
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


def locate(serialised: bytes) -> np.ndarray:
  """`ROW`[N] of a serialised record of N frames; the places are counted from its first byte."""
  # Imported here, so that reading does not need TFDS.
  from tensorflow_datasets.proto import tf_example_pb2

  fields = tf_example_pb2.Example.FromString(serialised).features.feature
  rows = np.zeros(len(fields['frames'].bytes_list.value), ROW)
  rows['height'] = fields['height'].int64_list.value[0]
  rows['width'] = fields['width'].int64_list.value[0]
  for field, name in (('frames', 'frame'), ('regions', 'plane')):
    start = 0
    for row, content in zip(rows, fields[field].bytes_list.value, strict=True):
      start = serialised.index(content, start)
      row[f'{name}_start'], row[f'{name}_bytes'] = start, len(content)
      start += len(content)
  return rows


def write_table(
  path: pathlib.Path, records: pathlib.Path, located: Sequence[np.ndarray], sizes: Sequence[int]
) -> None:
  """Writes the table of a finished file of records.

  Args:
    path: of the table.
    records: the file.
    located: what `locate` says of each record.
    sizes: of each record, in bytes.

  Raises:
    ValueError: if the file is not laid out as is said above.
  """
  tables = [np.zeros(0, ROW)]
  with open(records, 'rb', buffering=0) as file:
    position = 0
    for rows, size in zip(located, sizes, strict=True):
      header = b''
      while header[24:25] != b'r':  # Another kind of chunk has no records.
        header = _read(file, position, _CHUNK_HEADER)
        stored = int.from_bytes(header[8:16], 'little')
        start, position = position + _CHUNK_HEADER, position + _CHUNK_HEADER + stored
      decoded = int.from_bytes(header[32:40], 'little')
      if decoded != size or _read(file, start, 1) != b'\0':
        raise ValueError(f'the chunk at {start} is not one uncompressed record of {size} bytes')
      placed = rows.copy()
      # Before the record, at the end of its chunk, only the chunk's own lengths are stored.
      placed['frame_start'] += position - size
      placed['plane_start'] += position - size
      tables.append(placed)
  with open(path, 'wb') as file:
    np.save(file, np.concatenate(tables))


def table_path(records: str | os.PathLike[str]) -> pathlib.Path:
  """The table of a file of records."""
  return pathlib.Path(f'{os.fspath(records)}.frames.npy')


@dataclasses.dataclass(frozen=True)
class ClipFrames:
  """The N frames of one clip, still encoded; each is read when it is asked for."""

  _file: BinaryIO
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
  """A file of records, opened for reading single frames."""

  def __init__(self, records: str | os.PathLike[str]):
    """Opens a file and its table; raises `OSError` or `ValueError` where it cannot."""
    self._file = open(records, 'rb', buffering=0)  # noqa: SIM115
    # Not a `np.memmap` itself, whose every index costs microseconds.
    self._table = np.asarray(np.load(table_path(records), mmap_mode='r', allow_pickle=False))

  def clip(self, first: int, count: int) -> ClipFrames:
    """The clip of `count` frames that begins at row `first` of the table."""
    return ClipFrames(self._file, self._table[first : first + count])


def _read(file: BinaryIO, start: int, size: int) -> bytes:
  """`size` bytes from the place `start` of the stream on."""
  begin, end = _in_file(start), _in_file(start + size - 1) + 1
  content = os.pread(file.fileno(), end - begin, begin)
  if len(content) != end - begin:
    raise UserError(f'{file.name} is cut short; copy it again or build the data set again')
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
