"""Finding a few frames of a long video without decoding all of it.

All packets of the stream are read first, which is about a hundred times faster than decoding them.
Their time stamps give the number of each frame. Then the packets that the frames need are decoded,
from the last packet before them at which decoding can start. Files mark such packets as keys, but
not reliably, so that the type of the picture is read from the packet's own bits.

The decoder gets the same packets in the same order as in decoding the whole file, from a picture on
that no later one looks behind, so that it gives the same frames. Their time stamps are compared
with the expected ones, and wherever anything is missing or differs, the whole file is decoded.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterator

import av
import numpy as np

# At most so many packets behind a frame's own go into the decoder before the frame comes out.
_MOST_DELAYED = 32


class UnreliablePackets(Exception):
  """The packets do not tell which frames decoding gives: all of the file must be decoded."""


@dataclasses.dataclass(frozen=True)
class Packets:
  """What is known of a stream's P packets, in the order of the file, without decoding them.

  Attributes:
    pts: i64[P], when each is shown, in units of the stream's time base.
    dts: i64[P], when each is decoded, or as `pts` where the file does not say.
    positions: i64[P], the place of each in the file, in bytes, or -1.
    sizes: i64[P], in bytes.
    frames: i64[N], the packet of each frame that is shown, in the order of showing.
    starts: i64[S], the packets that decoding may begin with, ascending.
    trusted: whether `pts`, `frames` and `starts` can be relied on.
    end: when the last frame ends, in seconds.
  """

  pts: np.ndarray
  dts: np.ndarray
  positions: np.ndarray
  sizes: np.ndarray
  frames: np.ndarray
  starts: np.ndarray
  trusted: bool
  end: float

  def runs(self, numbers: Collection[int], apart: int = 0) -> list[tuple[int, int, list[int]]]:
    """Which packets to decode for some frames.

    Args:
      numbers: of the frames, each in [0, N), ascending.
      apart: runs with fewer packets between them than this are joined.

    Returns:
      Runs of packets: the first, the last that a frame is in, and the frames' numbers.
    """
    runs: list[tuple[int, int, list[int]]] = []
    for number in numbers:
      packet = self.frames[number]
      start = self.starts[np.searchsorted(self.pts[self.starts], self.pts[packet], 'right') - 1]
      if runs and start - runs[-1][1] <= apart:
        start, last, before = runs.pop()
        runs.append((start, max(last, packet), [*before, number]))
      else:
        runs.append((start, packet, [number]))
    return runs

  def is_worth_it(self, numbers: Collection[int]) -> bool:
    """Whether less than half of the packets need be decoded for some frames."""
    if not self.trusted:
      return False
    return 2 * sum(last - first + 1 for first, last, _ in self.runs(numbers)) < len(self.pts)


def read_packets(container: av.container.InputContainer, stream: av.VideoStream) -> Packets:
  """Reads all packets of a stream."""
  context = stream.codec_context
  codec = _CODECS.get(context.codec.canonical_name)
  if codec is None and context.codec.intra_only:
    codec = _Codec(lambda data, extradata: True)
  extradata = context.extradata or b''
  rows, shown, starts = [], [], []
  trusted = codec is not None
  latest = None
  for packet in container.demux(stream):
    if not packet.size:
      continue
    pts = packet.pts
    shows = not packet.is_discard
    if pts is None or packet.is_corrupt:
      trusted = False
    if trusted and codec.shows is not None:
      has_frame = codec.shows(bytes(packet))
      trusted = has_frame is not None
      shows &= bool(has_frame)
    if trusted and packet.is_keyframe and (latest is None or pts > latest):
      if codec.starts(bytes(packet), extradata):
        starts.append(len(rows))
      # A decoder that starts later would not get the new parameters.
      trusted = not rows or not packet.has_sidedata('new_extradata')
    if trusted:
      latest = pts if latest is None else max(latest, pts)
    dts = pts if packet.dts is None else packet.dts
    position = -1 if packet.pos is None else packet.pos
    rows.append((pts or 0, dts or 0, position, packet.size, packet.duration or 0))
    shown.append(shows)
  pts, dts, positions, sizes, durations = np.array(rows, np.int64).reshape(-1, 5).T
  frames = np.flatnonzero(shown)
  frames = frames[np.argsort(pts[frames], kind='stable')]
  trusted = bool(
    trusted
    and len(frames)
    and starts
    and starts[0] == 0
    and pts.min() == pts[0]  # Decoders may drop frames that are shown before the first start.
    and len(np.unique(pts)) == len(pts)
  )
  end = float((pts + durations).max() * stream.time_base) if rows else 0.0
  return Packets(pts, dts, positions, sizes, frames, np.array(starts, np.int64), trusted, end)


def decode(
  container: av.container.InputContainer,
  stream: av.VideoStream,
  packets: Packets,
  numbers: Collection[int],
  by_seeking: bool = True,
) -> Iterator[tuple[int, av.VideoFrame]]:
  """Decodes some frames.

  Args:
    container: the file, opened anew.
    stream: of it.
    packets: of the stream, trusted.
    numbers: of the frames, ascending.
    by_seeking: whether to skip the packets before each run by seeking. Some formats do not seek to
      the packet that is asked for; then all packets can be read, and only the runs are decoded.

  Yields:
    Each frame's number and the frame.

  Raises:
    Untrusted: the file gives other packets or other frames than `packets` says.
  """
  times = packets.pts[packets.frames]
  feed = enumerate(container.demux(stream))
  apart = 0 if by_seeking else _MOST_DELAYED
  for start, _, numbers_of_run in packets.runs(numbers, apart):
    if by_seeking and start:
      feed = _seek(container, stream, packets, start)
    stream.codec_context.flush_buffers()
    rest = set(numbers_of_run)
    number = int(np.searchsorted(times, packets.pts[start]))
    for frame in _decoded_from(feed, packets, start):
      if frame.pts is not None and frame.pts < packets.pts[start]:
        continue  # Such a frame may need packets before the start.
      if number >= len(times) or frame.pts != times[number] or frame.is_corrupt:
        raise UnreliablePackets
      if number in rest:
        yield number, frame
        rest.remove(number)
      if not rest:
        break
      number += 1
    if rest:
      raise UnreliablePackets


# Packets with their indices in the order of the file. An empty one ends the stream.
_Feed = Iterator[tuple[int, av.Packet]]


def _seek(
  container: av.container.InputContainer, stream: av.VideoStream, packets: Packets, start: int
) -> _Feed:
  """The packets from `start` on, where the file seeks to it or to a packet before it."""
  try:
    container.seek(int(packets.dts[start]), stream=stream)
  except av.FFmpegError:
    raise UnreliablePackets from None
  index = start
  for packet in container.demux(stream):
    is_before = packet.pts is None or packet.pts < packets.pts[start]
    if index > start or not packet.size or not is_before:
      yield index, packet
      index += 1


def _decoded_from(feed: _Feed, packets: Packets, start: int) -> Iterator[av.VideoFrame]:
  """The frames that come of the packets from `start` on."""
  for index, packet in feed:
    if index < start:
      continue
    if packet.size:
      if index >= len(packets.pts):
        raise UnreliablePackets
      position = -1 if packet.pos is None else packet.pos
      expected = packets.pts[index], packets.positions[index], packets.sizes[index]
      if (packet.pts, position, packet.size) != expected:
        raise UnreliablePackets
    yield from packet.decode()  # The empty one gives the frames that are left.


@dataclasses.dataclass(frozen=True)
class _Codec:
  """How the packets of a codec are read.

  Attributes:
    starts: whether decoding can start with a packet, given its bits and the stream's extradata.
    shows: whether a packet, given its bits, gives a frame that is shown; None where that is not
      sure. Without this function every packet gives one.
  """

  starts: Callable[[bytes, bytes], bool]
  shows: Callable[[bytes], bool | None] | None = None


def _nal_units(data: bytes, length_size: int) -> Iterator[bytes]:
  """The NAL units of a packet, behind start codes if `length_size` is 0, or else their lengths."""
  if not length_size:
    yield from data.split(b'\0\0\1')[1:]
  offset = 0
  while length_size and offset + length_size < len(data):
    end = offset + length_size + int.from_bytes(data[offset : offset + length_size])
    yield data[offset + length_size : end]
    offset = end


def _starts_h264(data: bytes, extradata: bytes) -> bool:
  """Whether the first slice is of an IDR picture, or of an exact recovery point."""
  length_size = 1 + (extradata[4] & 3) if extradata[:1] == b'\1' and len(extradata) > 4 else 0
  recovers = False
  for unit in _nal_units(data, length_size):
    kind = unit[0] & 31 if unit else 0  # ITU-T H.264, table 7-1.
    if kind == 6:
      recovers |= _recovers(unit[1:].replace(b'\0\0\3', b'\0\0'))
    if 1 <= kind <= 5:
      return kind == 5 or recovers
  return False


def _recovers(messages: bytes) -> bool:
  """Whether a recovery point is at once and exact (ITU-T H.264, 7.3.2.3.1 and D.1.8)."""
  offset = 0
  while offset < len(messages):
    header = []  # The message's type and size.
    for _ in range(2):
      value = 0
      while offset < len(messages) and messages[offset] == 255:
        value += 255
        offset += 1
      if offset == len(messages):
        return False
      header.append(value + messages[offset])
      offset += 1
    kind, size = header
    if kind == 6 and offset < len(messages):
      # recovery_frame_cnt 0 (one bit), exact_match_flag 1, broken_link_flag 0.
      return messages[offset] & 0xE0 == 0xC0
    offset += size
  return False


def _starts_hevc(data: bytes, extradata: bytes) -> bool:
  """Whether the first slice is of an IRAP picture (ITU-T H.265, table 7-1).

  Pictures that are decoded and shown after it need nothing before it. Those that are decoded after
  it and shown before it may.
  """
  framed = len(extradata) > 21 and extradata[:3] not in (b'\0\0\0', b'\0\0\1')
  units = _nal_units(data, 1 + (extradata[21] & 3) if framed else 0)
  kinds = (unit[0] >> 1 & 63 for unit in units if unit)
  return next((16 <= kind <= 21 for kind in kinds if kind < 32), False)


def _starts_mpeg4(data: bytes, extradata: bytes) -> bool:
  """Whether the VOP is an I-VOP (ISO/IEC 14496-2, 6.2.5)."""
  offset = data.find(b'\0\0\1\xb6') + 4
  return 4 <= offset < len(data) and data[offset] >> 6 == 0


def _shows_mpeg4(data: bytes) -> bool | None:
  """Not sure for several VOPs in a packet, or a packet so short that its VOP may not be coded."""
  return True if data.count(b'\0\0\1\xb6') == 1 and len(data) > 16 else None


def _starts_mpeg2(data: bytes, extradata: bytes) -> bool:
  """Whether the picture is an I-picture (ISO/IEC 13818-2, 6.2.3)."""
  offset = data.find(b'\0\0\1\0') + 5
  return 5 <= offset < len(data) and data[offset] >> 3 & 7 == 1


def _shows_mpeg2(data: bytes) -> bool | None:
  """Not sure for two fields in a packet."""
  return True if data.count(b'\0\0\1\0') == 1 else None


def _starts_vp8(data: bytes, extradata: bytes) -> bool:
  """Whether it is a key frame (RFC 6386, 9.1)."""
  return not data[0] & 1


def _shows_vp8(data: bytes) -> bool:
  return bool(data[0] & 16)


def _vp9_bits(data: bytes) -> int:
  """show_existing_frame, frame_type (0 for a key frame) and show_frame (VP9, 6.2)."""
  return data[0] >> (0 if data[0] & 0x30 == 0x30 else 1) & 7


def _starts_vp9(data: bytes, extradata: bytes) -> bool:
  return not _vp9_bits(data) & 6


def _shows_vp9(data: bytes) -> bool:
  """The last frame of a superframe (VP9, annex B) is always shown."""
  return data[-1] & 0xE0 == 0xC0 or bool(_vp9_bits(data) & 5)


def _starts_av1(data: bytes, extradata: bytes) -> bool:
  """Whether the first frame is a key frame that is shown (AV1, 5.3 to 5.9)."""
  offset = 0
  while offset < len(data):
    kind, extended, sized = data[offset] >> 3 & 15, data[offset] >> 2 & 1, data[offset] >> 1 & 1
    offset += 1 + extended
    size = shift = 0
    while sized and offset < len(data):
      size |= (data[offset] & 127) << shift
      shift += 7
      offset += 1
      if not data[offset - 1] & 128:
        break
    if kind in (3, 6):  # A frame header, or a frame.
      return offset < len(data) and data[offset] >> 4 == 1
    if not sized:
      break
    offset += size
  return False


_CODECS = {
  'h264': _Codec(_starts_h264),
  'hevc': _Codec(_starts_hevc),
  'av1': _Codec(_starts_av1),
  'vp8': _Codec(_starts_vp8, _shows_vp8),
  'vp9': _Codec(_starts_vp9, _shows_vp9),
  'mpeg4': _Codec(_starts_mpeg4, _shows_mpeg4),
  'mpeg1video': _Codec(_starts_mpeg2, _shows_mpeg2),
  'mpeg2video': _Codec(_starts_mpeg2, _shows_mpeg2),
}
