"""Finds the video that a list names, however the copy of the data set is laid out."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from zsar_jax.data.class_names import match_classes, to_nfc
from zsar_jax.datasets.sources.listing import SPLIT_NAMES, ListedClip
from zsar_jax.datasets.sources.video_files import find_videos, is_frame_folder
from zsar_jax.errors import UserError
from zsar_jax.storage.folders import open_folders

# Where a video is, for `VideoIndex.find_clip`; the lower, the better.
_IN_CLASS, _IN_SPLIT, _IN_ROOT, _ELSEWHERE = range(4)


class VideoIndex:
  """The videos below a folder, by name: files, and folders of frames.

  Names are compared in NFC. Their case matters only if the names of two videos differ in nothing
  else.

  Attributes:
    root: the absolute path of the folder, or its URL.
    skipped_files: see `video_files.find_videos`.
  """

  def __init__(self, root: str | os.PathLike[str], flag: str = '--videos'):
    """Searches the folder.

    Args:
      root: the folder.
      flag: the flag that names it, for errors.

    Raises:
      UserError: It is not a folder, or something below it cannot be read.
    """
    folders = open_folders(root, flag)
    if not folders.is_folder(folders.root):
      raise UserError(f'{flag}: {root} is not a folder; give the folder of the videos')
    self.root = folders.root
    self._paths: dict[str, list[str]] = {}
    paths, self.skipped_files = find_videos(folders, flag)
    for path in sorted(paths):
      if not _is_utf8(path):
        raise UserError(f'{flag}: {ascii(path)} in {root} is not named in UTF-8; rename it')
      self._paths.setdefault(_without_case(_stem(path)), []).append(path)

  def __iter__(self) -> Iterator[str]:
    """Yields the paths relative to the folder, with '/' between their parts."""
    for paths in self._paths.values():
      yield from paths

  def has(self, path: str) -> bool:
    """Returns whether a video is at a listed path, with this extension or another."""
    return bool(_at(path, self._namesakes(path)))

  def has_double(self, path: str) -> bool:
    """Returns whether two videos have the same path but for the extension."""
    base = to_nfc(_without_extension(path))
    return sum(to_nfc(_without_extension(x)) == base for x in self._namesakes(path)) > 1

  def class_folders(self, classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Returns {name: classes} for all folders with videos: the classes that a name stands for."""
    return match_classes((folder for path in self for folder in path.split('/')[:-1]), classes)

  def find(self, path: str) -> str | None:
    """Finds the video of a listed path.

    The video is at that path, with this extension or another; or deeper, in folders with the names
    of the listed ones, ignoring case and with '_' equal to a space.

    Args:
      path: the listed path, with '/' between its parts, with or without extension.

    Returns:
      The path of the video, or None if there is none.

    Raises:
      UserError: Several videos fit equally well.
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
    """Finds the copies of a video that a list names by its class and file.

    A copy is in the folder of its class, or of its split, or in the folder of all videos; never in
    the folder of another class. A copy in a folder of replacements comes before all others.

    Args:
      path: the expected path.
      label: the class.
      class_folders: the result of the method `class_folders`.
      split: the split, a value of `SPLIT_NAMES`, if folders may be named after splits.
      anywhere: whether no other video has the name, so that it may be in any other folder too.

    Returns:
      The paths of the copies, the best first.

    Raises:
      UserError: Several copies fit equally well.
    """

    def rank(video: str, listed: bool) -> tuple[int, ...] | None:
      parents = video.split('/')[:-1]
      parent_classes = [class_folders[name] for name in parents if class_folders[name]]
      if not listed and parent_classes and label not in parent_classes[-1]:
        return None
      splits = {SPLIT_NAMES[name.lower()] for name in parents if name.lower() in SPLIT_NAMES}
      other_split = split is not None and bool(splits - {split})
      location = _location(parents, class_folders)
      if not (listed or anywhere) and (other_split or location == _ELSEWHERE):
        return None
      # CVDF's replacements for clips of Kinetics-400 are in replacement_for_corrupted_k400.
      replaces = anywhere and any('replacement' in name.lower() for name in parents)
      deeper = len(parents) > (location == _IN_CLASS) + bool(splits)
      return not replaces, not listed, other_split, location, split not in splits, deeper

    return self._ranked(path, rank)

  def listed_clip(
    self,
    clip_id: str,
    label: int,
    paths: Sequence[str],
    expected: str,
    attributes: dict[str, str] | None = None,
    with_extension: bool = False,
  ) -> ListedClip:
    """Creates a listed clip.

    Args:
      clip_id: the clip's id.
      label: its label.
      paths: the paths of its copies, the best first.
      expected: the path where it was expected, which is used if there is no copy.
      attributes: see `ListedClip`.
      with_extension: whether the clip's name has the extension, because another video has the same
        path but for the extension.
    """
    path = paths[0] if paths else expected
    keep_path = with_extension or (paths and is_frame_folder(path))
    name = path if keep_path else os.path.splitext(path)[0]
    absolute = [os.path.join(self.root, *relative.split('/')) for relative in (path, *paths[1:])]
    return ListedClip(clip_id, label, absolute[0], name, attributes or {}, tuple(absolute[1:]))

  def _namesakes(self, path: str) -> list[str]:
    """Returns the videos with a path's last part, ignoring extension and case."""
    return self._paths.get(_without_case(_stem(path)), [])

  def _ranked(self, path: str, rank: Callable[[str, bool], Any]) -> list[str]:
    """Sorts the videos with a listed path's last part by rank.

    Args:
      path: the listed path.
      rank: maps a video, and whether it is at the listed path, to a sort key, or to None if the
        video is left out.

    Raises:
      UserError: Two videos have the lowest rank.
    """
    namesakes = self._namesakes(path)
    same_case = [video for video in namesakes if to_nfc(_stem(video)) == to_nfc(_stem(path))]
    for candidates in (same_case, namesakes):
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


def _location(parents: Sequence[str], class_folders: Mapping[str, tuple[str, ...]]) -> int:
  """Returns in which kind of folder a video is, given the names of its folders."""
  if not parents:
    return _IN_ROOT
  if class_folders[parents[-1]]:
    return _IN_CLASS
  return _IN_SPLIT if parents[-1].lower() in SPLIT_NAMES else _ELSEWHERE


def _without_case(name: str) -> str:
  return to_nfc(to_nfc(name).casefold())


def _at(path: str, videos: Sequence[str]) -> list[str]:
  """Returns the video at a path, or else those at the same path with another extension."""
  exact = [video for video in videos if to_nfc(video) == to_nfc(path)]
  base = to_nfc(_without_extension(path))
  return exact or [video for video in videos if to_nfc(_without_extension(video)) == base]


def _without_extension(path: str) -> str:
  return path if is_frame_folder(path) else os.path.splitext(path)[0]


def _stem(path: str) -> str:
  return _without_extension(path).rpartition('/')[2]


def _folders(path: str) -> tuple[str, ...]:
  """Returns the folders of a path for comparison: without case, with spaces for '_'."""
  return tuple(_without_case(name.replace('_', ' ')) for name in path.split('/')[:-1])


def _is_utf8(path: str) -> bool:
  try:
    path.encode()
  except UnicodeEncodeError:
    return False
  return True
