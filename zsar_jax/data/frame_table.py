"""Reads single frames of a clip without the rest of its record.

Training decodes a few frames of each clip, but ArrayRecord reads complete records: with 300 frames
per clip that takes longer than decoding 8 of them, even from the disk cache. So beside each file of
records there is a table of where its frames are:

    {file}.frames.npy    a row of `ROW_DTYPE` for each frame, in the order of the records; in a data
                         set with inpainted frames, a row of `INPAINTED_ROW_DTYPE`

An ArrayRecord file is a Riegeli file: a stream of chunks, here of one uncompressed record each,
that is interrupted by a block header every 64 KiB. Offsets in the table are offsets in that stream.
The format: https://github.com/google/riegeli/blob/master/doc/riegeli_records_file_format.md

The header of a chunk contains a 64-bit hash of the chunk. The *mark* of a clip is the checksum of
its chunk's header and its rows of the table. The data set's index has the marks, so that records,
tables and index of different builds are not mistaken for one data set.
"""

import collections
import dataclasses
import os
import pathlib
import re
import threading
import zlib
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from zsar_jax.data.reading import Reading
from zsar_jax.data.remote_files import RemoteFile
from zsar_jax.errors import UserError

# One frame: the offset and length in bytes of its JPEG and of its region plane, and their size in
# pixels. The plane of a frame without annotation has no bytes.
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

# The same, with the offset and length of its inpainted frame, which may have no bytes.
INPAINTED_ROW_DTYPE = np.dtype(
  [*ROW_DTYPE.descr, ('inpainted_start', '<u8'), ('inpainted_bytes', '<u4')]
)

# The record's fields with an image of each frame, and the names of their columns.
_COLUMNS = {'frames': 'frame', 'regions': 'plane', 'inpainted': 'inpainted'}

# Sizes in bytes of a Riegeli block, of its header and of a chunk's header.
_BLOCK = 1 << 16
_BLOCK_HEADER = 24
_CHUNK_HEADER = 40

_MIXED_BUILDS = 'not all of one build; copy the whole folder again or build the data set again'

# The beginning of a .npy file: its magic string, its version, and the length of its header.
_NPY_HEADER = 10

# The headers of the two kinds of tables, with any number of rows. NumPy parses headers as Python,
# which fails in Python 3.11 if several threads do so at once.
_HEADERS = tuple(
  (
    re.compile(
      rb"\x93NUMPY\x01\x00{'descr': %b, 'fortran_order': False, 'shape': \(\d+,\), }\s*"
      % re.escape(repr(dtype.descr).encode())
    ),
    dtype,
  )
  for dtype in (ROW_DTYPE, INPAINTED_ROW_DTYPE)
)

# A chunk so small is read from a bucket as a whole, in one request. The time to receive it is not
# longer than that of another request.
_SMALL_CHUNK = 1 << 16

# The end of the name of a table, after the name of its file of records.
_TABLE = '.frames.npy'

# The number of files of records, of all data sets together, that a process keeps open, each with
# its table.
MAX_OPEN_FILES = 32


def locate_frames(serialized: bytes) -> np.ndarray:
  """Returns the rows [N] of a serialized record of N frames, with offsets from its first byte.

  They have the dtype `INPAINTED_ROW_DTYPE` if the record has a field of inpainted frames, even an
  empty one, and `ROW_DTYPE` otherwise.
  """
  # Imported here, so that reading does not need TFDS.
  from tensorflow_datasets.proto import tf_example_pb2

  fields = tf_example_pb2.Example.FromString(serialized).features.feature
  dtype = INPAINTED_ROW_DTYPE if 'inpainted' in fields else ROW_DTYPE
  rows = np.zeros(len(fields['frames'].bytes_list.value), dtype)
  rows['height'] = fields['height'].int64_list.value[0]
  rows['width'] = fields['width'].int64_list.value[0]
  for field, name in _COLUMNS.items():
    contents = fields[field].bytes_list.value if field in fields else ()
    if not contents:
      continue  # The clip has no inpainted frames.
    start = 0
    for row, content in zip(rows, contents, strict=True):
      start = serialized.index(content, start)
      row[f'{name}_start'], row[f'{name}_bytes'] = start, len(content)
      start += len(content)
  return rows


def write_table(
  path: pathlib.Path,
  records: pathlib.Path,
  record_rows: Sequence[np.ndarray],
  sizes: Sequence[int],
) -> list[tuple[int, int]]:
  """Writes the table of a finished file of records.

  Args:
    path: the path of the table.
    records: the file.
    record_rows: the result of `locate_frames` for each record.
    sizes: the sizes of the records in bytes.

  Returns:
    For each record, the offset of its chunk in the stream and its mark.

  Raises:
    ValueError: if the file does not have the format described above.
  """
  tables, marks = [np.zeros(0, record_rows[0].dtype if record_rows else ROW_DTYPE)], []
  file = _File(records)
  end = 0
  for rows, size in zip(record_rows, sizes, strict=True):
    header = b''
    while header[24:25] != b'r':  # Other kinds of chunks have no records.
      start = end
      header = _read_stream(file, start, _CHUNK_HEADER)
      end = start + _CHUNK_HEADER + int.from_bytes(header[8:16], 'little')
    decoded = int.from_bytes(header[32:40], 'little')
    if decoded != size or _read_stream(file, start + _CHUNK_HEADER, 1) != b'\0':
      raise ValueError(f'the chunk at {start} is not one uncompressed record of {size} bytes')
    rows = rows.copy()
    # The record is the end of its chunk, after the lengths that the chunk stores.
    for name in rows.dtype.names or ():
      if name.endswith('_start'):
        rows[name] += end - size
    tables.append(rows)
    marks.append((start, _mark(header, rows.tobytes())))
  with open(path, 'wb') as output:
    np.save(output, np.concatenate(tables))
  return marks


