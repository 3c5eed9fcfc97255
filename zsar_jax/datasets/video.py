"""Decoding a video, or a folder of its frames, into the JPEGs that are stored of it."""

import contextlib
import dataclasses
import os
import pathlib
import re
from collections.abc import Callable, Collection
from typing import Any

import av
import cv2
import numpy as np
from av.stream import Disposition

from zsar_jax.data import records
from zsar_jax.data.records import ClipError
from zsar_jax.data.sampling import segment_indices
from zsar_jax.datasets import seeking
from zsar_jax.errors import UserError, error_reason

# A file that was cut short decodes without an error as far as it goes. The duration that its
# header states tells; it is not exact, so only a good part less counts.
_LEAST_SHARE = 0.9

# The formats of video files, by FFmpeg's names. Left out are those of images, and those that name
# other files, such as playlists, which could have any file read.
_FORMATS = (
  'mov,matroska,avi,mpeg,mpegvideo,mpegts,flv,live_flv,asf,asf_o,ogg,m4v,h264,hevc,h263,vc1,obu,ivf,'
  'gif,apng,rm,nut,mxf,dv,wtv,swf,yuv4mpegpipe'
)

# Frames per second. Of raw DV, FFmpeg gives the unit of time as the average rate, 60000.
_NO_RATE = 10_000

# Before PyAV 19, metadata that is not UTF-8 is an error unless this is given; later versions always
# read it.
_LENIENT = {'metadata_errors': 'replace'} if int(av.__version__.split('.')[0]) < 19 else {}

# More frames than any video has.
_ENDLESS = 2**62

# How Matroska states the duration of a track.
_CLOCK = re.compile(r'(\d+):(\d\d):(\d\d(?:\.\d+)?)')

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')

# A frame's file name: anything, and its number.
_NUMBERED = re.compile(r'(.*?)(\d+)')

# The images among the files of mmaction2's frame folders, which hold optical flow as well.
_PREFERRED_PREFIX = 'img_'

# Frame folders do not state their rate; this is what most videos have.
DEFAULT_FPS = 30.0


# From the number of a video's frames, and i64[N], their own numbers where they are images of a
# folder, or None, to the frames that are annotated.
Annotated = Callable[[int, np.ndarray | None], Collection[int]]


@dataclasses.dataclass(frozen=True)
class Storage:
  """How much of a video is stored.

  Attributes:
    short_side: frames are scaled down so that their shorter side has this many pixels, and
      smaller ones are left as they are; None keeps the size.
    jpeg_quality: 1 to 100.
    keep: which frames: 'all', 'every:N' for each N-th, or 'segments:N' for the centers of N
      equal segments (of a video with fewer frames all). Of the frames that are nearer to such a
      frame than to the others, the nearest annotated one is kept in its place.
  """

  short_side: int | None = None
  jpeg_quality: int = records.JPEG_QUALITY
  keep: str = 'all'

  def __post_init__(self):
    if not re.fullmatch(r'all|(every|segments):0*[1-9]\d*', self.keep):
      raise UserError(f'--keep: {self.keep!r} is none of all, every:N and segments:N')

  def kept(self, num_frames: int, annotated: Collection[int] = ()) -> np.ndarray:
    """i64[K], the frames that are kept of `num_frames`, ascending.

    Args:
      num_frames: of the video.
      annotated: the frames that are annotated, from 0, if only some of them are.
    """
    rule, _, number = self.keep.partition(':')
    if rule == 'every':
      kept = np.arange(0, num_frames, int(number))
    elif rule == 'segments' and int(number) < num_frames:
      kept = segment_indices(num_frames, int(number))
    else:
      return np.arange(num_frames)
    annotated = np.array(sorted(annotated), np.int64)
    # Each annotated frame belongs to the nearest frame that is to be kept.
    nearest = np.searchsorted((kept[:-1] + kept[1:] + 1) // 2, annotated, side='right')
    for place in np.unique(nearest):
      near = annotated[nearest == place]
      kept[place] = near[np.abs(near - kept[place]).argmin()]
    return kept

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
  path: str | os.PathLike[str],
  storage: Storage,
  folder_fps: float = DEFAULT_FPS,
  annotated: Annotated | None = None,
) -> StoredVideo:
  """Decodes a video, upright, or a folder of frames.

  Of several video streams, the first one that the file marks as default is decoded. A few frames of
  a long video are found by seeking, see `zsar_jax.datasets.seeking`.

  Args:
    path: the file, or the folder of images whose names end with their numbers.
    storage: what to keep.
    folder_fps: frames per second of a folder of frames.
    annotated: which frames are annotated, where those are to be preferred among what is kept.

  Raises:
    ClipError: if it is missing, cut short, without frames or no video.
  """
  if not os.path.exists(path):
    raise ClipError(f'{path} does not exist', missing=True)
  if os.path.isdir(path):
    video = _read_folder(pathlib.Path(path), storage, folder_fps, annotated)
  elif not os.path.getsize(path):
    raise ClipError(f'{path} is an empty file')
  else:
    try:
      video = _read_file(path, storage, annotated)
    # FFmpegError is not always an OSError or a ValueError, nor the other way round.
    except (av.FFmpegError, OSError, ValueError) as error:
      raise ClipError(f'{path} cannot be decoded ({error_reason(error)})') from None
  rule, _, number = storage.keep.partition(':')
  if rule == 'segments' and len(video.jpegs) < int(number):
    video.remarks['fewer frames than asked'] = f'{len(video.jpegs)} of {number}'
  return video


