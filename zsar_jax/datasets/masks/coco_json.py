"""Parses COCO's JSON: which frame and which clip each annotation belongs to."""

import collections
import dataclasses
import json
import pathlib
import re
from collections.abc import Iterable
from typing import Any

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.frame_numbers import frame_numbers
from zsar_jax.storage.paths import as_path

_DIGIT = re.compile(r'[0-9]')

# How the file name of an image ends; an image_id may lack this ending.
_IMAGE_ENDING = re.compile(r'\.(jpe?g|png|bmp|webp|tiff?)$', re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class ClipContent:
  """The part of a file about one clip.

  Attributes:
    sizes: {frame number: (height, width)} for the images that are listed, with None where an
      image's size is not stated. None if no images are listed at all.
    entries: {frame number: annotations}, for the frames with annotations.
    categories: {name: id in digits}, for the categories that are listed.
  """

  sizes: dict[int, tuple[int, int] | None] | None
  entries: dict[int, list[dict[str, Any]]]
  categories: dict[str, str]


def read_json(path: str) -> Any:
  """Reads a JSON file; raises a `ClipError` if that fails."""
  try:
    return json.loads(as_path(path, '--masks').read_text(encoding='utf-8'))
  except (OSError, ValueError, RecursionError) as error:
    raise ClipError(f'{path} cannot be read as JSON ({error}); copy it again') from None


def parse(content: Any, where: str) -> ClipContent:
  """Parses the JSON of one clip.

  Args:
    content: an object with images, annotations and categories, or a list of annotations.
    where: the file, for errors.

  Raises:
    ClipError: A field is missing or wrong, or two images are of the same frame.
  """
  images, annotations, categories = _lists(content, where)
  entries = collections.defaultdict(list)
  if images is None:
    number_of = _frames(annotations, 'image_id', where)
    for entry in annotations:
      entries[number_of[entry['image_id']]].append(entry)
    return ClipContent(None, dict(entries), categories)
  number_of = _frames([i for i in images if 'file_name' in i], 'file_name', where)
  number_of |= _frames([i for i in images if 'file_name' not in i], 'id', where)
  number_of_image, sizes = {}, {}
  for image in images:
    number = number_of[image['file_name' if 'file_name' in image else 'id']]
    if number in sizes:
      raise ClipError(f'{where} lists two images of frame number {number}; remove one')
    number_of_image[_id(image, 'id', where)] = number
    sizes[number] = _size(image, where)
  for entry in annotations:
    image_id = _id(entry, 'image_id', where)
    if image_id not in number_of_image:
      raise ClipError(
        f'{where}: an annotation has image_id {image_id!r}, which is not among images'
      )
    entries[number_of_image[image_id]].append(entry)
  return ClipContent(sizes, dict(entries), categories)


def split_by_clip(content: Any, listed: Any, where: str) -> dict[str, Any]:
  """Splits the JSON of all clips into that of each.

  Args:
    content: see `parse`.
    listed: an object with the list of images, if that is in a separate file, or None.
    where: the file, for errors.

  Returns:
    {folder of the clip's images: content as for `parse`}.

  Raises:
    ClipError: A field is missing or wrong, or an image's name has no folder.
  """
  images, annotations, _ = _lists(content, where)
  if listed is not None:
    images, _, _ = _lists({'annotations': [], **_object(listed, 'the file of images')}, where)
  if images is None:
    results = collections.defaultdict(list)
    for entry in annotations:
      image_id = _id(entry, 'image_id', where)
      if not isinstance(image_id, str):
        raise ClipError(
          f'{where}: image_id {image_id} does not name the clip; give images=FILE, a COCO file '
          'that lists the images'
        )
      results[_folder(image_id, where)].append(entry)
    return dict(results)
  folder_of_image: dict[int | str, str] = {}
  clips: dict[str, dict[str, Any]] = {}
  for image in images:
    if not isinstance(image.get('file_name'), str):
      raise ClipError(f"{where}: field 'file_name' of an image must be a string")
    folder = _folder(image['file_name'], where)
    folder_of_image[_id(image, 'id', where)] = folder
    clips.setdefault(folder, {'images': [], 'annotations': []})['images'].append(image)
  for entry in annotations:
    image_id = _id(entry, 'image_id', where)
    if image_id not in folder_of_image:
      raise ClipError(
        f'{where}: an annotation has image_id {image_id!r}, which is not among images'
      )
    clips[folder_of_image[image_id]]['annotations'].append(entry)
  return clips


def list_categories(content: Any, where: str) -> dict[str, str]:
  """Returns the categories of a file as {name: id in digits}."""
  if isinstance(content, list):
    return {}
  return _lists({'annotations': [], **_object(content, where)}, where)[2]


def list_annotations(content: Any, where: str) -> list[dict[str, Any]]:
  """Returns the annotations of a file."""
  return _lists(content, where)[1]


def _lists(
  content: Any, where: str
) -> tuple[list[dict[str, Any]] | None, list[dict[str, Any]], dict[str, str]]:
  """Returns the images or None, the annotations, and the categories as {name: id}."""
  if isinstance(content, list):
    content = {'annotations': content}
  content = _object(content, where)
  lists: list[Any] = []
  missing: list[Any] | None
  for field, missing in (('images', None), ('annotations', None), ('categories', [])):
    value = content.get(field, missing)
    if value is None and field == 'images':
      lists.append(None)
    elif isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
      lists.append(value)
    else:
      raise ClipError(f'{where}: field {field!r} must be a list of objects')
  images, annotations, categories = lists
  return (
    images,
    annotations,
    {str(category.get('name')): str(category.get('id')) for category in categories},
  )


def _object(value: Any, where: str) -> dict[str, Any]:
  if not isinstance(value, dict):
    raise ClipError(f'{where} must be a COCO object or a list of results')
  return value


def _id(entry: dict[str, Any], field: str, where: str) -> int | str:
  value = entry.get(field)
  if isinstance(value, bool) or not isinstance(value, int | str):
    raise ClipError(f'{where}: field {field!r} must be a whole number or a string, not {value!r}')
  return value


def _frames(entries: Iterable[dict[str, Any]], field: str, where: str) -> dict[int | str, int]:
  """Returns {value: frame number} for a field: a number itself, or that in a path's last part."""
  names = dict.fromkeys(_id(entry, field, where) for entry in entries)
  paths = {name: _path(name) for name in names if isinstance(name, str)}
  stems = {name: _IMAGE_ENDING.sub('', path.name) for name, path in paths.items()}
  for name in names:
    if (name < 0) if isinstance(name, int) else not _DIGIT.search(stems[name]):
      raise ClipError(f'{where}: {name!r} in field {field!r} has no frame number')
  clip_names = {path.parent.name for path in paths.values()} | {pathlib.PurePath(where).stem}
  numbers = frame_numbers(list(stems.values()), where, sorted(clip_names, key=len, reverse=True))
  return {name: name for name in names if isinstance(name, int)} | dict(
    zip(stems, numbers, strict=True)
  )


def _folder(name: str, where: str) -> str:
  folder = str(_path(name).parent)
  if folder == '.':
    raise ClipError(f'{where}: image {name!r} is not named {{clip}}/{{frame}}, by its folder')
  return folder


def _path(name: str) -> pathlib.PurePosixPath:
  return pathlib.PurePosixPath(name.replace('\\', '/'))


def _size(image: dict[str, Any], where: str) -> tuple[int, int] | None:
  if 'height' not in image and 'width' not in image:
    return None
  height, width = image.get('height'), image.get('width')
  if type(height) is not int or type(width) is not int:
    raise ClipError(f"{where}: fields 'height' and 'width' of an image must be whole numbers")
  return height, width
