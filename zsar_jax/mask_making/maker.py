"""The interface of mask makers: what a maker gets of a clip, and what it returns for a frame."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from zsar_jax.data import records
from zsar_jax.datasets.masks.boxes import RegionBox
from zsar_jax.datasets.video import VideoFacts


@dataclasses.dataclass(frozen=True)
class StoredFrames(Sequence[np.ndarray]):
  """The K frames of a clip as a data set would store them; each is decoded on request.

  Attributes:
    jpegs: the encoded frames.
  """

  jpegs: list[bytes]

  def __len__(self) -> int:
    return len(self.jpegs)

  def __getitem__(self, index: Any) -> Any:
    """Returns u8[H, W, 3], the RGB frame at `index`; for a slice, the sequence of these frames."""
    if isinstance(index, slice):
      return StoredFrames(self.jpegs[index])
    return records.decode_frame(self.jpegs[index])


@dataclasses.dataclass(frozen=True)
class MakerClip:
  """A clip as a maker gets it. It pickles, so that worker processes can read it.

  Attributes:
    name: the path of the video below --videos, without its extension.
    frames: its K frames, those that a data set would store.
    facts: the size and the number of the frames; `facts.kept` are their numbers in the video.
    fps: kept frames per second.
    boxes: for a maker that takes boxes, those of each of the K frames, in pixels of the frames;
      None for a frame that nobody annotated.
    phrases: for a maker that takes texts, what to find: {text: the name of its region}.
    remarks: the observations about the video and the boxes, by kind.
  """

  name: str
  frames: StoredFrames
  facts: VideoFacts
  fps: float
  boxes: tuple[tuple[RegionBox, ...] | None, ...] | None = None
  phrases: dict[str, str] | None = None
  remarks: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class FrameMask:
  """The masks of one frame, as a maker makes them.

  Attributes:
    plane: u8[H, W], region plane at the size of the frame.
    people: the number of people in it; -1 if the maker does not count.
    score: the lowest score of the instances that are drawn, from 0 to 1; NaN if nothing was drawn
      or the maker gives no scores.
    outside: the share of the shapes' pixels that the maker removed because they lie outside of the
      given boxes; NaN without boxes or shapes.
    absent: the bits of the shapes that the frame lacks according to the boxes that the maker was
      given, so that it rightly shows none.
  """

  plane: np.ndarray
  people: int = -1
  score: float = np.nan
  outside: float = np.nan
  absent: int = 0


class Maker(Protocol):
  """Makes masks. A maker is used in one process and by one thread."""

  @property
  def regions(self) -> tuple[str, ...]:
    """The names in `regions.REGION_BITS` that the maker draws."""

  @property
  def provenance(self) -> dict[str, Any]:
    """How the masks are made, as JSON values, for made.json, build reports and studies.

    It has the keys 'maker', its name; 'about', a phrase for reports; 'licenses', {'code': ...,
    'weights': ...} or {}; and everything that changes the masks: the model, its revision,
    thresholds.
    """

  def make(self, clips: Sequence[MakerClip]) -> Iterator[FrameMask | None]:
    """Makes the masks of several clips, which may differ in size and in length.

    Args:
      clips: the clips, together about as many frames as fit into a batch, or a single long clip.
        Batches must be made of these clips alone: then the masks do not depend on which other
        clips were made before, in another process, or in an interrupted run.

    Yields:
      The mask of each frame of the first clip, in order, then of the second, and so on; None for a
      frame whose regions are unknown. Frames and masks of a long clip are never all in memory.

    Raises:
      records.ClipError: the masks of a clip cannot be made; only for a single clip.
    """


class MakerSpec(Protocol):
  """Creates a maker; a small frozen dataclass that pickles, so that processes can be given it."""

  # A process that gets equal specs creates the maker once.
  def __hash__(self) -> int: ...

  @property
  def uses_device(self) -> bool:
    """Whether the maker runs a network, in the main process; others run in worker processes."""

  @property
  def batch_frames(self) -> int:
    """The number of frames in a batch; 0 if the maker gets each clip alone."""

  def open(self) -> Maker:
    """Creates the maker; loads its weights.

    Raises:
      UserError: a package is missing, or the weights cannot be loaded.
    """