def _read_file(
  path: str | os.PathLike[str], storage: Storage, annotated: Annotated | None
) -> StoredVideo:
  rule, _, number = storage.keep.partition(':')
  if rule == 'all':
    return _decode(path, storage, range(_ENDLESS))
  with _open(path) as container:
    packets = seeking.read_packets(container, _video_stream(container, path))
  expected = len(packets.frames)
  kept = _kept(storage, expected, annotated)
  if packets.is_worth_it(kept):
    for by_seeking in (True, False):
      with contextlib.suppress(seeking.Untrusted):
        return _decode(path, storage, kept, packets, by_seeking)
  if rule == 'every' and annotated is None:
    return _decode(path, storage, range(0, _ENDLESS, int(number)))
  # Which frames are kept depends on the number of frames. Seldom is one lost in decoding.
  while True:
    video = _decode(path, storage, set(kept))
    if video.facts.num_frames == expected:
      return video
    expected = video.facts.num_frames
    kept = _kept(storage, expected, annotated)


def _kept(storage: Storage, num_frames: int, annotated: Annotated | None) -> list[int]:
  """The frames that are kept of a file, ascending."""
  near: Collection[int] = ()
  # Masks may be refused for a number of frames that is wrong, before the right one is known. For
  # the right one, what draws them raises the error.
  with contextlib.suppress(ClipError):
    near = annotated(num_frames, None) if annotated else ()
  return storage.kept(num_frames, near).tolist()


def _decode(
  path: str | os.PathLike[str],
  storage: Storage,
  wanted: Collection[int],
  packets: seeking.Packets | None = None,
  by_seeking: bool = False,
) -> StoredVideo:
  """Keeps the `wanted` frames of a file.

  With the file's `packets` only what these frames need is decoded, see `seeking.decode`; without
  them, everything.

  Raises:
    ClipError: it ends too early, or has no frame, or frames of several sizes.
    seeking.Untrusted: decoding contradicts the packets.
  """
  jpegs = records.Images()
  kept: list[int] = []
  size = (0, 0)  # Of the video, upright.
  corrupt = num_frames = 0
  end = 0.0  # Of the last frame, in seconds.
  with _open(path) as container:
    stream = _video_stream(container, path)
    frames = (
      seeking.decode(container, stream, packets, wanted, by_seeking)
      if packets
      else enumerate(container.decode(stream))
    )
    for number, frame in frames:
      num_frames = number + 1
      if frame.time is not None:
        end = max(end, frame.time + float((frame.duration or 0) * frame.time_base))
      corrupt += frame.is_corrupt
      upright = (frame.height, frame.width)
      if frame.rotation % 180:
        upright = upright[::-1]
      size = size if any(size) else upright
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
    rate = next((r for r in (stream.average_rate, stream.guessed_rate) if r and r < _NO_RATE), None)
    listed = stream.frames
  if packets:
    num_frames, end = len(packets.frames), packets.end
  if not num_frames:
    raise ClipError(f'{path} has no frame')
  if not rate and not end:
    raise ClipError(f'{path} does not state its frame rate')
  fps = float(rate) if rate else num_frames / end
  # Of a complete file, the last frame is held to the end.
  ends_early = end + 1 / fps < _LEAST_SHARE * stated
  if ends_early and not (0 < listed <= num_frames or _has_its_length(path)):
    raise ClipError(f'{path} ends after {end:.1f} of {stated:.1f} seconds')
  facts = VideoFacts(num_frames, np.array(kept, np.int64), *storage.scaled(*size), *size)
  remarks = {'corrupt frames': f'{corrupt} of {num_frames}'} if corrupt else {}
  return StoredVideo(jpegs, facts, fps * len(kept) / num_frames, remarks)


def _open(path: str | os.PathLike[str]) -> av.container.InputContainer:
  """Opens a file of one of `_FORMATS`, and no other file or address."""
  allowed = {'format_whitelist': _FORMATS, 'protocol_whitelist': 'file'}
  try:
    # Without 'file:', what stands before a colon in the path is taken for a protocol.
    return av.open(f'file:{os.fspath(path)}', container_options=allowed, **_LENIENT)
  except av.ArgumentError:
    raise ClipError(
      f'{path} cannot be decoded (it is damaged, or not of a format of videos)'
    ) from None


