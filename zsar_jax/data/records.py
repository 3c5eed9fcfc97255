"""The record of a clip: its fields, and how its pixels are encoded.

One record is one clip of N frames:

    id         str        unique in its split
    label      int        index of the clip's class in the data set's vocabulary
    frames     N bytes    each frame as a JPEG, RGB
    regions    N bytes    each frame's region plane, see `encode_plane`; b'' if not annotated
    annotated  N bools    whether the frame is annotated
    fps        float      stored frames per second
    height     int        of every frame and plane, in pixels
    width      int
    attributes str        a JSON object of texts: other facts in the data set's lists

and, in a data set with inpainted frames,

    inpainted  N bytes    each frame without its people, as a JPEG; b'' if it shows nobody or is not
                          annotated. No entries if the clip's people are unknown.

Frames stay encoded until a program samples them, so that only sampled frames are decoded.
"""

import dataclasses
import json
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Self

import cv2
import numpy as np

from zsar_jax.errors import UserError
from zsar_jax.recipes.regions import REGION_BITS, UNKNOWN_SHIFT

JPEG_QUALITY = 90

# The two bytes that end every complete JPEG. The decoder fills the missing part of a cut JPEG with
# gray, and reports that only on stderr.
JPEG_END = b'\xff\xd9'

# The maximum size of a clip's images. A record is a protobuf message of less than 2 GiB, and 64 MiB
# are reserved for its other fields.
_MAX_BYTES = 2**31 - 2**26


class ClipError(Exception):
  """A clip that cannot be built. The build continues and reports it by its id.

  Attributes:
    reason: the damage or fault of the clip.
    missing: whether its file does not exist, in contrast to one that cannot be read.
  """

  def __init__(self, reason: str, missing: bool = False):
    super().__init__(reason, missing)
    self.reason = reason
    self.missing = missing


def record_features(classes: tuple[str, ...], inpainted: bool = False) -> Any:
  """Returns the record's `tfds.features.FeaturesDict`.

  Encoded images are plain bytes, as the Image feature of TFDS would import TensorFlow.

  Args:
    classes: the vocabulary.
    inpainted: whether the data set has inpainted frames.
  """
  # Imported here, so that decoding frames does not need TFDS.
  import tensorflow_datasets as tfds

  encoded = tfds.features.Tensor(shape=(), dtype=np.object_)
  optional = {'inpainted': tfds.features.Sequence(encoded)} if inpainted else {}
  return tfds.features.FeaturesDict(
    {
      'id': encoded,
      'label': tfds.features.ClassLabel(names=list(classes)),
      'frames': tfds.features.Sequence(encoded),
      'regions': tfds.features.Sequence(encoded),
      'annotated': tfds.features.Sequence(tfds.features.Scalar(np.bool_)),
      'fps': tfds.features.Scalar(np.float32),
      'height': tfds.features.Scalar(np.int32),
      'width': tfds.features.Scalar(np.int32),
      'attributes': encoded,
      **optional,
    }
  )


def serialize(record: dict[str, Any]) -> bytes:
  """Returns the record as a serialized tf.train.Example, with its fields in a fixed order.

  TFDS' own serializer orders them by a hash that differs between processes, and keeps the images
  of a clip in memory four times.
  """
  from tensorflow_datasets.proto import tf_example_pb2

  example = tf_example_pb2.Example()
  for name, value in record.items():
    feature = example.features.feature[name]
    if name == 'fps':
      feature.float_list.value.append(value)
    elif name in ('label', 'height', 'width', 'annotated'):
      feature.int64_list.value.extend(np.ravel(value).astype(int).tolist())
    else:
      texts = [value.encode()] if isinstance(value, str) else value
      # Also sets the type of a list without entries, which TFDS needs to read it.
      feature.bytes_list.value.extend(texts)
  return example.SerializeToString(deterministic=True)


class Images(list[bytes]):
  """The encoded frames or planes of a clip; raises a `ClipError` if a record cannot hold them.

  Attributes:
    size: the size of all images in bytes.
  """

  def __init__(self, images: Iterable[bytes] = ()):
    super().__init__()
    self.size = 0
    self += images

  # Typeshed's `list` has the same exemption: its `__add__` takes other types.
  def __iadd__(self, images: Iterable[bytes]) -> Self:  # type: ignore[misc]
    for image in images:
      self.append(image)
    return self

  def append(self, image: bytes) -> None:
    """Appends an image."""
    self.size += len(image)
    check_size(self.size)
    super().append(image)


def check_size(size: int) -> None:
  """Raises a `ClipError` if the images of a clip have more bytes than a record can hold."""
  if size > _MAX_BYTES:
    raise ClipError(
      f'its images take more than {_MAX_BYTES / 2**30:.2g} GiB, the most that a record can hold;'
      ' split the video, or build with a smaller --short-side, --jpeg-quality or --keep'
    )


@dataclasses.dataclass(frozen=True)
class EncodedClip:
  """A clip's record, and its entries in the index and the build report.

  Attributes:
    record: the fields of the record by name.
    coverage: for each of `REGION_BITS`, the share of the pixels that it covers, as a mean over
      the annotated frames; NaN if none is annotated or the region is unknown.
    empty: for each of `REGION_BITS`, the number of annotated frames that are known to lack it.
    remarks: the remarks by kind.
    failed_gates: the measures of its masks that look wrong, see `datasets.mask_gates`.
  """

  record: dict[str, Any]
  coverage: tuple[float, ...]
  empty: tuple[int, ...]
  remarks: dict[str, str]
  failed_gates: dict[str, float] = dataclasses.field(default_factory=dict)


