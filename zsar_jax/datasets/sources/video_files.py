"""Finding a data set's videos below a folder, however the copy at hand is laid out."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from zsar_jax.data.class_names import match_classes, to_nfc
from zsar_jax.datasets.frame_folder import IMAGE_SUFFIXES
from zsar_jax.datasets.sources.listing import SPLIT_NAMES, ListedClip
from zsar_jax.errors import UserError

# The usual names of files that `video.read_video` opens, containers and bare streams.
VIDEOS = (
  *('.mp4', '.webm', '.mkv', '.avi', '.mov', '.m4v', '.mpg', '.mpeg', '.flv', '.wmv', '.3gp'),
  *('.ts', '.mts', '.m2ts', '.ogv', '.asf', '.vob', '.divx', '.3g2', '.m2v', '.mpv', '.qt'),
  *('.gif', '.apng', '.y4m', '.ogg', '.ogm', '.mxf', '.nut', '.rm', '.rmvb', '.dv', '.wtv', '.swf'),
  *('.h264', '.264', '.avc', '.h265', '.265', '.hevc', '.h263', '.ivf', '.obu', '.av1', '.vc1'),
  *('.f4v', '.mp4v', '.mpe', '.m1v', '.mp2v', '.m2p', '.m2t', '.trp', '.xvid', '.mk3d'),
)

# Previews of clips have these names too: images beside them may still be the frames of a clip.
_PREVIEWS = ('.gif', '.apng')

# A folder of which this many entries are images, and none a video or a folder, is one of frames.
_ENOUGH = 200


class Videos:
  """The videos below a folder: files, and folders of frames, known by their names.

  Names are compared in NFC, and their case counts where two videos' names differ in nothing else.

  Attributes:
    root: the folder, as an absolute path.
    passed_over: the files that are neither videos nor frames of one, and hidden folders: of each
      extension how many, and the path of one of them.
  """

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
    self.passed_over: dict[str, tuple[int, str]] = {}
    self._paths: dict[str, list[str]] = {}
    for path in sorted(_walk(self.root, '', flag, (), self.passed_over)[0]):
      if not _is_text(path):
        raise UserError(f'{flag}: {ascii(path)} in {root} is not named in UTF-8; rename it')
      self._paths.setdefault(_without_case(_stem(path)), []).append(path)

  def __iter__(self) -> Iterator[str]:
    """The paths below the folder, with '/' between their parts."""
    for paths in self._paths.values():
      yield from paths

  def has(self, path: str) -> bool:
    """Whether there is a video at a path as it is listed, whatever its extension."""
    return bool(_at(path, self._named(path)))

  def has_double(self, path: str) -> bool:
    """Whether two videos have the path of a video, with different extensions."""
    return sum(to_nfc(_base(other)) == to_nfc(_base(path)) for other in self._named(path)) > 1

  def class_folders(self, classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """By the names of all folders that videos lie in, the classes that a folder is named after."""
    return match_classes((folder for path in self for folder in path.split('/')[:-1]), classes)

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

    def rank(video: str, listed: bool) -> tuple[bool, bool] | None:
      parents = _folders(video)
      if not listed and parents[len(parents) - len(folders) :] != folders:
        return None
      return not listed, len(parents) > len(folders)

    return next(iter(self._ranked(path, rank)), None)

  def find_clip(
    self,
    path: str,
    label: str,
    class_folders: Mapping[str, tuple[str, ...]],
    split: str | None = None,
    anywhere: bool = False,
  ) -> list[str]:
    """The paths of a video that a list names by its class and file, the likeliest first.

    Its folder is that of the class, or else of the split, or else the folder of all videos; it
    is never another class's. A copy in a folder of replacements comes before all others.

    Args:
      path: where it is to be expected.
      label: its class.
      class_folders: as the method of that name gives them.
      split: its split, of the values of `SPLIT_NAMES`, if folders may be those of splits.
      anywhere: whether its name is its own and no other video's, so that it may lie in other
        folders as well.

    Raises:
      UserError: where it cannot be told which of several comes first.
    """

    def rank(video: str, listed: bool) -> tuple[bool, ...] | None:
      parents = video.split('/')[:-1]
      named_after = [class_folders[name] for name in parents if class_folders[name]]
      if not listed and named_after and label not in named_after[-1]:
        return None
      splits = {SPLIT_NAMES[name.lower()] for name in parents if name.lower() in SPLIT_NAMES}
      another = split is not None and bool(splits - {split})
      nearness = 3
      if not parents:
        nearness = 2
      elif class_folders[parents[-1]]:
        nearness = 0
      elif parents[-1].lower() in SPLIT_NAMES:
        nearness = 1
      if not (listed or anywhere) and (another or nearness == 3):
        return None
      # Those that CVDF gives for clips of Kinetics-400 lie in replacement_for_corrupted_k400.
      replaces = anywhere and any('replacement' in name.lower() for name in parents)
      deeper = len(parents) > (nearness == 0) + bool(splits)
      return not replaces, not listed, another, nearness, split not in splits, deeper

    return self._ranked(path, rank)

  def _named(self, path: str) -> list[str]:
    """The videos of a path's last name, whatever their extensions and their case."""
    return self._paths.get(_without_case(_stem(path)), [])

  def _ranked(self, path: str, rank: Callable[[str, bool], Any]) -> list[str]:
    """The videos of a listed path's last name by their rank, without those whose rank is None.

    Args:
      path: as it is listed.
      rank: of a video, and whether it lies at the listed path.

    Raises:
      UserError: two have the least rank.
    """
    named = self._named(path)
    same_case = [video for video in named if to_nfc(_stem(video)) == to_nfc(_stem(path))]
    for candidates in (same_case, named):
      listed = _at(path, candidates)
      ranks = {video: rank(video, video in listed) for video in candidates}
      ranked = sorted((v for v in candidates if ranks[v] is not None), key=ranks.__getitem__)
      if len(ranked) > 1 and ranks[ranked[0]] == ranks[ranked[1]]:
        raise UserError(
          f'--videos: {self.root} has both {ranked[0]} and {ranked[1]}; remove one of them, or give'
          ' a folder that holds only one'
        )
      if ranked:
        return ranked
    return []

  def clip(
    self,
    clip_id: str,
    label: int,
    paths: Sequence[str],
    expected: str,
    attributes: dict[str, str] | None = None,
    with_extension: bool = False,
  ) -> ListedClip:
    """A listed clip, with the first of its paths, or the expected one where it has none.

    Its name has the extension `with_extension`, for a video that another has the path of.
    """
    path = paths[0] if paths else expected
    keeps_all = with_extension or (paths and is_folder(path))
    name = path if keeps_all else os.path.splitext(path)[0]
    absolute = [os.path.join(self.root, *relative.split('/')) for relative in (path, *paths[1:])]
    return ListedClip(clip_id, label, absolute[0], name, attributes or {}, tuple(absolute[1:]))


