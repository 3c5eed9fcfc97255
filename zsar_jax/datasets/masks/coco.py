"""COCO files of masks: of annotations, or of a detector's results.

Annotations are an object with lists of images, annotations and categories. Results, as detectron2
and pycocotools write them, are the list of annotations alone, each with a score. Either there is
one file for each clip, or one for all clips, whose images are named `{clip}/{frame}.jpg`.

Images that are listed with no annotation are annotated, and show nothing. Results without a list
of images do not say which frames a detector looked at: it looked at all of them, as it leaves out
those where it found nothing.
"""

import dataclasses
import functools
import itertools
import json
import os
import pathlib
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import numpy as np

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks import coco_files, rle
from zsar_jax.datasets.masks.fitting import Fitting
from zsar_jax.datasets.masks.frame_matching import (
  EVERY_FRAME,
  LOOKED_AT,
  Counting,
  Stride,
  decided_first,
  drawn,
)
from zsar_jax.datasets.masks.left_out import DamagedShape, EmptyShape, LeftOut
from zsar_jax.datasets.masks.lookup import OnePerClip, Owners, names, region_names
from zsar_jax.datasets.masks.shapes import draw_checked_box, draw_polygon
from zsar_jax.datasets.masks.source import MaskSource, Remarks
from zsar_jax.datasets.sources.listing import ListedClip
from zsar_jax.datasets.video import VideoFacts
from zsar_jax.errors import UserError
from zsar_jax.recipes.regions import OBJECT_BOX, PERSON, PERSON_BOX


def open_coco(
  path: str,
  values: dict[str, int] | None = None,
  first: int | None = None,
  score: float = 0.5,
  images: str | None = None,
  stride: Stride = EVERY_FRAME,
) -> MaskSource:
  """COCO annotations or results.

  Args:
    path: the folder of `{clip}.json`, or one file for all clips.
    values: the region's bit of each category, by id or name, and of '*' for all others. A shape is
      drawn from the segmentation, a box from the bbox. None for the category named 'person', or
      for 1 where no categories are listed.
    first: the number of the first frame; None finds it out.
    score: annotations of a lower score are left out.
    images: for one file of results whose image_id are numbers, a COCO file that lists the images.
    stride: every how many frames there is an image, and which frame the first one is, 0 if None.

  Raises:
    UserError: if a file is missing or wrong, or `values` or `first` cannot be found out.
  """
  parameters = {
    'format': 'coco',
    'path': os.path.abspath(path),
    'values': values,
    'score': score,
  }
  counting = Counting(
    first or 0,
    first_given=first is not None,
    stride=stride[0],
    start=stride[1] or 0,
    options=('stride=N',),
  )
  if os.path.isfile(path):
    return CocoFile(os.path.abspath(path), parameters, images, counting)
  if not os.path.isdir(path):
    raise UserError(f'--masks: {path} does not exist; give a COCO file, or a folder of them')
  if images is not None:
    raise UserError('--masks: images= is for one COCO file for all clips, not for a folder')
  root = os.path.abspath(path)
  files = list(itertools.islice(_json_files(root), LOOKED_AT))
  if not files:
    raise UserError(f'--masks: {root} has no .json file; give the folder of {{clip}}.json')
  if values is None:
    _check_default(files)
  if first is None:
    found = _find_first((functools.partial(_parse_file, file) for file in files), root)
    counting = dataclasses.replace(counting, first=found)
  return OnePerClip(
    root,
    extensions=('.json',),
    region_names=region_names((values or {'person': PERSON}).values()),
    parameters=parameters | counting.parameters,
    clip_masks=functools.partial(
      CocoMasks, text=None, values=values, score=score, counting=counting
    ),
  )