def _mark(header: bytes, rows: bytes) -> int:
  """Returns a clip's mark, from the header of its chunk and its rows of the table."""
  return zlib.crc32(rows, zlib.crc32(header))


def table_path(records: pathlib.Path) -> pathlib.Path:
  """Returns the path of the table of a file of records."""
  return records.with_name(records.name + _TABLE)


def is_table(name: str) -> bool:
  """Returns whether a file is the table of a file of records."""
  return name.endswith(_TABLE)


class _File:
  """A file that is open for reading until nothing refers to this object."""

  def __init__(self, path: str | os.PathLike[str]):
    self.name = os.fspath(path)
    self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

  def __del__(self) -> None:
    if hasattr(self, '_descriptor'):
      os.close(self._descriptor)

  def read(self, start: int, size: int) -> bytes:
    """Reads `size` bytes from `start` on; raises a `UserError` if the file has fewer."""
    content = os.pread(self._descriptor, size, start)
    if len(content) != size:
      raise UserError(f'{self.name} is cut short; copy it again or build the data set again')
    return content

  def size(self) -> int:
    """Returns the size in bytes."""
    return os.fstat(self._descriptor).st_size


File = _File | RemoteFile


@dataclasses.dataclass(frozen=True)
class ClipFrames:
  """The N frames of a clip, still encoded; each is read on request."""

  _file: File
  _rows: np.ndarray  # ROW_DTYPE[N] or INPAINTED_ROW_DTYPE[N]

  def __len__(self) -> int:
    return len(self._rows)

  @property
  def size(self) -> tuple[int, int]:
    """Height and width of every frame and plane, in pixels."""
    row = self._rows[0]
    return int(row['height']), int(row['width'])

  @property
  def annotated(self) -> np.ndarray:
    """bool[N], whether each frame is annotated."""
    return self._rows['plane_bytes'] > 0

  def read_ahead(
    self, frames: Iterable[int], planes: Iterable[int], inpainted: Iterable[int]
  ) -> Reading['ClipFrames']:
    """Returns these frames after it has read some of them from a bucket, in few requests.

    On a local disk nothing is read, as single reads are fast there.

    Args:
      frames: the numbers of the frames that will be asked for.
      planes: those of the planes.
      inpainted: those of the inpainted frames.
    """
    if not isinstance(self._file, RemoteFile):
      return self
    ranges = []
    for name, numbers in (('frame', frames), ('plane', planes), ('inpainted', inpainted)):
      if f'{name}_start' not in (self._rows.dtype.names or ()):
        continue
      for row in self._rows[np.unique(np.fromiter(numbers, np.int64))]:
        if size := int(row[f'{name}_bytes']):
          ranges.append(_file_range(int(row[f'{name}_start']), size))
    (file,) = yield [(self._file, ranges)]
    return dataclasses.replace(self, _file=file)

  def frame(self, number: int) -> bytes:
    """Reads a frame, for `records.decode_frame`."""
    start, _, size, *_ = self._rows[number].item()
    return _read_stream(self._file, start, size)

  def plane(self, number: int) -> bytes:
    """Reads the region plane of an annotated frame, for `records.decode_plane`."""
    _, start, _, size, *_ = self._rows[number].item()
    return _read_stream(self._file, start, size)

  def inpainted(self, number: int) -> bytes:
    """Reads a frame without its people, for `records.decode_frame`; b'' if there is none."""
    if self._rows.dtype != INPAINTED_ROW_DTYPE:
      return b''
    *_, start, size = self._rows[number].item()
    return _read_stream(self._file, start, size) if size else b''


