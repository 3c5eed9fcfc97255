"""Opens COCO files of masks: annotations, or the results of a detector.

Annotations are an object with lists of images, annotations and categories. Results, as detectron2
and pycocotools write them, are the list of annotations alone, each with a score. Either there is
a file for each clip, or one file for all clips, whose images are named `{clip}/{frame}.jpg`.

A listed image without annotations is annotated and shows nothing. Results without a list of images
do not say which frames the detector searched. They are taken to cover all frames, because detectors
write nothing for a frame in which they find nothing.
"""

import dataclasses
import functools
import itertools
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks import coco_categories, coco_json
from zsar_jax.datasets.masks.coco_masks import CocoMasks
from zsar_jax.datasets.masks.frame_matching import EVERY_FRAME, FrameNumbering, Stride
from zsar_jax.datasets.masks.numbered_files import MAX_SAMPLED_CLIPS, require_first_number
from zsar_jax.datasets.masks.per_clip import MaskOwners, PerClipSource, candidate_names
from zsar_jax.datasets.masks.region_labels import region_names
from zsar_jax.datasets.masks.source import MaskSource
from zsar_jax.datasets.sources.listing import ListedClip
from zsar_jax.errors import UserError
from zsar_jax.recipes.regions import PERSON
from zsar_jax.storage.folders import Folders, open_folders


def open_coco(
  path: str,
  values: dict[str, int] | None = None,
  first: int | None = None,
  score: float = 0.5,
  images: str | None = None,
  stride: Stride = EVERY_FRAME,
) -> MaskSource:
  """Opens COCO annotations or results.

  Args:
    path: the folder of `{clip}.json`, or one file for all clips.
    values: the region's bit of each category, by id or name, and of '*' for all others. Shapes are
      drawn from the segmentation, boxes from the bbox. None stands for the category named
      'person', or for 1 where no categories are listed.
    first: the number of the first frame; None infers it.
    score: annotations with a lower score are left out.
    images: a COCO file that lists the images, for one file of results whose image_id are numbers.
    stride: which frames have an image; they begin with frame 0 by default.

  Raises:
    UserError: A file is missing or wrong, or `values` or `first` cannot be inferred.
  """
  folders = open_folders(path, '--masks')
  parameters = {
    'format': 'coco',
    'path': folders.root,
    'values': values,
    'score': score,
  }
  step, start = stride
  numbering = FrameNumbering(
    first or 0,
    first_given=first is not None,
    stride=step,
    start=start or 0,
    options=('stride=N',),
  )
  if folders.is_file(folders.root):
    return CocoFile(folders.root, parameters, images, numbering)
  if not folders.is_folder(folders.root):
    raise UserError(f'--masks: {path} does not exist; give a COCO file, or a folder of them')
  if images is not None:
    raise UserError('--masks: images= is for one COCO file for all clips, not for a folder')
  root = folders.root
  files = list(itertools.islice(_json_files(folders), MAX_SAMPLED_CLIPS))
  if not files:
    raise UserError(f'--masks: {root} has no .json file; give the folder of {{clip}}.json')
  if values is None:
    _check_people(files)
  numbering = _with_first(numbering, [functools.partial(_parse_file, file) for file in files], root)
  return PerClipSource(
    folders,
    extensions=('.json',),
    region_names=region_names((values or {'person': PERSON}).values()),
    parameters=parameters | numbering.parameters,
    clip_masks=functools.partial(
      CocoMasks, text=None, values=values, score=score, numbering=numbering
    ),
  )


