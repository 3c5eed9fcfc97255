"""Makes the masks of groups of clips, and writes them.

A clip is done when its file exists, which `made_files` writes in one step. The same clips are the
same bytes however often a run is interrupted, and in however many shards it is divided: the groups
depend only on the list of clips, and a maker's batches only on the group. A clip that fails leaves
a file with the reason, and is tried again by the next run.
"""

import contextlib
import dataclasses
import functools
import json
import pathlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from zsar_jax.data import records
from zsar_jax.data.records import ClipError
from zsar_jax.datasets.mask_gates import MaskMeter, failed_gates
from zsar_jax.datasets.masks.made_files import (
  CLIP_SUFFIX,
  MadeClip,
  MadeFrame,
  clip_path,
  read_gates,
  write_clip,
)
from zsar_jax.datasets.video import Storage
from zsar_jax.mask_making.inpainting import Inpainter
from zsar_jax.mask_making.maker import FrameMask, Maker, MakerClip, MakerSpec
from zsar_jax.mask_making.refinement import Refinement, refine
from zsar_jax.mask_making.work import ClipWork, load_clip
from zsar_jax.storage.files import make_parent, write_file

# Of the files that say why a clip has no masks.
_FAILED_SUFFIX = '.failed'

# The masks of a clip's frames, as a maker yields them.
_Masks = Iterator[FrameMask | None]


