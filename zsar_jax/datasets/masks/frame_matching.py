"""Matches numbered masks to the frames of a video."""

import dataclasses
import itertools
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.source import Remarks
from zsar_jax.runtime.wording import pluralize

# (stride, start): every `stride`-th frame has a mask, beginning with frame `start`, counted from 0.
# If `start` is None, masks begin at the frame at which the programs that write the format begin.
Stride = tuple[int, int | None]
EVERY_FRAME: Stride = (1, None)

# The kind of remark about masks that end so early that their frames may be further apart.
ANOTHER_RATE = 'masks may be of another frame rate'


@dataclasses.dataclass(frozen=True)
class FrameNumbering:
  """How the numbers of masks map to frames.

  Attributes:
    first: the number of the mask of a clip's first frame, 0 or 1.
    spread: whether the masks are spread evenly over the video, so that numbers only order them.
    first_given: whether the user or the format gives `first`; otherwise it is inferred from the
      numbers of other clips.
    stride: every `stride`-th frame has a mask.
    start: the frame, counted from 0, of a mask numbered `first`.
    options: the options of `--masks` that correct the mapping, for errors.
  """

  first: int
  spread: bool = False
  first_given: bool = False
  stride: int = 1
  start: int = 0
  options: tuple[str, ...] = ('stride=N', 'spread=yes')

  @property
  def parameters(self) -> dict[str, object]:
    """The fields that determine the frame of each mask, as JSON values."""
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

    If the frames are numbered images and every frame may have a mask, the numbers of masks are
    compared with those of the frames. Otherwise the numbers of masks are counted from `first`.

    Args:
      numbers: the numbers of the clip's masks, without duplicates.
      num_frames: the number of frames in the video.
      frame_numbers: i64[num_frames], the ascending numbers of the frames if the video is a
        folder of images; None for a video file.
      where: the clip's folder or file, for errors.
      remarks: may receive 'masks beyond the end', 'masks without a frame', 'may count from 0',
        'may count from 1' and `ANOTHER_RATE`.

    Returns:
      {frame, counted from 0: number of its mask}, for frames of the video only.

    Raises:
      ClipError: The numbers do not count from `first`, cannot belong to the frames, or have gaps
        although the masks are spread evenly.
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
    matches = {self.start + (number - self.first) * self.stride: number for number in numbers}
    first_frame, last_frame = min(matches), max(matches)
    beyond_end = [number for frame, number in matches.items() if frame >= num_frames]
    span = f'{numbers[0]} to {numbers[-1]}'
    facts = f'masks are numbered {span} and the video has {pluralize(num_frames, "frame")}'
    self._check_end(last_frame, num_frames, f'{where}: {facts}')
    # If masks count from 1 but are counted from 0, frame 0 has no mask and the last mask belongs to
    # the frame after the last one.
    ends_one_late = len(beyond_end) == 1 and last_frame - self.stride < num_frames
    if self.first == 0 and numbers[0] and ends_one_late:
      raise ClipError(f'{where}: {facts}, so they count from 1; add first=1 to --masks')
    if self.first == 0 and numbers[0] and not self.first_given:
      if beyond_end:
        raise ClipError(
          f'{where}: {facts}, so they may count from 1; add first=0 or first=1 to --masks'
        )
      remarks['may count from 1'] = facts
    # If masks count from 0 but no clip has a mask of frame 0, `first` is 1 and they end too early.
    if self.first == 1 and last_frame + self.stride < num_frames and not self.first_given:
      remarks['may count from 0'] = facts
    self._remark_on_end(numbers, first_frame, last_frame, num_frames, remarks)
    if beyond_end:
      remarks['masks beyond the end'] = (
        f'{len(beyond_end)} of {len(numbers)}, up to {beyond_end[-1]}'
      )
    return {frame: number for frame, number in matches.items() if frame < num_frames}

  def _match_frame_numbers(
    self, numbers: list[int], frame_numbers: Sequence[int], where: str, remarks: Remarks
  ) -> dict[int, int]:
    """Matches masks to numbered frames; both lists of numbers ascend, and neither is empty."""
    frames = {number: frame for frame, number in enumerate(frame_numbers)}
    lowest, highest = frame_numbers[0], frame_numbers[-1]
    span = f'{numbers[0]} to {numbers[-1]}'
    shift = self._shift(numbers, frames, where)
    matches = {frames[number + shift]: number for number in numbers if number + shift in frames}
    num_beyond_end = sum(number + shift > highest for number in numbers)
    num_unmatched = len(numbers) - len(matches) - num_beyond_end
    # The frames that the masks would have if the numbers of the frames had no gaps.
    first_frame, last_frame = (numbers[end] + shift - lowest for end in (0, -1))
    num_frames = highest - lowest + 1
    self._check_end(
      last_frame,
      num_frames,
      f'{where}: masks are numbered {span} and the frames {lowest} to {highest}',
    )
    consecutive = list(range(lowest, lowest + len(frame_numbers)))
    if num_unmatched and numbers == consecutive:
      raise ClipError(
        f'{where}: masks are numbered {span} without a gap, but the numbers of the '
        f'{len(frame_numbers)} frames have gaps; give the masks the numbers of the frames'
      )
    self._remark_on_end(numbers, first_frame, last_frame, num_frames, remarks)
    if num_beyond_end:
      remarks['masks beyond the end'] = f'{num_beyond_end} of {len(numbers)}, up to {numbers[-1]}'
    if num_unmatched:
      remarks['masks without a frame'] = f'{num_unmatched} of {len(numbers)}'
    # `first` is 0 if the masks of other clips count from 0.
    may_count_from_0 = self.first == 0 and lowest == 1
    may_count_from_1 = lowest == 0 < numbers[0]
    if not self.first_given and not shift and (may_count_from_0 or may_count_from_1):
      remarks[f'may count from {0 if may_count_from_0 else 1}'] = (
        f'masks are numbered {span} and frames {lowest} to {highest}'
      )
    return matches

  def _shift(self, numbers: list[int], frames: Mapping[int, int], where: str) -> int:
    """Returns the difference between the number of a frame, a key of `frames`, and of its mask."""
    lowest, highest = min(frames), max(frames)
    shift = lowest - self.first
    fits_shifted = all(number + shift in frames for number in numbers)
    fits_unshifted = lowest <= numbers[0] and (
      numbers[-1] <= highest or numbers[0] == lowest or (self.first_given and not shift)
    )
    if fits_shifted and self.first_given and abs(shift) <= 1:
      return shift
    if fits_unshifted:
      return 0
    if fits_shifted and (self.first_given or abs(shift) == 1):
      return shift
    raise ClipError(
      f'{where}: masks are numbered {numbers[0]} to {numbers[-1]} and the frames {lowest} to '
      f'{highest}; give the masks the numbers of the frames, or add first=0 or first=1 to --masks'
    )

  def _tolerance(self, num_frames: int) -> int:
    """Returns how many frames before or after the end of the video the masks may end.

    Programs disagree by a frame or two about the number of frames in a video. Frame rates differ by
    4 percent or more, such as 24 and 25 frames per second.
    """
    return max(2, num_frames // 50) + self.stride - 1

  def _check_end(self, last_frame: int, num_frames: int, facts: str) -> None:
    """Raises a `ClipError` that begins with `facts` if the last mask is far beyond the end."""
    if last_frame - (num_frames - 1) <= self._tolerance(num_frames):
      return
    stride = f' with stride={self.stride}' if self.stride > 1 else ''
    can_spread = 'spread=yes' in self.options
    raise ClipError(
      f'{facts}, so{stride} they cannot belong to these frames and were made at another frame rate '
      "or from another video; make masks of the video's own frames"
      + (', or add spread=yes to --masks if they are spread evenly over it' if can_spread else '')
    )

  def _remark_on_end(
    self,
    numbers: list[int],
    first_frame: int,
    last_frame: int,
    num_frames: int,
    remarks: Remarks,
  ) -> None:
    """Adds the remark `ANOTHER_RATE` if the masks end so early that they may be further apart.

    Masks without gaps end too early if they end before the video, other masks if they end in its
    first half. A single mask has no rate.
    """
    gapless = len(numbers) == numbers[-1] - numbers[0] + 1
    ends_early = last_frame + self._tolerance(num_frames) < num_frames - 1
    ends_early = ends_early and gapless and first_frame <= self.stride
    if len(numbers) > 1 and (ends_early or 2 * (last_frame + 1) <= num_frames):
      options = f'; {" or ".join(self.options)} if they are of frames further apart'
      remarks[ANOTHER_RATE] = (
        f'{len(numbers)} masks, numbered {numbers[0]} to {numbers[-1]}, end at frame '
        f'{last_frame + 1} of {num_frames}' + (options if self.options else '')
      )


def _match_evenly(numbers: list[int], num_frames: int, where: str) -> dict[int, int]:
  """Matches masks that are spread evenly over the video; see `FrameNumbering.match`."""
  for number, next_number in itertools.pairwise(numbers):
    if next_number != number + 1:
      raise ClipError(
        f'{where}: no mask is numbered {number + 1}, between {number} and {next_number}, so it '
        'is unknown how the masks are spread; number them without gaps, make them again, or give '
        'stride=, the number of frames from one mask to the next'
      )
  frames = np.rint(np.linspace(0, num_frames - 1, len(numbers))).astype(int)
  return dict(zip(frames.tolist(), numbers, strict=True))