class CocoFile:
  """A `source.MaskSource` that is one file for all clips."""

  def __init__(
    self, path: str, parameters: dict[str, Any], images: str | None, numbering: FrameNumbering
  ):
    """Reads the file.

    Args:
      path: the file.
      parameters: has the `values` and the `score` of `open_coco`.
      images: see `open_coco`.
      numbering: how frames are numbered; its first number is inferred if it is not given.

    Raises:
      UserError: A file cannot be read or is wrong.
    """
    self._path = path
    values = parameters['values']
    try:
      content = coco_json.read_json(path)
      listed = None if images is None else coco_json.read_json(images)
      clips = coco_json.split_by_clip(content, listed, path)
      categories = coco_json.list_categories(content if listed is None else listed, path)
      entries = coco_json.list_annotations(content, path)
      values = coco_categories.values_or_people(values, categories, entries, path)
      self._values = coco_categories.category_bits(values, categories, path)
    except ClipError as error:
      raise UserError(f'--masks: {error.reason}') from None
    parsers = [functools.partial(coco_json.parse, part, path) for part in clips.values()]
    self._numbering = _with_first(numbering, parsers, path)
    self._score = parameters['score']
    # As text, the parts of all clips are small enough to be kept and sent to workers.
    self._texts = {folder: json.dumps(part) for folder, part in clips.items()}
    self._folders_by_ending: dict[str, list[str]] = {}
    for folder in clips:
      parts = pathlib.PurePosixPath(folder).parts
      for start in range(len(parts)):
        self._folders_by_ending.setdefault('/'.join(parts[start:]), []).append(folder)
    self.region_names = region_names(self._values.values())
    self._owners = MaskOwners()
    self.parameters = parameters | {
      'values': values,
      **self._numbering.parameters,
      'images': None if images is None else open_folders(images, '--masks').root,
    }

  def for_clip(self, clip: ListedClip) -> CocoMasks | None:
    """Returns the masks of a clip, or None if the file has no image of it.

    Raises:
      UserError: Images in several folders may belong to the clip, or its images may belong to
        another clip.
    """
    for name in candidate_names(clip):
      folders = [name] if name in self._texts else self._folders_by_ending.get(name, [])
      if len(folders) > 1:
        raise UserError(
          f'--masks: {self._path} has images of {name} in {folders[0]} and in {folders[1]}; name '
          "the images by the clip's full path"
        )
      if folders:
        self._owners.claim(f'{self._path}: {folders[0]}', clip)
        text = self._texts[folders[0]]
        return CocoMasks(self._path, text, self._values, self._score, self._numbering)
    return None


def _json_files(folders: Folders) -> Iterator[str]:
  for path in folders.files(folders.root):
    if path.endswith('.json') and not os.path.basename(path).startswith('.'):
      yield path


def _check_people(files: Iterable[str]) -> None:
  """Raises a `UserError` if the first readable file lists categories, but none of people."""
  for file in files:
    try:
      categories = coco_json.list_categories(coco_json.read_json(file), file)
    except ClipError:
      continue  # The clip of this file gets the error later.
    try:
      coco_categories.default_values(categories, file)
    except ClipError as error:
      raise UserError(f'--masks: {error.reason}') from None
    return


def _parse_file(file: str) -> coco_json.ClipContent:
  return coco_json.parse(coco_json.read_json(file), file)


def _with_first(
  numbering: FrameNumbering, clips: Iterable[Callable[[], coco_json.ClipContent]], where: str
) -> FrameNumbering:
  """Returns the numbering with the inferred first number, if that is not given.

  The number is 0 if a frame of any clip is numbered 0, or else 1 if a listed image is numbered 1.
  That no result is numbered 0 says nothing: the detector may have found nothing in that frame.

  Args:
    numbering: see above.
    clips: functions that read each clip. A wrong file is an error for its own clip only.
    where: the folder or file of all clips, for errors.

  Raises:
    UserError: There are neither such frames; or, with the first clip's reason, no clip can be
      read.
  """
  if numbering.first_given:
    return numbering
  first, any_clip, results, reasons = None, False, False, []
  for read_clip in clips:
    try:
      clip = read_clip()
    except ClipError as error:
      reasons.append(error.reason)
      continue
    any_clip = True
    if 0 in clip.entries or 0 in (clip.sizes or ()):
      return dataclasses.replace(numbering, first=0)
    if clip.sizes is None:
      results = True
    elif 1 in clip.sizes:
      first = 1
  if not any_clip:
    reason = reasons[0] if reasons else f'{where} lists no image and has no annotation'
    raise UserError(f'--masks: {reason}')
  if first is None and results:
    raise UserError(
      f'--masks: no result numbered 0 was found in {where}, but frames without a detection have no '
      'result; add first=0 or first=1, the number of the first frame'
    )
  return dataclasses.replace(numbering, first=require_first_number(first, where))
