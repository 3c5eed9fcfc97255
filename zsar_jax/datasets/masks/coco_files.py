"""What stands in COCO's JSON files: which frame and which clip each annotation belongs to."""

import collections
import dataclasses
import json
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.frame_numbers import frame_numbers
from zsar_jax.recipes.regions import PERSON

_DIGIT = re.compile(r'[0-9]')

# What the name of an image ends in. An image_id may have no such end.
_IMAGE = re.compile(r'\.(jpe?g|png|bmp|webp|tiff?)$', re.IGNORECASE)

# How many categories an error or a remark names.
LISTED = 8


@dataclasses.dataclass(frozen=True)
class ClipContent:
  """What a file says of one clip.

  Attributes:
    sizes: the height and width of each image that is listed, by the frame's number; None for one
      whose size is not stated. None where no images are listed at all.
    entries: the annotations of each frame that has any, by its number.
    categories: the ids of the categories that are listed, in digits, by name.
  """

  sizes: dict[int, tuple[int, int] | None] | None
  entries: dict[int, list[dict[str, Any]]]
  categories: dict[str, str]


def read_json(path: str) -> Any:
  """The content of a file; a `ClipError` where it is no JSON."""
  try:
    return json.loads(pathlib.Path(path).read_text(encoding='utf-8'))
  except (OSError, ValueError, RecursionError) as error:
    raise ClipError(f'{path} cannot be read as JSON ({error}); copy it again') from None


def parse(content: Any, where: str) -> ClipContent:
  """Reads what JSON says of one clip.

  Args:
    content: an object of images, annotations and categories, or a list of annotations.
    where: the file, for errors.

  Raises:
    ClipError: if a field is missing or wrong, or two images are of one frame.
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
    number = number_of[image.get('file_name', image.get('id'))]
    if number in sizes:
      raise ClipError(f'{where} lists two images of frame number {number}; remove one')
    number_of_image[_id(image, 'id', where)] = number
    sizes[number] = _size(image, where)
  for entry in annotations:
    image = _id(entry, 'image_id', where)
    if image not in number_of_image:
      raise ClipError(f'{where}: an annotation has image_id {image!r}, which is not among images')
    entries[number_of_image[image]].append(entry)
  return ClipContent(sizes, dict(entries), categories)


def split_by_clip(content: Any, listed: Any, where: str) -> dict[str, Any]:
  """Divides what stands in one file for all clips.

  Args:
    content: as of `parse`.
    listed: an object with the list of images, where that is in a file of its own, or None.
    where: the file, for errors.

  Returns:
    {folder of the clip's images: content as of `parse`}.

  Raises:
    ClipError: if a field is missing or wrong, or an image's name has no folder.
  """
  images, annotations, _ = _lists(content, where)
  if listed is not None:
    images, _, _ = _lists({'annotations': [], **_object(listed, 'the file of images')}, where)
  if images is None:
    results = collections.defaultdict(list)
    for entry in annotations:
      image = _id(entry, 'image_id', where)
      if not isinstance(image, str):
        raise ClipError(
          f'{where}: image_id {image} does not tell the clip; give images=FILE, a COCO file that '
          'lists the images'
        )
      results[_folder(image, where)].append(entry)
    return dict(results)
  folder_of_image, clips = {}, {}
  for image in images:
    if not isinstance(image.get('file_name'), str):
      raise ClipError(f"{where}: field 'file_name' of an image must be a string")
    folder = _folder(image['file_name'], where)
    folder_of_image[_id(image, 'id', where)] = folder
    clips.setdefault(folder, {'images': [], 'annotations': []})['images'].append(image)
  for entry in annotations:
    image = _id(entry, 'image_id', where)
    if image not in folder_of_image:
      raise ClipError(f'{where}: an annotation has image_id {image!r}, which is not among images')
    clips[folder_of_image[image]]['annotations'].append(entry)
  return clips


def category_bits(values: dict[str, int], categories: dict[str, str], where: str) -> dict[str, int]:
  """The region's bit of each category's id, in digits, and of '*' for all others.

  Args:
    values: the bits by id or by name.
    categories: see `ClipContent`.
    where: the file, for the error.

  Raises:
    ClipError: for a name that is not listed.
  """
  bits = {}
  for value, bit in values.items():
    if value != '*' and not value.isdecimal():
      if value not in categories:
        listed = ', '.join(categories) or 'none at all'
        raise ClipError(f'{where} has no category {value!r} but {listed}; correct values=')
      value = categories[value]
    bits[value] = bit
  return bits


def default_values(categories: dict[str, str], where: str) -> dict[str, int]:
  """The bits of a file for which none are given: those of people.

  Args:
    categories: see `ClipContent`.
    where: the file, for the error.

  Raises:
    ClipError: if categories are listed and none is of people.
  """
  people = {name: PERSON for name in categories if name.casefold() == 'person'}
  if categories and not people:
    listed = ', '.join(list(categories)[:LISTED])
    raise ClipError(
      f"{where} has no category 'person' but {listed}; give values=, the region of each category"
    )
  # Of results, which do not list them: the number that COCO's own categories give to people.
  return people or {'1': PERSON}


def unused_categories(entries: Iterable[dict[str, Any]], bits: dict[str, int]) -> list[int]:
  """The ids of categories that annotations have and that are of no region."""
  found = {entry['category_id'] for entry in entries if type(entry.get('category_id')) is int}
  return [] if '*' in bits else [number for number in sorted(found) if str(number) not in bits]


def check_any_used(entries: Sequence[dict[str, Any]], bits: dict[str, int], where: str) -> None:
  """A `ClipError` where there are annotations, and all are of categories of no region."""
  unused = unused_categories(entries, bits)
  used = any(str(entry.get('category_id')) in bits for entry in entries)
  if unused and not used:
    raise ClipError(
      f'{where} lists no categories, and has only {", ".join(map(str, unused[:LISTED]))}, where 1 '
      'is taken for people; give values=, the region of each category'
    )


def list_categories(content: Any, where: str) -> dict[str, str]:
  """The categories of a file; see `ClipContent`."""
  if isinstance(content, list):
    return {}
  return _lists({'annotations': [], **_object(content, where)}, where)[2]


def list_annotations(content: Any, where: str) -> list[dict[str, Any]]:
  """The annotations of a file."""
  return _lists(content, where)[1]


def _lists(
  content: Any, where: str
) -> tuple[list[dict[str, Any]] | None, list[dict[str, Any]], dict[str, str]]:
  """The images, if there is a list of them, the annotations, and the ids of categories by name."""
  if isinstance(content, list):
    content = {'annotations': content}
  content = _object(content, where)
  lists = []
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
  """From a field's values to frames' numbers: itself, or that in the last part of a path."""
  names = dict.fromkeys(_id(entry, field, where) for entry in entries)
  paths = {name: _path(name) for name in names if isinstance(name, str)}
  stems = {name: _IMAGE.sub('', path.name) for name, path in paths.items()}
  for name in names:
    if (name < 0) if isinstance(name, int) else not _DIGIT.search(stems[name]):
      raise ClipError(f'{where}: {name!r} in field {field!r} has no frame number')
  owners = {path.parent.name for path in paths.values()} | {pathlib.PurePath(where).stem}
  numbers = frame_numbers(list(stems.values()), where, sorted(owners, key=len, reverse=True))
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
  sides = image.get('height'), image.get('width')
  if not all(type(side) is int for side in sides):
    raise ClipError(f"{where}: fields 'height' and 'width' of an image must be whole numbers")
  return sides