def _video_stream(
  container: av.container.InputContainer, path: str | os.PathLike[str]
) -> av.VideoStream:
  streams = [stream for stream in container.streams.video if _is_video(stream)]
  if not streams:
    raise ClipError(f'{path} has no video stream')
  default = (stream for stream in streams if Disposition.default in stream.disposition)
  stream = next(default, streams[0])
  stream.codec_context.thread_count = 1
  return stream


def _is_video(stream: av.VideoStream) -> bool:
  """Whether a stream can be decoded, and is not a picture about the file, such as a cover."""
  still = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
  return stream.codec_context is not None and not stream.disposition & still


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


def _has_its_length(path: str | os.PathLike[str]) -> bool:
  """Whether a file is a Matroska file that states its length in bytes and has it.

  The file is two EBML elements, each of an id, its length and its content (RFC 8794, 4 and 5).
  """
  with open(path, 'rb') as file:
    head = file.read(4096)
  end = 0
  for element in (b'\x1a\x45\xdf\xa3', b'\x18\x53\x80\x67'):  # EBML and Segment.
    if head[end : end + 4] != element or len(head) < end + 12:
      return False
    width = 9 - head[end + 4].bit_length()
    size = int.from_bytes(head[end + 4 : end + 4 + width]) - (1 << 7 * width)
    if size == (1 << 7 * width) - 1:  # Unknown, as of a live recording.
      return False
    end += 4 + width + size
  return end <= os.path.getsize(path)


def _read_folder(
  folder: pathlib.Path, storage: Storage, fps: float, annotated: Annotated | None
) -> StoredVideo:
  """Reads a folder of numbered images. Those that cannot be read are left out and counted."""
  images, remarks = _numbered_images(folder)
  unreadable: list[ClipError] = []
  while images:
    numbers, paths = list(images), list(images.values())
    near = annotated(len(paths), np.array(numbers)) if annotated and storage.keep != 'all' else ()
    kept = storage.kept(len(paths), near)
    jpegs, size, before = records.Images(), (0, 0), len(unreadable)
    for index in kept:
      try:
        frame = _read_image(paths[index])
      except ClipError as error:
        unreadable.append(error)
        del images[numbers[index]]
        continue
      size = size if any(size) else frame.shape[:2]
      if frame.shape[:2] != size:
        raise ClipError(
          f'{paths[index]} has {frame.shape[1]} x {frame.shape[0]} pixels where other frames have'
          f' {size[1]} x {size[0]}'
        )
      height, width = storage.scaled(*size)
      frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
      jpegs += records.encode_frames([frame], storage.jpeg_quality)
    if len(unreadable) == before:
      facts = VideoFacts(len(paths), kept, *storage.scaled(*size), *size, np.array(numbers))
      if unreadable:
        remarks['frames that cannot be read'] = f'{len(unreadable)}, such as {unreadable[0].reason}'
      return StoredVideo(jpegs, facts, fps * len(kept) / len(paths), remarks)
  raise unreadable[0]


def _numbered_images(folder: pathlib.Path) -> tuple[dict[int, pathlib.Path], dict[str, str]]:
  """The images of a folder of frames by their numbers, in order, and what was noticed."""
  by_prefix: dict[str, dict[int, pathlib.Path]] = {}
  others = []
  for path in sorted(folder.iterdir()):
    if path.suffix.lower() in IMAGES and not path.name.startswith('.'):
      match = _NUMBERED.fullmatch(path.stem)
      if not match:
        others.append(path)
        continue
      same = by_prefix.setdefault(match[1], {})
      if int(match[2]) in same:
        raise ClipError(f'{path} and {same[int(match[2])].name} have the same frame number')
      same[int(match[2])] = path
  if not by_prefix:
    raise ClipError(
      f'{others[0]} has no frame number at the end of its name'
      if others
      else f'{folder} has no image'
    )
  prefix = _PREFERRED_PREFIX if _PREFERRED_PREFIX in by_prefix else next(iter(by_prefix))
  if len(by_prefix) > 1 and prefix != _PREFERRED_PREFIX:
    names = ', '.join(f'{name}*' for name in by_prefix)
    raise ClipError(f'{folder} has more than one series of images: {names}')
  images = dict(sorted(by_prefix[prefix].items()))
  remarks = {}
  gaps = max(images) - min(images) + 1 - len(images)
  if gaps:
    remarks['frames missing in the folder'] = f'{gaps} of {len(images) + gaps}'
  if others:
    remarks['images without a frame number'] = f'{len(others)}, such as {others[0].name}'
  return images, remarks


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