def is_folder(path: str) -> bool:
  """Whether a path of `Videos` is a folder of frames."""
  return os.path.splitext(path)[1].lower() not in VIDEOS


def _without_case(name: str) -> str:
  return to_nfc(to_nfc(name).casefold())


def _at(path: str, videos: Sequence[str]) -> list[str]:
  """The video at a path, or those at the same path with other extensions."""
  exact = [video for video in videos if to_nfc(video) == to_nfc(path)]
  return exact or [video for video in videos if to_nfc(_base(video)) == to_nfc(_base(path))]


def _base(path: str) -> str:
  return path if is_folder(path) else os.path.splitext(path)[0]


def _stem(path: str) -> str:
  return _base(path).rpartition('/')[2]


def _folders(path: str) -> tuple[str, ...]:
  """The folders of a path as folders are compared: without case, and with spaces for '_'."""
  return tuple(_without_case(name.replace('_', ' ')) for name in path.split('/')[:-1])


def _is_text(path: str) -> bool:
  try:
    path.encode()
  except UnicodeEncodeError:
    return False
  return True


def _walk(
  folder: str,
  below: str,
  flag: str,
  above: tuple[tuple[int, int], ...],
  passed_over: dict[str, tuple[int, str]],
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
    passed_over: counts the files that are left out, see `Videos`.

  Returns:
    The paths, and whether any of them is a video file and no preview.

  Raises:
    UserError: if a folder cannot be read.
  """
  videos, folders, images = [], [], 0
  left_out: dict[str, tuple[int, str]] = {}
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
        if name.startswith('.'):  # Hidden, such as the companions ._NAME that macOS writes.
          if _is_folder(entry):  # Maybe of a class, such as '.NET'.
            _count(left_out, 'hidden folder', below + entry.name)
          continue
        if _is_folder(entry):
          folders.append(entry.name)
        elif name.endswith(VIDEOS):
          videos.append(below + entry.name)
        else:
          images += name.endswith(IMAGE_SUFFIXES)
          _count(left_out, _extension(entry.name), below + entry.name)
  except OSError as error:
    raise UserError(
      f'{flag}: {ascii(folder)[1:-1]} cannot be read ({error.strerror}); make it readable or move'
      ' it away'
    ) from None
  previews = [path for path in videos if path.lower().endswith(_PREVIEWS)]
  any_file = len(previews) < len(videos)
  for name in folders:
    deeper, has_file = _walk(
      os.path.join(folder, name), f'{below}{name}/', flag, (*above, here), passed_over
    )
    videos += deeper
    any_file |= has_file
  if images > len(videos) and below and not any_file:
    videos = [below.rstrip('/')]
    left_out = {kind: files for kind, files in left_out.items() if kind not in IMAGE_SUFFIXES}
    for path in previews:
      _count(left_out, _extension(path), path)
  for kind, (count, path) in left_out.items():
    _count(passed_over, kind, path, count)
  return videos, any_file


def _extension(path: str) -> str:
  return os.path.splitext(path)[1].lower() or 'without extension'


def _count(files: dict[str, tuple[int, str]], kind: str, path: str, more: int = 1) -> None:
  """Counts a file, or more of its kind."""
  count, example = files.get(kind, (0, path))
  files[kind] = (count + more, example)


def _is_folder(entry: os.DirEntry[str]) -> bool:
  try:
    return entry.is_dir()
  except OSError:  # A link to itself.
    return False
