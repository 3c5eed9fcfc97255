"""Which mask belongs to which frame: numbers in file names, and frames that have no mask."""

import contextlib
import dataclasses
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
  """

  first: int
  spread: bool = False

  def places(
    self, numbers: Collection[int], video: VideoFacts, where: str, remarks: Remarks
  ) -> dict[int, int]:
    """The number of each frame that has a mask.

    Args:
      numbers: of the clip's masks, each once.
      video: the decoded video.
      where: the clip's folder or file, for errors.
      remarks: gets 'masks beyond the end'.

    Returns:
      {frame, from 0: number}, for frames of the video alone.

    Raises:
      ClipError: where the numbers show that they count from the other first number.
    """
    numbers = sorted(numbers)
    if self.spread:
      frames = np.rint(np.linspace(0, video.num_frames - 1, len(numbers))).astype(int)
      return dict(zip(frames.tolist(), numbers, strict=True))
    if numbers and numbers[0] < self.first:
      raise ClipError(
        f'{where}: a mask is numbered {numbers[0]}, but frames are counted from {self.first}; '
        'add first=0 to --masks'
      )
    end = self.first + video.num_frames
    beyond = [number for number in numbers if number >= end]
    # Masks that count from 1, taken to count from 0, leave frame 0 without one and end one late.
    if self.first == 0 and numbers[:1] != [0] and beyond == [end]:
      raise ClipError(
        f'{where}: masks are numbered {numbers[0]} to {end} and the video has {end} frames, so '
        'that they count from 1; add first=1 to --masks'
      )
    if beyond:
      remarks['masks beyond the end'] = f'{len(beyond)} of {len(numbers)}, up to {beyond[-1]}'
    return {number - self.first: number for number in numbers if number < end}


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
  looked_at, first = 0, None
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
    if 0 in numbers:
      return 0
    if 1 in numbers:
      first = 1
    looked_at += bool(numbers)
    pending += sorted(subfolders, reverse=True)
  return first


def decided_first(first: int | None, root: str) -> int:
  """`first` for a source, or a `UserError` where neither the user nor the files tell it."""
  if first is None:
    raise UserError(
      f'--masks: no mask numbered 0 or 1 was found under {root}, so that it is unknown from which '
      'number frames are counted; check the folder, or add first=0 or first=1'
    )
  return first


def _is_mask(name: str, extensions: tuple[str, ...]) -> bool:
  return name.lower().endswith(extensions) and not name.startswith('.')
