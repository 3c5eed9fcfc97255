"""A maker without a network: bright pixels are a person. Its masks depend on their batch."""

import dataclasses
import pathlib
import time
import weakref

import numpy as np

from zsar_jax.data.records import ClipError
from zsar_jax.mask_making.maker import FrameMask


@dataclasses.dataclass(frozen=True)
class StubSpec:
  """Creates the stub; fields as in `maker.MakerSpec`.

  Attributes:
    folder: receives an empty file '{clip}-{frame}' for each frame that is made. A file
      'fail-{clip}' there makes a clip fail, 'late-{clip}' does so after its last mask, and
      'interrupt-{clip}' is a Ctrl-C within it.
    threshold: of the luminance.
    seconds: how long a frame takes.
  """

  folder: str
  uses_device: bool = True
  batch_frames: int = 8
  threshold: int = 100
  seconds: float = 0.0

  def open(self) -> 'StubMaker':
    return StubMaker(self)


class StubMaker:
  """The stub.

  Attributes:
    most_alive: the largest number of masks that existed at once in this process.
  """

  regions = ('person',)
  _alive = 0
  most_alive = 0

  def __init__(self, spec: StubSpec):
    self._spec = spec
    self.provenance = {
      'maker': 'stub',
      'about': 'bright pixels',
      'threshold': spec.threshold,
      'licenses': {'code': 'none', 'weights': 'none'},
      'notes': {'folder': spec.folder},
    }

  def make(self, clips):
    spec, folder = self._spec, pathlib.Path(self._spec.folder)
    frames = [(clip, index) for clip in clips for index in range(len(clip.frames))]
    size = spec.batch_frames or len(frames)
    for start in range(0, len(frames), size):
      batch = frames[start : start + size]
      # As rounding in a network would, a little of the other frames of the batch shows.
      names = ' '.join(f'{clip.name} {index}' for clip, index in batch)
      offset = sum(names.encode()) % 7
      for clip, index in batch:
        name = clip.name.replace('/', '_')
        if (folder / f'fail-{name}').exists():
          raise ClipError(f'{clip.name} fails')
        if (folder / f'interrupt-{name}').exists() and index == 1:
          raise KeyboardInterrupt
        time.sleep(spec.seconds)
        (folder / f'{name}-{index}').touch()
        bright = clip.frames[index].max(axis=2) > spec.threshold
        plane = bright.astype(np.uint8)
        plane[0, offset] ^= 1
        yield _count(FrameMask(plane, people=int(bright.any()), score=0.25 + offset / 100))
    if (folder / f'late-{clips[-1].name.replace("/", "_")}').exists():
      raise ClipError(f'{clips[-1].name} fails late')


def _count(mask: FrameMask) -> FrameMask:
  def forget() -> None:
    StubMaker._alive -= 1

  StubMaker._alive += 1
  StubMaker.most_alive = max(StubMaker.most_alive, StubMaker._alive)
  weakref.finalize(mask, forget)
  return mask
