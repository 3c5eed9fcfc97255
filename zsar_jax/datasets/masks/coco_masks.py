"""Draws the COCO annotations of one clip: RLE masks, polygons and boxes."""

import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks import coco_categories, coco_json, rle
from zsar_jax.datasets.masks.boxes import RegionBox
from zsar_jax.datasets.masks.fitting import Fitting
from zsar_jax.datasets.masks.frame_masks import BoxDrawer, FrameBoxes
from zsar_jax.datasets.masks.frame_matching import FrameNumbering
from zsar_jax.datasets.masks.region_labels import (
  box_bits,
  enclosed_region,
  label_bit,
  remark_unused,
)
from zsar_jax.datasets.masks.shapes import check_box, draw_polygon
from zsar_jax.datasets.masks.skipped_shapes import DamagedShape, EmptyShape
from zsar_jax.datasets.masks.source import Remarks
from zsar_jax.datasets.video import VideoFacts
from zsar_jax.recipes.regions import OBJECT_BOX, PERSON_BOX, draw_box


@dataclasses.dataclass(frozen=True)
class CocoMasks(FrameBoxes):
  """The annotations of a clip in a COCO file.

  Attributes:
    path: the file.
    text: the clip's part of the file as JSON; None if the file contains this clip only.
    values: see `coco.open_coco`.
    score: the minimum score; annotations with a lower score are left out.
    numbering: how frames are numbered.
  """

  path: str
  text: str | None
  values: dict[str, int] | None
  score: float
  numbering: FrameNumbering

  def open(self) -> AbstractContextManager[coco_json.ClipContent]:
    """Returns a context manager that gives the parsed annotations."""
    content = coco_json.read_json(self.path) if self.text is None else json.loads(self.text)
    return nullcontext(coco_json.parse(content, self.path))

  def match(
    self,
    content: coco_json.ClipContent,
    num_frames: int,
    frame_numbers: np.ndarray | None,
    remarks: Remarks,
  ) -> Mapping[int, int | None]:
    """Returns {frame: number of its masks}, with None for frames without a detection."""
    numbers = content.entries if content.sizes is None else content.sizes
    matches = self.numbering.match(numbers, num_frames, frame_numbers, self.path, remarks)
    if content.sizes is not None:
      return matches
    if content.entries and not matches:
      raise ClipError(
        f'{self.path}: results are numbered {min(numbers)} to {max(numbers)}, none of which is one '
        f"of the video's {num_frames} frames; give the results the numbers of the frames"
      )
    searched = self.numbering.searched_frames(num_frames, matches)
    return {frame: matches.get(frame) for frame in searched}

  def drawer(
    self, content: coco_json.ClipContent, video: VideoFacts, remarks: Remarks
  ) -> BoxDrawer:
    """See `FrameMasks`."""
    return _CocoDrawer(self, content, video, remarks)


class _CocoDrawer(BoxDrawer):
  """Draws the annotations of frames, and reports categories without a region."""

  def __init__(
    self, masks: CocoMasks, content: coco_json.ClipContent, video: VideoFacts, remarks: Remarks
  ):
    super().__init__(video, remarks)
    self._masks, self._content = masks, content
    entries = list(itertools.chain.from_iterable(content.entries.values()))
    categories, path = content.categories, masks.path
    values = coco_categories.values_or_people(masks.values, categories, entries, path)
    self._bits = coco_categories.category_bits(values, categories, path)
    used_ids = coco_categories.used_ids(entries)
    remark_unused(used_ids, self._bits, remarks, coco_categories.LISTED)

  def draw(self, mask: int | None) -> np.ndarray | None:
    """Draws the annotations of the frame numbered `mask`; returns None if one is damaged."""
    canvas = self._drawn(mask, self._bits)
    return None if canvas is None else canvas.plane()

  def boxes(self, mask: int | None) -> list[RegionBox] | None:
    """Returns the boxes of the annotations, also of shapes; None if one is damaged."""
    canvas = self._drawn(mask, box_bits(self._bits))
    return None if canvas is None else canvas.boxes

  def _drawn(self, mask: int | None, bits: Mapping[str, int]) -> '_Canvas | None':
    """Returns the canvas with the annotations of a frame, or None if one is damaged."""
    where = f'{self._masks.path}, frame {mask}'
    sizes = self._content.sizes
    size = sizes[mask] if sizes and mask is not None else None
    size = size or (self.video.source_height, self.video.source_width)
    canvas = _Canvas(self.empty_plane(), size, self.fitting, where)
    damaged = False
    for entry in [] if mask is None else self._content.entries.get(mask, []):
      bit = self._bit(entry, bits, where)
      for draw_shape in canvas.shapes(entry, bit) if bit else ():
        try:
          draw_shape()
          self.skipped.count_drawn(entry['category_id'])
        except (EmptyShape, DamagedShape) as error:
          self.skipped.skip(entry['category_id'], error)
          damaged |= isinstance(error, DamagedShape)
    return None if damaged else canvas

  def _bit(self, entry: dict[str, Any], bits: Mapping[str, int], where: str) -> int:
    """Returns the bit of an annotation's region, or 0 if the annotation is left out."""
    category = entry.get('category_id')
    if type(category) is not int:
      raise ClipError(f"{where}: field 'category_id' must be a whole number, not {category!r}")
    score = entry.get('score')
    # Manual annotations have no score.
    if score is not None and _numbers([score], f"{where}: field 'score'")[0] < self._masks.score:
      return 0
    return label_bit(bits, category)


