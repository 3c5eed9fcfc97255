"""Which mask belongs to which frame: numbers in file names, and frames that have no mask."""

import contextlib
import dataclasses
import itertools
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TypeVar

import numpy as np

from zsar_jax.data.masks.source import Remarks
from zsar_jax.data.records import ClipError
from zsar_jax.data.video import VideoFacts
from zsar_jax.errors import UserError

_Item = TypeVar('_Item')

_DIGITS = re.compile(r'[0-9]+')

# How many clips' folders are looked at to find out from which number the frames count.
LOOKED_AT = 200


@dataclasses.dataclass(frozen=True)
class Counting:
  """How the numbers of masks stand for frames.

  Attributes:
    first: the number of a video's first frame, 0 or 1.
    spread: the masks are spread evenly over the video, and numbers only order them.
    first_given: whether the user or the format says what `first` is; otherwise it is what other
      clips' numbers suggest.
  """

  first: int
  spread: bool = False
  first_given: bool = False

  def places(
    self, numbers: Collection[int], video: VideoFacts, where: str, remarks: Remarks
  ) -> dict[int, int]:
    """The number of each frame that has a mask.

    Frames that are numbered images are known by their own numbers, where masks can have the same.

    Args:
      numbers: of the clip's masks, each once.
      video: the decoded video.
      where: the clip's folder or file, for errors.
      remarks: gets 'masks beyond the end', 'masks without a frame', 'may count from 0' or 'may
        count from 1'.

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
      return _spread(numbers, video.num_frames, where)
    if video.numbers is not None:
      return self._by_own_numbers(numbers, video.numbers.tolist(), where, remarks)
    if numbers[0] < self.first:
      raise ClipError(
        f'{where}: a mask is numbered {numbers[0]}, but frames are counted from {self.first}; '
        'add first=0 to --masks'
      )
    frames = video.num_frames
    end = self.first + frames
    beyond = [number for number in numbers if number >= end]
    about = f'masks are numbered {numbers[0]} to {numbers[-1]} and the video has {frames} frames'
    # Masks that count from 1, taken to count from 0, leave frame 0 without one and end one late.
    if self.first == 0 and numbers[0] and beyond == [end]:
      raise ClipError(
        f'{where}: masks are numbered {numbers[0]} to {end} and the video has {end} frames, so '
        'that they count from 1; add first=1 to --masks'
      )
    if self.first == 0 and numbers[0] and not self.first_given:
      if beyond:
        raise ClipError(
          f'{where}: {about}, so that they may count from 1; add first=0 or first=1 to --masks'
        )
      remarks['may count from 1'] = about
    # Masks that count from 0, of which no clip has one for frame 0, end before the last number.
    if self.first == 1 and numbers[-1] < frames and not self.first_given:
      remarks['may count from 0'] = about
    if beyond:
      remarks['masks beyond the end'] = f'{len(beyond)} of {len(numbers)}, up to {beyond[-1]}'
    return {number - self.first: number for number in numbers if number < end}

  def _by_own_numbers(
    self, numbers: list[int], own: list[int], where: str, remarks: Remarks
  ) -> dict[int, int]:
    """`places` for frames with numbers of their `own`; both ascend, and neither is empty."""
    frames = {number: frame for frame, number in enumerate(own)}
    shift = self._shift(numbers, frames, where)
    places = {frames[number + shift]: number for number in numbers if number + shift in frames}
    beyond = sum(number + shift > own[-1] for number in numbers)
    if beyond:
      remarks['masks beyond the end'] = f'{beyond} of {len(numbers)}, up to {numbers[-1]}'
    lost = len(numbers) - len(places) - beyond
    if lost and len(numbers) == len(own) and numbers == list(range(own[0], own[0] + len(own))):
      raise ClipError(
        f'{where}: masks are numbered {numbers[0]} to {numbers[-1]} without a gap, and as many '
        f'frames {own[0]} to {own[-1]} with gaps; number the masks as the frames are'
      )
    if lost:
      remarks['masks without a frame'] = f'{lost} of {len(numbers)}'
    if not self.first_given and not shift and own[0] == 0 < numbers[0]:
      remarks['may count from 1'] = (
        f'masks are numbered {numbers[0]} to {numbers[-1]} and frames 0 to {own[-1]}'
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


def _spread(numbers: list[int], num_frames: int, where: str) -> dict[int, int]:
  """`Counting.places` of masks that are spread evenly over the video."""
  for before, after in itertools.pairwise(numbers):
    if after != before + 1:
      raise ClipError(
        f'{where}: no mask is numbered {before + 1}, between {before} and {after}, and with a mask '
        'lost it is unknown how they are spread; number them without gaps, or make them again'
      )
  frames = np.rint(np.linspace(0, num_frames - 1, len(numbers))).astype(int)
  return dict(zip(frames.tolist(), numbers, strict=True))


def drawn(
  video: VideoFacts,
  items: Mapping[int, _Item],
  draw: Callable[[_Item], np.ndarray],
  remarks: Remarks,
) -> Iterator[np.ndarray | None]:
  """The planes of the kept frames.

  Args:
    video: the decoded video.
    items: what the plane of each annotated frame is drawn from.
    draw: the u8[H, W] plane of an item; called once for each kept frame that has one, in order.
    remarks: gets 'frames without masks'.
  """
  kept = video.kept.tolist()
  missing = sum(frame not in items for frame in kept)
  if missing:
    remarks['frames without masks'] = f'{missing} of {len(kept)}'
  for frame in kept:
    yield draw(items[frame]) if frame in items else None


def frame_number(name: str) -> int | None:
  """The last number in the name of a file, without its extension; None where it has none."""
  digits = _DIGITS.findall(os.path.splitext(name)[0])
  return int(digits[-1]) if digits else None


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
  files = {}
  for name in names:
    if not _is_mask(name, extensions):
      continue
    number = frame_number(name)
    if number is None:
      if number_needed:
        raise ClipError(f'{folder}/{name} has no frame number in its name; remove it or number it')
    elif number in files:
      raise ClipError(
        f'{folder} has two masks numbered {number}, {os.path.basename(files[number])} and {name}; '
        'remove one'
      )
    else:
      files[number] = os.path.join(folder, name)
  return files


def find_first(root: str, extensions: tuple[str, ...]) -> int | None:
  """Finds out from which number masks in folders below `root` count frames.

  Args:
    root: holds folders of masks, at any depth.
    extensions: of mask files.

  Returns:
    0 if any of the first folders has a mask numbered 0, or else 1 if any has one numbered 1;
    None if neither is there.
  """
  first = None
  for numbers in numbers_of_folders(root, extensions):
    if 0 in numbers:
      return 0
    if 1 in numbers:
      first = 1
  return first


def numbers_of_folders(root: str, extensions: tuple[str, ...]) -> Iterator[set[int]]:
  """The numbers of the masks in each of the first folders below `root` that have any mask."""
  looked_at = 0
  pending = [root]
  while pending and looked_at < LOOKED_AT:
    folder = pending.pop()
    subfolders, numbers = [], set()
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
      for entry in entries:
        if entry.is_dir():
          subfolders.append(entry.path)
        # Files in `root` itself are no clip's, and may be very many.
        elif folder != root and _is_mask(entry.name, extensions):
          numbers.add(frame_number(entry.name))
    numbers.discard(None)
    if numbers:
      yield numbers
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
