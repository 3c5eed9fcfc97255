"""Any folder of videos: of a folder for each class, or with lists of paths and labels."""

import os
import pathlib
import re
from collections.abc import Mapping

from zsar_jax.data.class_names import counterparts, normal, vocabulary
from zsar_jax.data.splits import read_classes
from zsar_jax.datasets.sources.listing import (
  SKIPPED_FILES,
  SPLITS,
  ClipLists,
  Listing,
  check_label,
  inside,
  read_text,
)
from zsar_jax.datasets.sources.video_files import VIDEOS, Videos, is_folder
from zsar_jax.errors import UserError

# What a head calls the columns of a list's paths and labels.
_PATH_COLUMN = re.compile(r'(path|(video|file|clip|frame)s?[ _]?(path|name|dir|id)?)', re.I)
_LABEL_COLUMN = re.compile(r'(.*[ _])?(label|class|category|action|target)s?[ _]?(name|id)?', re.I)


def list_folder(videos: str | os.PathLike[str], labels: str | None = None) -> Listing:
  """The clips of a folder with a folder of videos for each class.

  The clips are the split 'train', unless the first folders are called as splits are (`SPLITS`, in
  any case) and hold those of the classes.

  Args:
    videos: the folder.
    labels: a file of the class names in the order of their labels; by default the folders'
      names, sorted.

  Raises:
    UserError: if there is no video, one is in no class's folder, a folder is named after no class
      of the labels, or only some of the first folders are splits.
  """
  files = Videos(videos)
  paths = sorted(files)
  if not paths:
    left_out = ', '.join(f'{count} {kind}' for kind, (count, _) in files.passed_over.items())
    there = f' (but other files: {left_out})' if left_out else ''
    raise UserError(f'--videos: {videos} holds no video{there}; give a folder of folders of videos')
  # Folders that are splits and not classes, where there is nothing else.
  others = [path for path in paths if path.split('/')[0].lower() not in SPLITS]
  of_splits = [path for path in paths if path.split('/')[0].lower() in SPLITS]
  deep = [path for path in of_splits if path.count('/') > 1]
  if others and deep:
    raise UserError(
      f'--videos: in {files.root}, {deep[0]} lies in the folder of a split, and {others[0]} does'
      ' not; move one of the folders away, rename it, or give --lists'
    )
  found = []
  for path in paths:
    split, name, rest = 'train', *path.partition('/')[::2]
    if not others:
      split, (name, _, rest) = SPLITS[name.lower()], rest.partition('/')
    if not rest:
      raise UserError(
        f'--videos: {files.root}/{path} does not lie in the folder of a class; move it into one, or'
        ' give --lists'
      )
    check_label(name, f'--videos: the folder of {path!r}')
    found.append((split, normal(name), path))
  classes = (
    read_classes(labels, '--labels', ordered=True)
    if labels
    else vocabulary(name for _, name, _ in found)
  )
  meant = counterparts((name for _, name, _ in found), classes)
  labels_of = {name: label for label, name in enumerate(classes)}
  lists = ClipLists()
  for split, name, path in found:
    if len(meant[name]) != 1:
      problem = f'has {" and ".join(meant[name])} for' if meant[name] else 'lacks'
      raise UserError(f'--labels: {labels} {problem} {name!r}, a folder of {videos}; correct one')
    double = files.has_double(path)
    clip_id = normal(_clip_id(path, double))
    clip = files.clip(clip_id, labels_of[meant[name][0]], [path], path, with_extension=double)
    lists.add(split, clip, f'{files.root}/{path}')
    if double:
      lists.remark(split, 'another video has the same name', clip_id, path)
  for kind, (count, path) in sorted(files.passed_over.items()):
    lists.remark(found[0][0], SKIPPED_FILES, kind, f'{count}, such as {path}')
  return Listing(classes, lists.splits, remarks=lists.remarks)