class CocoFile:
  """A `source.MaskSource` of one file for all clips."""

  def __init__(self, path: str, parameters: dict[str, Any], images: str | None, counting: Counting):
    """Reads the file.

    Args:
      path: of the file.
      parameters: holds the values and the score of `open_coco`.
      images: see `open_coco`.
      counting: how frames are numbered; from which number is found out if it is not given.

    Raises:
      UserError: if a file cannot be read or is wrong.
    """
    self._path = path
    values = parameters['values']
    try:
      content = coco_files.read_json(path)
      listed = None if images is None else coco_files.read_json(images)
      clips = coco_files.split_by_clip(content, listed, path)
      categories = coco_files.list_categories(content if listed is None else listed, path)
      if values is None:
        values = coco_files.default_values(categories, path)
        if not categories:
          coco_files.check_any_used(coco_files.list_annotations(content, path), values, path)
      self._values = coco_files.category_bits(values, categories, path)
    except ClipError as error:
      raise UserError(f'--masks: {error.reason}') from None
    if not counting.first_given:
      parse = coco_files.parse
      first = _find_first((functools.partial(parse, part, path) for part in clips.values()), path)
      counting = dataclasses.replace(counting, first=first)
    self._counting = counting
    self._score = parameters['score']
    # As text, each clip's part is small enough to be held for all clips and sent to workers.
    self._texts = {folder: json.dumps(part) for folder, part in clips.items()}
    self._folders = {}
    for folder in clips:
      parts = pathlib.PurePosixPath(folder).parts
      for start in range(len(parts)):
        self._folders.setdefault('/'.join(parts[start:]), []).append(folder)
    self.region_names = region_names(self._values.values())
    self._owners = Owners()
    self.parameters = parameters | {
      'values': values,
      **counting.parameters,
      'images': None if images is None else os.path.abspath(images),
    }

  def for_clip(self, clip: ListedClip) -> 'CocoMasks | None':
    """The masks of a clip, or None where no image is of it.

    Raises:
      UserError: if images in several folders may be the clip's, or one's also another clip's.
    """
    for name in names(clip):
      folders = [name] if name in self._texts else self._folders.get(name, [])
      if len(folders) > 1:
        raise UserError(
          f'--masks: {self._path} has images of {name} in {folders[0]} and in {folders[1]}; name '
          "the images by the clip's whole path"
        )
      if folders:
        self._owners.claim(f'{self._path}: {folders[0]}', clip)
        text = self._texts[folders[0]]
        return CocoMasks(self._path, text, self._values, self._score, self._counting)
    return None


def _json_files(root: str) -> Iterator[str]:
  for folder, folders, files in os.walk(root, followlinks=True):
    folders.sort()
    for name in sorted(files):
      if name.endswith('.json') and not name.startswith('.'):
        yield os.path.join(folder, name)


def _check_default(files: Iterable[str]) -> None:
  """A `UserError` where the first file that can be read lists categories, and none of people."""
  for file in files:
    try:
      categories = coco_files.list_categories(coco_files.read_json(file), file)
    except ClipError:
      continue  # It is an error for its own clip.
    try:
      coco_files.default_values(categories, file)
    except ClipError as error:
      raise UserError(f'--masks: {error.reason}') from None
    return


def _parse_file(file: str) -> coco_files.ClipContent:
  return coco_files.parse(coco_files.read_json(file), file)


def _find_first(clips: Iterable[Callable[[], coco_files.ClipContent]], where: str) -> int:
  """From which number clips count their frames.

  That no result is numbered 0 says nothing: in a frame without one, nothing may have been found.

  Args:
    clips: what reads each of them. A wrong one is an error for its own clip.
    where: the folder or file of all of them, for the error.

  Returns:
    0 if a frame of any clip is numbered 0, or else 1 if a listed image is numbered 1.

  Raises:
    UserError: if neither is there; with the first clip's reason, if none can be read.
  """
  first, read, results, reasons = None, False, False, []
  for read_clip in clips:
    try:
      clip = read_clip()
    except ClipError as error:
      reasons.append(error.reason)
      continue
    read = True
    if 0 in clip.entries or 0 in (clip.sizes or ()):
      return 0
    if clip.sizes is None:
      results = True
    elif 1 in clip.sizes:
      first = 1
  if not read:
    reason = reasons[0] if reasons else f'{where} lists no image and has no annotation'
    raise UserError(f'--masks: {reason}')
  if first is None and results:
    raise UserError(
      f'--masks: no result numbered 0 was found in {where}, but frames with nothing in them have no'
      ' result; add first=0 or first=1, the number of the first frame'
    )
  return decided_first(first, where)


