"""Masks made by a program of the user's."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from zsar_jax.datasets.masks.grey_images import THRESHOLD, read_grey, refuse_labels
from zsar_jax.errors import UserError
from zsar_jax.mask_making.frame_program import (
  FrameProgram,
  SizeCheck,
  find_images,
  frame_names,
  write_images,
)
from zsar_jax.mask_making.maker import FrameMask, MakerClip
from zsar_jax.recipes.regions import REGION_BITS

_LABELS_REMEDY = 'write 0 outside and 255 inside, in grey with 8 bits'


@dataclasses.dataclass(frozen=True)
class CommandSpec:
  """A program that turns a folder of frames into a folder of masks, a `maker.MakerSpec`.

  For each clip it is run once, on two temporary folders. {frames} has the frames as PNGs that are
  named by their number in the video, counted from 0, such as 000123.png. For each of them the
  program writes a grey mask of the same name and size to {masks}, as a PNG or JPEG, which is above
  128 inside of the region.

  Attributes:
    command: the command line, such as 'python segment.py {frames} {masks}'. No shell interprets it.
    region: 'person' or 'object', which the masks show.
  """

  command: str
  region: str = 'person'
  uses_device = False
  batch_frames = 0

  def __post_init__(self):
    if self.region not in ('person', 'object'):
      raise UserError(f'--region: {self.region!r} is neither person nor object')
    self._program()

  def open(self) -> 'CommandMaker':
    """Creates the maker; raises a `UserError` if there is no such program."""
    program = self._program()
    program.check_exists()
    return CommandMaker(program, self.region)

  def _program(self) -> FrameProgram:
    """Returns the program; raises a `UserError` if the command is no command line."""
    return FrameProgram('--command', self.command, ('frames', 'masks'))


@dataclasses.dataclass(frozen=True)
class CommandMaker:
  """Makes masks with a program, a `maker.Maker`.

  Attributes:
    program: the program.
    region: the region that its masks show.
  """

  program: FrameProgram
  region: str

  @property
  def regions(self) -> tuple[str, ...]:
    """See `Maker`."""
    return (self.region,)

  @property
  def provenance(self) -> dict[str, Any]:
    """See `Maker`."""
    return {
      'maker': 'command',
      'about': f'masks of the program {self.program.name}',
      'licenses': {},
      'command': self.program.command,
      'region': self.region,
    }

  def make(self, clips: Sequence[MakerClip]) -> Iterator[FrameMask | None]:
    """See `Maker`."""
    for clip in clips:
      yield from self._make_clip(clip)

  def _make_clip(self, clip: MakerClip) -> Iterator[FrameMask]:
    bit = np.uint8(REGION_BITS[self.region])
    names = frame_names(clip)
    check_size = SizeCheck(clip.facts.height, clip.facts.width)
    brightest = 0
    with self.program.workspace() as root:
      write_images(os.path.join(root, 'frames'), names, clip.frames)
      self.program.run(root)
      masks = os.path.join(root, 'masks')
      for path in find_images(masks, names, self.program.flag):
        values = read_grey(path, check_size, _LABELS_REMEDY)
        brightest = max(brightest, int(values.max()))
        yield FrameMask(np.where(values > THRESHOLD, bit, np.uint8(0)))
      refuse_labels(brightest, masks, _LABELS_REMEDY)
