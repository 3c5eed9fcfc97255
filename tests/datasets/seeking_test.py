"""A few frames that are found by seeking are the same as those of decoding the full file."""

import dataclasses
import fractions
import pathlib
from collections.abc import Callable

import av
import numpy as np
import pytest

from zsar_jax.datasets import seeking
from zsar_jax.datasets.video import Storage
from zsar_jax.datasets.video_reading import read_video

FRAMES = 80

X264 = {'x264-params': 'keyint=10:bframes=3:b-pyramid=normal:log-level=none'}
X264_OPEN = {'x264-params': 'open-gop=1:keyint=10:bframes=3:log-level=none'}
X264_REFRESH = {'x264-params': 'intra-refresh=1:keyint=10:log-level=none'}
X265 = {'x265-params': 'keyint=10:open-gop=1:log-level=none'}
VPX = {'auto-alt-ref': '1', 'lag-in-frames': '8', 'cpu-used': '8', 'deadline': 'good'}
AV1 = {'preset': '13', 'svtav1-params': 'keyint=10'}


def _write(
  path: pathlib.Path,
  codec: str,
  options: dict[str, str] | None = None,
  pix_fmt: str = 'yuv420p',
  pts: Callable[[int], int] = lambda n: 40 * n,
  b_frames: int = 2,
  change: Callable[[int, av.Packet], None] = lambda n, packet: None,
) -> pathlib.Path:
  """Writes a video of a bright square that jumps about in noise, so that all frames differ.

  Args:
    path: the file.
    codec: of PyAV.
    options: of the codec.
    pix_fmt: of the frames.
    pts: when a frame is shown, in milliseconds.
    b_frames: of the codecs that let PyAV set them.
    change: changes a packet, by its number, before it is written.
  """
  random = np.random.default_rng(0)
  noise = random.integers(0, 80, (48, 64, 3), np.uint8)
  packets = 0
  if codec not in av.codecs_available:
    pytest.skip(f'this PyAV has no {codec}')
  with av.open(str(path), 'w') as container:
    stream = container.add_stream(codec, rate=25, options=options or {})
    stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
    stream.gop_size, stream.max_b_frames = 10, b_frames
    if codec != 'mpeg2video' and path.suffix not in ('.avi', '.mpg'):  # They know few rates.
      stream.codec_context.time_base = fractions.Fraction(1, 1000)
    for number in range(FRAMES + 1):
      frame = None
      if number < FRAMES:
        image = noise.copy()
        y, x = number * 7 % 40, number * 11 % 56
        image[y : y + 8, x : x + 8] = 255 - number
        frame = av.VideoFrame.from_ndarray(image, format='rgb24')
        frame.pts, frame.time_base = pts(number), fractions.Fraction(1, 1000)
      for packet in stream.encode(frame):
        change(packets, packet)
        packets += 1
        container.mux(packet)
  return path


def _marked_as_key(number: int, packet: av.Packet) -> None:
  packet.is_keyframe = True


@pytest.mark.parametrize(
  ('name', 'codec', 'options', 'how'),
  [
    ('a.mp4', 'libx264', X264, 'seek'),
    ('a.mkv', 'libx264', X264, 'seek'),
    ('a.ts', 'libx264', X264, 'seek'),
    ('a.flv', 'libx264', X264, 'seek'),
    ('a.avi', 'libx264', X264, 'decode all'),  # The file does not have the order of showing.
    ('a.mp4', 'libx264', X264_OPEN, 'seek'),
    ('a.ts', 'libx264', X264_OPEN, 'seek'),
    ('a.mkv', 'libx264', X264_REFRESH, 'any'),
    ('a.mp4', 'libx265', X265, 'seek'),
    ('a.mkv', 'libx265', X265, 'seek'),
    ('a.webm', 'libvpx', VPX, 'seek'),
    ('a.webm', 'libvpx-vp9', VPX, 'seek'),
    ('a.mp4', 'libsvtav1', AV1, 'seek'),
    ('a.avi', 'mpeg4', {}, 'seek'),
    ('a.mp4', 'mpeg4', {}, 'seek'),
    ('a.mpg', 'mpeg4', {}, 'any'),
    ('a.ts', 'mpeg2video', {}, 'seek'),
    ('a.avi', 'mjpeg', {}, 'seek'),
    ('a.mkv', 'ffv1', {}, 'decode all'),
    ('a.asf', 'wmv2', {}, 'decode all'),
  ],
)
def test_few_frames_are_those_of_decoding_all(tmp_path, monkeypatch, name, codec, options, how):
  b_frames = 0 if codec in ('wmv2', 'ffv1', 'mjpeg') else 2
  pix_fmt = 'yuvj420p' if codec == 'mjpeg' else 'yuv420p'
  _same_frames(
    _write(tmp_path / name, codec, options, pix_fmt, b_frames=b_frames), monkeypatch, how
  )


