"""Decoding a video, or a folder of its frames, into the JPEGs that are stored of it."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Container, Iterator
from typing import Any

import av
import cv2
import numpy as np

from zsar_jax.data import records
from zsar_jax.data.records import ClipError
from zsar_jax.data.sampling import segment_indices
from zsar_jax.errors import UserError

# A file that was cut short decodes without an error as far as it goes. The duration that its
# header states tells; it is not exact, so only a good part less counts.
_LEAST_SHARE = 0.9

# The formats of video files, by FFmpeg's names. Left out are those of images, and those that name
# other files, such as playlists, which could have any file read.
_FORMATS = (
  'mov,matroska,avi,mpeg,mpegvideo,mpegts,flv,live_flv,asf,asf_o,ogg,m4v,h264,hevc,h263,vc1,obu,ivf,'
  'gif,rm,nut,mxf,dv,wtv,swf,yuv4mpegpipe'
)

# How Matroska states the duration of a track.
_CLOCK = re.compile(r'(\d+):(\d\d):(\d\d(?:\.\d+)?)')

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')

# A frame's file name: anything, and its number.
_NUMBERED = re.compile(r'(.*?)(\d+)')

# The images among the files of mmaction2's frame folders, which hold optical flow as well.
_PREFERRED_PREFIX = 'img_'

# Frame folders do not state their rate; this is what most videos have.
DEFAULT_FPS = 30.0


@dataclasses.dataclass(frozen=True)
class Storage:
  """How much of a video is stored.

  Attributes:
    short_side: frames are scaled down so that their shorter side has this many pixels, and
      smaller ones are left as they are; None keeps the size.
    jpeg_quality: 1 to 100.
    keep: which frames: 'all', 'every:N' for each N-th, or 'segments:N' for the centres of N
      equal segments (of a video with fewer frames all).
  """

  short_side: int | None = None
  jpeg_quality: int = records.JPEG_QUALITY
  keep: str = 'all'

  def __post_init__(self):
    if not re.fullmatch(r'all|(every|segments):0*[1-9]\d*', self.keep):
      raise UserError(f'--keep: {self.keep!r} is none of all, every:N and segments:N')

  def kept(self, num_frames: int) -> np.ndarray:
    """i64[K], the frames that are kept of `num_frames`, ascending."""
    rule, _, number = self.keep.partition(':')
    if rule == 'every':
      return np.arange(0, num_frames, int(number))
    if rule == 'segments' and int(number) < num_frames:
      return segment_indices(num_frames, int(number))
    return np.arange(num_frames)

  def scaled(self, height: int, width: int) -> tuple[int, int]:
    """The stored height and width of frames of `height` x `width`."""
    scale = 1.0 if self.short_side is None else min(1.0, self.short_side / min(height, width))
    return round(height * scale), round(width * scale)


@dataclasses.dataclass(frozen=True)
class VideoFacts:
  """What must be known of a decoded video to draw its region planes.

  Attributes:
    num_frames: N, of the whole video.
    kept: i64[K], the frames that are stored, ascending, each in [0, N).
    height: H, of the stored frames in pixels.
    width: W, of the stored frames in pixels.
    source_height: of the video's frames, before they were scaled to H x W.
    source_width: of the video's frames.
    numbers: i64[N], the frames' own numbers where they are images of a folder; None of a file.
  """

  num_frames: int
  kept: np.ndarray
  height: int
  width: int
  source_height: int
  source_width: int
  numbers: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class StoredVideo:
  """What is stored of a video.

  Attributes:
    jpegs: its K kept frames.
    facts: their number and size.
    fps: kept frames per second.
    remarks: what was noticed, by kind.
  """

  jpegs: list[bytes]
  facts: VideoFacts
  fps: float
  remarks: dict[str, str]


def read_video(
  path: str | os.PathLike[str], storage: Storage, folder_fps: float = DEFAULT_FPS
) -> StoredVideo:
  """Decodes a video's first video stream, upright, or a folder of frames.

  Args:
    path: the file, or the folder of images whose names end with their numbers.
    storage: what to keep.
    folder_fps: frames per second of a folder of frames.

  Raises:
    ClipError: if it is missing, cut short, without frames or no video.
  """
  if not os.path.exists(path):
    raise ClipError(f'{path} does not exist', missing=True)
  if os.path.isdir(path):
    video = _read_folder(pathlib.Path(path), storage, folder_fps)
  elif not os.path.getsize(path):
    raise ClipError(f'{path} is an empty file')
  else:
    try:
      video = _read_file(path, storage)
    # FFmpegError is not always an OSError or a ValueError, nor the other way round.
    except (av.FFmpegError, OSError, ValueError) as error:
      reason = getattr(error, 'strerror', None) or error  # Without the path once more.
      raise ClipError(f'{path} cannot be decoded ({reason})') from None
  rule, _, number = storage.keep.partition(':')
  if rule == 'segments' and len(video.jpegs) < int(number):
    video.remarks['fewer frames than asked'] = f'{len(video.jpegs)} of {number}'
  return video


def _read_file(path: str | os.PathLike[str], storage: Storage) -> StoredVideo:
  if not storage.keep.startswith('segments'):
    rule, _, number = storage.keep.partition(':')
    return _decode(path, storage, range(0, 2**62, int(number) if rule == 'every' else 1))
  # Where the segments lie depends on the number of frames: packets are counted much faster than
  # they are decoded, and seldom is a frame lost from one to the other.
  expected = _count_packets(path)
  while True:
    video = _decode(path, storage, set(storage.kept(expected).tolist()))
    if video.facts.num_frames == expected:
      return video
    expected = video.facts.num_frames


def _count_packets(path: str | os.PathLike[str]) -> int:
  with _open(path) as container:
    stream = _video_stream(container, path)
    return sum(packet.size > 0 for packet in container.demux(stream))


def _decode(path: str | os.PathLike[str], storage: Storage, wanted: Container[int]) -> StoredVideo:
  """Decodes the whole file, and keeps the `wanted` frames."""
  jpegs = records.Images()
  kept: list[int] = []
  size = (0, 0)  # Of the video, upright.
  corrupt = 0
  number = -1
  end = 0.0
  with _open(path) as container:
    stream = _video_stream(container, path)
    for number, frame in enumerate(container.decode(stream)):
      end = max(end, frame.time or 0.0)
      corrupt += frame.is_corrupt
      upright = (frame.height, frame.width)
      if frame.rotation % 180:
        upright = upright[::-1]
      size = size if number else upright
      if upright != size:
        raise ClipError(
          f'{path} changes its size at frame {number}, from {size[1]} x {size[0]} to {upright[1]} x'
          f' {upright[0]}'
        )
      if number in wanted:
        jpegs += records.encode_frames(
          [_upright(frame, storage.scaled(*size))], storage.jpeg_quality
        )
        kept.append(number)
    stated = _duration(container, stream)
    rate = stream.average_rate or stream.guessed_rate
  num_frames = number + 1
  if not num_frames:
    raise ClipError(f'{path} has no frame')
  if not rate and not end:
    raise ClipError(f'{path} does not state its frame rate')
  fps = float(rate) if rate else number / end
  if end + 1 / fps < _LEAST_SHARE * stated:
    raise ClipError(f'{path} ends after {end + 1 / fps:.1f} of {stated:.1f} seconds')
  facts = VideoFacts(num_frames, np.array(kept, np.int64), *storage.scaled(*size), *size)
  remarks = {'corrupt frames': f'{corrupt} of {num_frames}'} if corrupt else {}
  return StoredVideo(jpegs, facts, fps * len(kept) / num_frames, remarks)


def _open(path: str | os.PathLike[str]) -> av.container.InputContainer:
  """Opens a file of one of `_FORMATS`, and no other file or address."""
  allowed = {'format_whitelist': _FORMATS, 'protocol_whitelist': 'file'}
  try:
    # Without 'file:', what stands before a colon in the path is taken for a protocol.
    return av.open(f'file:{os.fspath(path)}', container_options=allowed)
  except av.ArgumentError:
    raise ClipError(
      f'{path} cannot be decoded (it is damaged, or not of a format of videos)'
    ) from None


def _video_stream(
  container: av.container.InputContainer, path: str | os.PathLike[str]
) -> av.VideoStream:
  if not container.streams.video:
    raise ClipError(f'{path} has no video stream')
  stream = container.streams.video[0]
  stream.codec_context.thread_count = 1
  return stream


def _upright(frame: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
  """u8[H, W, 3] RGB of size (H, W), turned as the file says that a player should."""
  quarters = round(frame.rotation / 90) % 4  # Counterclockwise, as in rot90.
  height, width = size if quarters % 2 == 0 else size[::-1]
  image = frame.reformat(width, height, format='rgb24', interpolation='AREA').to_ndarray()
  return np.ascontiguousarray(np.rot90(image, quarters))


def _duration(container: av.container.InputContainer, stream: av.VideoStream) -> float:
  """The stated end of the video stream in seconds, or 0 where the file does not state one."""
  if stream.duration:
    return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
  if clock := _CLOCK.fullmatch(stream.metadata.get('DURATION', '')):
    return 3600 * int(clock[1]) + 60 * int(clock[2]) + float(clock[3])
  # The container's duration may be that of a longer sound track.
  if container.duration and len(container.streams) == 1:
    return container.duration / av.time_base
  return 0.0


def _read_folder(folder: pathlib.Path, storage: Storage, fps: float) -> StoredVideo:
  """Reads a folder of numbered images."""
  numbers, paths = _numbered_images(folder)
  size = _read_image(paths[0]).shape[:2]
  kept = storage.kept(len(paths))

  def frames() -> Iterator[np.ndarray]:
    for index in kept:
      frame = _read_image(paths[index])
      if frame.shape[:2] != size:
        raise ClipError(
          f'{paths[index]} has {frame.shape[1]} x {frame.shape[0]} pixels where {paths[0].name} has'
          f' {size[1]} x {size[0]}'
        )
      height, width = storage.scaled(*size)
      yield cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)

  jpegs = records.Images(records.encode_frames(frames(), storage.jpeg_quality))
  facts = VideoFacts(len(paths), kept, *storage.scaled(*size), *size, np.array(numbers))
  gaps = numbers[-1] - numbers[0] + 1 - len(numbers)
  remarks = {'frames missing in the folder': f'{gaps} of {len(numbers) + gaps}'} if gaps else {}
  return StoredVideo(jpegs, facts, fps * len(kept) / len(paths), remarks)


def _numbered_images(folder: pathlib.Path) -> tuple[list[int], list[pathlib.Path]]:
  """The images of a folder of frames and their numbers, in order."""
  by_prefix: dict[str, dict[int, pathlib.Path]] = {}
  for path in sorted(folder.iterdir()):
    if path.suffix.lower() in IMAGES:
      match = _NUMBERED.fullmatch(path.stem)
      if not match:
        raise ClipError(f'{path} has no frame number at the end of its name')
      same = by_prefix.setdefault(match[1], {})
      if int(match[2]) in same:
        raise ClipError(f'{path} and {same[int(match[2])].name} have the same frame number')
      same[int(match[2])] = path
  if not by_prefix:
    raise ClipError(f'{folder} has no image')
  prefix = _PREFERRED_PREFIX if _PREFERRED_PREFIX in by_prefix else next(iter(by_prefix))
  if len(by_prefix) > 1 and prefix != _PREFERRED_PREFIX:
    names = ', '.join(f'{name}*' for name in by_prefix)
    raise ClipError(f'{folder} has more than one series of images: {names}')
  numbered = sorted(by_prefix[prefix].items())
  return [number for number, _ in numbered], [path for _, path in numbered]


def _read_image(path: pathlib.Path) -> np.ndarray:
  """u8[H, W, 3], RGB."""
  content = path.read_bytes()
  try:
    image: Any = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
  except cv2.error:  # It is empty, or states an absurd size.
    image = None
  # The decoder fills what is missing of a cut JPEG with grey. Some programs write on after its end.
  cut = path.suffix.lower() in ('.jpg', '.jpeg') and records.JPEG_END not in content[-64:]
  if image is None or cut:
    raise ClipError(f'{path} is not a complete image')
  return image
