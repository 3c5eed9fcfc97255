"""Finds the videos below a folder: video files, and folders whose images are frames."""

import contextlib
import dataclasses
import os
from collections.abc import Hashable

from zsar_jax.datasets.frame_folder import IMAGE_SUFFIXES
from zsar_jax.errors import UserError, error_reason
from zsar_jax.storage.folders import Folders

# The usual extensions of files that `video.read_video` opens: containers and bare streams.
VIDEO_EXTENSIONS = (
  *('.mp4', '.webm', '.mkv', '.avi', '.mov', '.m4v', '.mpg', '.mpeg', '.flv', '.wmv', '.3gp'),
  *('.ts', '.mts', '.m2ts', '.ogv', '.asf', '.vob', '.divx', '.3g2', '.m2v', '.mpv', '.qt'),
  *('.gif', '.apng', '.y4m', '.ogg', '.ogm', '.mxf', '.nut', '.rm', '.rmvb', '.dv', '.wtv', '.swf'),
  *('.h264', '.264', '.avc', '.h265', '.265', '.hevc', '.h263', '.ivf', '.obu', '.av1', '.vc1'),
  *('.f4v', '.mp4v', '.mpe', '.m1v', '.mp2v', '.m2p', '.m2t', '.trp', '.xvid', '.mk3d'),
)

# Previews have these extensions too, so images beside them may still be the frames of a clip.
_PREVIEW_EXTENSIONS = ('.gif', '.apng')

# A folder is a folder of frames if this many of its entries include images, and neither a video
# nor a folder.
_SAMPLED_ENTRIES = 200

# {kind: (count, path of an example)}, where the kind is an extension or 'hidden folder'.
SkippedFiles = dict[str, tuple[int, str]]


def find_videos(folders: Folders, flag: str) -> tuple[list[str], SkippedFiles]:
  """Searches a folder for videos.

  Args:
    folders: lists the folder and those below it.
    flag: the flag that names it, for errors.

  Returns:
    paths: the video files and the folders of frames, relative to the folder, with '/' between their
      parts.
    skipped: the files that are neither videos nor frames, and hidden folders.

  Raises:
    UserError: A folder cannot be read.
  """
  skipped: SkippedFiles = {}
  paths, _ = _search(folders, folders.root, '', flag, (), skipped)
  return paths, skipped


def is_frame_folder(path: str) -> bool:
  """Returns whether a path from `find_videos` is a folder of frames."""
  return os.path.splitext(path)[1].lower() not in VIDEO_EXTENSIONS


@dataclasses.dataclass
class _Entries:
  """The entries of a folder.

  Attributes:
    videos: the paths of video files.
    folders: the names of folders that are not hidden.
    num_images: the number of images.
    skipped: all other files, the images, and hidden folders.
  """

  videos: list[str]
  folders: list[str]
  num_images: int
  skipped: SkippedFiles


def _search(
  folders: Folders,
  folder: str,
  prefix: str,
  flag: str,
  ancestors: tuple[Hashable, ...],
  skipped: SkippedFiles,
) -> tuple[list[str], bool]:
  """Searches a folder and all folders below it.

  The images of a folder are the frames of a clip if no video file is beside or below them and the
  folders of frames below are fewer than the images: a clip's optical flow may be below its frames,
  and cover images may be beside the folders of clips.

  Args:
    folders: see `find_videos`.
    folder: the folder to search.
    prefix: the text before the names in the returned paths.
    flag: see `find_videos`.
    ancestors: the identities of the folders above this one, because a link may lead back.
    skipped: receives the skipped files.

  Returns:
    The paths, and whether any of them is a video file and not a preview.

  Raises:
    UserError: A folder cannot be read.
  """
  try:
    identity = folders.identity(folder)
    if identity in ancestors:
      return [], False
    entries = _scan(folders, folder, prefix)
  except OSError as error:
    raise UserError(
      f'{flag}: {ascii(folder)[1:-1]} cannot be read ({error_reason(error)}); make it readable or'
      ' move it away'
    ) from None
  videos = entries.videos
  previews = [path for path in videos if path.lower().endswith(_PREVIEW_EXTENSIONS)]
  any_file = len(previews) < len(videos)
  for name in entries.folders:
    deeper, any_deeper = _search(
      folders, os.path.join(folder, name), f'{prefix}{name}/', flag, (*ancestors, identity), skipped
    )
    videos += deeper
    any_file |= any_deeper
  if entries.num_images > len(videos) and prefix and not any_file:
    videos = [prefix.rstrip('/')]
    entries.skipped = {
      kind: files for kind, files in entries.skipped.items() if kind not in IMAGE_SUFFIXES
    }
    for path in previews:
      _count(entries.skipped, _extension(path), path)
  for kind, (count, path) in entries.skipped.items():
    _count(skipped, kind, path, count)
  return videos, any_file


def _scan(folders: Folders, folder: str, prefix: str) -> _Entries:
  """Lists a folder; stops early in a folder of frames, since data sets have millions of frames."""
  videos: list[str] = []
  subfolders: list[str] = []
  num_images = 0
  skipped: SkippedFiles = {}
  with contextlib.closing(folders.entries(folder)) as entries:
    for number, (entry, is_folder) in enumerate(entries):
      only_images = num_images and not videos and not subfolders
      if prefix and number >= _SAMPLED_ENTRIES and only_images:
        break
      name, path = entry.lower(), prefix + entry
      if name.startswith('.'):  # Hidden, such as the companions ._NAME that macOS writes.
        if is_folder:  # Possibly of a class, such as '.NET'.
          _count(skipped, 'hidden folder', path)
      elif is_folder:
        subfolders.append(entry)
      elif name.endswith(VIDEO_EXTENSIONS):
        videos.append(path)
      else:
        num_images += name.endswith(IMAGE_SUFFIXES)
        _count(skipped, _extension(entry), path)
  return _Entries(videos, subfolders, num_images, skipped)


def _extension(path: str) -> str:
  return os.path.splitext(path)[1].lower() or 'without extension'


def _count(skipped: SkippedFiles, kind: str, path: str, more: int = 1) -> None:
  """Counts one or more files of a kind."""
  count, example = skipped.get(kind, (0, path))
  skipped[kind] = (count + more, example)
