"""Finds a few frames of a long video without decoding all of it.

All packets of the stream are read first, which is about a hundred times faster than decoding them.
Their time stamps give the number of each frame. Only the packets that the requested frames need
are then decoded, starting at the last packet before them at which decoding can start (see
`zsar_jax.datasets.bitstreams`).

The frames are the same as those of decoding the full file: the decoder gets the same packets in
the same order, starting with a picture that makes later pictures independent of earlier ones. The
time stamps of the decoded frames are compared with the expected ones, and if anything is missing
or differs, the caller decodes the full file.
"""

import dataclasses
from collections.abc import Collection, Iterator

import av
import numpy as np

from zsar_jax.datasets import bitstreams

# A decoder returns a frame after at most this many packets behind the frame's own.
_MAX_DELAY = 32


class UnreliablePackets(Exception):
  """The packets do not determine which frames decoding gives: the full file must be decoded."""


@dataclasses.dataclass(frozen=True)
class Packets:
  """A stream's P packets, in the order of the file, without their content.

  Attributes:
    pts: i64[P], when each is shown, in units of the stream's time base.
    dts: i64[P], when each is decoded, or `pts` if the file does not state it.
    positions: i64[P], the position of each in the file, in bytes, or -1.
    sizes: i64[P], in bytes.
    frames: i64[N], the packet of each frame that is shown, in the order of showing.
    starts: i64[S], the packets at which decoding can start, ascending.
    reliable: whether `pts`, `frames` and `starts` are certain.
    end: when the last frame ends, in seconds.
  """

  pts: np.ndarray
  dts: np.ndarray
  positions: np.ndarray
  sizes: np.ndarray
  frames: np.ndarray
  starts: np.ndarray
  reliable: bool
  end: float

  def runs(self, numbers: Collection[int], max_gap: int = 0) -> list[tuple[int, int, list[int]]]:
    """Returns the runs of packets to decode for some frames.

    Args:
      numbers: the numbers of the frames, each in [0, N), ascending.
      max_gap: a run is joined to the one before if it starts at most this many packets after
        that one's last packet.

    Returns:
      For each run its first packet, the last packet that a frame is in, and the frames' numbers.
    """
    runs: list[tuple[int, int, list[int]]] = []
    for number in numbers:
      packet = self.frames[number]
      start = self.starts[np.searchsorted(self.pts[self.starts], self.pts[packet], 'right') - 1]
      if runs and start - runs[-1][1] <= max_gap:
        start, last, numbers_before = runs.pop()
        runs.append((start, max(last, packet), [*numbers_before, number]))
      else:
        runs.append((start, packet, [number]))
    return runs

  def is_worthwhile(self, numbers: Collection[int]) -> bool:
    """Returns whether decoding some frames needs less than half of the packets."""
    if not self.reliable:
      return False
    return 2 * sum(last - first + 1 for first, last, _ in self.runs(numbers)) < len(self.pts)


def read_packets(container: av.container.InputContainer, stream: av.VideoStream) -> Packets:
  """Reads all packets of a stream."""
  context = stream.codec_context
  codec = bitstreams.codec_of(context)
  extradata = context.extradata or b''
  rows: list[tuple[int, int, int, int, int]] = []
  shown, starts = [], []
  reliable = True
  latest = None
  for packet in container.demux(stream):
    if not packet.size:
      continue
    pts = packet.pts
    is_shown = not packet.is_discard
    if codec is None or pts is None or packet.is_corrupt:
      reliable = False
    elif reliable:
      if codec.shows is not None:
        has_frame = codec.shows(bytes(packet))
        reliable = has_frame is not None
        is_shown &= bool(has_frame)
      if reliable and packet.is_keyframe and (latest is None or pts > latest):
        if codec.starts(bytes(packet), extradata):
          starts.append(len(rows))
        # A decoder that starts later would not get the new parameters.
        reliable = not rows or not packet.has_sidedata('new_extradata')
      if reliable:
        latest = pts if latest is None else max(latest, pts)
    dts = pts if packet.dts is None else packet.dts
    position = -1 if packet.pos is None else packet.pos
    rows.append((pts or 0, dts or 0, position, packet.size, packet.duration or 0))
    shown.append(is_shown)
  all_pts, all_dts, positions, sizes, durations = np.array(rows, np.int64).reshape(-1, 5).T
  frames = np.flatnonzero(shown)
  frames = frames[np.argsort(all_pts[frames], kind='stable')]
  reliable = bool(
    reliable
    and len(frames)
    and starts
    and starts[0] == 0
    # Decoders may drop frames that are shown before the first start.
    and all_pts.min() == all_pts[0]
    and len(np.unique(all_pts)) == len(all_pts)
  )
  assert stream.time_base is not None  # FFmpeg sets it for every stream.
  end = float((all_pts + durations).max() * stream.time_base) if rows else 0.0
  starts_array = np.array(starts, np.int64)
  return Packets(all_pts, all_dts, positions, sizes, frames, starts_array, reliable, end)


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
    stream: the video stream of the file.
    packets: the packets of the stream, which must be reliable.
    numbers: the numbers of the frames, ascending.
    by_seeking: whether to skip the packets before each run by seeking. Some formats do not seek to
      the requested packet; without seeking, all packets are read and only the runs are decoded.

  Yields:
    Each frame's number and the frame.

  Raises:
    UnreliablePackets: if the file gives other packets or other frames than `packets` says.
  """
  times = packets.pts[packets.frames]
  feed: _Feed = enumerate(container.demux(stream))
  max_gap = 0 if by_seeking else _MAX_DELAY
  for start, _, numbers_of_run in packets.runs(numbers, max_gap):
    if by_seeking and start:
      feed = _seek(container, stream, packets, start)
    stream.codec_context.flush_buffers()
    remaining = set(numbers_of_run)
    number = int(np.searchsorted(times, packets.pts[start]))
    for frame in _decoded_from(feed, packets, start):
      if frame.pts is not None and frame.pts < packets.pts[start]:
        continue  # Such a frame may need packets before the start.
      if number >= len(times) or frame.pts != times[number] or frame.is_corrupt:
        raise UnreliablePackets
      if number in remaining:
        yield number, frame
        remaining.remove(number)
      if not remaining:
        break
      number += 1
    if remaining:
      raise UnreliablePackets


# Packets with their indices in the order of the file. An empty one ends the stream.
_Feed = Iterator[tuple[int, av.Packet]]


def _seek(
  container: av.container.InputContainer, stream: av.VideoStream, packets: Packets, start: int
) -> _Feed:
  """Yields the packets from `start` on; the file seeks to it or to a packet before it."""
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
  """Yields the frames that are decoded from the packets from `start` on."""
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
    yield from packet.decode()  # The empty packet gives the frames that are left.
