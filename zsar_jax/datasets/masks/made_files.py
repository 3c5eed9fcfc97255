"""The files of masks that `zsar make-masks` makes: one for each clip, and one for their maker.

    {root}/made.json            how the masks were made: a JSON object, see `maker.Maker.provenance`
    {root}/clips/{name}.masks   the masks of the video `{name}`

A clip's file is a line of JSON, the header, followed by bytes: the planes of its frames, as
`records.encode_plane` encodes them, and then their inpainted frames, as JPEGs. The header states
which frames of the video these are, so that it need not be inferred. The same masks are the same
bytes.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from zsar_jax.data import records
from zsar_jax.data.records import ClipError
from zsar_jax.datasets.video import THUMBNAIL_SIDE
from zsar_jax.errors import UserError
from zsar_jax.recipes.regions import REGION_BITS
from zsar_jax.storage.files import make_parent, open_atomically, write_file
from zsar_jax.storage.paths import as_path

# The version of the format; changes if files can no longer be read by earlier versions.
_FORMAT = 1

SETTINGS_FILE = 'made.json'

# Of the files of clips.
CLIP_SUFFIX = '.masks'

# The key in made.json of facts that do not identify the masks, such as the versions of libraries,
# and among these, that of the folder of the videos.
NOTES = 'notes'
VIDEOS = 'videos'

# The key in made.json of how people were removed from the frames; null if they were not.
INPAINTING = 'inpainting'

# Bytes. A header has less than 300 for each frame.
_MAX_HEADER = 1 << 28


@dataclasses.dataclass(frozen=True)
class MadeFrame:
  """The masks of one frame.

  Attributes:
    plane: the encoded region plane, see `records.encode_plane`; b'' for a frame whose regions are
      unknown, such as one that nobody annotated with a box.
    people: the number of people that the maker found; -1 if it does not count.
    score: the lowest score of what was drawn, from 0 to 1; NaN if nothing was drawn or the maker
      gives no scores.
    outside: the share of the shapes' pixels that were removed because they lie outside of the boxes
      that the maker was given; NaN without boxes or shapes.
    absent: the bits of the shapes that the frame lacks according to these boxes.
    inpainted: the frame without people, as a JPEG; b'' if nothing was removed from it.
  """

  plane: bytes
  people: int = -1
  score: float = np.nan
  outside: float = np.nan
  absent: int = 0
  inpainted: bytes = b''


@dataclasses.dataclass(frozen=True)
class MadeClip:
  """The masks of a clip.

  Attributes:
    num_frames: N, the number of frames in the video.
    numbers: i64[K], the frames with masks, ascending, counted from 0.
    height: H, of the planes in pixels.
    width: W, of the planes in pixels.
    thumbnails: u8[K, S, S], the frames at the size `THUMBNAIL_SIDE`, to recognize them.
    frames: the K masks.
    remarks: the observations about the video and the boxes that the maker was given, by kind.
  """

  num_frames: int
  numbers: np.ndarray
  height: int
  width: int
  thumbnails: np.ndarray
  frames: tuple[MadeFrame, ...]
  remarks: dict[str, str] = dataclasses.field(default_factory=dict)


def clip_path(root: str | os.PathLike[str], name: str) -> pathlib.Path:
  """Returns the path of the masks of the video `name`, see `listing.ListedClip.name`."""
  return as_path(root, 'the folder of masks') / 'clips' / f'{name}{CLIP_SUFFIX}'


def settings_checksum(settings: dict[str, Any]) -> str:
  """Returns a text that differs for masks that were made in another way, up to their notes."""
  settings = {name: value for name, value in settings.items() if name != NOTES}
  return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def write_settings(root: pathlib.Path, settings: dict[str, Any]) -> None:
  """Writes made.json."""
  write_file(root / SETTINGS_FILE, json.dumps({'format': _FORMAT, **settings}, indent=1) + '\n')


def read_settings(root: str | os.PathLike[str]) -> dict[str, Any]:
  """Reads made.json.

  Raises:
    UserError: the file is missing or damaged.
  """
  path = as_path(root, 'the folder of masks') / SETTINGS_FILE
  try:
    settings = json.loads(path.read_text(encoding='utf-8'))
    if settings.pop('format') != _FORMAT:
      raise UserError(f'{path} was written by a later version; update zsar_jax')
    regions = settings['regions']
    if not regions or not set(regions) <= set(REGION_BITS):
      raise ValueError(f'regions {regions}')
  except FileNotFoundError:
    raise UserError(f'{root} has no {SETTINGS_FILE}; give the --out of zsar make-masks') from None
  except (OSError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
    raise UserError(
      f'{path} is damaged ({error}); delete {root} and make the masks again'
    ) from None
  return settings


def write_clip(
  path: pathlib.Path, clip: MadeClip, checksum: str, gates: Mapping[str, float] | None = None
) -> None:
  """Writes the masks of a clip; the file gets its name only when it is complete.

  Args:
    path: the result of `clip_path`; its folder is created.
    clip: the masks.
    checksum: the result of `settings_checksum`.
    gates: the gates that the masks fail, see `mask_gates`, for reports.
  """
  frames = clip.frames
  header = {
    'format': _FORMAT,
    'settings': checksum,
    'num_frames': clip.num_frames,
    'numbers': clip.numbers.tolist(),
    'size': [clip.height, clip.width],
    'thumbnails': clip.thumbnails.tobytes().hex(),
    'planes': [len(frame.plane) for frame in frames],
    'inpainted': [len(frame.inpainted) for frame in frames],
    'people': [frame.people for frame in frames],
    'score': [_rounded(frame.score) for frame in frames],
    'outside': [_rounded(frame.outside) for frame in frames],
    'absent': [frame.absent for frame in frames],
    'gates': dict(gates or {}),
    'remarks': clip.remarks,
  }
  make_parent(path)
  with open_atomically(path) as file:
    file.write(json.dumps(header).encode() + b'\n')
    file.writelines(frame.plane for frame in frames)
    file.writelines(frame.inpainted for frame in frames)


def read_gates(path: str | os.PathLike[str], checksum: str) -> tuple[int, dict[str, float]]:
  """Returns the number of frames of a clip's file, and the gates that its masks fail.

  Args:
    path: the file.
    checksum: the result of `settings_checksum` for the masks' made.json.

  Raises:
    records.ClipError: the file is damaged, or was made in another way than its made.json says.
  """
  try:
    with as_path(path, 'the folder of masks').open('rb') as file:
      header, _ = _read_header(file, path, checksum)
    gates = {str(name): float(value) for name, value in header['gates'].items()}
    return len(header['planes']), gates
  except (OSError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
    raise ClipError(f'{path} is damaged ({error}); delete it and make it again') from None


def read_clip(path: str | os.PathLike[str], checksum: str | None = None) -> MadeClip:
  """Reads the masks of a clip.

  Args:
    path: the file.
    checksum: the result of `settings_checksum` for the masks' made.json; None compares nothing.

  Raises:
    records.ClipError: the file is damaged, or was made in another way than its made.json says.
  """
  try:
    with as_path(path, 'the folder of masks').open('rb') as file:
      header, lengths = _read_header(file, path, checksum)
      contents = [file.read(length) for length in lengths]
    count = len(header['planes'])
    thumbnails = np.frombuffer(bytes.fromhex(header['thumbnails']), np.uint8)
    clip = MadeClip(
      num_frames=int(header['num_frames']),
      numbers=np.array(header['numbers'], np.int64),
      height=int(header['size'][0]),
      width=int(header['size'][1]),
      thumbnails=thumbnails.reshape(count, THUMBNAIL_SIDE, THUMBNAIL_SIDE),
      frames=tuple(
        MadeFrame(plane, int(people), _number(score), _number(outside), int(absent), inpainted)
        for plane, inpainted, people, score, outside, absent in zip(
          contents[:count],
          contents[count:],
          header['people'],
          header['score'],
          header['outside'],
          header['absent'],
          strict=True,
        )
      ),
      remarks={str(kind): str(details) for kind, details in header['remarks'].items()},
    )
    if clip.numbers.shape != (count,) or not count or not _ascends(clip):
      raise ValueError('its frame numbers do not ascend within the video')
  except FileNotFoundError:
    raise ClipError(f'{path} does not exist', missing=True) from None
  except (
    OSError,
    AttributeError,
    IndexError,
    KeyError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
  ) as error:
    raise ClipError(f'{path} is damaged ({error}); delete it and make it again') from None
  return clip


def _read_header(
  file: BinaryIO, path: str | os.PathLike[str], checksum: str | None
) -> tuple[dict[str, Any], list[int]]:
  """Reads the header of a clip's file.

  Args:
    file: the file, at its beginning.
    path: its path, for errors.
    checksum: see `read_clip`.

  Returns:
    The header, and the lengths of what follows it in bytes.

  Raises:
    ValueError: the header is damaged, or other bytes follow it than it states. Other damage raises
      the errors of looking things up in JSON values.
    records.ClipError: the file was made in another way than its made.json says.
  """
  header = json.loads(file.readline(_MAX_HEADER))
  if header['format'] != _FORMAT:
    raise ValueError(f'format {header["format"]}')
  if checksum is not None and header['settings'] != checksum:
    raise ClipError(
      f'{path} was made in another way than {SETTINGS_FILE} of its folder says; delete it and make'
      ' it again'
    )
  lengths = [*header['planes'], *header['inpainted']]
  if not all(type(length) is int and length >= 0 for length in lengths):
    raise ValueError('a length is no whole number')
  start = file.tell()
  remaining = file.seek(0, os.SEEK_END) - start
  file.seek(start)
  if sum(lengths) != remaining:
    raise ValueError(f'{remaining} bytes follow the header, which states {sum(lengths)}')
  return header, lengths


def decode_plane(clip: MadeClip, index: int) -> np.ndarray | None:
  """Returns u8[H, W], the region plane of a frame of a clip, or None if it is not annotated.

  Raises:
    UserError: the plane is damaged.
  """
  code = clip.frames[index].plane
  return records.decode_plane(code, clip.height, clip.width) if code else None


def _ascends(clip: MadeClip) -> bool:
  steps = np.diff(clip.numbers, prepend=-1)
  return bool((steps > 0).all() and clip.numbers[-1] < clip.num_frames)


def _rounded(value: float) -> float | None:
  """Returns a value for JSON, which has no NaN; few digits, as more are noise."""
  return None if np.isnan(value) else round(float(value), 4)


def _number(value: float | None) -> float:
  return np.nan if value is None else float(value)