@dataclasses.dataclass(frozen=True)
class CocoMasks:
  """What a file says of a clip.

  Attributes:
    path: of the file.
    text: the clip's part of it as JSON; None where the file has nothing else.
    values: see `open_coco`.
    score: annotations of a lower score are left out.
    counting: how frames are numbered.
  """

  path: str
  text: str | None
  values: dict[str, int] | None
  score: float
  counting: Counting

  def annotated_frames(self, num_frames: int, own: np.ndarray | None) -> Collection[int]:
    """See `source.ClipMasks`."""
    return self._items(self._read(), num_frames, own, {})

  def planes(self, video: VideoFacts, remarks: Remarks) -> Iterator[np.ndarray | None]:
    """See `source.ClipMasks`."""
    clip = self._read()
    bits = self._bits(clip, remarks)
    fitting = Fitting(video, remarks)
    left_out = LeftOut(remarks)
    items = self._items(clip, video.num_frames, video.numbers, remarks)
    if clip.sizes is None:
      results = [items[frame] for frame in video.kept.tolist() if frame in items]
      if without := results.count(None):
        remarks['frames without a result'] = f'{without} of {len(results)}'

    def draw(number: int | None) -> np.ndarray | None:
      where = f'{self.path}, frame {number}'
      canvas = _Canvas(video, fitting, clip.sizes and clip.sizes[number], left_out)
      for entry in clip.entries.get(number, []):
        bit = _bit(entry, bits, self.score, where)
        if bit:
          canvas.draw(entry, bit, where)
      return canvas.plane()

    yield from drawn(video, items, draw, remarks, left_out.check)

  def _read(self) -> coco_files.ClipContent:
    content = coco_files.read_json(self.path) if self.text is None else json.loads(self.text)
    return coco_files.parse(content, self.path)

  def _items(
    self,
    clip: coco_files.ClipContent,
    num_frames: int,
    own: np.ndarray | None,
    remarks: Remarks,
  ) -> dict[int, int | None]:
    """The number of each annotated frame; None where a detector found nothing."""
    listed = clip.entries if clip.sizes is None else clip.sizes
    places = self.counting.places(listed, num_frames, own, self.path, remarks)
    if clip.sizes is not None:
      return places
    if clip.entries and not places:
      raise ClipError(
        f'{self.path}: results are numbered {min(clip.entries)} to {max(clip.entries)}, none of '
        f"which is one of the video's {num_frames} frames; number them as the frames are"
      )
    return {frame: places.get(frame) for frame in self.counting.looked_at(num_frames, places)}

  def _bits(self, clip: coco_files.ClipContent, remarks: Remarks) -> dict[str, int]:
    """The region's bit of each category's id, in digits, and of '*' for all others."""
    entries = list(itertools.chain.from_iterable(clip.entries.values()))
    values = self.values
    if values is None:
      values = coco_files.default_values(clip.categories, self.path)
      if not clip.categories:
        coco_files.check_any_used(entries, values, self.path)
    bits = coco_files.category_bits(values, clip.categories, self.path)
    unused = coco_files.unused_categories(entries, bits)
    if unused:
      remarks['labels not used'] = ', '.join(map(str, unused[: coco_files.LISTED]))
    return bits


def _bit(entry: dict[str, Any], bits: dict[str, int], score: float, where: str) -> int:
  """The bit of an annotation's region, or 0 if it is to be left out."""
  category = entry.get('category_id')
  if type(category) is not int:
    raise ClipError(f"{where}: field 'category_id' must be a whole number, not {category!r}")
  stated = entry.get('score')
  # Annotations made by hand have no score.
  if stated is not None and _numbers([stated], f"{where}: field 'score'")[0] < score:
    return 0
  return bits.get(str(category), bits.get('*', 0))


