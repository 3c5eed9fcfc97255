"""The clips that a data set's lists name, with their classes and paths."""

import dataclasses
import pathlib

from zsar_jax.data.class_names import to_nfc
from zsar_jax.errors import UserError, error_reason

# {name of a split in copies of data sets and in lists, in lower case: its name in this project}.
SPLIT_NAMES = {
  'train': 'train',
  'training': 'train',
  'val': 'validation',
  'valid': 'validation',
  'validate': 'validation',
  'validation': 'validation',
  'test': 'test',
  'testing': 'test',
}

# The kind of remark about files that are not videos; it is keyed by extension, not by clip.
SKIPPED_FILES = 'files passed over'


@dataclasses.dataclass(frozen=True)
class ListedClip:
  """A clip of a list.

  Attributes:
    id: unique in its split.
    label: the index of its class in the vocabulary.
    path: the video file or the folder of frames; it may not exist.
    name: the path relative to the folder of videos, without the file's extension, with '/' between
      its parts, such as 'archery/01xStFVYC7U_000011_000021'. Masks are found by it.
    attributes: other facts in the lists about the clip, as text.
    copies: the paths of other copies of the video, to read if this one cannot be read.
  """

  id: str
  label: int
  path: str
  name: str
  attributes: dict[str, str] = dataclasses.field(default_factory=dict)
  copies: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Listing:
  """The clips of a data set, before any of them is opened.

  Attributes:
    classes: the vocabulary, in label order.
    splits: the clips of each split, in the order of the records.
    class_splits: named parts of the vocabulary.
    class_texts: the name of each class in prompts, where the lists say more than the names, with
      [brackets] around the words for an object; otherwise None.
    clip_splits: splits that are named parts of one split in `splits`: {name: ids}.
    remarks: observations about the lists of each split: {split: {kind: {clip id: details}}}. Those
      of the kind `SKIPPED_FILES` are {extension: how many files of it are not videos}.
  """

  classes: tuple[str, ...]
  splits: dict[str, list[ListedClip]]
  class_splits: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
  class_texts: tuple[str, ...] | None = None
  clip_splits: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
  remarks: dict[str, dict[str, dict[str, str]]] = dataclasses.field(default_factory=dict)


class ClipCollector:
  """Collects the clips of each split while the lists are read.

  A clip that is listed twice with the same label is kept once and reported, and so is a clip of two
  splits. A clip with two labels is an error.

  Attributes:
    splits: see `Listing`.
    remarks: see `Listing`.
  """

  def __init__(self):
    self.splits: dict[str, list[ListedClip]] = {}
    self.remarks: dict[str, dict[str, dict[str, str]]] = {}
    self._clips: dict[str, dict[str, ListedClip]] = {}
    self._ids: dict[str, str] = {}

  def add(self, split: str, clip: ListedClip, where: str) -> None:
    """Adds a clip to a split; `where` is the list and line, for errors and remarks."""
    clips = self._clips.setdefault(split, {})
    first_id = self._ids.setdefault(clip.path, clip.id)
    if first_id != clip.id:
      raise UserError(
        f'{where}: clips {first_id!r} and {clip.id!r} are both the video {clip.path}; correct one'
        ' of them'
      )
    if clip.id not in clips:
      clips[clip.id] = clip
      self.splits.setdefault(split, []).append(clip)
      for other, other_clips in self._clips.items():
        if other != split and clip.id in other_clips:
          self.remark(split, f'also in split {other}', clip.id, where)
    elif clips[clip.id].label != clip.label:
      raise UserError(
        f'{where}: clip {clip.id} is listed before with another label; remove one of the two'
      )
    elif clips[clip.id].path != clip.path:
      self.remark(split, 'left out, another video has the same id', clip.id, clip.path)
    else:
      self.remark(split, 'listed twice', clip.id, where)

  def remark(self, split: str, kind: str, clip_id: str, details: str) -> None:
    """Adds a remark about a clip, or about files that are not clips, to the report."""
    self.remarks.setdefault(split, {}).setdefault(kind, {})[clip_id] = details


def relative_path(text: str, where: str) -> pathlib.PurePosixPath:
  """Parses a listed path, which must stay below the folder that it is relative to.

  Args:
    text: the listed path.
    where: the list and its line, for errors.

  Raises:
    UserError: The path is absolute or empty, or contains '..'.
  """
  path = pathlib.PurePosixPath(text.replace('\\', '/'))
  if path.is_absolute() or '..' in path.parts or not path.parts or '\0' in text:
    raise UserError(f'{where}: {text!r} does not lie below the folder of videos; correct it')
  return path


def check_label(label: str, where: str) -> None:
  """Raises a `UserError` if a label cannot be the name of a class; `where` is its origin."""
  if label.strip() != label or len(label.splitlines()) != 1:
    raise UserError(
      f'{where}: label {label!r} must be one line of text without outer spaces; correct it'
    )


def read_text(path: pathlib.Path, flag: str) -> str:
  """Reads a list as text in NFC; raises a `UserError` if it cannot be read."""
  try:
    # Spreadsheets write a byte order mark, which utf-8-sig removes.
    return to_nfc(path.read_text(encoding='utf-8-sig'))
  except (OSError, UnicodeDecodeError) as error:
    reason = error_reason(error) if isinstance(error, OSError) else 'it is not text in UTF-8'
    raise UserError(f'{flag}: {path} cannot be read ({reason}); give another file') from None
