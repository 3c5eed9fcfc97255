"""What a data set's lists say: which clips there are, of which class, and where each one lies."""

import dataclasses
import pathlib

from zsar_jax.data.class_names import normal
from zsar_jax.errors import UserError

# What copies of data sets and of their lists call a split, in lower case, and what it is here.
SPLITS = {
  'train': 'train',
  'training': 'train',
  'val': 'validation',
  'valid': 'validation',
  'validate': 'validation',
  'validation': 'validation',
  'test': 'test',
  'testing': 'test',
}

# The kind of remark on files that are no videos, which is by extension and not by clip.
SKIPPED_FILES = 'files passed over'


@dataclasses.dataclass(frozen=True)
class ListedClip:
  """A clip as it is listed.

  Attributes:
    id: unique in its split.
    label: place in the vocabulary.
    path: of the video file, or of the folder of its frames, which may turn out to be missing.
    name: the path below the folder of videos, without the file's extension, with '/' between
      its parts, such as 'archery/01xStFVYC7U_000011_000021': masks are looked up by it.
    attributes: what else the lists say of the clip, in words.
    copies: paths of other copies of the video, to read where this one cannot be read.
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
    class_texts: how each class is called in prompts, where the lists know more than the names:
      with [brackets] around what stands for an object. None where the names are all there is.
    clip_splits: splits that are named parts of another: {name: ids}, all from one of `splits`.
    remarks: of each split, what was noticed in its lists: {split: {kind: {clip id: what}}}.
      The kind `SKIPPED_FILES` is {extension: how many files of it are no videos}.
  """

  classes: tuple[str, ...]
  splits: dict[str, list[ListedClip]]
  class_splits: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
  class_texts: tuple[str, ...] | None = None
  clip_splits: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
  remarks: dict[str, dict[str, dict[str, str]]] = dataclasses.field(default_factory=dict)


def inside(relative: str, where: str) -> pathlib.PurePosixPath:
  """A path from a list, which must stay below the folder that it is relative to.

  Args:
    relative: the path as it is listed.
    where: the list and its line, for the error.

  Raises:
    UserError: for an absolute path, one with '..' in it, and an empty one.
  """
  path = pathlib.PurePosixPath(relative.replace('\\', '/'))
  if path.is_absolute() or '..' in path.parts or not path.parts or '\0' in relative:
    raise UserError(f'{where}: {relative!r} does not lie below the folder of videos; correct it')
  return path


def check_label(label: str, where: str) -> None:
  """A `UserError` for a label that no class can be called; `where` names its place."""
  if label.strip() != label or len(label.splitlines()) != 1:
    raise UserError(
      f'{where}: label {label!r} must be one line of text without outer spaces; correct it'
    )


class ClipLists:
  """Gathers the clips of each split as they are read from the lists.

  A clip that is listed twice with one label is kept once, and named in the report, as is one
  that is listed in two splits; with two labels nothing sensible can follow.
  """

  def __init__(self):
    self.splits: dict[str, list[ListedClip]] = {}
    self.remarks: dict[str, dict[str, dict[str, str]]] = {}
    self._clips: dict[str, dict[str, ListedClip]] = {}
    self._ids: dict[str, str] = {}

  def add(self, split: str, clip: ListedClip, where: str) -> None:
    """Adds a clip to a split; `where` names its place in the lists."""
    clips = self._clips.setdefault(split, {})
    first = self._ids.setdefault(clip.path, clip.id)
    if first != clip.id:
      raise UserError(
        f'{where}: clips {first!r} and {clip.id!r} are both the video {clip.path}; correct one of'
        ' them'
      )
    if clip.id not in clips:
      clips[clip.id] = clip
      self.splits.setdefault(split, []).append(clip)
      for other, listed in self._clips.items():
        if other != split and clip.id in listed:
          self.remark(split, f'also in split {other}', clip.id, where)
    elif clips[clip.id].label != clip.label:
      raise UserError(
        f'{where}: clip {clip.id} is listed before with another label; remove one of the two'
      )
    elif clips[clip.id].path != clip.path:
      self.remark(split, 'left out, another video has the same id', clip.id, clip.path)
    else:
      self.remark(split, 'listed twice', clip.id, where)

  def remark(self, split: str, kind: str, clip_id: str, what: str) -> None:
    """Notes what was noticed of a clip, or of files that are none, for the report."""
    self.remarks.setdefault(split, {}).setdefault(kind, {})[clip_id] = what


def read_text(path: pathlib.Path, flag: str) -> str:
  """The text of a list, in NFC; a `UserError` if it cannot be read."""
  try:
    # Spreadsheets put a mark at the beginning.
    return normal(path.read_text(encoding='utf-8-sig'))
  except (OSError, UnicodeDecodeError) as error:
    reason = getattr(error, 'strerror', None) or 'it is not text in UTF-8'
    raise UserError(f'{flag}: {path} cannot be read ({reason}); give another file') from None
