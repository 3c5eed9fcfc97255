"""Finding a data set's videos below a folder, however the copy at hand is laid out."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from zsar_jax.data.sources.listing import SPLITS, ListedClip
from zsar_jax.data.video import IMAGES
from zsar_jax.errors import UserError

# Containers that PyAV's FFmpeg reads and data sets come in.
VIDEOS = (
  *('.mp4', '.webm', '.mkv', '.avi', '.mov', '.m4v', '.mpg', '.mpeg', '.flv', '.wmv', '.3gp'),
  *('.ts', '.mts', '.m2ts', '.ogv', '.asf', '.vob', '.divx', '.3g2', '.m2v', '.mpv', '.qt'),
)

# A folder of which this many entries are images, and none a video or a folder, is one of frames.
_ENOUGH = 200


class Videos:
  """The videos below a folder: files, and folders of frames, known by their names."""

  def __init__(self, root: str | os.PathLike[str], flag: str = '--videos'):
    """Looks through the folder once.

    Args:
      root: the folder.
      flag: where it comes from, for errors.

    Raises:
      UserError: if it is not a folder, or something below it cannot be read.
    """
    if not os.path.isdir(root):
      raise UserError(f'{flag}: {root} is not a folder; give the folder of the videos')
    self.root = os.path.abspath(root)
    self._paths: dict[str, list[str]] = {}
    for path in sorted(_walk(self.root, '', flag, ())[0]):
      if not _is_text(path):
        raise UserError(f'{flag}: {ascii(path)} in {root} is not named in UTF-8; rename it')
      self._paths.setdefault(_stem(path), []).append(path)

  def __iter__(self) -> Iterator[str]:
    """The paths below the folder, with '/' between their parts."""
    for paths in self._paths.values():
      yield from paths

  def has(self, path: str) -> bool:
    """Whether there is a video at a path as it is listed, whatever its extension."""
    return bool(self._at(path))

  def find(self, path: str) -> str | None:
    """The path of the video that is listed with a path, or None if there is none.

    It lies at that path, with this extension or another; or deeper, in folders that are called
    as the listed ones are, in which case and '_' for a space do not count.

    Args:
      path: as it is listed, with '/' between its parts, with or without extension.

    Raises:
      UserError: where it cannot be told which of several is meant.
    """
    folders = _folders(path)

    def rank(found: str) -> bool | None:
      parents = _folders(found)
      if parents[len(parents) - len(folders) :] != folders:
        return None
      return len(parents) > len(folders)

    return self._best(path, rank)

  def find_clip(
    self,
    path: str,
    label: str,
    labels: Collection[str],
    split: str | None = None,
    anywhere: bool = False,
  ) -> str | None:
    """The path of a video that a list names by its class and file, or None if there is none.

    Its folder is that of the class, or else of the split, or else the folder of all videos; it
    is never another class's.

    Args:
      path: where it is to be expected.
      label: its class.
      labels: the folders of all classes, as `folder_key` gives them.
      split: its split, of the values of `SPLITS`, if folders may be those of splits.
      anywhere: whether its name is its own and no other video's, so that it may lie in other
        folders as well.

    Raises:
      UserError: where it cannot be told which of several is meant.
    """
    own = folder_key(label)

    def rank(found: str) -> tuple[bool, int, bool, bool] | None:
      parents = _folders(found)
      if next((folder for folder in reversed(parents) if folder in labels), own) != own:
        return None
      splits = {SPLITS[folder] for folder in parents if folder in SPLITS}
      another = split is not None and bool(splits - {split})
      place = 3
      if not parents:
        place = 2
      elif parents[-1] == own:
        place = 0
      elif parents[-1] in SPLITS:
        place = 1
      if not anywhere and (another or place == 3):
        return None
      deeper = len(parents) > (place == 0) + bool(splits)
      return another, place, split not in splits, deeper

    return self._best(path, rank)

  def _at(self, path: str) -> list[str]:
    """The video at a path, or those at the same path with other extensions."""
    named = self._paths.get(_stem(path), [])
    if path in named:
      return [path]
    return [found for found in named if _base(found) == _base(path)]

  def _best(self, path: str, rank: Callable[[str], Any]) -> str | None:
    """The video at a path, or else the one of its name with the least rank that is not None."""
    found = self._at(path)
    if not found:
      ranks = {other: rank(other) for other in self._paths.get(_stem(path), [])}
      ranks = {other: place for other, place in ranks.items() if place is not None}
      found = [other for other, place in ranks.items() if place == min(ranks.values())]
    if len(found) > 1:
      raise UserError(
        f'--videos: {self.root} has both {found[0]} and {found[1]}; remove one of them, or give'
        ' a folder that holds only one'
      )
    return found[0] if found else None

  def clip(
    self,
    clip_id: str,
    label: int,
    found: str | None,
    expected: str,
    attributes: dict[str, str] | None = None,
  ) -> ListedClip:
    """A listed clip: at the path that `find` gave, or where one would have `expected` it."""
    relative = found or expected
    name = relative if found and is_folder(found) else os.path.splitext(relative)[0]
    path = os.path.join(self.root, *relative.split('/'))
    return ListedClip(clip_id, label, path, name, attributes or {})


def is_folder(path: str) -> bool:
  """Whether a path of `Videos` is a folder of frames."""
  return os.path.splitext(path)[1].lower() not in VIDEOS


def folder_key(name: str) -> str:
  """A folder's name as folders are compared: without case, and with spaces for underscores."""
  return name.replace('_', ' ').casefold()


