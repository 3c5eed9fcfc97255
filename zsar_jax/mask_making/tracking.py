"""The maker `track`: persons and objects followed through a clip by the video model of SAM 2.1.

A clip is cut into scenes, and a scene into windows of frames, which fit into memory. Boxes from a
detector or a file begin a track in every few frames, unless something tracked is there already. A
window is tracked forwards, and then backwards to the frames before the first box of each track.
Tracks continue in the next window, from their masks in the frame that both windows have; before
the first box of a scene, they continue in the previous window. Boxes only begin tracks: a frame
without boxes shows what is tracked, since detectors miss things. If a scene has no boxes at all,
its frames are empty where that is known, and unknown elsewhere.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from zsar_jax.data import records
from zsar_jax.datasets.masks.boxes import RegionBox
from zsar_jax.mask_making.box_shapes import MIN_SIDE, usable_boxes
from zsar_jax.mask_making.licenses import join_licenses
from zsar_jax.mask_making.maker import FrameMask, MakerClip, StoredFrames
from zsar_jax.mask_making.person import PersonSpec
from zsar_jax.mask_making.person_models import PersonSegmenter, open_segmenter
from zsar_jax.mask_making.sam_video import SamSession, load_tracker
from zsar_jax.mask_making.track_window import (
  MAX_OBJECTS,
  SAME_OBJECT,
  Session,
  Visible,
  WindowTracker,
)

# Frames in a window. SAM 2 keeps 13 MB for each, and on the device about 2 MB for each object.
_WINDOW = 32

# Frames from a frame whose boxes begin tracks to the next.
_SEED_STEP = 4

# A scene ends where the thumbnails of neighboring frames differ, on average over their pixels, by
# this many levels, and by this many times the clip's median. A hand-held camera that is shaken
# reaches 30 levels; frames far apart differ as much throughout a clip.
_CUT_LEVELS = 32
_CUT_RATIO = 3


@dataclasses.dataclass(frozen=True)
class TrackSpec:
  """Creates a `TrackMaker`; see `maker.MakerSpec`.

  Attributes:
    model: the checkpoint of SAM 2.1's video model, see `loading.load_model`.
    person: the segmenter whose people are tracked; None for boxes from files, `MakerClip.boxes`.
    regions: the regions that the boxes can have, of 'person' and 'object'.
    device: see `loading.choose_device`.
  """

  model: str
  person: PersonSpec | None = None
  regions: tuple[str, ...] = ('person',)
  device: str = 'auto'

  uses_device = True
  # Each clip alone.
  batch_frames = 0

  def open(self) -> 'TrackMaker':
    """Loads the networks.

    Raises:
      UserError: one of them cannot be loaded.
    """
    loaded = load_tracker(self.model, flag='--track', device=self.device)
    provenance: dict[str, Any] = {
      'maker': 'track',
      'about': f'boxes tracked by {loaded.provenance["model"]}',
      'licenses': loaded.licenses,
      **loaded.provenance,
      'window': _WINDOW,
      'seed_step': _SEED_STEP,
      'same_object': SAME_OBJECT,
      'max_objects': MAX_OBJECTS,
      'min_box_side': MIN_SIDE,
      'cut': [_CUT_LEVELS, _CUT_RATIO],
    }
    detector = None
    if self.person is not None:
      segmenter = open_segmenter(
        self.person.model,
        threshold=self.person.threshold,
        flag='--person',
        device=self.device,
      )
      detector = _PeopleDetector(segmenter, self.person.batch_frames)
      identity = {'threshold': self.person.threshold, **segmenter.provenance}
      identity.pop('notes')  # The same as the tracker's.
      provenance |= {
        'about': f'people found by {identity["model"]}, tracked by {loaded.provenance["model"]}',
        'licenses': join_licenses(loaded.licenses, segmenter.licenses),
        'detector': identity,
      }
    return TrackMaker(self.regions, provenance, lambda frames: SamSession(loaded, frames), detector)


class _PeopleDetector:
  """Finds the boxes of people."""

  def __init__(self, segmenter: PersonSegmenter, batch: int):
    self._segmenter, self._batch = segmenter, batch

  def __call__(self, frames: Sequence[np.ndarray]) -> list[list[RegionBox]]:
    """Returns the boxes in each frame; `frames` may decode them when they are needed."""
    boxes = []
    for start in range(0, len(frames), self._batch):
      batch = [frames[index] for index in range(start, min(start + self._batch, len(frames)))]
      for people in self._segmenter(batch):
        boxes.append(
          [
            RegionBox('person', x1, y1, x2, y2, score)
            for (x1, y1, x2, y2), score in zip(
              people.boxes.tolist(), people.scores.tolist(), strict=True
            )
          ]
        )
    return boxes


class TrackMaker:
  """Tracks persons and objects; see `maker.Maker`.

  Attributes:
    regions: see `maker.Maker`.
    provenance: see `maker.Maker`.
  """

  def __init__(
    self,
    regions: tuple[str, ...],
    provenance: dict[str, Any],
    open_session: Callable[[Sequence[np.ndarray]], Session],
    detect: Callable[[Sequence[np.ndarray]], list[list[RegionBox]]] | None,
  ):
    """Creates the maker.

    Args:
      regions: those of the boxes.
      provenance: see `maker.Maker`.
      open_session: begins to track through frames.
      detect: finds the boxes in frames; None for those of the clip.
    """
    self.regions, self.provenance = regions, provenance
    self._open_session, self._detect = open_session, detect

  def make(self, clips: Sequence[MakerClip]) -> Iterator[FrameMask | None]:
    """See `maker.Maker`."""
    for clip in clips:
      for start, stop in split_scenes(clip.facts.thumbnails):
        seeds = self._find_seeds(clip, start, stop)
        if seeds:
          yield from self._track_scene(clip, start, stop, seeds)
        else:
          for frame in range(start, stop):
            annotated = clip.boxes is None or clip.boxes[frame] is not None
            yield _blank(clip) if annotated else None

  def _find_seeds(self, clip: MakerClip, start: int, stop: int) -> dict[int, list[RegionBox]]:
    """Returns the boxes that may begin tracks in a scene, by frame; frames without are left out."""
    if self._detect is None:
      assert clip.boxes is not None
      frames = range(start, stop)
      return _thin_out(_usable(clip, frames, [clip.boxes[frame] or () for frame in frames]))
    frames = sorted({*range(start, stop, _SEED_STEP), stop - 1})
    if seeds := self._detect_in(clip, frames):
      return seeds
    # Someone may be there for a moment only.
    return _thin_out(self._detect_in(clip, sorted(set(range(start, stop)).difference(frames))))

  def _detect_in(self, clip: MakerClip, frames: Sequence[int]) -> dict[int, list[RegionBox]]:
    assert self._detect is not None
    stored = StoredFrames([clip.frames.jpegs[frame] for frame in frames])
    return _usable(clip, frames, self._detect(stored))

  def _track_scene(
    self, clip: MakerClip, start: int, stop: int, seeds: Mapping[int, list[RegionBox]]
  ) -> Iterator[FrameMask]:
    """Yields the masks of a scene with boxes."""
    windows = _split_windows(start, stop)
    first = next(index for index, window in enumerate(windows) if min(seeds) in window)
    packed: dict[int, _PackedMask] = {}
    begin, end = self._track_window(clip, windows[first], seeds, [], False, packed)
    for window in reversed(windows[:first]):
      begin, _ = self._track_window(clip, window, seeds, begin, True, packed)
    for window in windows[first + 1 :]:
      _, end = self._track_window(clip, window, seeds, end, False, packed)
    for frame in range(start, stop):
      yield packed[frame].unpack(clip) if frame in packed else _blank(clip)

  def _track_window(
    self,
    clip: MakerClip,
    window: range,
    seeds: Mapping[int, list[RegionBox]],
    carried: list[Visible],
    at_end: bool,
    packed: dict[int, '_PackedMask'],
  ) -> tuple[list[Visible], list[Visible]]:
    """Tracks the objects of a window.

    Args:
      clip: the clip.
      window: its frames.
      seeds: see `_find_seeds`.
      carried: the objects that are tracked already, in the first frame of the window.
      at_end: whether they are in its last frame instead.
      packed: receives the masks of the frames that have none yet.

    Returns:
      What is visible in the first frame of the window, and in its last.
    """
    # A frame that another window has too was searched there.
    inside = {
      seed - window.start: boxes
      for seed, boxes in seeds.items()
      if seed in window and seed not in packed
    }
    if not carried and not inside:
      return [], []
    frames = list(clip.frames[window.start : window.stop])
    tracker = WindowTracker(self._open_session(frames), len(window), frames[0].shape[:2])
    if carried:
      tracker.carry(len(window) - 1 if at_end else 0, carried)
    tracker.track_forwards(inside)
    tracker.track_backwards()
    for frame, mask in zip(window, tracker.masks(), strict=True):
      packed.setdefault(frame, _PackedMask.pack(mask))
    return tracker.visible(0), tracker.visible(len(window) - 1)


class _PackedMask(NamedTuple):
  """A `FrameMask` whose plane is encoded, to be small."""

  code: bytes
  people: int
  score: float

  @classmethod
  def pack(cls, mask: FrameMask) -> '_PackedMask':
    """Encodes the plane."""
    return cls(records.encode_plane(mask.plane), mask.people, mask.score)

  def unpack(self, clip: MakerClip) -> FrameMask:
    """Decodes the plane."""
    plane = records.decode_plane(self.code, clip.facts.height, clip.facts.width)
    return FrameMask(plane, self.people, self.score)


def split_scenes(thumbnails: np.ndarray) -> list[tuple[int, int]]:
  """Splits a clip where neighboring frames differ too strongly to be of one scene.

  Args:
    thumbnails: u8[K, S, S], see `VideoFacts`.

  Returns:
    The first frame of each scene and the frame after its last.
  """
  steps = np.abs(np.diff(thumbnails.astype(np.int16), axis=0)).mean((1, 2))
  # Without frames after the first, there is no median.
  limit = max(_CUT_LEVELS, _CUT_RATIO * np.median(steps)) if len(steps) else _CUT_LEVELS
  edges = [0, *(np.flatnonzero(steps > limit) + 1).tolist(), len(thumbnails)]
  return list(itertools.pairwise(edges))


def _split_windows(start: int, stop: int) -> list[range]:
  """Splits a scene into windows, each of which begins with the last frame of the one before."""
  starts = range(start, max(start + 1, stop - 1), _WINDOW - 1)
  return [range(first, min(first + _WINDOW, stop)) for first in starts]


def _usable(
  clip: MakerClip, frames: Sequence[int], boxes: Sequence[Sequence[RegionBox]]
) -> dict[int, list[RegionBox]]:
  """Returns the usable boxes by frame, without the frames that have none."""
  height, width = clip.facts.height, clip.facts.width
  usable = {
    frame: usable_boxes(own, height, width) for frame, own in zip(frames, boxes, strict=True)
  }
  return {frame: own for frame, own in usable.items() if own}


def _thin_out(boxes: Mapping[int, list[RegionBox]]) -> dict[int, list[RegionBox]]:
  """Returns the boxes of the first frame and of later ones that are `_SEED_STEP` frames apart."""
  thinned: dict[int, list[RegionBox]] = {}
  for frame, own in boxes.items():
    if not thinned or frame >= max(thinned) + _SEED_STEP:
      thinned[frame] = own
  return thinned


def _blank(clip: MakerClip) -> FrameMask:
  return FrameMask(np.zeros((clip.facts.height, clip.facts.width), np.uint8), people=0)