def list_files(
  videos: str | os.PathLike[str],
  lists: Mapping[str, str | os.PathLike[str]],
  labels: str | None = None,
) -> Listing:
  """The clips of lists as mmaction2, ViFi-CLIP and SlowFast write them.

  A line is 'path label' or 'path,label', or for a folder of frames 'path frames label'. It is
  split from the right, because folders' names hold spaces. The label is a number, from 0; after a
  comma it may be the name of a class. Where a folder of the path is named after a class, it must be
  the label's. An absolute path must lie below the folder of videos. A first line 'path,label', or
  the like, is passed over.

  Args:
    videos: the folder that the paths are relative to.
    lists: the file of each split, by the split's name.
    labels: a file of the class names in the order of their labels, needed where labels are
      numbers.

  Raises:
    UserError: for a line that is none of these, or a label that is not in the labels file, or not
      the class that the folder is named after.
  """
  if 'all' in lists:
    raise UserError("--lists: TFDS keeps the split name 'all' for itself; choose another")
  files = Videos(videos)
  lines = [
    (split, f'{path}, line {number}', _below(line.strip(), files.root))
    for split, path in lists.items()
    for number, line in enumerate(read_text(pathlib.Path(path), '--lists').splitlines(), start=1)
    if line.strip() and not (number == 1 and _is_head(line, files))
  ]
  parsed = [(split, where, *_parse(line, where, files)) for split, where, line in lines]
  if labels:
    classes = read_classes(labels, '--labels', ordered=True)
  else:
    names = {label for *_, label, _ in parsed}
    if any(name.isdecimal() for name in names):
      raise UserError(
        f'--labels is needed: {next(iter(lists.values()))} has labels that are numbers; give a file'
        ' of the class names in their order'
      )
    classes = vocabulary(names)
  labels_of = {name: label for label, name in enumerate(classes)}
  meant = counterparts((label for *_, label, _ in parsed), classes)
  clips = [(str(inside(path, where)), split, where, *rest) for split, where, path, *rest in parsed]
  videos_of = {path: files.find(path) for path, *_ in clips}
  folders = counterparts(
    (name for path in (*videos_of, *filter(None, videos_of.values())) for name in _folders(path)),
    classes,
  )
  gathered = ClipLists()
  for path, split, where, label, frames in clips:
    number = int(label) if label.isdecimal() else -1
    if not label.isdecimal() and len(meant[label]) == 1:
      number = labels_of[meant[label][0]]
    if not 0 <= number < len(classes):
      raise UserError(
        f'{where}: label {label!r} is none of the {len(classes)} classes of the labels file;'
        ' correct one of them'
      )
    video = videos_of[path] or ''
    double = files.has_double(video)
    clip = files.clip(
      _clip_id(path, double),
      number,
      [video] if video else [],
      path,
      {'listed_frames': frames} if frames else {},
      with_extension=double,
    )
    gathered.add(split, clip, where)
    meanings = [folders[name] for name in _folders(path) + _folders(video) if folders[name]]
    if meanings and not any(classes[number] in names for names in meanings):
      other = meanings[-1][0]
      from_one = labels_of[other] == number - 1
      remedy = 'labels count from 0: subtract 1 from each' if from_one else 'correct one of them'
      raise UserError(
        f'{where}: label {label!r} is the class {classes[number]!r}, but {path} lies in the folder'
        f' of {other!r}; {remedy}'
      )
  for split, path in lists.items():
    if split not in gathered.splits:
      raise UserError(f'--lists: {path} lists no clip; give another file')
  return Listing(classes, gathered.splits, remarks=gathered.remarks)


def _folders(path: str) -> list[str]:
  return path.split('/')[:-1]


def _clip_id(path: str, double: bool) -> str:
  """A video's path without its extension, or with it where another video has the same path."""
  return path if double or is_folder(path) else os.path.splitext(path)[0]


def _is_head(line: str, files: Videos) -> bool:
  """Whether a first line names the columns, such as 'video_path,label', and no video."""
  columns = re.split(r'\s*,\s*' if ',' in line else r'\s+', line.strip())
  return bool(
    len(columns) > 1
    and _PATH_COLUMN.fullmatch(columns[0])
    and _LABEL_COLUMN.fullmatch(columns[-1])
    and files.find(columns[0]) is None
  )


def _parse(line: str, where: str, files: Videos) -> tuple[str, str, str]:
  """The path, the label and the listed number of frames ('' if there is none) of a line."""
  path, comma, label = (part.strip() for part in line.rpartition(','))
  # A comma may also be part of a path; then what follows it holds the label and more, unless
  # what comes before it is a path already, and the rest the name of a class like 'take 1'.
  _, space, last = label.rpartition(' ')
  if not comma or (space and last.isdecimal() and not _ends_at_comma(line, files)):
    path, _, label = line.rpartition(' ')
    if not label.isdecimal():
      raise UserError(f'{where}: {line!r} does not end with a label; write "path label"')
  path, label = path.strip(), label.strip()
  before, _, frames = path.rpartition(' ')
  if before and frames.isdecimal() and not _is_listed(path, before.strip(), files):
    if before.lower().endswith(VIDEOS):
      raise UserError(f'{where}: {line!r} has two labels; each clip must have one')
    return before.strip(), label, frames
  if not path or not label:
    raise UserError(f'{where}: {line!r} lacks a path or a label; write "path label"')
  return path, label, ''


def _ends_at_comma(line: str, files: Videos) -> bool:
  """Whether the path of a line 'path,name 1' ends at its last comma, and has none in it."""
  longer = line.rpartition(' ')[0].strip()
  if longer.lower().endswith(VIDEOS) or any(
    files.has(path) for path in (longer, re.sub(r' +\d+$', '', longer))
  ):
    return False
  path = line.rpartition(',')[0].strip()
  return path.lower().endswith(VIDEOS) or files.has(path)


def _is_listed(path: str, shorter: str, files: Videos) -> bool:
  """Whether a path that ends with a number is meant, and not a `shorter` one and its frames."""
  return files.has(path) or (not files.has(shorter) and files.find(path) is not None)


def _below(line: str, root: str) -> str:
  """A line whose path is relative to the folder of videos, if it was absolute and lies below it."""
  for folder in (root, os.path.realpath(root)):
    line = line.removeprefix(os.path.join(folder, ''))
  return line