@dataclasses.dataclass(frozen=True)
class Making:
  """Everything that is equal for all clips. It pickles.

  Attributes:
    root: the folder of the masks.
    regions: see `maker.Maker`.
    checksum: see `made_files.settings_checksum`.
    spec: creates the maker.
    storage: which frames and pixels of each video the maker gets.
    refinement: how the maker's masks are refined.
    inpainter: removes people from the frames, or None.
  """

  root: pathlib.Path
  regions: tuple[str, ...]
  checksum: str
  spec: MakerSpec
  storage: Storage
  refinement: Refinement
  inpainter: Inpainter | None = None


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What became of a clip.

  Attributes:
    name: the clip.
    frames: the number of frames with masks.
    gates: the gates that the masks fail, see `mask_gates`.
    failure: the reason why the clip has no masks, or None.
  """

  name: str
  frames: int = 0
  gates: Mapping[str, float] = dataclasses.field(default_factory=dict)
  failure: str | None = None


# A clip that was read, or the reason why it cannot be.
Loaded = MakerClip | str

_device_lock = threading.Lock()

# Takes a clip with its masks, and returns a function that gives the outcome when it is known.
Finish = Callable[[MakerClip, _Masks], Callable[[], Outcome]]


def is_done(root: pathlib.Path, name: str) -> bool:
  """Returns whether a clip has masks."""
  return clip_path(root, name).exists()


def have_all_failed(root: pathlib.Path) -> bool:
  """Returns whether clips have failed, and none has masks."""
  made, failed = (any(root.glob(f'clips/**/*{suffix}')) for suffix in (CLIP_SUFFIX, _FAILED_SUFFIX))
  return failed and not made


def failure_path(root: pathlib.Path, name: str) -> pathlib.Path:
  """Returns the path of the file that says why a clip has no masks."""
  return clip_path(root, name).with_suffix(_FAILED_SUFFIX)


def read_outcome(making: Making, name: str) -> Outcome:
  """Returns the outcome of a clip that this, another or an earlier process has made."""
  if is_done(making.root, name):
    try:
      return Outcome(name, *read_gates(clip_path(making.root, name), making.checksum))
    except ClipError as error:
      return Outcome(name, failure=error.reason)
  try:
    reason = str(json.loads(failure_path(making.root, name).read_text())['reason'])
  except (OSError, KeyError, TypeError, ValueError):
    reason = 'no process has reached it'
  return Outcome(name, failure=reason)


def load_group(group: Sequence[ClipWork], making: Making) -> list[Loaded]:
  """Reads the clips of a group; all of them, so that batches are the same in a later run.

  If no clip that still lacks masks can be read, the others are not read.
  """
  loaded: dict[str, Loaded] = {}
  # Those that lack masks come first.
  for work in sorted(group, key=lambda work: is_done(making.root, work.name)):
    done = is_done(making.root, work.name)
    if done and not any(isinstance(clip, MakerClip) for clip in loaded.values()):
      loaded[work.name] = 'it has masks'
      continue
    try:
      loaded[work.name] = load_clip(work, making.storage)
    except ClipError as error:
      loaded[work.name] = error.reason
  return [loaded[work.name] for work in group]


def make_group(
  group: Sequence[ClipWork], loaded: Sequence[Loaded], making: Making, maker: Maker, finish: Finish
) -> list[Callable[[], Outcome]]:
  """Makes the masks of a group's clips, except those that have masks.

  Returns a function for each of these clips, which waits for its outcome.

  Args:
    group: the clips.
    loaded: the result of `load_group`.
    making: the settings.
    maker: the maker.
    finish: writes the masks of a clip, now or in another thread: see `finish_now`.
  """
  clips = [clip for clip in loaded if isinstance(clip, MakerClip)]
  pending: list[Callable[[], Outcome]] = []
  masks = maker.make(clips)
  remaining = len(clips)
  for work, clip in zip(group, loaded, strict=True):
    done = is_done(making.root, work.name)
    if isinstance(clip, str):
      if not done:
        pending.append(functools.partial(_fail, making, work.name, clip))
      continue
    remaining -= 1
    # The last clip's masks end with the maker, which may fail it after its last mask.
    own = _take(masks, len(clip.frames)) if remaining else masks
    if done:
      for _ in own:  # The masks of the next clip come after these.
        pass
    else:
      pending.append(finish(clip, own))
  return pending


def finish_now(making: Making, clip: MakerClip, masks: _Masks) -> Callable[[], Outcome]:
  """Refines and writes the masks of a clip, in this thread."""
  outcome = finish_clip(making, clip, masks)
  return lambda: outcome


def finish_clip(making: Making, clip: MakerClip, masks: _Masks) -> Outcome:
  """Refines the masks of a clip, removes people from its frames, and writes both.

  Args:
    making: the settings.
    clip: the clip.
    masks: the mask of each of its frames.
  """
  meter = MaskMeter(making.regions)
  frames: list[MadeFrame] = []
  try:
    for mask in refine(masks, making.refinement):
      frames.append(_encode(mask))
      meter.add(mask.plane if mask else None, frames[-1])
    if making.inpainter:
      jpegs = making.inpainter.inpaint(clip, [frame.plane for frame in frames])
      frames = [
        dataclasses.replace(frame, inpainted=jpeg)
        for frame, jpeg in zip(frames, jpegs, strict=True)
      ]
  except ClipError as error:
    return _fail(making, clip.name, error.reason)
  assert len(frames) == len(clip.frames), f'{len(frames)} masks of {clip.name}'
  facts = clip.facts
  made = MadeClip(
    num_frames=facts.num_frames,
    numbers=facts.kept,
    height=facts.height,
    width=facts.width,
    thumbnails=facts.thumbnails,
    frames=tuple(frames),
    remarks=clip.remarks,
  )
  gates = failed_gates(meter.measures())
  write_clip(clip_path(making.root, clip.name), made, making.checksum, gates)
  failure_path(making.root, clip.name).unlink(missing_ok=True)
  return Outcome(clip.name, len(frames), gates)


def make_group_alone(group: Sequence[ClipWork], making: Making) -> list[Outcome]:
  """Makes the masks of a group with the maker of this process, which is created once."""
  loaded = load_group(group, making)
  finish = functools.partial(finish_now, making)
  # Beam may run several threads in a process, which have one network.
  with _device_lock if making.spec.uses_device else contextlib.nullcontext():
    pending = make_group(group, loaded, making, _open_once(making.spec), finish)
  return [outcome() for outcome in pending]


@functools.lru_cache(maxsize=1)
def _open_once(spec: MakerSpec) -> Maker:
  return spec.open()


def _take(masks: _Masks, count: int) -> _Masks:
  """Yields the next `count` masks."""
  for _ in range(count):
    yield next(masks)


def _encode(mask: FrameMask | None) -> MadeFrame:
  if mask is None:
    return MadeFrame(b'')
  plane = records.encode_plane(mask.plane)
  return MadeFrame(plane, mask.people, mask.score, mask.outside, mask.absent)


def _fail(making: Making, name: str, reason: str) -> Outcome:
  """Writes down why a clip has no masks."""
  path = failure_path(making.root, name)
  make_parent(path)
  write_file(path, json.dumps({'reason': reason}))
  return Outcome(name, failure=reason)