def encode_clip(
  clip_id: str,
  label: int,
  jpegs: Iterable[bytes],
  planes: Iterable[np.ndarray | None] | None,
  size: tuple[int, int],
  fps: float,
  attributes: dict[str, str] | None = None,
  remarks: dict[str, str] | None = None,
  inpainted: Iterable[bytes] | None = None,
) -> EncodedClip:
  """Encodes a clip. Planes may come from a generator; only one is in memory at a time.

  Args:
    clip_id: unique in the split.
    label: index of the clip's class in the vocabulary.
    jpegs: N frames, as `encode_frames` returns them.
    planes: N region planes u8[H, W], with None for a frame that is not annotated; or None for a
      clip that is not annotated.
    size: (H, W), of the frames and the planes.
    fps: frames per second.
    attributes: other facts about the clip.
    remarks: the remarks; they are read after the last image.
    inpainted: the N inpainted frames, as JPEGs of the frames' size; b'' for a frame from which
      nobody was removed. That of a frame that is not annotated is left out. None if there are none.

  Raises:
    ClipError: if the images are too large for a record.
  """
  jpegs = Images(jpegs)
  regions, shares_by_frame = Images(), []
  for plane in planes if planes is not None else [None] * len(jpegs):
    regions.append(b'' if plane is None else encode_plane(plane))
    check_size(jpegs.size + regions.size)
    if plane is not None:
      present = int(np.bitwise_or.reduce(plane, axis=None))
      shares_by_frame.append(
        [
          np.nan if present & bit << UNKNOWN_SHIFT else np.count_nonzero(plane & bit) / plane.size
          for bit in REGION_BITS.values()
        ]
      )
  assert len(regions) == len(jpegs), f'{len(regions)} planes for {len(jpegs)} frames of {clip_id}'
  # A region is known in all annotated frames of a clip, or in none of them.
  shares = np.array(shares_by_frame).reshape(-1, len(REGION_BITS))
  record: dict[str, Any] = {
    'id': clip_id,
    'label': label,
    'frames': jpegs,
    'regions': regions,
    'annotated': [bool(code) for code in regions],
    'fps': fps,
    'height': size[0],
    'width': size[1],
    'attributes': json.dumps(attributes or {}),
  }
  if inpainted is not None:
    record['inpainted'] = Images()
    for image, plane_code in zip(inpainted, regions, strict=True):
      record['inpainted'].append(image if plane_code else b'')
      check_size(jpegs.size + regions.size + record['inpainted'].size)
  return EncodedClip(
    record,
    coverage=tuple(shares.mean(axis=0) if len(shares) else [np.nan] * len(REGION_BITS)),
    empty=tuple((shares == 0).sum(axis=0).tolist()),
    remarks=dict(remarks or {}),
  )


def encode_frames(frames: Iterable[np.ndarray], quality: int = JPEG_QUALITY) -> Iterator[bytes]:
  """Yields JPEGs of u8[H, W, 3] RGB frames, at a quality of 1 to 100."""
  for frame in frames:
    # OpenCV expects channels in the order blue, green, red.
    image = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    yield _encode('.jpg', image, cv2.IMWRITE_JPEG_QUALITY, quality)


def decode_frame(jpeg: bytes) -> np.ndarray:
  """Returns the u8[H, W, 3] RGB frame of a JPEG; raises a `UserError` if it is damaged."""
  if not jpeg.endswith(JPEG_END):
    raise UserError('a frame is not a complete JPEG; build the data set again')
  frame = _decode(jpeg, cv2.IMREAD_COLOR_RGB)
  if frame is None:
    raise UserError('a frame cannot be decoded as JPEG; build the data set again')
  return frame


def encode_plane(plane: np.ndarray) -> bytes:
  """Returns the runs of equal pixels of a u8[H, W] region plane, row by row, compressed by zlib.

  The lengths of all runs come first, as little-endian u32, then their values, as u8. That takes
  half the bytes of a PNG and a fifth of the time to decode; decoding PNGs would add a quarter to
  the time to load a clip, see docs/performance.md.
  """
  pixels = plane.ravel()
  starts = np.flatnonzero(np.diff(pixels, prepend=pixels[:1] ^ 255))
  lengths = np.diff(starts, append=pixels.size).astype('<u4')
  return zlib.compress(lengths.tobytes() + pixels[starts].tobytes())


def decode_plane(code: bytes, height: int, width: int) -> np.ndarray:
  """Returns the u8[H, W] region plane of an annotated frame.

  Args:
    code: the plane as `encode_plane` returns it.
    height: the height of the frames in pixels.
    width: the width of the frames in pixels.

  Raises:
    UserError: if the plane is damaged or has another size than the frames.
  """
  try:
    # Limits the memory: a plane has at most as many runs as pixels.
    unpack = zlib.decompressobj()
    runs = unpack.decompress(code, 5 * height * width + 1)
    if not unpack.eof:
      raise ValueError('cut, or too many runs')
    count = len(runs) // 5
    lengths = np.frombuffer(runs, '<u4', count)
    values = np.frombuffer(runs, np.uint8, offset=4 * count)
  except (zlib.error, ValueError):
    raise UserError('a region plane cannot be decoded; build the data set again') from None
  pixels = int(lengths.sum(dtype=np.int64))
  if len(values) != count or pixels != height * width:
    raise UserError(
      f'a region plane has {pixels} pixels where its record says {width} x {height}; build the'
      ' data set again'
    )
  return np.repeat(values, lengths).reshape(height, width)


def _decode(encoded: bytes, flags: int) -> np.ndarray | None:
  try:
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
  except cv2.error:  # A header that states an absurd size.
    return None


def _encode(extension: str, image: np.ndarray, *options: int) -> bytes:
  encoded, buffer = cv2.imencode(extension, image, options)
  assert encoded, f'OpenCV cannot encode {image.dtype}{list(image.shape)} as {extension}'
  return buffer.tobytes()