def folder_keys(names: Iterable[str]) -> frozenset[str]:
  """The `folder_key` of each name."""
  return frozenset(map(folder_key, names))


def _base(path: str) -> str:
  return path if is_folder(path) else os.path.splitext(path)[0]


def _stem(path: str) -> str:
  return _base(path).rpartition('/')[2]


def _folders(path: str) -> tuple[str, ...]:
  return tuple(map(folder_key, path.split('/')[:-1]))


def _is_text(path: str) -> bool:
  try:
    path.encode()
  except UnicodeEncodeError:
    return False
  return True


def _walk(
  folder: str, below: str, flag: str, above: tuple[tuple[int, int], ...]
) -> tuple[list[str], bool]:
  """The videos in a folder.

  Images are the frames of a clip where no video file is beside or below them, and fewer folders of
  images than of them: a clip's optical flow may lie below it, and covers above clips. Data sets
  have tens of millions of frames: of a folder that has nothing else only the first are looked at.

  Args:
    folder: where to look.
    below: what to write before the names.
    flag: where the folder comes from, for errors.
    above: the folders that this one lies in, by device and number: a link may lead back.

  Returns:
    The paths, and whether any of them is a video file.

  Raises:
    UserError: if a folder cannot be read.
  """
  videos, folders, images = [], [], 0
  try:
    state = os.stat(folder)
    here = (state.st_dev, state.st_ino)
    if here in above:
      return [], False
    with os.scandir(folder) as entries:
      for number, entry in enumerate(entries):
        if below and number >= _ENOUGH and images and not videos and not folders:
          break
        name = entry.name.lower()
        if name.startswith('.'):
          continue
        if _is_folder(entry):
          folders.append(entry.name)
        elif name.endswith(IMAGES):
          images += 1
        elif name.endswith(VIDEOS):
          videos.append(below + entry.name)
  except OSError as error:
    raise UserError(
      f'{flag}: {ascii(folder)[1:-1]} cannot be read ({error.strerror}); make it readable or move'
      ' it away'
    ) from None
  any_file = bool(videos)
  for name in folders:
    deeper, has_file = _walk(os.path.join(folder, name), f'{below}{name}/', flag, (*above, here))
    videos += deeper
    any_file |= has_file
  if images > len(videos) and below and not any_file:
    return [below.rstrip('/')], False
  return videos, any_file


def _is_folder(entry: os.DirEntry[str]) -> bool:
  try:
    return entry.is_dir()
  except OSError:  # A link to itself.
    return False
