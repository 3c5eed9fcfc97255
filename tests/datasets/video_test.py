"""Videos in many containers, cut, rotated and unusual ones, and folders of frames."""

import fractions
import pathlib
import struct

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition
from hypothesis import given, settings
from hypothesis import strategies as st

from zsar_jax.data import records
from zsar_jax.data.records import ClipError
from zsar_jax.datasets.sources.video_index import VideoIndex
from zsar_jax.datasets.video import Storage
from zsar_jax.datasets.video_reading import read_video
from zsar_jax.errors import UserError


def write_video(
  path: pathlib.Path,
  levels: list[int],
  height: int = 48,
  width: int = 64,
  codec: str = 'mpeg4',
  pix_fmt: str = 'yuv420p',
) -> pathlib.Path:
  """Writes 12 frames per second; frame n has the gray level levels[n], the left half is black."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with av.open(str(path), 'w') as container:
    stream = container.add_stream(codec, rate=12)
    stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
    stream.bit_rate = 4_000_000
    for level in levels:
      image = np.full((height, width, 3), level, np.uint8)
      image[:, : width // 2] = 0
      container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
    container.mux(stream.encode(None))
  return path


LEVELS = [20, 60, 100, 140, 180, 220]


def _levels(video) -> list[int]:
  """Returns the gray levels of the right halves."""
  levels = []
  for jpeg in video.jpegs:
    frame = records.decode_frame(jpeg)
    levels.append(round(float(frame[:, frame.shape[1] * 5 // 8 :].mean())))
  return levels


@pytest.mark.parametrize(
  ('name', 'codec', 'pix_fmt'),
  [
    ('a.mp4', 'mpeg4', 'yuv420p'),
    ('a.mp4', 'libx264', 'yuv420p'),
    ('a.avi', 'mpeg4', 'yuv420p'),
    ('a.webm', 'libvpx-vp9', 'yuv420p'),
    ('a.mkv', 'libx264', 'yuv444p'),
    ('a.mkv', 'ffv1', 'gray'),
    ('a.mov', 'mjpeg', 'yuvj420p'),
  ],
)
def test_reads_the_usual_containers(tmp_path, name, codec, pix_fmt):
  video = read_video(write_video(tmp_path / name, LEVELS, codec=codec, pix_fmt=pix_fmt), Storage())
  np.testing.assert_allclose(_levels(video), LEVELS, atol=6)
  assert video.fps == pytest.approx(12)
  assert (video.facts.height, video.facts.width) == (48, 64)
  assert video.facts.num_frames == 6
  assert video.remarks == {}


@pytest.mark.parametrize(
  ('keep', 'kept'),
  [
    ('all', [0, 1, 2, 3, 4, 5]),
    ('every:1', [0, 1, 2, 3, 4, 5]),
    ('every:4', [0, 4]),
    ('every:99', [0]),
    ('segments:2', [1, 4]),
    ('segments:3', [1, 3, 5]),
    ('starts:3', [0, 2, 4]),
    ('ends:3', [0, 2, 5]),
    ('segments:6', [0, 1, 2, 3, 4, 5]),
    ('segments:9', [0, 1, 2, 3, 4, 5]),
  ],
)
def test_keeps_the_requested_frames(tmp_path, keep, kept):
  path = write_video(tmp_path / 'a.mp4', LEVELS)
  folder = tmp_path / 'frames'
  folder.mkdir()
  for number, level in enumerate(LEVELS, start=1):
    cv2.imwrite(str(folder / f'{number:06d}.png'), np.full((48, 64, 3), level, np.uint8))
  for source in (path, folder):
    video = read_video(source, Storage(keep=keep), folder_fps=12)
    assert list(video.facts.kept) == kept
    np.testing.assert_allclose(_levels(video), [LEVELS[n] for n in kept], atol=6)
    assert video.fps == pytest.approx(12 * len(kept) / 6)
    assert video.facts.num_frames == 6
    assert ('fewer frames than asked' in video.remarks) == (keep == 'segments:9')


@pytest.mark.parametrize(
  ('keep', 'annotated', 'kept'),
  [
    # Without annotations, frames 1 and 4 of 'segments:2', and 0 and 4 of 'every:4', are kept.
    ('segments:2', [], [1, 4]),
    ('segments:2', [0], [0, 4]),
    ('segments:2', [5], [1, 5]),
    ('segments:2', [0, 2, 4, 5], [0, 4]),
    ('every:4', [1], [1, 4]),
    ('every:4', [2], [0, 2]),
    ('every:4', range(6), [0, 4]),
    ('segments:9', [0], [0, 1, 2, 3, 4, 5]),
    ('all', [0], [0, 1, 2, 3, 4, 5]),
  ],
)
def test_annotated_frames_are_preferred(tmp_path, keep, annotated, kept):
  path = write_video(tmp_path / 'a.mp4', LEVELS)
  calls = []

  def annotated_frames(num_frames, numbers):
    calls.append((num_frames, numbers))
    return annotated

  video = read_video(path, Storage(keep=keep), annotated=annotated_frames)
  assert list(video.facts.kept) == kept
  np.testing.assert_allclose(_levels(video), [LEVELS[n] for n in kept], atol=6)
  assert calls == ([] if keep == 'all' else [(6, None)])

  def refuse(num_frames, numbers):
    raise ClipError('of another video')

  # The error is raised when the masks are drawn, for the number of frames that were decoded.
  assert list(read_video(path, Storage(keep=keep), annotated=refuse).facts.kept) == list(
    Storage(keep=keep).select_frames(6)
  )


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 60), st.integers(1, 20), st.sets(st.integers(0, 59)), st.booleans())
def test_no_frame_is_kept_twice(num_frames, number, annotated, every):
  storage = Storage(keep=f'{"every" if every else "segments"}:{number}')
  annotated = {n for n in annotated if n < num_frames}
  before, kept = storage.select_frames(num_frames), storage.select_frames(num_frames, annotated)
  assert (np.diff(kept) > 0).all()
  assert len(kept) == len(before)
  # Each annotated frame is kept, or another one as close to the frame that it replaces.
  for frame in annotated:
    distance = np.abs(before - frame)
    chosen = kept[np.flatnonzero(distance == distance.min())]
    assert any(n in annotated for n in chosen)


@pytest.mark.parametrize('keep', ['none', 'every', 'every:0', 'segments:-1', 'segments:2.5', ''])
def test_refuses_other_rules(keep):
  with pytest.raises(UserError, match='--keep'):
    Storage(keep=keep)


@pytest.mark.parametrize(
  ('size', 'short_side', 'stored'),
  [
    ((48, 64), 24, (24, 32)),
    ((64, 48), 24, (32, 24)),
    ((37, 51), None, (37, 51)),
    ((37, 51), 20, (20, 28)),
    ((48, 64), 100, (48, 64)),
  ],
)
def test_scales_down_and_never_up(tmp_path, size, short_side, stored):
  path = write_video(tmp_path / 'a.mkv', LEVELS, *size, codec='ffv1', pix_fmt='bgr0')
  video = read_video(path, Storage(short_side))
  assert records.decode_frame(video.jpegs[0]).shape[:2] == stored
  assert (video.facts.height, video.facts.width) == stored
  assert (video.facts.source_height, video.facts.source_width) == size


@pytest.mark.parametrize('quarters', [0, 1, 2, 3])
def test_rotates_phone_videos_upright(tmp_path, quarters):
  path = write_video(tmp_path / 'a.mp4', [200] * 4)
  # The matrix in the header of a track by which a player rotates the frames, as phones write it:
  # ISO/IEC 14496-12, section 8.3.2. Clockwise by 90 degrees takes (x, y) to (-y, x).
  matrix = np.linalg.matrix_power(np.array([[0, 1], [-1, 0]]), quarters)
  content = bytearray(path.read_bytes())
  offset = content.index(b'tkhd') + 4 + 40
  struct.pack_into('>ii', content, offset, *(65536 * matrix[0]).tolist())
  struct.pack_into('>ii', content, offset + 12, *(65536 * matrix[1]).tolist())
  path.write_bytes(content)

  video = read_video(path, Storage())
  upright = np.full((48, 64), 200)
  upright[:, :32] = 0
  upright = np.rot90(upright, -quarters)  # Clockwise.
  assert (video.facts.source_height, video.facts.source_width) == upright.shape
  frame = records.decode_frame(video.jpegs[0])[..., 0].astype(int)
  assert frame.shape == upright.shape
  assert (np.abs(frame - upright) < 30).mean() > 0.95


def test_refuses_what_cannot_be_read(tmp_path):
  good = write_video(tmp_path / 'good.mp4', LEVELS * 8)
  with pytest.raises(ClipError) as missing:
    read_video(tmp_path / 'none.mp4', Storage())
  assert missing.value.missing
  (tmp_path / 'empty.mp4').touch()
  (tmp_path / 'text.mp4').write_text('this is no video')
  (tmp_path / 'cut.mp4').write_bytes(good.read_bytes()[:3000])
  with av.open(str(tmp_path / 'sound.mp4'), 'w') as container:
    stream = container.add_stream('aac', rate=8000)
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), 'fltp', 'mono')
    frame.sample_rate = 8000
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  for name, words in (
    ('empty', 'empty file'),
    ('text', 'cannot be decoded'),
    ('cut', 'cannot be decoded'),
    ('sound', 'no video stream'),
  ):
    with pytest.raises(ClipError, match=words) as error:
      read_video(tmp_path / f'{name}.mp4', Storage())
    assert not error.value.missing


@pytest.mark.parametrize('keep', ['all', 'segments:4'])
def test_a_video_that_ends_before_its_header_says_is_cut(tmp_path, keep):
  path = write_video(tmp_path / 'a.mkv', [100] * 120, codec='mjpeg', pix_fmt='yuvj420p')
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  with pytest.raises(ClipError, match='ends after'):
    read_video(path, Storage(keep=keep))


@pytest.mark.parametrize('name', ['a.mkv', 'a.webm'])
def test_a_cut_video_with_sound_is_refused(tmp_path, name):
  path = tmp_path / name
  with av.open(str(path), 'w') as container:
    video = container.add_stream('libvpx', rate=12)
    video.width, video.height, video.pix_fmt = 64, 48, 'yuv420p'
    sound = container.add_stream('libopus', rate=48000, layout='mono')
    for number in range(48):
      image = np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8)
      container.mux(video.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
      frame = av.AudioFrame.from_ndarray(np.zeros((1, 4000), np.int16), 's16', 'mono')
      frame.sample_rate, frame.pts = 48000, 4000 * number
      container.mux(sound.encode(frame))
    container.mux(video.encode(None))
    container.mux(sound.encode(None))
  assert read_video(path, Storage()).facts.num_frames == 48
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  with pytest.raises(ClipError, match='ends after .* of 4.0 seconds'):
    read_video(path, Storage())


def test_opens_no_images_and_no_other_files(tmp_path):
  image = np.full((48, 64, 3), 80, np.uint8)
  for kind in ('jpg', 'png', 'ppm', 'bmp', 'webp'):
    cv2.imwrite(str(tmp_path / f'a.{kind}'), image)
    (tmp_path / f'a.{kind}').rename(tmp_path / f'{kind}.mp4')
  write_video(tmp_path / 'secret.ts', LEVELS, codec='mpeg2video')
  (tmp_path / 'list.mp4').write_text('ffconcat version 1.0\nfile secret.ts\n')
  playlist = '#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n'
  (tmp_path / 'list.m3u8').write_text(playlist)
  for path in tmp_path.glob('*.m*'):
    with pytest.raises(ClipError, match='cannot be decoded .*not of a format of videos'):
      read_video(path, Storage())


def test_the_rate_of_raw_dv_is_not_its_unit_of_time(tmp_path):
  with av.open(str(tmp_path / 'a.dv'), 'w') as container:
    stream = container.add_stream('dvvideo', rate=25)
    stream.width, stream.height, stream.pix_fmt = 720, 576, 'yuv420p'
    for _ in range(3):
      frame = av.VideoFrame.from_ndarray(np.zeros((576, 720, 3), np.uint8), format='rgb24')
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  assert read_video(tmp_path / 'a.dv', Storage(keep='every:2')).fps == pytest.approx(25 * 2 / 3)


def test_a_relative_path_may_have_a_colon(tmp_path, monkeypatch):
  write_video(tmp_path / 'a.mp4', LEVELS).rename(tmp_path / 'cl:ip.mp4')
  monkeypatch.chdir(tmp_path)
  assert read_video('cl:ip.mp4', Storage(keep='segments:2')).facts.num_frames == 6


def test_a_video_that_changes_its_size_is_refused(tmp_path):
  parts = []
  for size in ((48, 64), (64, 48)):
    path = write_video(tmp_path / 'part.ts', [100] * 4, *size, codec='mpeg2video')
    parts.append(path.read_bytes())
  (tmp_path / 'both.ts').write_bytes(b''.join(parts))
  with pytest.raises(ClipError, match='changes its size at frame ., from 64 x 48 to 48 x 64'):
    read_video(tmp_path / 'both.ts', Storage())


def _frame_folder(folder: pathlib.Path, *names: str, size=(48, 64)) -> pathlib.Path:
  folder.mkdir(exist_ok=True)
  for name in names:
    cv2.imwrite(str(folder / name), np.full((*size, 3), 80, np.uint8))
  return folder


def test_frame_folders_are_read_in_the_order_of_their_numbers(tmp_path):
  folder = tmp_path / 'clip'
  folder.mkdir()
  for number, level in zip((9, 10, 12), (30, 90, 150), strict=True):
    cv2.imwrite(str(folder / f'img_{number}.jpg'), np.full((48, 64, 3), level, np.uint8))
  _frame_folder(folder, 'flow_x_9.jpg', 'flow_x_10.jpg')
  video = read_video(folder, Storage(), folder_fps=12)
  np.testing.assert_allclose(_levels(video), [30, 90, 150], atol=3)
  assert video.fps == 12
  assert video.remarks == {'frames missing in the folder': '1 of 4'}


def test_refuses_frame_folders_that_are_not_one_clip(tmp_path):
  cases = {
    'has no image': _frame_folder(tmp_path / 'a'),
    'no frame number': _frame_folder(tmp_path / 'b', 'first.jpg'),
    'same frame number': _frame_folder(tmp_path / 'c', '1.jpg', '01.jpg'),
    'more than one series': _frame_folder(tmp_path / 'd', 'left_1.jpg', 'right_1.jpg'),
    '10 x 12 pixels where': _frame_folder(
      _frame_folder(tmp_path / 'e', '1.jpg'), '2.jpg', size=(12, 10)
    ),
    'not a complete image': _frame_folder(tmp_path / 'f', '1.jpg'),
  }
  truncated = cases['not a complete image'] / '1.jpg'
  truncated.write_bytes(truncated.read_bytes()[:-80])
  for words, folder in cases.items():
    with pytest.raises(ClipError, match=words):
      read_video(folder, Storage())


@pytest.mark.parametrize(
  ('name', 'codec', 'pix_fmt'),
  [
    ('a.gif', 'gif', 'rgb8'),
    ('a.mp4', 'libx264', 'yuv420p'),
    ('a.mkv', 'mjpeg', 'yuvj420p'),
    ('a.webm', 'libvpx-vp9', 'yuv420p'),
    ('a.mov', 'mpeg4', 'yuv420p'),
  ],
)
@pytest.mark.parametrize('keep', ['all', 'segments:2'])
def test_a_last_frame_may_be_held(tmp_path, name, codec, pix_fmt, keep):
  """Six frames, one per second, of which the last is shown for 30 seconds."""
  with av.open(str(tmp_path / name), 'w') as container:
    stream = container.add_stream(codec, rate=10)
    stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
    stream.codec_context.time_base = fractions.Fraction(1, 100)
    packets = []
    for number, level in enumerate(LEVELS):
      frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), format='rgb24')
      frame.pts, frame.time_base = 100 * number, fractions.Fraction(1, 100)
      packets += stream.encode(frame)
    packets += stream.encode(None)
    for packet in packets:
      packet.duration = 3000 if packet.pts == 500 else 100
      container.mux(packet)
  with av.open(str(tmp_path / name)) as container:
    assert container.duration > 34 * av.time_base
  video = read_video(tmp_path / name, Storage(keep=keep))
  assert video.facts.num_frames == 6
  np.testing.assert_allclose(_levels(video), [LEVELS[n] for n in video.facts.kept], atol=20)


@pytest.mark.parametrize('share', [1, 0.6])
def test_a_matroska_file_of_its_stated_length_is_complete(tmp_path, share):
  """Screen recorders state the time of recording, which may be longer than the frames last."""
  path = write_video(tmp_path / 'a.mkv', [100] * 60, codec='mjpeg', pix_fmt='yuvj420p')
  content = path.read_bytes().replace(b'00:00:05.000', b'00:00:50.000')
  duration = content.index(b'\x44\x89\x88') + 3  # Duration, a float64 (RFC 9559, 5.1.2.10).
  content = content[:duration] + struct.pack('>d', 50_000) + content[duration + 8 :]
  path.write_bytes(content[: int(share * len(content))])
  if share == 1:
    assert read_video(path, Storage()).facts.num_frames == 60
  else:
    with pytest.raises(ClipError, match='ends after .* of 50.0 seconds'):
      read_video(path, Storage())


# Kr and Kb of ITU-R BT.601, BT.709 and BT.2020, by FFmpeg's numbers of color spaces. A file that
# states none is taken for BT.601.
_WEIGHTS = {1: (0.2126, 0.0722), 2: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}


@pytest.mark.parametrize('space', _WEIGHTS)
@pytest.mark.parametrize('full_range', [False, True])
@pytest.mark.parametrize('short_side', [None, 24])
def test_colors(tmp_path, space, full_range, short_side):
  """Pixels are those that the standards define (BT.709, 3: from Y'CbCr to R'G'B')."""
  y, cb, cr = 90, 110, 180
  path = tmp_path / 'a.mkv'
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('ffv1', rate=10)
    stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv444p'
    frame = av.VideoFrame(64, 48, 'yuv444p')
    for plane, value in zip(frame.planes, (y, cb, cr), strict=True):
      plane.update(np.full(plane.buffer_size, value, np.uint8))
    for holder in (frame, stream.codec_context):
      holder.colorspace, holder.color_range = space, 2 if full_range else 1
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  kr, kb = _WEIGHTS[space]
  luma = y / 255 if full_range else (y - 16) / 219
  blue, red = ((c - 128) / (255 if full_range else 224) for c in (cb, cr))
  r, b = luma + 2 * (1 - kr) * red, luma + 2 * (1 - kb) * blue
  g = (luma - kr * r - kb * b) / (1 - kr - kb)
  video = read_video(path, Storage(short_side, jpeg_quality=100))
  color = records.decode_frame(video.jpegs[0])[10, 10]
  np.testing.assert_allclose(color, np.round(255 * np.array([r, g, b])), atol=2)


def test_the_default_video_stream_is_read_and_no_cover(tmp_path):
  path = tmp_path / 'a.mkv'
  dispositions = (Disposition.attached_pic, Disposition(0), Disposition.default)
  with av.open(str(path), 'w') as container:
    streams = []
    for width, disposition in zip((32, 48, 64), dispositions, strict=True):
      stream = container.add_stream('mjpeg', rate=12)
      stream.width, stream.height, stream.pix_fmt = width, 48, 'yuvj420p'
      stream.disposition = disposition
      streams.append(stream)
    for level in LEVELS:
      for stream in streams:
        image = np.full((48, stream.width, 3), level, np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
    for stream in streams:
      container.mux(stream.encode(None))
  for keep in ('all', 'segments:2'):
    video = read_video(path, Storage(keep=keep))
    assert (video.facts.width, video.facts.num_frames) == (64, 6)


def test_names_in_a_file_may_be_in_any_encoding(tmp_path):
  path = write_video(tmp_path / 'a.avi', LEVELS)
  content = path.read_bytes()
  assert b'Lavf' in content
  path.write_bytes(content.replace(b'Lavf', b'L\xe4vf'))
  assert read_video(path, Storage()).facts.num_frames == 6


@pytest.mark.parametrize(
  ('name', 'codec', 'pix_fmt'),
  [
    ('a.gif', 'gif', 'rgb8'),
    ('a.y4m', 'rawvideo', 'yuv420p'),
    ('a.ogg', 'libvpx', 'yuv420p'),
    ('a.mxf', 'mpeg2video', 'yuv420p'),
    ('a.h264', 'libx264', 'yuv420p'),
    ('a.apng', 'apng', 'rgb24'),
    ('a.ivf', 'libvpx-vp9', 'yuv420p'),
    ('a.obu', 'libsvtav1', 'yuv420p'),
    ('a.nut', 'mpeg4', 'yuv420p'),
  ],
)
def test_formats_beside_the_usual_containers(tmp_path, name, codec, pix_fmt):
  path = tmp_path / name
  with av.open(str(path), 'w') as container:
    stream = container.add_stream(codec, rate=25)
    stream.width, stream.height, stream.pix_fmt = 64, 64, pix_fmt
    for level in LEVELS:
      image = np.full((64, 64, 3), level, np.uint8)
      container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
    container.mux(stream.encode(None))
  assert list(VideoIndex(tmp_path)) == [name]
  for keep in ('all', 'segments:2'):
    video = read_video(path, Storage(keep=keep))
    assert video.facts.num_frames == 6
    np.testing.assert_allclose(_levels(video), [LEVELS[n] for n in video.facts.kept], atol=20)


def test_images_that_are_no_frames_are_left_out_and_counted(tmp_path):
  folder = _frame_folder(tmp_path / 'clip', *(f'f_{number:03d}.png' for number in range(10)))
  (folder / '._f_000.png').write_bytes(b'\x00\x05\x16\x07')
  _frame_folder(folder, 'cover.png', size=(10, 10))
  (folder / 'f_004.png').write_bytes(b'')
  (folder / 'f_006.png').write_bytes((folder / 'f_005.png').read_bytes()[:40])
  (folder / 'f_008.png').unlink()
  numbers = [0, 1, 2, 3, 5, 7, 9]
  video = read_video(folder, Storage())
  assert video.facts.numbers.tolist() == numbers
  assert len(video.jpegs) == video.facts.num_frames == 7
  assert video.remarks == {
    'frames missing in the folder': '1 of 10',
    'frames that cannot be read': f'2, such as {folder}/f_004.png is not a complete image',
    'images without a frame number': '1, such as cover.png',
  }
  # Of nine frames the centers of three segments are 1, 4 and 7: one of them is not read.
  video = read_video(folder, Storage(keep='segments:3'))
  assert video.facts.num_frames == 8
  assert video.facts.kept.tolist() == [1, 4, 6]
