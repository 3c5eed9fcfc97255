"""Lists folders below a folder, on a disk or in a bucket, whose paths are texts.

A disk is asked whenever something is looked up. A bucket is listed once, with everything below the
folder, as each request takes as long as reading thousands of entries of a disk.
"""

import functools
import os
from collections.abc import Generator, Hashable, Iterator
from typing import Any

from zsar_jax.storage import bucket_requests, buckets
from zsar_jax.storage.paths import as_path, local_path


class Folders:
  """What is below a folder of this machine.

  Attributes:
    root: the absolute path of the folder, or its URL.
  """

  def __init__(self, root: str):
    """Reads nothing yet.

    Args:
      root: the folder; it may not exist.
    """
    self.root = os.path.abspath(root)

  def is_folder(self, path: str) -> bool:
    """Returns whether a path below the root, or the root, is a folder."""
    return os.path.isdir(path)

  def is_file(self, path: str) -> bool:
    """Returns whether a path below the root, or the root, is a file."""
    return os.path.isfile(path)

  def exists(self, path: str) -> bool:
    """Returns whether a path below the root, or the root, exists."""
    return self.is_folder(path) or self.is_file(path)

  def entries(self, folder: str) -> Generator[tuple[str, bool], None, None]:
    """Yields the entries of a folder: the name, and whether it is a folder.

    Raises:
      OSError: if the folder cannot be read.
    """
    with os.scandir(folder) as entries:
      for entry in entries:
        try:
          is_folder = entry.is_dir()
        except OSError:  # A link to itself.
          is_folder = False
        yield entry.name, is_folder

  def identity(self, folder: str) -> Hashable:
    """Returns what tells a folder from others, as links give it several paths."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino

  def files(self, folder: str) -> Iterator[str]:
    """Yields the paths of all files below a folder, sorted within each folder.

    Folders that cannot be read are left out.
    """
    for parent, folders, names in os.walk(folder, followlinks=True):
      folders.sort()
      for name in sorted(names):
        yield os.path.join(parent, name)


class _BucketFolders(Folders):
  """What is below a folder in a bucket, listed when it is needed first."""

  def __init__(self, root: Any, field: str):
    self.root = str(root)
    self._remote, self._field = root, field

  @functools.cached_property
  def _entries(self) -> dict[str, dict[str, bool]]:
    """{URL of a folder: {name of an entry: whether it is a folder}}."""
    folders: dict[str, dict[str, bool]] = {}
    with buckets.reporting_errors(self._remote, self._field):
      paths = bucket_requests.list_tree(self._remote)
    for path in paths:
      *parents, name = path.split('/')
      folder = self.root
      for parent in parents:
        folders.setdefault(folder, {})[parent] = True
        folder = f'{folder}/{parent}'
      folders.setdefault(folder, {}).setdefault(name, False)
    return folders

  def is_folder(self, path: str) -> bool:
    return path in self._entries

  def is_file(self, path: str) -> bool:
    if path == self.root:
      return self._remote.is_file()
    folder, _, name = path.rpartition('/')
    return self._entries.get(folder, {}).get(name) is False

  def entries(self, folder: str) -> Generator[tuple[str, bool], None, None]:
    yield from self._entries.get(folder, {}).items()

  def identity(self, folder: str) -> Hashable:
    return folder

  def files(self, folder: str) -> Iterator[str]:
    for name, is_folder in sorted(self._entries.get(folder, {}).items()):
      if not is_folder:
        yield f'{folder}/{name}'
    for name, is_folder in sorted(self._entries.get(folder, {}).items()):
      if is_folder:
        yield from self.files(f'{folder}/{name}')


def open_folders(root: str | os.PathLike[str], field: str) -> Folders:
  """Returns what is below a folder, which may not exist.

  Args:
    root: what the user wrote.
    field: the flag that it comes from, for errors.

  Raises:
    UserError: if it is a URL that cannot be opened, or there is no such user.
  """
  text = os.fspath(root)
  if buckets.is_url(text):
    path = as_path(text, field)
    return _BucketFolders(path, field) if buckets.is_remote(path) else Folders(os.fspath(path))
  return Folders(local_path(text, field))
