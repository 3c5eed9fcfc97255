"""Lists the clips of any folder of videos: one folder for each class, or lists of paths and labels.

`list_lines` describes the lists.
"""

import os
from collections.abc import Iterable, Mapping

from zsar_jax.data.class_names import match_classes, to_nfc, unique_classes
from zsar_jax.data.splits import read_classes
from zsar_jax.datasets.sources.list_lines import read_lines
from zsar_jax.datasets.sources.listing import (
  SKIPPED_FILES,
  SPLIT_NAMES,
  ClipCollector,
  Listing,
  check_label,
  relative_path,
)
from zsar_jax.datasets.sources.video_files import is_frame_folder
from zsar_jax.datasets.sources.video_index import VideoIndex
from zsar_jax.errors import UserError


def list_folder(videos: str | os.PathLike[str], labels: str | None = None) -> Listing:
  """Lists a folder that has a folder of videos for each class.

  The clips form the split 'train', unless the top folders are named after splits (`SPLIT_NAMES`, in
  any case) and contain the folders of the classes.

  Args:
    videos: the folder.
    labels: a file of the class names in the order of their labels; by default the sorted names of
      the folders.

  Raises:
    UserError: There is no video, a video is in no class's folder, a folder is named after no class
      of `labels`, or only some of the top folders are splits.
  """
  index = VideoIndex(videos)
  paths = sorted(index)
  if not paths:
    skipped = ', '.join(f'{count} {kind}' for kind, (count, _) in index.skipped_files.items())
    others = f' (but other files: {skipped})' if skipped else ''
    raise UserError(
      f'--videos: {videos} holds no video{others}; give a folder of folders of videos'
    )
  has_splits = _has_split_folders(paths, index.root)
  rows = [(*_split_and_class(path, has_splits, index.root), path) for path in paths]
  classes = (
    read_classes(labels, '--labels', ordered=True)
    if labels
    else unique_classes(name for _, name, _ in rows)
  )
  classes_of = match_classes((name for _, name, _ in rows), classes)
  label_of = {name: label for label, name in enumerate(classes)}
  collector = ClipCollector()
  for split, name, path in rows:
    if len(classes_of[name]) != 1:
      matches = ' and '.join(classes_of[name])
      problem = f'has {matches} for' if matches else 'lacks'
      raise UserError(f'--labels: {labels} {problem} {name!r}, a folder of {videos}; correct one')
    (class_name,) = classes_of[name]
    double = index.has_double(path)
    clip_id = to_nfc(_clip_id(path, double))
    clip = index.listed_clip(clip_id, label_of[class_name], [path], path, with_extension=double)
    collector.add(split, clip, f'{index.root}/{path}')
    if double:
      collector.remark(split, 'another video has the same name', clip_id, path)
  for kind, (count, path) in sorted(index.skipped_files.items()):
    collector.remark(rows[0][0], SKIPPED_FILES, kind, f'{count}, such as {path}')
  return Listing(classes, collector.splits, remarks=collector.remarks)


def list_files(
  videos: str | os.PathLike[str],
  lists: Mapping[str, str | os.PathLike[str]],
  labels: str | None = None,
) -> Listing:
  """Lists the clips in lists of paths and labels.

  Labels are numbers counted from 0; after a comma, a label may be the name of a class. If a folder
  of the path is named after a class, that must be the label's class.

  Args:
    videos: the folder that the paths are relative to; absolute paths must be below it.
    lists: the file of each split, by the name of the split.
    labels: a file of the class names in the order of their labels; required if labels are numbers.

  Raises:
    UserError: A line cannot be parsed, or its label is not in the file of labels or is not the
      class of its folder.
  """
  if 'all' in lists:
    raise UserError("--lists: TFDS keeps the split name 'all' for itself; choose another")
  index = VideoIndex(videos)
  rows = [
    (split, where, *parsed)
    for split, path in lists.items()
    for where, parsed in read_lines(path, index)
  ]
  first_list = next(iter(lists.values()))
  classes = _listed_classes({label for *_, label, _ in rows}, labels, first_list)
  rows = [
    (split, where, str(relative_path(path, where)), label, frames)
    for split, where, path, label, frames in rows
  ]
  labeler = _Labeler(classes, (label for *_, label, _ in rows))
  video_of = {path: index.find(path) for _, _, path, _, _ in rows}
  paths = (*video_of, *filter(None, video_of.values()))
  folder_classes = match_classes((name for path in paths for name in _folders(path)), classes)
  collector = ClipCollector()
  for split, where, path, text, frames in rows:
    label = labeler.label(text, where)
    video = video_of[path] or ''
    double = index.has_double(video)
    clip = index.listed_clip(
      _clip_id(path, double),
      label,
      [video] if video else [],
      path,
      {'listed_frames': frames} if frames else {},
      with_extension=double,
    )
    collector.add(split, clip, where)
    classes_of_folders = [folder_classes[name] for name in _folders(path) + _folders(video)]
    labeler.check_folders(label, text, classes_of_folders, path, where)
  for split, list_path in lists.items():
    if split not in collector.splits:
      raise UserError(f'--lists: {list_path} lists no clip; give another file')
  return Listing(classes, collector.splits, remarks=collector.remarks)


