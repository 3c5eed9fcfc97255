"""The record of a clip: what is stored of it, and how its pixels are encoded.

One record is one clip of N frames:

    id         str        unique in its split
    label      int        place of the clip's class in the data set's vocabulary
    frames     N bytes    each frame as a JPEG, RGB
    regions    N bytes    each frame's region plane, as `encode_plane` has it; b'' where unannotated
    annotated  N bools    whether anybody annotated the frame
    fps        float      frames per second, of the frames that are kept
    height     int        of every frame and plane, in pixels
    width      int
    attributes str        a JSON object: what else the data set's lists say of the clip, in words

Frames stay encoded until a program samples them, so that only those are decoded.
"""

import dataclasses
import json
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import numpy as np

from zsar_jax.errors import UserError
from zsar_jax.recipes.regions import REGION_BITS, UNKNOWN_SHIFT

JPEG_QUALITY = 90

# The two bytes that end every complete JPEG. The decoder fills what is missing of a cut one
# with grey, and says so on stderr alone.
JPEG_END = b'\xff\xd9'


# A record is a protobuf message, which has less than 2 GiB; some of them for all but the images.
_MOST_BYTES = 2**31 - 2**26


class ClipError(Exception):
  """A clip that cannot be built. The build goes on and reports it by its id.

  Attributes:
    reason: what is wrong with the clip.
    missing: whether its file does not exist, rather than cannot be read.
  """

  def __init__(self, reason: str, missing: bool = False):
    super().__init__(reason, missing)
    self.reason = reason
    self.missing = missing


def features(classes: tuple[str, ...]) -> Any:
  """The record's `tfds.features.FeaturesDict`, for a vocabulary of `classes`.

  Encoded images are plain bytes here: the Image feature of TFDS would import TensorFlow.
  """
  # Imported here, so that decoding frames does not need TFDS.
  import tensorflow_datasets as tfds

  encoded = tfds.features.Tensor(shape=(), dtype=np.object_)
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
    }
  )


