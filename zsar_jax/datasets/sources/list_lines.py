"""Parses the lines of lists as mmaction2, ViFi-CLIP and SlowFast write them.

A line is 'path label' or 'path,label', or for a folder of frames 'path frames label'. It is split
from the right, because the names of folders contain spaces. Where a line can be read in two ways,
the videos that exist decide.
"""

import os
import re
from collections.abc import Iterator

from zsar_jax.datasets.sources.listing import read_text
from zsar_jax.datasets.sources.video_files import VIDEO_EXTENSIONS
from zsar_jax.datasets.sources.video_index import VideoIndex
from zsar_jax.errors import UserError
from zsar_jax.storage.paths import as_path

# The names of the columns of paths and labels in the head of a list.
_PATH_COLUMN = re.compile(r'(path|(video|file|clip|frame)s?[ _]?(path|name|dir|id)?)', re.I)
_LABEL_COLUMN = re.compile(r'(.*[ _])?(label|class|category|action|target)s?[ _]?(name|id)?', re.I)


def read_lines(
  path: str | os.PathLike[str], videos: VideoIndex
) -> Iterator[tuple[str, tuple[str, str, str]]]:
  """Reads a list.

  Args:
    path: the list. Its first line may name the columns, such as 'path,label'.
    videos: the videos that exist. An absolute path in the list becomes relative to their folder.

  Yields:
    The position of each line, for errors, and what `parse_line` returns.

  Raises:
    UserError: The list cannot be read, or a line cannot be parsed.
  """
  for number, line in enumerate(
    read_text(as_path(path, '--lists'), '--lists').splitlines(), start=1
  ):
    if line.strip() and not (number == 1 and _is_head(line, videos)):
      where = f'{path}, line {number}'
      yield where, parse_line(_relative(line.strip(), videos.root), where, videos)


def parse_line(line: str, where: str, videos: VideoIndex) -> tuple[str, str, str]:
  """Parses a line without outer spaces.

  Returns:
    path: the listed path.
    label: a number or the name of a class.
    frames: the listed number of frames, or '' if the line has none.

  Raises:
    UserError: The line has no path or no label, or two labels.
  """
  path, comma, label = (part.strip() for part in line.rpartition(','))
  # The path itself may contain a comma. Then the text after the last comma includes the label; but
  # not if the text before it is a path already, and the rest the name of a class such as 'take 1'.
  _, space, last = label.rpartition(' ')
  if not comma or (space and last.isdecimal() and not _path_ends_at_comma(line, videos)):
    path, _, label = line.rpartition(' ')
    if not label.isdecimal():
      raise UserError(f'{where}: {line!r} does not end with a label; write "path label"')
  path, label = path.strip(), label.strip()
  shorter, _, frames = path.rpartition(' ')
  shorter = shorter.strip()
  if shorter and frames.isdecimal() and not _includes_number(path, shorter, videos):
    if shorter.lower().endswith(VIDEO_EXTENSIONS):
      raise UserError(f'{where}: {line!r} has two labels; each clip must have one')
    return shorter, label, frames
  if not path or not label:
    raise UserError(f'{where}: {line!r} lacks a path or a label; write "path label"')
  return path, label, ''


def _is_head(line: str, videos: VideoIndex) -> bool:
  """Returns whether a first line names the columns, such as 'video_path,label', and not a video."""
  columns = re.split(r'\s*,\s*' if ',' in line else r'\s+', line.strip())
  return bool(
    len(columns) > 1
    and _PATH_COLUMN.fullmatch(columns[0])
    and _LABEL_COLUMN.fullmatch(columns[-1])
    and videos.find(columns[0]) is None
  )


def _path_ends_at_comma(line: str, videos: VideoIndex) -> bool:
  """Returns whether the path in a line 'path,name 1' ends at the last comma of the line."""
  longer = line.rpartition(' ')[0].strip()
  if longer.lower().endswith(VIDEO_EXTENSIONS) or any(
    videos.has(path) for path in (longer, re.sub(r' +\d+$', '', longer))
  ):
    return False
  path = line.rpartition(',')[0].strip()
  return path.lower().endswith(VIDEO_EXTENSIONS) or videos.has(path)


def _includes_number(path: str, shorter: str, videos: VideoIndex) -> bool:
  """Returns whether the number that ends `path` is part of it, not the frame count of `shorter`."""
  return videos.has(path) or (not videos.has(shorter) and videos.find(path) is not None)


def _relative(line: str, root: str) -> str:
  """Removes the folder of videos from the start of a line, if the path is absolute."""
  for folder in (root, os.path.realpath(root)):
    line = line.removeprefix(os.path.join(folder, ''))
  return line
