"""Finding a data set's videos below a folder, however the copy at hand is laid out."""

import os
from collections.abc import Iterator

from zsar_jax.data.sources.listing import ListedClip
from zsar_jax.data.splits import class_key
from zsar_jax.data.video import IMAGES
from zsar_jax.errors import UserError

# Containers that PyAV's FFmpeg reads and data sets come in.
VIDEOS = ('.mp4', '.webm', '.mkv', '.avi', '.mov', '.m4v', '.mpg', '.mpeg', '.flv', '.wmv', '.3gp')


class Videos:
  """The videos below a folder: files, and folders of frames, known by their names."""

  def __init__(self, root: str | os.PathLike[str], flag: str = '--videos'):
    """Looks through the folder once.

    Args:
      root: the folder.
      flag: where it comes from, for errors.

    Raises:
      UserError: if it is not a folder.
    """
    if not os.path.isdir(root):
      raise UserError(f'{flag}: {root} is not a folder; give the folder of the videos')
    self.root = os.path.abspath(root)
    self._paths: dict[str, list[str]] = {}
    for path in sorted(_walk(self.root, '')):
      self._paths.setdefault(_stem(path), []).append(path)

  def __iter__(self) -> Iterator[str]:
    """The paths below the folder, with '/' between their parts."""
    for paths in self._paths.values():
      yield from paths

  def find(self, *stems: str, folders: tuple[str, ...] = ()) -> str | None:
    """The path of a video below the folder, or None if there is none.

    Args:
      *stems: names without extension under which it may be found, the most likely first.
      folders: of several videos of one name that one is taken that lies in folders with these
        names; case, spaces and punctuation do not count.

    Raises:
      UserError: where it cannot be told which of several is meant.
    """
    for stem in stems:
      paths = self._paths.get(stem, [])
      wanted = [class_key(folder) for folder in folders]
      best = max((_agreement(path, wanted) for path in paths), default=0)
      paths = [path for path in paths if _agreement(path, wanted) == best]
      if len(paths) > 1:
        raise UserError(
          f'--videos: {self.root} has both {paths[0]} and {paths[1]}; remove one of them, or give'
          ' a folder that holds only one'
        )
      if paths:
        return paths[0]
    return None

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


def _stem(path: str) -> str:
  name = path.rsplit('/', 1)[-1]
  return name if is_folder(path) else os.path.splitext(name)[0]


def _agreement(path: str, folders: list[str]) -> int:
  parents = {class_key(part) for part in path.split('/')[:-1]}
  return sum(folder in parents for folder in folders)


def _walk(folder: str, below: str) -> Iterator[str]:
  """The videos in a folder, each with `below` before its name.

  A folder whose first file is an image is one of frames, and not looked through any further:
  data sets have tens of millions of frames.
  """
  folders = []
  with os.scandir(folder) as entries:
    for entry in entries:
      if entry.name.startswith('.'):
        continue
      if entry.is_dir():
        folders.append(entry)
      elif entry.name.lower().endswith(IMAGES) and below:
        yield below.rstrip('/')
        return
      elif entry.name.lower().endswith(VIDEOS):
        yield below + entry.name
  for entry in folders:
    yield from _walk(entry.path, f'{below}{entry.name}/')
