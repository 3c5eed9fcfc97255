"""Decodes a video file into the JPEGs that are stored of it."""

import contextlib
import os
import re
from collections.abc import Collection
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from zsar_jax.data import records
from zsar_jax.data.records import ClipError
from zsar_jax.datasets import seeking
from zsar_jax.datasets.video import (
  AnnotatedFrames,
  Storage,
  StoredVideo,
  VideoFacts,
  make_thumbnail,
)

# A file that was cut short decodes without an error up to the cut. It is recognized by the duration
# that its header states; that is not exact, so a file counts as cut below this share of it.
_MIN_DURATION_SHARE = 0.9

# The formats of video files, by FFmpeg's names. Formats of images are left out, and those that name
# other files, such as playlists, which could make FFmpeg read any file.
_FORMATS = (
  'mov,matroska,avi,mpeg,mpegvideo,mpegts,flv,live_flv,asf,asf_o,ogg,m4v,h264,hevc,h263,vc1,obu,ivf,'
  'gif,apng,rm,nut,mxf,dv,wtv,swf,yuv4mpegpipe'
)

# Frames per second. A rate above it is none: for raw DV, FFmpeg gives the unit of time as the
# average rate, 60000.
_MAX_FPS = 10_000

# Before PyAV 19, metadata that is not UTF-8 is an error unless this is given; later versions always
# read it.
_LENIENT: dict[str, Any] = (
  {'metadata_errors': 'replace'} if int(av.__version__.split('.')[0]) < 19 else {}
)

# More frames than any video has.
_ENDLESS = 2**62

# How Matroska states the duration of a track: hours, minutes and seconds.
_CLOCK = re.compile(r'(\d+):(\d\d):(\d\d(?:\.\d+)?)')


def read_video_file(
  path: str | os.PathLike[str], storage: Storage, annotated: AnnotatedFrames | None
) -> StoredVideo:
  """Decodes a file's default video stream, or the first one if none is marked as default.

  A few frames of a long video are found by seeking, see `zsar_jax.datasets.seeking`.

  Args:
    path: the file.
    storage: which frames and pixels to keep.
    annotated: returns the annotated frames, if those are preferred among the kept ones.

  Raises:
    ClipError: if the file is cut short, has no frames or is no video.
    av.FFmpegError, OSError, ValueError: if it cannot be decoded.
  """
  rule, _, number = storage.keep.partition(':')
  if rule == 'all':
    return _decode(path, storage, range(_ENDLESS))
  with _open(path) as container:
    packets = seeking.read_packets(container, _video_stream(container, path))
  num_frames = len(packets.frames)
  kept = _select_frames(storage, num_frames, annotated)
  if packets.is_worthwhile(kept):
    for by_seeking in (True, False):
      with contextlib.suppress(seeking.UnreliablePackets):
        return _decode(path, storage, kept, packets, by_seeking)
  if rule == 'every' and annotated is None:
    return _decode(path, storage, range(0, _ENDLESS, int(number)))
  # Which frames are kept depends on the number of frames, and decoding may rarely lose a frame.
  while True:
    video = _decode(path, storage, set(kept))
    if video.facts.num_frames == num_frames:
      return video
    num_frames = video.facts.num_frames
    kept = _select_frames(storage, num_frames, annotated)


def _select_frames(
  storage: Storage, num_frames: int, annotated: AnnotatedFrames | None
) -> list[int]:
  """Returns the frames of a file that are kept, ascending."""
  near: Collection[int] = ()
  # Masks may be refused for a wrong number of frames before the right one is known. If they do not
  # fit the right one, drawing them raises the error.
  with contextlib.suppress(ClipError):
    near = annotated(num_frames, None) if annotated else ()
  return storage.select_frames(num_frames, near).tolist()


