"""Decoding a whole video file."""

import os

import av
import numpy as np

from zsar_jax.data.records import ClipError

# A file that was cut short decodes without an error as far as it goes. The duration that its
# header states tells; it is not exact, so only a good part less counts.
_LEAST_SHARE = 0.9


def read_video(
  path: str | os.PathLike[str], short_side: int | None = None
) -> tuple[np.ndarray, float]:
  """Decodes all frames of a video's first video stream.

  Args:
    path: the file.
    short_side: scale the frames so that their shorter side has this many pixels; None keeps
      their size.

  Returns:
    frames: u8[N, H, W, 3], RGB, in the order of presentation.
    fps: frames per second, on average.

  Raises:
    ClipError: if the file is missing, cut short, without frames or no video.
  """
  if not os.path.exists(path):
    raise ClipError(f'{path} does not exist', missing=True)
  if not os.path.getsize(path):
    raise ClipError(f'{path} is an empty file')
  try:
    with av.open(os.fspath(path)) as container:
      return _decode(container, path, short_side)
  # FFmpegError is not always an OSError or a ValueError, nor the other way round.
  except (av.FFmpegError, OSError, ValueError) as error:
    reason = getattr(error, 'strerror', None) or error  # Without the path once more.
    raise ClipError(f'{path} cannot be decoded ({reason})') from None


def _decode(
  container: av.container.InputContainer, path: str | os.PathLike[str], short_side: int | None
) -> tuple[np.ndarray, float]:
  if not container.streams.video:
    raise ClipError(f'{path} has no video stream')
  stream = container.streams.video[0]
  stream.codec_context.thread_count = 1
  frames = []
  end = 0.0
  size = None
  for frame in container.decode(stream):
    size = size or _scaled(frame.width, frame.height, short_side)
    image = frame.reformat(*size, format='rgb24', interpolation='AREA')
    frames.append(image.to_ndarray())
    end = max(end, frame.time or 0.0)
  if not frames:
    raise ClipError(f'{path} has no frame')
  if not stream.average_rate:
    raise ClipError(f'{path} does not state its frame rate')
  fps = float(stream.average_rate)
  stated = _duration(container, stream)
  if end + 1 / fps < _LEAST_SHARE * stated:
    raise ClipError(f'{path} ends after {end + 1 / fps:.1f} of {stated:.1f} seconds')
  return np.stack(frames), fps


def _scaled(width: int, height: int, short_side: int | None) -> tuple[int, int]:
  """Width and height with the shorter of them at `short_side`."""
  if short_side is None:
    return width, height
  scale = short_side / min(width, height)
  return round(width * scale), round(height * scale)


def _duration(container: av.container.InputContainer, stream: av.VideoStream) -> float:
  """The stated end of the video stream in seconds, or 0 where the file does not state one."""
  if stream.duration:
    return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
  # The container's duration may be that of a longer sound track.
  if container.duration and len(container.streams) == 1:
    return container.duration / av.time_base
  return 0.0
