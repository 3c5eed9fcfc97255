"""Finds the frame number in the names of files.

Names contain other numbers as well: a clip's (`clip_7_00010.png`), hashes (`3f5a1b2c-00010.png`, or
Roboflow's `a_mp4-0010_jpg.rf.b20b31ca.jpg`), a version (`00010_mask_2.png`). The frame number is
the one that differs from name to name, at the same position and between the same letters in all
names. If there are several, it is the one after the word 'frame' (`seq_00002_frame_0000000140`),
or the one without gaps.
"""

import re
from collections.abc import Sequence

from zsar_jax.data.records import ClipError

_WORD = re.compile(r'[0-9A-Za-z]+')
_DIGITS = re.compile(r'[0-9]+')
_NEGATIVE = re.compile(r'-[0-9]+')

# A longer sequence of digits is not a frame number.
_MAX_DIGITS = 18

# The maximum number of names that an error lists.
_LISTED = 3

# The position of a number in a name: whether words are counted from the left, the index of its
# word, that word with every number replaced by '#', and the index of the number in the word.
_Field = tuple[bool, int, str, int]


def frame_numbers(stems: Sequence[str], where: str, clip_names: Sequence[str] = ()) -> list[int]:
  """Finds the frame number in each of a clip's file names.

  Args:
    stems: names without extensions, each with a digit.
    where: the clip's folder or file, for errors.
    clip_names: names of the clip. A single file name cannot be compared with others; its number is
      searched after them.

  Returns:
    The number of each name. Two are equal if two names have the same frame number.

  Raises:
    ClipError: No number, or more than one, can be the frame's.
  """
  names = list(dict.fromkeys(stems))
  if not names:
    return []
  if negative := [name for name in names if _NEGATIVE.fullmatch(name)]:
    raise ClipError(f'{where}: the number in the name {negative[0]} is negative; count from 0 or 1')
  if len(names) == 1:
    return [_single_number(names[0], where, clip_names)] * len(stems)
  by_name = {name: _fields(name) for name in names}
  shared = [field for field in by_name[names[0]] if all(field in by_name[name] for name in names)]
  # A column has a number from each name. Counting words from the left and from the right often
  # gives the same column.
  columns = {tuple(by_name[name][field] for name in names) for field in shared}
  if len(columns) > 1:
    columns = {column for column in columns if len(set(column)) > 1}
  unique = [column for column in columns if len(set(column)) == len(names)]
  after_frame = {
    tuple(by_name[name][field] for name in names)
    for field in shared
    if _follows_frame(names[0], field)
  }
  if len(after_frame.intersection(unique)) == 1:
    unique = list(after_frame.intersection(unique))
  if len(unique) > 1:
    # A time beside the frame's number has gaps.
    unique = [column for column in unique if max(column) - min(column) == len(names) - 1]
  candidates = unique or list(columns)
  if len(candidates) == 1:
    numbers = dict(zip(names, candidates[0], strict=True))
    return [numbers[stem] for stem in stems]
  reason = 'more than one number differs' if columns else 'no number counts up'
  listed = ', '.join(names[:_LISTED]) + (', ...' if len(names) > _LISTED else '')
  raise ClipError(
    f'{where}: {reason} in the names {listed}, so the frames are unknown; name the files by their '
    'frame numbers alone, such as 000010'
  )


def _single_number(stem: str, where: str, clip_names: Sequence[str]) -> int:
  """`frame_numbers` for a single name."""
  for name in clip_names:
    if name and (match := re.match(rf'{re.escape(name)}[^0-9A-Za-z]+(?=.*[0-9])', stem)):
      stem = stem[match.end() :]
  fields = {field: value for field, value in _fields(stem).items() if field[0]}
  after_frame = [value for field, value in fields.items() if _follows_frame(stem, field)]
  if len(after_frame) == 1:
    return after_frame[0]
  # A word of digits alone is preferred to a word with letters; a hash has several numbers.
  for pattern in ('#', r'[^#]*#[^#]*'):
    numbers = [value for field, value in fields.items() if re.fullmatch(pattern, field[2])]
    if len(numbers) == 1:
      return numbers[0]
    if numbers:
      break
  raise ClipError(
    f'{where}: it is unknown which number in the name {stem} is the frame; name it by its frame '
    'number alone, such as 000010'
  )


def _follows_frame(stem: str, field: _Field) -> bool:
  """Returns whether the word 'frame' precedes a number: `frame_10`, `frame10`."""
  from_left, index, _, number = field
  words = _WORD.findall(stem)
  index = index if from_left else len(words) - 1 - index
  before = _DIGITS.split(words[index])[number]
  if not before and not number and index:
    before = words[index - 1]
  return before.lower() in ('frame', 'frames')


def _fields(stem: str) -> dict[_Field, int]:
  """Returns the numbers in a name by their positions."""
  words = _WORD.findall(stem)
  fields = {}
  for index, word in enumerate(words):
    letters = _DIGITS.sub('#', word)
    for number, digits in enumerate(_DIGITS.findall(word)):
      if len(digits) <= _MAX_DIGITS:
        fields[True, index, letters, number] = int(digits)
        fields[False, len(words) - 1 - index, letters, number] = int(digits)
  return fields