class _Canvas:
  """The plane of one frame while its annotations are drawn."""

  def __init__(
    self,
    video: VideoFacts,
    fitting: Fitting,
    size: tuple[int, int] | None,
    left_out: LeftOut,
  ):
    """`size` is the height and width of the image as it is listed, if it is."""
    self._fitting = fitting
    self._size = size or (video.source_height, video.source_width)
    self._stored = np.zeros((video.height, video.width), np.uint8)
    self._of_size = {}
    self._left_out = left_out
    self._damaged = False

  def draw(self, entry: dict[str, Any], bit: int, where: str) -> None:
    """Draws an annotation, or leaves it out; a `ClipError` if it cannot be of this video."""
    segmentation = entry.get('segmentation')
    if bit in (PERSON_BOX, OBJECT_BOX):
      shapes = [(self._draw_box, entry.get('bbox'))]
    elif isinstance(segmentation, dict):
      shapes = [(self._draw_mask, segmentation)]
    elif isinstance(segmentation, list) and segmentation:
      shapes = [(self._draw_polygon, polygon) for polygon in segmentation]
    else:
      error = EmptyShape(
        f"{where}: field 'segmentation' is neither RLE nor polygons; where there are only boxes, "
        f'give values={entry["category_id"]}:person_box or object_box'
      )
      self._left_out.add(entry['category_id'], error)
      return
    for draw_shape, shape in shapes:
      try:
        draw_shape(shape, bit, where)
        self._left_out.count(entry['category_id'])
      except (EmptyShape, DamagedShape) as error:
        self._left_out.add(entry['category_id'], error)
        self._damaged |= isinstance(error, DamagedShape)

  def plane(self) -> np.ndarray | None:
    """u8[H, W], with all that was drawn; None where an annotation was damaged."""
    plane = self._stored
    for of_size in self._of_size.values():
      plane = plane | self._fitting.scale(of_size)
    return None if self._damaged else plane

  def _draw_box(self, bbox: Any, bit: int, where: str) -> None:
    box = _numbers(bbox or [], f"{where}: field 'bbox'")
    if len(box) != 4:
      raise EmptyShape(f"{where}: field 'bbox' must be 4 numbers, x, y, width and height")
    corners = np.array([box[:2], box[:2] + box[2:]])
    draw_checked_box(self._stored, bit, corners * self._scale(where), where)

  def _draw_mask(self, segmentation: dict[str, Any], bit: int, where: str) -> None:
    size = rle.size(segmentation, where)
    self._fitting.check(*size, where)
    inside = rle.decode(segmentation, where) * np.uint8(bit)
    self._of_size[size] = self._of_size.get(size, 0) | inside

  def _draw_polygon(self, polygon: Any, bit: int, where: str) -> None:
    points = _numbers(polygon, f"{where}: a polygon of field 'segmentation'")
    if len(points) < 6 or len(points) % 2:
      raise EmptyShape(f'{where}: a polygon must be 3 or more pairs, not {len(points)} numbers')
    draw_polygon(self._stored, bit, points.reshape(-1, 2) * self._scale(where), where)

  def _scale(self, where: str) -> np.ndarray:
    """f64[2], what x and y are multiplied by to be pixels of the stored frame."""
    self._fitting.check(*self._size, where)
    height, width = self._stored.shape
    return np.array([width / self._size[1], height / self._size[0]])


def _numbers(values: Any, what: str) -> np.ndarray:
  """f64[n], from a list of numbers; a `DamagedShape` for anything else."""
  if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
    raise DamagedShape(f'{what} must hold numbers, not {str(values)[:40]}')
  try:
    return np.array([float(value) for value in values])
  except OverflowError:
    raise DamagedShape(f'{what} has a number that is too large') from None