@pytest.mark.parametrize('name', ['a.mp4', 'a.mkv', 'a.ts'])
@pytest.mark.parametrize(
  'pts',
  [
    lambda n: 40 * n + n % 3 * 11 + 900 * (n > 33),  # At a varying rate.
    lambda n: 40 * n + 5000,
    lambda n: 40 * n - 730,  # MP4 leaves out what comes before 0.
  ],
)
def test_time_stamps_of_any_kind(tmp_path, monkeypatch, name, pts):
  _same_frames(_write(tmp_path / name, 'libx264', X264, pts=pts), monkeypatch, 'seek')


@pytest.mark.parametrize(
  ('name', 'codec', 'options'),
  [
    ('a.mp4', 'libx264', X264),
    ('a.mkv', 'libx264', X264),
    ('a.mp4', 'libx265', X265),
    ('a.mkv', 'libvpx', VPX),
    ('a.mkv', 'libvpx-vp9', VPX),
    ('a.mp4', 'libsvtav1', AV1),
    ('a.mp4', 'mpeg4', {}),
    ('a.mp4', 'mpeg2video', {}),
  ],
)
def test_wrong_marks_of_key_frames_do_no_harm(tmp_path, monkeypatch, name, codec, options):
  path = _write(tmp_path / name, codec, options, change=_marked_as_key)
  _same_frames(path, monkeypatch, 'seek')


def test_a_file_that_contradicts_its_packets_is_decoded_fully(tmp_path, monkeypatch):
  path = _write(tmp_path / 'a.mp4', 'libx264', X264)
  read = seeking.read_packets

  def shifted(*args):
    packets = read(*args)
    return dataclasses.replace(packets, sizes=packets.sizes + 1)

  monkeypatch.setattr(seeking, 'read_packets', shifted)
  _same_frames(path, monkeypatch, 'decode all')


def test_all_packets_are_read_if_seeking_goes_elsewhere(tmp_path, monkeypatch):
  seek = seeking._seek

  def seek_too_far(container, stream, packets, start):
    return seek(container, stream, packets, packets.starts[-1])

  monkeypatch.setattr(seeking, '_seek', seek_too_far)
  _same_frames(_write(tmp_path / 'a.mp4', 'libx264', X264), monkeypatch, 'read all')


def test_missing_packets(tmp_path, monkeypatch):
  """The file has frames before the first key frame, which no decoder shows."""
  path = _write(tmp_path / 'a.ts', 'libx264', X264)
  content = path.read_bytes()
  path.write_bytes(content[188 * 12 :])
  _same_frames(path, monkeypatch, 'decode all')


def _same_frames(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
  """Compares some frames with those of the full file, and checks `how` they were read."""
  everything = read_video(path, Storage())
  ways = []
  decode = seeking.decode

  def recording(container, stream, packets, numbers, by_seeking):
    yield from decode(container, stream, packets, numbers, by_seeking)
    ways.append('seek' if by_seeking else 'read all')

  monkeypatch.setattr(seeking, 'decode', recording)
  for keep, expected in (('segments:3', how), ('every:27', how), ('every:2', 'decode all')):
    ways.clear()
    video = read_video(path, Storage(keep=keep))
    kept = Storage(keep=keep).select_frames(everything.facts.num_frames)
    np.testing.assert_array_equal(video.facts.kept, kept)
    assert video.jpegs == [everything.jpegs[number] for number in kept]
    np.testing.assert_array_equal(video.facts.thumbnails, everything.facts.thumbnails[kept])
    assert dataclasses.replace(video.facts, kept=None, thumbnails=None) == dataclasses.replace(
      everything.facts, kept=None, thumbnails=None
    )
    assert video.fps == pytest.approx(everything.fps * len(kept) / everything.facts.num_frames)
    if expected != 'any':
      assert ways == ([expected] if expected != 'decode all' else [])
