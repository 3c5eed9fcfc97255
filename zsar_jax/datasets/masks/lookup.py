"""Finding the masks of a clip: a folder or a file of its own, named as the clip is."""

import dataclasses
import os
import pathlib
import unicodedata
from collections.abc import Callable, Iterable

from zsar_jax.datasets.masks.source import ClipMasks
from zsar_jax.datasets.sources.listing import ListedClip
from zsar_jax.errors import UserError
from zsar_jax.recipes.regions import REGION_BITS


class Owners:
  """Which clip each folder or file of masks was found for."""

  def __init__(self):
    self._names = {}

  def claim(self, path: str, clip: ListedClip) -> None:
    """Takes masks for a clip; a `UserError` where another clip has them by another name."""
    other = self._names.setdefault(path, clip.name)
    if other != clip.name:
      raise UserError(
        f"--masks: {path} may be of {other} or of {clip.name}; move the masks to the clip's whole "
        'name'
      )


@dataclasses.dataclass(frozen=True)
class OnePerClip:
  """A source with one folder, or one file, for each clip.

  Attributes:
    root: the folder of them.
    extensions: of the clips' files; none for folders.
    region_names: see `source.MaskSource`.
    parameters: see `source.MaskSource`.
    clip_masks: the masks in a clip's folder or file.
    owners: whose each folder or file is.
  """

  root: str
  extensions: tuple[str, ...]
  region_names: tuple[str, ...]
  parameters: dict[str, object]
  clip_masks: Callable[[str], ClipMasks]
  owners: Owners = dataclasses.field(default_factory=Owners)

  def for_clip(self, clip: ListedClip) -> ClipMasks | None:
    """The masks of a clip, or None where it has no folder or file, or an empty folder.

    Raises:
      UserError: if they may as well be another clip's.
    """
    path = find(self.root, clip, self.extensions)
    if path is None or (not self.extensions and _is_empty(path)):
      return None
    self.owners.claim(path, clip)
    return self.clip_masks(path)


def find(root: str, clip: ListedClip, extensions: tuple[str, ...]) -> str | None:
  """The folder of a clip below `root`, or its file where there are `extensions`, or None."""
  for name in names(clip):
    path = os.path.join(root, name)
    if not extensions and os.path.isdir(path):
      return path
    for extension in extensions:
      if os.path.isfile(path + extension):
        return path + extension
  return None


def names(clip: ListedClip) -> tuple[str, ...]:
  """The names under which a clip's masks may lie, with '/' between their parts; best first."""
  found = [clip.name, clip.id]
  # Without the folder of the split, if there is one: class and clip alone.
  for name in (clip.name, '/'.join(clip.name.split('/')[-2:])):
    folder, slash, stem = name.rpartition('/')
    found.append(name)
    # The folders of classes are written with spaces in some copies, with underscores in others.
    found += [folder.replace(old, new) + slash + stem for old, new in (' _', '_ ')]
  # In Unicode's other normal form, too: macOS writes names in NFD.
  found += [unicodedata.normalize(form, name) for form in ('NFC', 'NFD') for name in tuple(found)]
  return tuple(dict.fromkeys(name for name in found if _is_inside(name)))


def _is_empty(folder: str) -> bool:
  """Whether a folder holds nothing but hidden files; some programs make one for every clip."""
  try:
    with os.scandir(folder) as entries:
      return all(entry.name.startswith('.') for entry in entries)
  except OSError:
    return False  # It is an error for its own clip.


def _is_inside(name: str) -> bool:
  path = pathlib.PurePosixPath(name)
  return bool(path.parts) and not path.is_absolute() and '..' not in path.parts


def folder_of_masks(path: str) -> str:
  """`path` made absolute; a `UserError` where it is no folder."""
  if not os.path.isdir(path):
    raise UserError(f'--masks: {path} is not a folder; give the folder of masks')
  return os.path.abspath(path)


def region_names(bits: Iterable[int]) -> tuple[str, ...]:
  """The regions of `bits` by name, in their usual order."""
  bits = set(bits)
  return tuple(name for name, bit in REGION_BITS.items() if bit in bits)