class _Canvas:
  """The plane of one frame while its annotations are drawn.

  Attributes:
    boxes: the boxes that were drawn.
  """

  def __init__(self, plane: np.ndarray, size: tuple[int, int], fitting: Fitting, where: str):
    """Creates the canvas.

    Args:
      plane: u8[H, W] of zeros, with the size of the stored frame.
      size: the height and width of the image to which polygons and boxes refer.
      fitting: checks and scales sizes.
      where: the frame, for errors.
    """
    self.boxes: list[RegionBox] = []
    self._plane, self._size = plane, size
    self._fitting, self._where = fitting, where
    self._planes_by_size: dict[tuple[int, int], np.ndarray] = {}

  def shapes(self, entry: dict[str, Any], bit: int) -> list[Callable[[], None]]:
    """Returns, for each shape of an annotation, a function that draws it.

    The functions raise an `EmptyShape` or `DamagedShape` for a shape to skip, and a `ClipError` for
    a shape that cannot belong to this video.
    """
    segmentation = entry.get('segmentation')
    if bit in (PERSON_BOX, OBJECT_BOX):
      return [functools.partial(self._draw_box, entry, bit)]
    if isinstance(segmentation, dict):
      return [functools.partial(self._draw_mask, segmentation, bit)]
    if isinstance(segmentation, list) and segmentation:
      return [functools.partial(self._draw_polygon, polygon, bit) for polygon in segmentation]
    return [functools.partial(self._raise_no_shape, entry['category_id'])]

  def plane(self) -> np.ndarray:
    """Returns the plane u8[H, W] with all drawn shapes."""
    plane = self._plane
    for sized_plane in self._planes_by_size.values():
      plane = plane | self._fitting.scale(sized_plane)
    return plane

  def _draw_box(self, entry: dict[str, Any], bit: int) -> None:
    box = _numbers(entry.get('bbox') or [], f"{self._where}: field 'bbox'")
    if len(box) != 4:
      raise EmptyShape(f"{self._where}: field 'bbox' must be 4 numbers, x, y, width and height")
    corners = np.array([box[:2], box[:2] + box[2:]])
    edges = check_box(corners * self._scale(), self._plane.shape, self._where)
    draw_box(self._plane, bit, *edges)
    score = entry.get('score')
    self.boxes.append(
      RegionBox(enclosed_region(bit), *edges, score=1.0 if score is None else float(score))
    )

  def _draw_mask(self, segmentation: dict[str, Any], bit: int) -> None:
    size = rle.size(segmentation, self._where)
    self._fitting.check(*size, self._where)
    shape = rle.decode(segmentation, self._where) * np.uint8(bit)
    self._planes_by_size[size] = self._planes_by_size.get(size, 0) | shape

  def _draw_polygon(self, polygon: Any, bit: int) -> None:
    points = _numbers(polygon, f"{self._where}: a polygon of field 'segmentation'")
    if len(points) < 6 or len(points) % 2:
      raise EmptyShape(
        f'{self._where}: a polygon must be 3 or more pairs, not {len(points)} numbers'
      )
    draw_polygon(self._plane, bit, points.reshape(-1, 2) * self._scale(), self._where)

  def _raise_no_shape(self, category: int) -> None:
    raise EmptyShape(
      f"{self._where}: field 'segmentation' is neither RLE nor polygons; if there are only boxes, "
      f'give values={category}:person_box or object_box'
    )

  def _scale(self) -> np.ndarray:
    """Returns f64[2], the factors from x and y in the image to pixels of the stored frame."""
    self._fitting.check(*self._size, self._where)
    height, width = self._plane.shape
    return np.array([width / self._size[1], height / self._size[0]])


def _numbers(values: Any, description: str) -> np.ndarray:
  """Converts a list of numbers to f64[n]; raises a `DamagedShape` for other values."""
  if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
    raise DamagedShape(f'{description} must hold numbers, not {str(values)[:40]}')
  try:
    return np.array([float(value) for value in values])
  except OverflowError:
    raise DamagedShape(f'{description} has a number that is too large') from None