class FrameFile:
  """A file of records and its table, opened for reading single frames."""

  def __init__(self, records: File, table: File, frames: int):
    """Reads the header of the table.

    Args:
      records: the file of records.
      table: its table.
      frames: the number of its frames according to the index.

    Raises:
      OSError: if the table cannot be read.
      UserError: if it has another number of frames.
    """
    self._records, self._table = records, table
    self._dtype, self._first_row = _read_header(self._table)
    if self._table.size() != self._first_row + frames * self._dtype.itemsize:
      raise UserError(
        f'{self._table.name} does not have the {frames} frames of the index, so the two are'
        f' {_MIXED_BUILDS}'
      )

  @property
  def bytes_in_memory(self) -> int:
    """The bytes of a table in a bucket that are in memory."""
    table = self._table
    return sum(len(part) for _, part in table.parts) if isinstance(table, RemoteFile) else 0

  def record(self, start: int) -> bytes:
    """Returns a serialized record, given the offset of its chunk in the stream."""
    header = _read_stream(self._records, start, _CHUNK_HEADER)
    end = start + _CHUNK_HEADER + int.from_bytes(header[8:16], 'little')
    size = int.from_bytes(header[32:40], 'little')
    if not 0 < size < end - start:
      raise UserError(f'{self._records.name}: the records are {_MIXED_BUILDS}')
    return _read_stream(self._records, end - size, size)

  def clip(
    self,
    first: int,
    count: int,
    start: int = 0,
    mark: int | None = None,
    end: int | None = None,
  ) -> Reading[ClipFrames]:
    """Returns the frames of a clip.

    Args:
      first: the clip's first row of the table.
      count: the number of its frames.
      start: the offset of its chunk in the stream.
      mark: the clip's mark in the index; None, for an index without marks, compares nothing.
      end: the end of its chunk in the stream, if it is known. From a bucket a small chunk is read
        as a whole, in one request.

    Raises:
      OSError: if one of the two files cannot be read.
      UserError: if the record or the rows are not those of the index.
      UnreachableError: if a bucket cannot be read.
    """
    row_bytes = self._dtype.itemsize
    begin, size = self._first_row + first * row_bytes, count * row_bytes
    table, records = self._table, self._records
    if isinstance(table, RemoteFile) and isinstance(records, RemoteFile):
      is_small = end is not None and end - start <= _SMALL_CHUNK
      chunk = _file_range(start, end - start if end and is_small else _CHUNK_HEADER)
      table, records = yield [(table, [(begin, begin + size)]), (records, [chunk])]
    rows = table.read(begin, size)
    if mark is not None and mark != _mark(_read_stream(records, start, _CHUNK_HEADER), rows):
      raise UserError(f'{records.name}: the records, their table and the index are {_MIXED_BUILDS}')
    return ClipFrames(records, np.frombuffer(rows, self._dtype))


def _read_header(table: File) -> tuple[np.dtype, int]:
  """Returns the dtype of a table's rows, and the offset of the first one.

  Raises:
    UserError: if the file is no table.
  """
  beginning = table.read(0, _NPY_HEADER)
  end = _NPY_HEADER + int.from_bytes(beginning[8:], 'little')
  header = beginning[:8] + table.read(_NPY_HEADER, end - _NPY_HEADER)
  for pattern, dtype in _HEADERS:
    if pattern.fullmatch(header):
      return dtype, end
  raise UserError(
    f'{table.name} is damaged, or of a later version; copy it again or build the data set again'
  )


# The files that the process keeps open, the least recently used first.
_open_files: collections.OrderedDict[tuple[str, Hashable], FrameFile] = collections.OrderedDict()
_lock = threading.Lock()


def open_unshared(records: pathlib.Path, frames: int) -> FrameFile:
  """Opens a file of records and its table, which are closed when nothing refers to them.

  Args:
    records: the file of records.
    frames: the number of its frames according to the index.

  Raises:
    OSError: if one of them cannot be opened.
    UserError: if the table has another number of frames.
  """
  return FrameFile(_File(records), _File(table_path(records)), frames)


def open_frame_file(records: pathlib.Path, frames: int, build: Hashable) -> FrameFile:
  """Opens a file of records and its table, or returns them if the process has them open.

  The least recently used of `MAX_OPEN_FILES` files makes room for another; it is closed when none
  of its clips is in use.

  Args:
    records: the file of records.
    frames: the number of its frames according to the index.
    build: differs if the file may have been replaced by another one of the same name.

  Raises:
    OSError, UserError: as `open_unshared` does.
  """
  key = os.fspath(records), build
  with _lock:
    file = _open_files.pop(key, None) or open_unshared(records, frames)
    _open_files[key] = file
    while len(_open_files) > MAX_OPEN_FILES:
      _open_files.popitem(last=False)
  return file


def _read_stream(file: File, start: int, size: int) -> bytes:
  """Reads `size` bytes from the offset `start` of the stream on."""
  begin, end = _file_range(start, size)
  content = file.read(begin, end - begin)
  next_header = -begin % _BLOCK
  if next_header >= len(content):
    return content
  parts = [content[:next_header]]
  for header in range(next_header, len(content), _BLOCK):
    parts.append(content[header + _BLOCK_HEADER : header + _BLOCK])
  return b''.join(parts)


def header_range(start: int) -> tuple[int, int]:
  """Returns where the header of a chunk lies in the file, as (begin, end), given its offset."""
  return _file_range(start, _CHUNK_HEADER)


def _file_range(start: int, size: int) -> tuple[int, int]:
  """Returns where `size` bytes from the offset `start` of the stream on lie in the file."""
  return _file_offset(start), _file_offset(start + size - 1) + 1


def _file_offset(stream_offset: int) -> int:
  """Returns the offset in the file of an offset in the stream."""
  return stream_offset + _BLOCK_HEADER * (stream_offset // (_BLOCK - _BLOCK_HEADER) + 1)
