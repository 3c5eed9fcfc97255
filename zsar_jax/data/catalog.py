"""Finds the data sets in a folder, and their versions and splits, without opening them."""

import json
import os
import pathlib
import re

from zsar_jax.data.clip_index import part_files
from zsar_jax.errors import UserError
from zsar_jax.storage.paths import as_path

_VERSION = re.compile(r'(\d+)\.(\d+)\.(\d+)')


def find_dataset(data_dir: str | os.PathLike[str], name: str) -> pathlib.Path | None:
  """Returns the folder of a data set's newest version, or None if there is none.

  Args:
    data_dir: the folder of data sets, or the folder of this one in it.
    name: 'ssv2', or with a configuration 'pantomime/scenes'.
  """
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
  """Returns the names of the data sets in a folder, as `find_dataset` takes them.

  Args:
    data_dir: the folder of data sets, or the folder of one of them.

  Raises:
    UserError: if there is no such folder.
  """
  root = _root(data_dir)
  if not root.is_dir():
    raise UserError(f'{data_dir} is not a folder; give the --out of zsar build-dataset')
  names = set()
  children = _subfolders(root)
  for folder in (root, *children, *(deeper for child in children for deeper in _subfolders(child))):
    if versions := _versions(folder):
      path = versions[-1] / 'dataset_info.json'
      try:
        info = json.loads(path.read_text())
        names.add('/'.join(filter(None, (info['name'], info.get('configName')))))
      except (ValueError, KeyError, TypeError):
        raise UserError(f'{path} is damaged; build the data set again') from None
  return sorted(names)


def split_names(data_dir: str | os.PathLike[str], name: str) -> list[str]:
  """Returns the splits of one of the data sets that `list_datasets` returns."""
  directory = find_dataset(data_dir, name)
  assert directory is not None, f'{name} is not in {data_dir}'
  info = json.loads((directory / 'dataset_info.json').read_text())
  return sorted({*(split['name'] for split in info.get('splits', ())), *part_files(directory)})


def _root(data_dir: str | os.PathLike[str]) -> pathlib.Path:
  return as_path(data_dir, 'the folder of data sets').absolute()


def _subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
  return [child for child in folder.iterdir() if child.is_dir()]


def _versions(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns the folders of a data set's versions, oldest first."""
  try:
    children = list(folder.iterdir())
  except (FileNotFoundError, NotADirectoryError):
    return []
  versions = []
  for child in children:
    match = _VERSION.fullmatch(child.name)
    if match and (child / 'dataset_info.json').is_file():
      versions.append((tuple(map(int, match.groups())), child))
  return [child for _, child in sorted(versions)]
