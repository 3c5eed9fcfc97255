"""Maps the categories of COCO files to regions.

`categories` is {name: id in digits}, as `coco_json.list_categories` returns them; `bits` is
{id in digits: bit of the region}, with '*' for all other categories.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.region_labels import label_bit
from zsar_jax.recipes.regions import PERSON

# The maximum number of categories that an error or a remark names.
LISTED = 8


def values_or_people(
  values: dict[str, int] | None,
  categories: Mapping[str, str],
  entries: Sequence[dict[str, Any]],
  where: str,
) -> dict[str, int]:
  """Returns `values`, or where they are None, the values of people.

  Args:
    values: the region's bit of each category, by id or name.
    categories: the categories that the file lists.
    entries: the file's annotations.
    where: the file, for errors.

  Raises:
    ClipError: `values` is None and it is unknown which category is people.
  """
  if values is None:
    values = default_values(categories, where)
    if not categories:
      _check_people(entries, values, where)
  return values


def category_bits(
  values: Mapping[str, int], categories: Mapping[str, str], where: str
) -> dict[str, int]:
  """Returns `values` with the ids of categories in place of their names.

  Raises:
    ClipError: The file does not list a name.
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


def default_values(categories: Mapping[str, str], where: str) -> dict[str, int]:
  """Returns the bits of people, for a file without `values`.

  Raises:
    ClipError: The file lists categories, and none is called 'person'.
  """
  people = {name: PERSON for name in categories if name.casefold() == 'person'}
  if categories and not people:
    listed = ', '.join(list(categories)[:LISTED])
    raise ClipError(
      f"{where} has no category 'person' but {listed}; give values=, the region of each category"
    )
  # Results list no categories. 1 is people in COCO's own.
  return people or {'1': PERSON}


def used_ids(entries: Iterable[dict[str, Any]]) -> set[int]:
  """Returns the categories' ids that occur in annotations."""
  return {entry['category_id'] for entry in entries if type(entry.get('category_id')) is int}


def _check_people(entries: Sequence[dict[str, Any]], bits: Mapping[str, int], where: str) -> None:
  """Raises a `ClipError` if there are annotations and all are of categories of no region."""
  unused = [number for number in sorted(used_ids(entries)) if not label_bit(bits, number)]
  used = any(str(entry.get('category_id')) in bits for entry in entries)
  if unused and not used:
    raise ClipError(
      f'{where} lists no categories and has only {", ".join(map(str, unused[:LISTED]))}, but 1 is '
      'taken for people; give values=, the region of each category'
    )