def serialize(record: dict[str, Any]) -> bytes:
  """The record as a tf.train.Example, its fields in one order.

  TFDS' own serializer leaves the order to a hash that differs by process, and holds the images of
  a clip four times.
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
      feature.bytes_list.value.extend(texts)
  return example.SerializeToString(deterministic=True)


class Images(list[bytes]):
  """Encoded frames or planes of one clip; a `ClipError` where a record cannot hold them.

  Attributes:
    size: of all, in bytes.
  """

  def __init__(self, images: Iterable[bytes] = ()):
    super().__init__()
    self.size = 0
    self += images

  def __iadd__(self, images: Iterable[bytes]) -> 'Images':
    for image in images:
      self.append(image)
    return self

  def append(self, image: bytes) -> None:
    """Takes one more."""
    self.size += len(image)
    check_size(self.size)
    super().append(image)


def check_size(size: int) -> None:
  """Raises a `ClipError` where the images of a clip have more bytes than a record can hold."""
  if size > _MOST_BYTES:
    raise ClipError(
      f'its images take more than {_MOST_BYTES / 2**30:.2g} GiB, the most that a record can hold;'
      ' split the video, or build with a smaller --short-side, --jpeg-quality or --keep'
    )


@dataclasses.dataclass(frozen=True)
class EncodedClip:
  """A clip's record, and what the build's report and index say of it.

  Attributes:
    record: the fields of the record by name.
    coverage: of each of `REGION_BITS`, the share of the pixels that it covers, as a mean over
      the annotated frames; NaN where none is annotated, and for a region that is unknown.
    empty: of each of `REGION_BITS` that is known, the number of annotated frames without it.
    remarks: what was noticed, by kind.
  """

  record: dict[str, Any]
  coverage: tuple[float, ...]
  empty: tuple[int, ...]
  remarks: dict[str, str]


def encode_clip(
  clip_id: str,
  label: int,
  jpegs: Iterable[bytes],
  planes: Iterable[np.ndarray | None] | None,
  size: tuple[int, int],
  fps: float,
  attributes: dict[str, str] | None = None,
  remarks: dict[str, str] | None = None,
) -> EncodedClip:
  """Encodes a clip; of the planes, which may come one by one, only one is held at a time.

  Args:
    clip_id: unique in the split.
    label: place of the clip's class in the vocabulary.
    jpegs: N frames, as `encode_frames` gives them.
    planes: N region planes u8[H, W], with None for a frame that nobody annotated; or None for a
      clip that nobody annotated.
    size: (H, W), of the frames and the planes.
    fps: frames per second.
    attributes: what else is known of the clip.
    remarks: what was noticed; it is read after the last plane.

  Raises:
    ClipError: if they are too large for a record.
  """
  jpegs = Images(jpegs)
  regions, shares = Images(), []
  for plane in planes if planes is not None else [None] * len(jpegs):
    regions.append(b'' if plane is None else encode_plane(plane))
    check_size(jpegs.size + regions.size)
    if plane is not None:
      present = int(np.bitwise_or.reduce(plane, axis=None))
      shares.append(
        [
          np.nan if present & bit << UNKNOWN_SHIFT else np.count_nonzero(plane & bit) / plane.size
          for bit in REGION_BITS.values()
        ]
      )
  assert len(regions) == len(jpegs), f'{len(regions)} planes for {len(jpegs)} frames of {clip_id}'
  # A region is known in all annotated frames of a clip, or in none.
  shares = np.array(shares).reshape(-1, len(REGION_BITS))
  record = {
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
  return EncodedClip(
    record,
    coverage=tuple(shares.mean(axis=0) if len(shares) else [np.nan] * len(REGION_BITS)),
    empty=tuple((shares == 0).sum(axis=0).tolist()),
    remarks=dict(remarks or {}),
  )


def encode_frames(frames: Iterable[np.ndarray], quality: int = JPEG_QUALITY) -> Iterator[bytes]:
  """JPEGs of u8[H, W, 3] RGB frames, at a quality of 1 to 100."""
  for frame in frames:
    # OpenCV writes images in the order blue, green, red.
    image = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    yield _encode('.jpg', image, cv2.IMWRITE_JPEG_QUALITY, quality)


def decode_frame(jpeg: bytes) -> np.ndarray:
  """The u8[H, W, 3] RGB frame of a JPEG; a `UserError` where it is damaged."""
  if not jpeg.endswith(JPEG_END):
    raise UserError('a frame is not a complete JPEG; build the data set again')
  frame = _decode(jpeg, cv2.IMREAD_COLOR_RGB)
  if frame is None:
    raise UserError('a frame cannot be decoded as JPEG; build the data set again')
  return frame


def encode_plane(plane: np.ndarray) -> bytes:
  """A u8[H, W] region plane as runs of equal pixels, row after row, compressed by zlib.

  Of R runs first the R lengths are stored, as little-endian u32, and then the R values, as u8.
  That takes half the bytes of a PNG and a fifth of the time to decode; the planes' PNGs would add a
  quarter to the time that a clip takes, see docs/measurements/input_pipeline.md.
  """
  pixels = plane.ravel()
  starts = np.flatnonzero(np.diff(pixels, prepend=pixels[:1] ^ 255))
  lengths = np.diff(starts, append=pixels.size).astype('<u4')
  return zlib.compress(lengths.tobytes() + pixels[starts].tobytes())


def decode_plane(code: bytes, height: int, width: int) -> np.ndarray:
  """The u8[H, W] region plane of an annotated frame.

  Args:
    code: the plane as it is stored; an unannotated frame has none to decode.
    height: the frames' height in pixels.
    width: their width.

  Raises:
    UserError: if the plane is damaged or has not the frames' size.
  """
  try:
    # No plane has more runs than pixels, whatever the bytes would inflate to.
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
