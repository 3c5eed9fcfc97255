"""Reads from the bits of video packets where decoding can start, and which packets show a frame.

Files mark the packets at which decoding can start, but not reliably; the type of the picture in
the packet's own bits is reliable. Each codec has its own format.
"""

import dataclasses
from collections.abc import Callable, Iterator

import av


@dataclasses.dataclass(frozen=True)
class Codec:
  """The functions that read the packets of a codec.

  Attributes:
    starts: whether decoding can start at a packet, given its bits and the stream's extradata.
    shows: whether a packet, given its bits, contains a frame that is shown. It returns None if that
      is uncertain. Without this function, every packet contains such a frame.
  """

  starts: Callable[[bytes, bytes], bool]
  shows: Callable[[bytes], bool | None] | None = None


def codec_of(context: av.codec.context.CodecContext) -> Codec | None:
  """Returns the functions that read a stream's packets; None if its codec is unsupported."""
  codec = _CODECS.get(context.codec.canonical_name)
  if codec is None and context.codec.intra_only:
    return Codec(lambda data, extradata: True)
  return codec


def _nal_units(data: bytes, length_size: int) -> Iterator[bytes]:
  """Yields a packet's NAL units, which follow start codes if `length_size` is 0, else lengths."""
  if not length_size:
    yield from data.split(b'\0\0\1')[1:]
  offset = 0
  while length_size and offset + length_size < len(data):
    end = offset + length_size + int.from_bytes(data[offset : offset + length_size])
    yield data[offset + length_size : end]
    offset = end


def _starts_h264(data: bytes, extradata: bytes) -> bool:
  """Returns whether the first slice is of an IDR picture or of an exact recovery point."""
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
  """Returns whether a recovery point is immediate and exact (ITU-T H.264, 7.3.2.3.1 and D.1.8)."""
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
  """Returns whether the first slice is of an IRAP picture (ITU-T H.265, table 7-1).

  Pictures that are both decoded and shown after an IRAP picture need nothing before it. Those that
  are decoded after it and shown before it may.
  """
  has_lengths = len(extradata) > 21 and extradata[:3] not in (b'\0\0\0', b'\0\0\1')
  units = _nal_units(data, 1 + (extradata[21] & 3) if has_lengths else 0)
  kinds = (unit[0] >> 1 & 63 for unit in units if unit)
  return next((16 <= kind <= 21 for kind in kinds if kind < 32), False)


def _starts_mpeg4(data: bytes, extradata: bytes) -> bool:
  """Returns whether the VOP is an I-VOP (ISO/IEC 14496-2, 6.2.5)."""
  offset = data.find(b'\0\0\1\xb6') + 4
  return 4 <= offset < len(data) and data[offset] >> 6 == 0


def _shows_mpeg4(data: bytes) -> bool | None:
  """Returns None for several VOPs in a packet, or for a VOP so short that it may be empty."""
  return True if data.count(b'\0\0\1\xb6') == 1 and len(data) > 16 else None


def _starts_mpeg2(data: bytes, extradata: bytes) -> bool:
  """Returns whether the picture is an I-picture (ISO/IEC 13818-2, 6.2.3)."""
  offset = data.find(b'\0\0\1\0') + 5
  return 5 <= offset < len(data) and data[offset] >> 3 & 7 == 1


def _shows_mpeg2(data: bytes) -> bool | None:
  """Returns None for two fields in a packet."""
  return True if data.count(b'\0\0\1\0') == 1 else None


def _starts_vp8(data: bytes, extradata: bytes) -> bool:
  """Returns whether the frame is a key frame (RFC 6386, 9.1)."""
  return not data[0] & 1


def _shows_vp8(data: bytes) -> bool:
  return bool(data[0] & 16)


def _vp9_bits(data: bytes) -> int:
  """Returns show_existing_frame, frame_type (0 for a key frame) and show_frame (VP9, 6.2)."""
  return data[0] >> (0 if data[0] & 0x30 == 0x30 else 1) & 7


def _starts_vp9(data: bytes, extradata: bytes) -> bool:
  return not _vp9_bits(data) & 6


def _shows_vp9(data: bytes) -> bool:
  """Returns True for every superframe, because its last frame is always shown (VP9, annex B)."""
  return data[-1] & 0xE0 == 0xC0 or bool(_vp9_bits(data) & 5)


def _starts_av1(data: bytes, extradata: bytes) -> bool:
  """Returns whether the first frame is a key frame that is shown (AV1, 5.3 to 5.9)."""
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


# The keys are FFmpeg's names.
_CODECS = {
  'h264': Codec(_starts_h264),
  'hevc': Codec(_starts_hevc),
  'av1': Codec(_starts_av1),
  'vp8': Codec(_starts_vp8, _shows_vp8),
  'vp9': Codec(_starts_vp9, _shows_vp9),
  'mpeg4': Codec(_starts_mpeg4, _shows_mpeg4),
  'mpeg1video': Codec(_starts_mpeg2, _shows_mpeg2),
  'mpeg2video': Codec(_starts_mpeg2, _shows_mpeg2),
}
