"""Finds the masks of a clip: a folder or a file with the clip's name."""

import contextlib
import dataclasses
import os
import pathlib
import unicodedata
from collections.abc import Callable

from zsar_jax.datasets.masks.remote import masks_at
from zsar_jax.datasets.masks.source import ClipMasks
from zsar_jax.datasets.sources.listing import ListedClip
from zsar_jax.errors import UserError
from zsar_jax.storage.folders import Folders, open_folders


class MaskOwners:
  """Remembers which clip each folder or file of masks belongs to."""

  def __init__(self):
    self._names = {}

  def claim(self, path: str, clip: ListedClip) -> None:
    """Assigns masks to a clip; raises a `UserError` if they belong to another clip already."""
    other = self._names.setdefault(path, clip.name)
    if other != clip.name:
      raise UserError(
        f"--masks: {path} may belong to {other} or to {clip.name}; move the masks to the clip's "
        'full name'
      )


@dataclasses.dataclass(frozen=True)
class PerClipSource:
  """A `source.MaskSource` with one folder, or one file, for each clip.

  Attributes:
    folders: lists the folder that contains them.
    extensions: the extensions of the clips' files; empty if each clip has a folder.
    region_names: see `source.MaskSource`.
    parameters: see `source.MaskSource`.
    clip_masks: creates the masks of a clip from the path of its folder or file.
    owners: the clip of each folder or file.
  """

  folders: Folders
  extensions: tuple[str, ...]
  region_names: tuple[str, ...]
  parameters: dict[str, object]
  clip_masks: Callable[[str], ClipMasks]
  owners: MaskOwners = dataclasses.field(default_factory=MaskOwners)

  def for_clip(self, clip: ListedClip) -> ClipMasks | None:
    """Returns the masks of a clip, or None if its folder or file is missing or an empty folder.

    Raises:
      UserError: The masks may belong to another clip.
    """
    path = find_path(self.folders, clip, self.extensions)
    if path is None or (not self.extensions and _is_empty(self.folders, path)):
      return None
    self.owners.claim(path, clip)
    return masks_at(path, self.clip_masks)


def find_path(folders: Folders, clip: ListedClip, extensions: tuple[str, ...]) -> str | None:
  """Finds the folder of a clip below the root, or its file if there are `extensions`."""
  for name in candidate_names(clip):
    path = os.path.join(folders.root, name)
    if not extensions and folders.is_folder(path):
      return path
    for extension in extensions:
      if folders.is_file(path + extension):
        return path + extension
  return None


def candidate_names(clip: ListedClip) -> tuple[str, ...]:
  """Returns the names that a clip's masks may have, with '/' between their parts; best first."""
  names = [clip.name, clip.id]
  # The second is without the folder of the split, if there is one: class and clip alone.
  for name in (clip.name, '/'.join(clip.name.split('/')[-2:])):
    folder, slash, stem = name.rpartition('/')
    names.append(name)
    # The folders of classes are written with spaces in some copies, with underscores in others.
    names += [folder.replace(old, new) + slash + stem for old, new in (' _', '_ ')]
  # Both normal forms of Unicode: macOS writes names in NFD.
  names += [unicodedata.normalize(form, name) for form in ('NFC', 'NFD') for name in tuple(names)]
  return tuple(dict.fromkeys(name for name in names if _is_relative(name)))


def require_folder(path: str) -> Folders:
  """Returns what is below a folder; raises a `UserError` if `path` is not one."""
  folders = open_folders(path, '--masks')
  if not folders.is_folder(folders.root):
    raise UserError(f'--masks: {path} is not a folder; give the folder of masks')
  return folders


def _is_empty(folders: Folders, folder: str) -> bool:
  """Returns whether a folder has only hidden files; some programs create one for every clip."""
  try:
    with contextlib.closing(folders.entries(folder)) as entries:
      return all(name.startswith('.') for name, _ in entries)
  except OSError:
    return False  # The clip gets the error when its masks are read.


def _is_relative(name: str) -> bool:
  """Returns whether a name stays below the folder that it is joined to."""
  path = pathlib.PurePosixPath(name)
  return bool(path.parts) and not path.is_absolute() and '..' not in path.parts
