"""Opens the files of a data set's folder, on a disk or in a bucket.

The small files of a data set in a bucket are copied to a folder on this machine, in a few requests
at once; the files of records and their tables stay where they are.
"""

import collections
import contextlib
import errno
import pathlib
import tempfile
import threading
from collections.abc import Collection, Hashable, Iterator

from zsar_jax.data import frame_table
from zsar_jax.data.frame_table import FrameFile
from zsar_jax.data.reading import Reading
from zsar_jax.data.remote_files import RemoteFile, RemoteFolder
from zsar_jax.data.shard_cache import CacheSettings
from zsar_jax.errors import UserError, error_reason
from zsar_jax.storage import buckets, checksums

# The files of every data set, besides those of its records and splits.
COMMON_FILES = (
  'dataset_info.json',
  'features.json',
  'label.labels.txt',
  'metadata.json',
  'build_report.json',
)

# Tables of a data set in a bucket are kept in memory if they are not larger together, so that a
# clip needs no request for its rows. Those of several data sets may take twice as much.
_MAX_TABLES = 1 << 26

# Otherwise the beginning of a table is read, which is all of a small one. The time to receive it is
# not longer than that of another request.
_BEGINNING_OF_TABLE = 1 << 18


def is_record_file(name: str) -> bool:
  """Returns whether a file has records or their table, which are too large to be read in full."""
  return '.array_record-' in name


class DatasetFiles:
  """The files of a version's folder.

  Attributes:
    directory: the folder.
    local: a folder on this machine with its small files, while `open_small_files` is open.
    remote: the folder, if it is in a bucket.
  """

  local: pathlib.Path

  def __init__(self, directory: pathlib.Path, cache: CacheSettings | None = None):
    """Lists the folder, if it is in a bucket.

    Args:
      directory: the folder.
      cache: what keeps the bytes that are read from a bucket.

    Raises:
      UserError: if it is in a bucket that cannot be read.
    """
    self.directory = directory
    self.local = directory
    self.remote: RemoteFolder | None = None
    if buckets.is_remote(directory):
      with _named(directory):
        self.remote = RemoteFolder(directory, cache)

  @contextlib.contextmanager
  def open_small_files(self) -> Iterator[None]:
    """Has `local` be a folder with the common files and those of parts.

    Raises:
      UserError: if they cannot be read; errors of the block name the folder in the bucket.
    """
    if self.remote is None:
      yield
      return
    with tempfile.TemporaryDirectory(prefix='zsar_jax-') as folder:
      self.local = pathlib.Path(folder)
      try:
        parts = [name for name in self.remote.sizes if name.startswith('part-')]
        self._copy([checksums.FILE, *COMMON_FILES, *parts])
        yield
      except UserError as error:
        raise type(error)(str(error).replace(folder, str(self.directory))) from None
      finally:
        self.local = self.directory

  def _copy(self, names: Collection[str]) -> None:
    assert self.remote is not None, f'{self.directory} is on this machine'
    with _named(self.directory):
      self.remote.copy(names, self.local)

  def find_damage(self, names: Collection[str] | None = None) -> str | None:
    """Returns what is wrong with files, in words, as `checksums.find_damage` does.

    Files that are read in full are in `local` afterwards.

    Args:
      names: the files; None for all.
    """
    if self.remote is None:
      return checksums.find_damage(self.directory, names)
    small = self.remote.sizes if names is None else names
    self._copy(
      [name for name in small if not is_record_file(name) and not (self.local / name).exists()]
    )
    return checksums.find_damage(self.local, names, self.remote.sizes)

  def record_sizes(self) -> dict[str, int]:
    """Returns the sizes in bytes of the files of records and their tables, by name, in order."""
    if self.remote is None:
      shards = sorted(self.directory.glob('*.array_record*'))
      return {shard.name: shard.stat().st_size for shard in shards}
    sizes = self.remote.sizes
    return {name: sizes[name] for name in sorted(sizes) if '.array_record' in name}

  def build(self, name: str) -> Hashable:
    """Returns what differs if another build has replaced a file."""
    if self.remote is None:
      return checksums.identity(self.directory) or (self.directory / name).stat().st_mtime_ns
    return self.remote.versions.get(name)

  def open_records(
    self, path: pathlib.Path, frames: int, start: int | None = None
  ) -> Reading[FrameFile]:
    """Opens a file of records and its table, for a clip.

    Args:
      path: the file.
      frames: the number of its frames according to the index.
      start: the offset of the clip's chunk in the stream, whose header is read from a bucket at the
        same time.

    Raises:
      OSError, UserError: as `frame_table.open_unshared` does.
      UnreachableError: if a bucket cannot be read.
    """
    if self.remote is None:
      return frame_table.open_unshared(path, frames)
    records, table = self._remote_files(path)
    chunk = [] if start is None else [frame_table.header_range(start)]
    records, table = yield [(records, chunk), (table, [(0, _BEGINNING_OF_TABLE)])]
    return FrameFile(records, table, frames)

  def keep_records(self, path: pathlib.Path, frames: int, build: Hashable) -> Reading[FrameFile]:
    """Opens a file of records and its table, or returns them if this process has them open.

    Args:
      path: the file.
      frames: the number of its frames according to the index.
      build: what `build` returned.

    Raises:
      OSError, UserError: as `frame_table.open_unshared` does.
      UnreachableError: if a bucket cannot be read.
    """
    if self.remote is None:
      return frame_table.open_frame_file(path, frames, build)
    key = path, build
    with _lock:
      if key in _open_files:
        _open_files.move_to_end(key)
        return _open_files[key]
    # Without the lock: other threads open other files at once, and may open this one, too.
    records, table = self._remote_files(path)
    sizes = self.remote.sizes
    tables = sum(size for name, size in sizes.items() if frame_table.is_table(name))
    needed = table.length if tables <= _MAX_TABLES else _BEGINNING_OF_TABLE
    (table,) = yield [(table, [(0, needed)])]
    file = FrameFile(records, table, frames)
    with _lock:
      _open_files[key] = file
      _drop_tables()
    return file

  def _remote_files(self, path: pathlib.Path) -> tuple[RemoteFile, RemoteFile]:
    """Returns a file of records in a bucket, and its table."""
    assert self.remote is not None, f'{self.directory} is on this machine'
    return self.remote.open(path.name), self.remote.open(frame_table.table_path(path).name)


# The files in buckets that this process has open, the least recently used first.
_open_files: collections.OrderedDict[Hashable, FrameFile] = collections.OrderedDict()
_lock = threading.Lock()


def _drop_tables() -> None:
  """Forgets the least recently used files until the others fit into memory."""
  total = sum(file.bytes_in_memory for file in _open_files.values())
  while total > 2 * _MAX_TABLES:
    _, file = _open_files.popitem(last=False)
    total -= file.bytes_in_memory


@contextlib.contextmanager
def _named(directory: pathlib.Path) -> Iterator[None]:
  """Raises a `UserError` that names the folder for errors of a bucket."""
  try:
    yield
  except OSError as error:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):  # Of the copy, whose name it has.
      raise
    raise UserError(
      f'{directory} cannot be read ({error_reason(error)}); see to the name and the rights'
    ) from None