class _Labeler:
  """Converts the labels in lists to indices of classes."""

  def __init__(self, classes: tuple[str, ...], texts: Iterable[str]):
    self._classes = classes
    self._classes_of = match_classes(texts, classes)
    self._label_of = {name: label for label, name in enumerate(classes)}

  def label(self, text: str, where: str) -> int:
    """Returns the index of the class of a label; raises a `UserError` if there is none."""
    label = int(text) if text.isdecimal() else -1
    if not text.isdecimal() and len(self._classes_of[text]) == 1:
      label = self._label_of[self._classes_of[text][0]]
    if not 0 <= label < len(self._classes):
      raise UserError(
        f'{where}: label {text!r} is none of the {len(self._classes)} classes of the labels file;'
        ' correct one of them'
      )
    return label

  def check_folders(
    self,
    label: int,
    text: str,
    classes_of_folders: list[tuple[str, ...]],
    path: str,
    where: str,
  ) -> None:
    """Raises a `UserError` if folders of a clip are named after classes, but not after its own.

    Args:
      label: the label of the clip.
      text: the label as listed.
      classes_of_folders: for each folder, the classes that its name stands for.
      path: the path of the clip.
      where: the list and line, for errors.
    """
    class_name = self._classes[label]
    others = [names for names in classes_of_folders if names]
    if not others or any(class_name in names for names in others):
      return
    other = others[-1][0]
    from_one = self._label_of[other] == label - 1
    remedy = 'labels count from 0: subtract 1 from each' if from_one else 'correct one of them'
    raise UserError(
      f'{where}: label {text!r} is the class {class_name!r}, but {path} lies in the folder of'
      f' {other!r}; {remedy}'
    )


def _listed_classes(
  names: set[str], labels: str | None, first_list: str | os.PathLike[str]
) -> tuple[str, ...]:
  """Returns the classes of lists, given the labels in them; see `list_files`."""
  if labels:
    return read_classes(labels, '--labels', ordered=True)
  if any(name.isdecimal() for name in names):
    raise UserError(
      f'--labels is needed: {first_list} has labels that are numbers; give a file of the class'
      ' names in their order'
    )
  return unique_classes(names)


def _has_split_folders(paths: list[str], root: str) -> bool:
  """Returns whether the top folders are splits rather than classes.

  Raises:
    UserError: Only some of them are splits with folders of classes.
  """
  in_splits = [path for path in paths if path.split('/')[0].lower() in SPLIT_NAMES]
  others = [path for path in paths if path.split('/')[0].lower() not in SPLIT_NAMES]
  deep = [path for path in in_splits if path.count('/') > 1]
  if others and deep:
    raise UserError(
      f'--videos: in {root}, {deep[0]} lies in the folder of a split, and {others[0]} does not;'
      ' move one of the folders away, rename it, or give --lists'
    )
  return not others


def _split_and_class(path: str, has_splits: bool, root: str) -> tuple[str, str]:
  """Returns the split of a video and the name of its class's folder.

  Raises:
    UserError: The video is in no class's folder, or a class cannot have the folder's name.
  """
  split, name, rest = 'train', *path.partition('/')[::2]
  if has_splits:
    split, (name, _, rest) = SPLIT_NAMES[name.lower()], rest.partition('/')
  if not rest:
    raise UserError(
      f'--videos: {root}/{path} does not lie in the folder of a class; move it into one, or give'
      ' --lists'
    )
  check_label(name, f'--videos: the folder of {path!r}')
  return split, to_nfc(name)


def _folders(path: str) -> list[str]:
  return path.split('/')[:-1]


def _clip_id(path: str, double: bool) -> str:
  """Returns the path without its extension, unless another video differs only in the extension."""
  return path if double or is_frame_folder(path) else os.path.splitext(path)[0]