def _decode(
  path: str | os.PathLike[str],
  storage: Storage,
  kept: Collection[int],
  packets: seeking.Packets | None = None,
  by_seeking: bool = False,
) -> StoredVideo:
  """Decodes the `kept` frames of a file.

  With the file's `packets`, only what these frames need is decoded, see `seeking.decode`; without
  them, all frames are.

  Raises:
    ClipError: if the file ends too early, or has no frame, or frames of several sizes.
    seeking.UnreliablePackets: if decoding contradicts the packets.
  """
  jpegs = records.Images()
  numbers: list[int] = []
  thumbnails: list[np.ndarray] = []
  size = (0, 0)  # Height and width of the video's frames, upright.
  corrupt = num_frames = 0
  end = 0.0  # The end of the last frame in seconds.
  with _open(path) as container:
    stream = _video_stream(container, path)
    frames = (
      seeking.decode(container, stream, packets, kept, by_seeking)
      if packets
      else enumerate(container.decode(stream))
    )
    for number, frame in frames:
      num_frames = number + 1
      if frame.time is not None:
        assert frame.time_base is not None  # The time is in this unit.
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
      if number in kept:
        image = _to_upright_rgb(frame, storage.scaled_size(*size))
        jpegs += records.encode_frames([image], storage.jpeg_quality)
        thumbnails.append(make_thumbnail(image))
        numbers.append(number)
    if packets:
      num_frames, end = len(packets.frames), packets.end
    fps = _check_complete(path, container, stream, num_frames, end)
  facts = VideoFacts(
    num_frames,
    np.array(numbers, np.int64),
    *storage.scaled_size(*size),
    *size,
    np.array(thumbnails),
  )
  remarks = {'corrupt frames': f'{corrupt} of {num_frames}'} if corrupt else {}
  return StoredVideo(jpegs, facts, fps * len(numbers) / num_frames, remarks)


def _check_complete(
  path: str | os.PathLike[str],
  container: av.container.InputContainer,
  stream: av.VideoStream,
  num_frames: int,
  end: float,
) -> float:
  """Returns the frames per second of a file; raises a `ClipError` if it is cut short.

  Args:
    path: the file.
    container: the open file.
    stream: its video stream.
    num_frames: the frames that were decoded.
    end: the end of the last frame in seconds.
  """
  if not num_frames:
    raise ClipError(f'{path} has no frame')
  rate = next((r for r in (stream.average_rate, stream.guessed_rate) if r and r < _MAX_FPS), None)
  if not rate and not end:
    raise ClipError(f'{path} does not state its frame rate')
  fps = float(rate) if rate else num_frames / end
  stated = _duration(container, stream)
  # A complete file may end early, as a player holds its last frame to the stated end.
  ends_early = end + 1 / fps < _MIN_DURATION_SHARE * stated
  if ends_early and not (0 < stream.frames <= num_frames or _has_stated_length(path)):
    raise ClipError(f'{path} ends after {end:.1f} of {stated:.1f} seconds')
  return fps


def _open(path: str | os.PathLike[str]) -> av.container.InputContainer:
  """Opens a file of one of `_FORMATS`, and no other file or address."""
  allowed = {'format_whitelist': _FORMATS, 'protocol_whitelist': 'file'}
  try:
    # Without 'file:', the part of the path before a colon would be taken for a protocol.
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
  """Returns whether a stream can be decoded and is not a picture about the file, like a cover."""
  still = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
  return stream.codec_context is not None and not stream.disposition & still


def _to_upright_rgb(frame: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
  """Returns u8[H, W, 3] RGB of size (H, W), rotated as the file asks players to."""
  quarters = round(frame.rotation / 90) % 4  # Counterclockwise, as in rot90.
  height, width = size if quarters % 2 == 0 else size[::-1]
  image = frame.reformat(width, height, format='rgb24', interpolation='AREA').to_ndarray()
  return np.ascontiguousarray(np.rot90(image, quarters))


def _duration(container: av.container.InputContainer, stream: av.VideoStream) -> float:
  """Returns the stated end of the video stream in seconds, or 0 if the file does not state one."""
  if stream.duration:
    assert stream.time_base is not None  # FFmpeg sets it for every stream.
    return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
  if clock := _CLOCK.fullmatch(stream.metadata.get('DURATION', '')):
    return 3600 * int(clock[1]) + 60 * int(clock[2]) + float(clock[3])
  # With several streams, the container's duration may be that of a longer sound track.
  if container.duration and len(container.streams) == 1:
    return container.duration / av.time_base
  return 0.0


def _has_stated_length(path: str | os.PathLike[str]) -> bool:
  """Returns whether a file is a Matroska file of the length in bytes that it states.

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
    if size == (1 << 7 * width) - 1:  # Unknown, as in a live recording.
      return False
    end += 4 + width + size
  return end <= os.path.getsize(path)
