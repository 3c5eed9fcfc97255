"""Which mask belongs to which frame: numbers in file names, and frames that have no mask."""

import contextlib
import dataclasses
import itertools
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.frame_numbers import frame_numbers
from zsar_jax.datasets.masks.source import Remarks
from zsar_jax.datasets.video import VideoFacts
from zsar_jax.errors import UserError
from zsar_jax.runtime.wording import pluralize

_Item = TypeVar('_Item')

_DIGIT = re.compile(r'[0-9]')

# Masks are of every so many frames, from this one on; where that is None, from the one that the
# format's programs begin with.
Stride = tuple[int, int | None]
EVERY_FRAME: Stride = (1, None)

# The remark upon masks that end as if they were of frames further apart.
ANOTHER_RATE = 'masks may be of another frame rate'

# How many clips' folders are looked at to find out from which number the frames count.
LOOKED_AT = 200


@dataclasses.dataclass(frozen=True)
class Counting:
  """How the numbers of masks stand for frames.

  Attributes:
    first: the number of a clip's first mask, 0 or 1.
    spread: the masks are spread evenly over the video, and numbers only order them.
    first_given: whether the user or the format says what `first` is; otherwise it is what other
      clips' numbers suggest.
    stride: the masks are of every `stride`-th frame.
    start: the frame, from 0, of a mask numbered `first`.
    options: those of `--masks` by which the user may say how the masks lie, for errors.
  """

  first: int
  spread: bool = False
  first_given: bool = False
  stride: int = 1
  start: int = 0
  options: tuple[str, ...] = ('stride=N', 'spread=yes')

  @property
  def parameters(self) -> dict[str, object]:
    """What determines the places of masks, as JSON values."""
    names = ('first', 'first_given', 'spread', 'stride', 'start')
    return {name: getattr(self, name) for name in names}

  def places(
    self,
    numbers: Collection[int],
    num_frames: int,
    own: np.ndarray | None,
    where: str,
    remarks: Remarks,
  ) -> dict[int, int]:
    """The number of each frame that has a mask.

    Frames that are numbered images are known by their own numbers, where masks can have the same.

    Args:
      numbers: of the clip's masks, each once.
      num_frames: of the video.
      own: i64[num_frames], the frames' numbers, ascending, where they are images of a folder.
      where: the clip's folder or file, for errors.
      remarks: gets 'masks beyond the end', 'masks without a frame', 'may count from 0', 'may
        count from 1' or `ANOTHER_RATE`.

    Returns:
      {frame, from 0: number}, for frames of the video alone.

    Raises:
      ClipError: where the numbers show that they count from the other first number, cannot be the
        frames', or have gaps though they are to be spread.
    """
    numbers = sorted(numbers)
    if not numbers:
      return {}
    if self.spread:
      return _spread(numbers, num_frames, where)
    if own is not None and self.stride == 1:
      return self._by_own_numbers(numbers, own.tolist(), where, remarks)
    if numbers[0] < self.first:
      raise ClipError(
        f'{where}: a mask is numbered {numbers[0]}, but frames are counted from {self.first}; '
        'add first=0 to --masks'
      )
    frames = {self.start + (number - self.first) * self.stride: number for number in numbers}
    beyond = [number for frame, number in frames.items() if frame >= num_frames]
    span = f'{numbers[0]} to {numbers[-1]}'
    about = f'masks are numbered {span} and the video has {pluralize(num_frames, "frame")}'
    self._check_end(numbers, max(frames), num_frames, f'{where}: {about}')
    # Masks that count from 1, taken to count from 0, leave frame 0 without one and end one late.
    one_late = len(beyond) == 1 and max(frames) - self.stride < num_frames
    if self.first == 0 and numbers[0] and one_late:
      raise ClipError(f'{where}: {about}, so that they count from 1; add first=1 to --masks')
    if self.first == 0 and numbers[0] and not self.first_given:
      if beyond:
        raise ClipError(
          f'{where}: {about}, so that they may count from 1; add first=0 or first=1 to --masks'
        )
      remarks['may count from 1'] = about
    # Masks that count from 0, of which no clip has one for frame 0, end before the last number.
    if self.first == 1 and max(frames) + self.stride < num_frames and not self.first_given:
      remarks['may count from 0'] = about
    self._remark_on_end(numbers, min(frames), max(frames), num_frames, remarks)
    if beyond:
      remarks['masks beyond the end'] = f'{len(beyond)} of {len(numbers)}, up to {beyond[-1]}'
    return {frame: number for frame, number in frames.items() if frame < num_frames}

  def looked_at(self, num_frames: int, places: Collection[int]) -> Collection[int]:
    """The frames that a detector was shown, which leaves out those where it found nothing.

    Args:
      num_frames: of the video.
      places: the frames with a result.
    """
    return places if self.spread else range(self.start, num_frames, self.stride)

  def _by_own_numbers(
    self, numbers: list[int], own: Sequence[int], where: str, remarks: Remarks
  ) -> dict[int, int]:
    """`places` for frames with numbers of their `own`; both ascend, and neither is empty."""
    frames = {number: frame for frame, number in enumerate(own)}
    shift = self._shift(numbers, frames, where)
    places = {frames[number + shift]: number for number in numbers if number + shift in frames}
    beyond = sum(number + shift > own[-1] for number in numbers)
    # Counted from the first frame's number, as if no frame were missing.
    count = own[-1] - own[0] + 1
    about = (
      f'{where}: masks are numbered {numbers[0]} to {numbers[-1]} and the frames {own[0]} to '
      f'{own[-1]}'
    )
    self._check_end(numbers, numbers[-1] + shift - own[0], count, about)
    lost = len(numbers) - len(places) - beyond
    if lost and len(numbers) == len(own) and numbers == list(range(own[0], own[0] + len(own))):
      raise ClipError(
        f'{where}: masks are numbered {numbers[0]} to {numbers[-1]} without a gap, and as many '
        f'frames {own[0]} to {own[-1]} with gaps; number the masks as the frames are'
      )
    first, last = (numbers[end] + shift - own[0] for end in (0, -1))
    self._remark_on_end(numbers, first, last, count, remarks)
    if beyond:
      remarks['masks beyond the end'] = f'{beyond} of {len(numbers)}, up to {numbers[-1]}'
    if lost:
      remarks['masks without a frame'] = f'{lost} of {len(numbers)}'
    # Other clips' masks count from 0 where `first` is 0.
    from_zero = self.first == 0 and own[0] == 1
    if not self.first_given and not shift and (own[0] == 0 < numbers[0] or from_zero):
      remarks[f'may count from {int(not from_zero)}'] = (
        f'masks are numbered {numbers[0]} to {numbers[-1]} and frames {own[0]} to {own[-1]}'
      )
    return places

  def _shift(self, numbers: list[int], frames: Mapping[int, int], where: str) -> int:
    """What is added to masks' numbers to be those of frames, the keys of `frames`."""
    first, last = min(frames), max(frames)
    shift = first - self.first
    fits = all(number + shift in frames for number in numbers)
    same_end = numbers[-1] <= last or numbers[0] == first or (self.first_given and not shift)
    if fits and self.first_given and abs(shift) <= 1:
      return shift
    if first <= numbers[0] and same_end:
      return 0
    if fits and (self.first_given or abs(shift) == 1):
      return shift
    raise ClipError(
      f'{where}: masks are numbered {numbers[0]} to {numbers[-1]} and the frames {first} to '
      f'{last}; number the masks as the frames are, or add first=0 or first=1 to --masks'
    )

  def _slack(self, num_frames: int) -> int:
    """By how many frames masks may end before or behind a video of whose frames they are.

    Programs differ by a frame or two in how many they find in a video. Another frame rate differs
    by 4 per cent or more, such as 24 and 25 frames per second.
    """
    return max(2, num_frames // 50) + self.stride - 1

  def _check_end(self, numbers: list[int], last: int, num_frames: int, about: str) -> None:
    """Refuses masks of which the last would be of frame `last`, far behind the end."""
    if last - (num_frames - 1) <= self._slack(num_frames):
      return
    stride = f' with stride={self.stride}' if self.stride > 1 else ''
    spread = 'spread=yes' in self.options
    raise ClipError(
      f'{about}, so that{stride} they cannot be of these frames, but were made at another frame '
      "rate or of another video; make them of the video's own frames"
      + (', or add spread=yes to --masks if they are spread evenly over it' if spread else '')
    )

  def _remark_on_end(
    self, numbers: list[int], first: int, last: int, num_frames: int, remarks: Remarks
  ) -> None:
    """Remarks upon masks of frames `first` to `last` that end as if they were of another rate.

    Those without gaps that end before the video, and any that end within its first half, may
    be of frames further apart. A single mask has no rate.
    """
    gapless = len(numbers) == numbers[-1] - numbers[0] + 1
    early = gapless and first <= self.stride and last + self._slack(num_frames) < num_frames - 1
    if len(numbers) > 1 and (early or 2 * (last + 1) <= num_frames):
      options = f'; {" or ".join(self.options)} if they are of frames further apart'
      remarks[ANOTHER_RATE] = (
        f'{len(numbers)} masks, numbered {numbers[0]} to {numbers[-1]}, end at frame {last + 1} of '
        f'{num_frames}' + (options if self.options else '')
      )


def _spread(numbers: list[int], num_frames: int, where: str) -> dict[int, int]:
  """`Counting.places` of masks that are spread evenly over the video."""
  for before, after in itertools.pairwise(numbers):
    if after != before + 1:
      raise ClipError(
        f'{where}: no mask is numbered {before + 1}, between {before} and {after}, and with a mask '
        'lost it is unknown how they are spread; number them without gaps, make them again, or '
        'give stride=, the number of frames from one to the next'
      )
  frames = np.rint(np.linspace(0, num_frames - 1, len(numbers))).astype(int)
  return dict(zip(frames.tolist(), numbers, strict=True))


def drawn(
  video: VideoFacts,
  items: Mapping[int, _Item],
  draw: Callable[[_Item], np.ndarray | None],
  remarks: Remarks,
  check: Callable[[], None] = lambda: None,
) -> Iterator[np.ndarray | None]:
  """The planes of the kept frames.

  Args:
    video: the decoded video.
    items: what the plane of each annotated frame is drawn from.
    draw: the u8[H, W] plane of an item, or None where it turns out to say nothing; called once for
      each kept frame that has one, in order.
    remarks: gets 'frames without masks'.
    check: is called when all is drawn, before the last plane is given; raises what is wrong with
      the clip.
  """
  kept = video.kept.tolist()
  missing = sum(frame not in items for frame in kept)
  if missing:
    remarks['frames without masks'] = f'{missing} of {len(kept)}'
  for frame in kept:
    plane = draw(items[frame]) if frame in items else None
    if frame == kept[-1]:
      check()
    yield plane


def numbered_files(
  folder: str, extensions: tuple[str, ...], number_needed: bool = True
) -> dict[int, str]:
  """The files of a folder by the numbers in their names.

  Args:
    folder: files of other extensions, and hidden ones, are not looked at.
    extensions: in lower case, with the dot.
    number_needed: whether a file without a number is an error, or is left out.

  Returns:
    {number: path}.

  Raises:
    ClipError: if the folder cannot be read, or if two files have the same number.
  """
  try:
    names = sorted(os.listdir(folder))
  except OSError as error:
    raise ClipError(f'{folder} cannot be read ({error.strerror})') from None
  names = [name for name in names if _is_mask(name, extensions)]
  numbers = _numbers(folder, names)
  files = {}
  for name in names:
    number = numbers.get(name)
    if number is None and number_needed:
      raise ClipError(f'{folder}/{name} has no frame number in its name; remove it or number it')
    if number in files:
      raise ClipError(
        f'{folder} has two masks numbered {number}, {os.path.basename(files[number])} and {name}; '
        'remove one'
      )
    if number is not None:
      files[number] = os.path.join(folder, name)
  return files


def _numbers(folder: str, names: Sequence[str]) -> dict[str, int]:
  """The frame's number of each file of a folder that has a number; see `names.frame_numbers`."""
  stems = {name: os.path.splitext(name)[0] for name in names}
  stems = {name: stem for name, stem in stems.items() if _DIGIT.search(stem)}
  # Its own name, or that of the folder above it, which is the clip's where each object has one.
  owners = folder.split(os.sep)[-2:]
  return dict(zip(stems, frame_numbers(list(stems.values()), folder, owners), strict=True))


def find_first(root: str, extensions: tuple[str, ...]) -> int | None:
  """Finds out from which number masks in folders below `root` count frames.

  Args:
    root: holds folders of masks, at any depth.
    extensions: of mask files.

  Returns:
    0 if any of the first folders has a mask numbered 0, or else 1 if any has one numbered 1;
    None if neither is there.

  Raises:
    UserError: the names tell no number in any folder, with the first folder's names.
  """
  first, known = None, False
  reasons: list[str] = []
  for numbers in numbers_of_folders(root, extensions, reasons):
    known = True
    if 0 in numbers:
      return 0
    if 1 in numbers:
      first = 1
  if reasons and not known:
    raise UserError(f'--masks: {reasons[0]}')
  return first


def numbers_of_folders(
  root: str, extensions: tuple[str, ...], reasons: list[str]
) -> Iterator[set[int]]:
  """The numbers of the masks in each of the first folders below `root` that have any mask.

  Args:
    root: holds folders of masks, at any depth.
    extensions: of mask files.
    reasons: gets why a folder's names tell no number, which is an error for its own clip.
  """
  looked_at = 0
  pending = [root]
  while pending and looked_at < LOOKED_AT:
    folder = pending.pop()
    subfolders, names, numbers = [], [], {}
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
      for entry in entries:
        if entry.is_dir():
          subfolders.append(entry.path)
        # Files in `root` itself are no clip's, and may be very many.
        elif folder != root and _is_mask(entry.name, extensions):
          names.append(entry.name)
    try:
      numbers = _numbers(folder, sorted(names))
    except ClipError as error:
      reasons.append(error.reason)
    if numbers:
      yield set(numbers.values())
      looked_at += 1
    pending += sorted(subfolders, reverse=True)


def decided_first(first: int | None, root: str) -> int:
  """`first` for a source, or a `UserError` where neither the user nor the files tell it."""
  if first is None:
    raise UserError(
      f'--masks: no mask numbered 0 or 1 was found under {root}, so that it is unknown from which '
      'number frames are counted; check the folder, or add first=0 or first=1 (either, where '
      'videos are folders of images that have the same numbers)'
    )
  return first


def _is_mask(name: str, extensions: tuple[str, ...]) -> bool:
  return name.lower().endswith(extensions) and not name.startswith('.')
