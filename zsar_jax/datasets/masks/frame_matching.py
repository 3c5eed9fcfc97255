"""Matches numbered masks to the frames of a video."""

import dataclasses
import itertools
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.source import Remarks
from zsar_jax.runtime.wording import pluralize

# (stride, start): every `stride`-th frame has a mask, beginning with frame `start`, counted from
# 0. Where `start` is None, the first mask is of the frame that the format's programs begin with.
Stride = tuple[int, int | None]
EVERY_FRAME: Stride = (1, None)

# The kind of remark about masks that end as if they were of frames further apart.
ANOTHER_RATE = 'masks may be of another frame rate'


@dataclasses.dataclass(frozen=True)
class FrameNumbering:
  """How the numbers of masks map to frames.

  Attributes:
    first: the number of the mask of a clip's first frame, 0 or 1.
    spread: whether the masks are spread evenly over the video, so that numbers only order them.
    first_given: whether the user or the format states `first`; otherwise it is inferred from the
      numbers of other clips.
    stride: every `stride`-th frame has a mask.
    start: the frame, counted from 0, of a mask numbered `first`.
    options: the options of `--masks` with which the user may correct the mapping, for errors.
  """

  first: int
  spread: bool = False
  first_given: bool = False
  stride: int = 1
  start: int = 0
  options: tuple[str, ...] = ('stride=N', 'spread=yes')

  @property
  def parameters(self) -> dict[str, object]:
    """What determines the frame of each mask, as JSON values."""
    names = ('first', 'first_given', 'spread', 'stride', 'start')
    return {name: getattr(self, name) for name in names}

  def match(
    self,
    numbers: Collection[int],
    num_frames: int,
    frame_numbers: np.ndarray | None,
    where: str,
    remarks: Remarks,
  ) -> dict[int, int]:
    """Finds the frame of each mask.

    Where frames are numbered images and masks can have the same numbers, equal numbers match.
    Otherwise numbers are counted from `first`.

    Args:
      numbers: the numbers of the clip's masks, without duplicates.
      num_frames: the number of frames in the video.
      frame_numbers: i64[num_frames], the frames' numbers, ascending, where the video is a folder
        of images; None for a video file.
      where: the clip's folder or file, for errors.
      remarks: may receive 'masks beyond the end', 'masks without a frame', 'may count from 0',
        'may count from 1' and `ANOTHER_RATE`.

    Returns:
      {frame, counted from 0: number of its mask}, for frames of the video only.

    Raises:
      ClipError: The numbers count from another first number than `first`, cannot belong to the
        frames, or have gaps although the masks are spread evenly.
    """
    numbers = sorted(numbers)
    if not numbers:
      return {}
    if self.spread:
      return _match_evenly(numbers, num_frames, where)
    if frame_numbers is not None and self.stride == 1:
      return self._match_frame_numbers(numbers, frame_numbers.tolist(), where, remarks)
    return self._match_counted(numbers, num_frames, where, remarks)

  def searched_frames(self, num_frames: int, matched: Collection[int]) -> Collection[int]:
    """Returns the frames that a detector searched, including those where it found nothing.

    Args:
      num_frames: the number of frames in the video.
      matched: the frames with a detection.
    """
    return matched if self.spread else range(self.start, num_frames, self.stride)

  def _match_counted(
    self, numbers: list[int], num_frames: int, where: str, remarks: Remarks
  ) -> dict[int, int]:
    """Matches ascending numbers that count every `stride`-th frame from `first`."""
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
    # Masks that count from 1, taken to count from 0, leave out frame 0 and end one frame late.
    one_late = len(beyond) == 1 and max(frames) - self.stride < num_frames
    if self.first == 0 and numbers[0] and one_late:
      raise ClipError(f'{where}: {about}, so they count from 1; add first=1 to --masks')
    if self.first == 0 and numbers[0] and not self.first_given:
      if beyond:
        raise ClipError(
          f'{where}: {about}, so they may count from 1; add first=0 or first=1 to --masks'
        )
      remarks['may count from 1'] = about
    # Masks that count from 0, where no clip has a mask of frame 0, end before the last frame.
    if self.first == 1 and max(frames) + self.stride < num_frames and not self.first_given:
      remarks['may count from 0'] = about
    self._remark_on_end(numbers, min(frames), max(frames), num_frames, remarks)
    if beyond:
      remarks['masks beyond the end'] = f'{len(beyond)} of {len(numbers)}, up to {beyond[-1]}'
    return {frame: number for frame, number in frames.items() if frame < num_frames}

  def _match_frame_numbers(
    self, numbers: list[int], frame_numbers: Sequence[int], where: str, remarks: Remarks
  ) -> dict[int, int]:
    """Matches masks to frames with numbers of their own; both ascend, and neither is empty."""
    frames = {number: frame for frame, number in enumerate(frame_numbers)}
    first_frame, last_frame = frame_numbers[0], frame_numbers[-1]
    span = f'{numbers[0]} to {numbers[-1]}'
    shift = self._shift(numbers, frames, where)
    matches = {frames[number + shift]: number for number in numbers if number + shift in frames}
    beyond = sum(number + shift > last_frame for number in numbers)
    unmatched = len(numbers) - len(matches) - beyond
    # Positions count from the first frame's number, as if no frame were missing.
    first, last = (numbers[end] + shift - first_frame for end in (0, -1))
    count = last_frame - first_frame + 1
    about = f'masks are numbered {span} and the frames {first_frame} to {last_frame}'
    self._check_end(numbers, last, count, f'{where}: {about}')
    consecutive = list(range(first_frame, first_frame + len(frame_numbers)))
    if unmatched and numbers == consecutive:
      raise ClipError(
        f'{where}: masks are numbered {span} without a gap, but the numbers of the '
        f'{len(frame_numbers)} frames have gaps; give the masks the numbers of the frames'
      )
    self._remark_on_end(numbers, first, last, count, remarks)
    if beyond:
      remarks['masks beyond the end'] = f'{beyond} of {len(numbers)}, up to {numbers[-1]}'
    if unmatched:
      remarks['masks without a frame'] = f'{unmatched} of {len(numbers)}'
    # `first` is 0 where the masks of other clips count from 0.
    from_zero = self.first == 0 and first_frame == 1
    if not self.first_given and not shift and (first_frame == 0 < numbers[0] or from_zero):
      remarks[f'may count from {int(not from_zero)}'] = (
        f'masks are numbered {span} and frames {first_frame} to {last_frame}'
      )
    return matches

  def _shift(self, numbers: list[int], frames: Mapping[int, int], where: str) -> int:
    """Returns what to add to a mask's number to get its frame's, a key of `frames`."""
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
      f'{last}; give the masks the numbers of the frames, or add first=0 or first=1 to --masks'
    )

  def _tolerance(self, num_frames: int) -> int:
    """Returns by how many frames masks may end before or after their video.

    Programs differ by a frame or two in how many frames they find in a video. Another frame rate
    differs by 4 percent or more, such as 24 and 25 frames per second.
    """
    return max(2, num_frames // 50) + self.stride - 1

  def _check_end(self, numbers: list[int], last: int, num_frames: int, about: str) -> None:
    """Raises a `ClipError` if frame `last`, that of the last mask, is far beyond the end."""
    if last - (num_frames - 1) <= self._tolerance(num_frames):
      return
    stride = f' with stride={self.stride}' if self.stride > 1 else ''
    spread = 'spread=yes' in self.options
    raise ClipError(
      f'{about}, so{stride} they cannot belong to these frames and were made at another frame rate '
      "or from another video; make masks of the video's own frames"
      + (', or add spread=yes to --masks if they are spread evenly over it' if spread else '')
    )

  def _remark_on_end(
    self, numbers: list[int], first: int, last: int, num_frames: int, remarks: Remarks
  ) -> None:
    """Adds `ANOTHER_RATE` for masks of frames `first` to `last` that may be further apart.

    These are masks without gaps that end before the video, and any masks that end within its first
    half. A single mask has no rate.
    """
    gapless = len(numbers) == numbers[-1] - numbers[0] + 1
    early = gapless and first <= self.stride and last + self._tolerance(num_frames) < num_frames - 1
    if len(numbers) > 1 and (early or 2 * (last + 1) <= num_frames):
      options = f'; {" or ".join(self.options)} if they are of frames further apart'
      remarks[ANOTHER_RATE] = (
        f'{len(numbers)} masks, numbered {numbers[0]} to {numbers[-1]}, end at frame {last + 1} of '
        f'{num_frames}' + (options if self.options else '')
      )


def _match_evenly(numbers: list[int], num_frames: int, where: str) -> dict[int, int]:
  """`FrameNumbering.match` for masks that are spread evenly over the video."""
  for before, after in itertools.pairwise(numbers):
    if after != before + 1:
      raise ClipError(
        f'{where}: no mask is numbered {before + 1}, between {before} and {after}, so it is '
        'unknown how the masks are spread; number them without gaps, make them again, or give '
        'stride=, the number of frames from one mask to the next'
      )
  frames = np.rint(np.linspace(0, num_frames - 1, len(numbers))).astype(int)
  return dict(zip(frames.tolist(), numbers, strict=True))
