"""Frame numbers in the names of files: which of the numbers in a name is the frame's.

Names hold other numbers as well: a clip's (`clip_7_00010.png`), hashes (`3f5a1b2c-00010.png`, or
Roboflow's `a_mp4-0010_jpg.rf.b20b31ca.jpg`), a version (`00010_mask_2.png`). A frame's number is
the one that differs from name to name, at the same position and between the same letters in all of
them; of several, the one behind the word 'frame' (`seq_00002_frame_0000000140`), or the one without
gaps.
"""

import re
from collections.abc import Sequence

from zsar_jax.data.records import ClipError

_WORD = re.compile(r'[0-9A-Za-z]+')
_DIGITS = re.compile(r'[0-9]+')
_NEGATIVE = re.compile(r'-[0-9]+')

# A longer row of digits counts no frames.
_MAX_DIGITS = 18

# How many names an error lists.
_LISTED = 3

# Where a number is in a name: whether words are counted from the left, the place of its word, that
# word with every number replaced by '#', and the place of the number in the word.
_Field = tuple[bool, int, str, int]


def frame_numbers(stems: Sequence[str], where: str, owners: Sequence[str] = ()) -> list[int]:
  """The frame's number in each of some names.

  Args:
    stems: names without extensions, of one clip, each with a digit in it.
    where: the clip's folder or file, for errors.
    owners: names of the clip. Where there is a single name, which cannot be compared with others,
      its number is looked for behind them.

  Returns:
    A number for each name. Two are equal where two names have the same frame number.

  Raises:
    ClipError: if no number, or more than one, can be the frame's.
  """
  names = list(dict.fromkeys(stems))
  if not names:
    return []
  if negative := [name for name in names if _NEGATIVE.fullmatch(name)]:
    raise ClipError(f'{where}: the number in the name {negative[0]} is negative; count from 0 or 1')
  if len(names) == 1:
    return [_single(names[0], where, owners)] * len(stems)
  by_name = {name: _fields(name) for name in names}
  shared = [field for field in by_name[names[0]] if all(field in by_name[name] for name in names)]
  # A number's place from the left and that from the right give the same column.
  columns = {tuple(by_name[name][field] for name in names) for field in shared}
  if len(columns) > 1:
    columns = {column for column in columns if len(set(column)) > 1}
  unique = [column for column in columns if len(set(column)) == len(names)]
  named = {
    tuple(by_name[name][field] for name in names) for field in shared if _is_named(names[0], field)
  }
  if len(named.intersection(unique)) == 1:
    unique = list(named.intersection(unique))
  if len(unique) > 1:
    # A time beside the frame's number has gaps.
    unique = [column for column in unique if max(column) - min(column) == len(names) - 1]
  chosen = unique or list(columns)
  if len(chosen) == 1:
    numbers = dict(zip(names, chosen[0], strict=True))
    return [numbers[stem] for stem in stems]
  reason = 'more than one number differs' if columns else 'no number counts up'
  listed = ', '.join(names[:_LISTED]) + (', ...' if len(names) > _LISTED else '')
  raise ClipError(
    f'{where}: {reason} in the names {listed}, so that the frames are unknown; name the files by '
    'their frame numbers alone, such as 000010'
  )


def _single(stem: str, where: str, owners: Sequence[str]) -> int:
  """`frame_numbers` of one name."""
  for owner in owners:
    if owner and (match := re.match(rf'{re.escape(owner)}[^0-9A-Za-z]+(?=.*[0-9])', stem)):
      stem = stem[match.end() :]
  fields = {field: value for field, value in _fields(stem).items() if field[0]}
  named = [value for field, value in fields.items() if _is_named(stem, field)]
  if len(named) == 1:
    return named[0]
  # A word of digits alone is a number before one with letters is, and a hash has several numbers.
  for wanted in ('#', r'[^#]*#[^#]*'):
    numbers = [value for field, value in fields.items() if re.fullmatch(wanted, field[2])]
    if len(numbers) == 1:
      return numbers[0]
    if numbers:
      break
  raise ClipError(
    f'{where}: it is unknown which number in the name {stem} is the frame; name it by its frame '
    'number alone, such as 000010'
  )


def _is_named(stem: str, field: _Field) -> bool:
  """Whether the word 'frame' stands before a number: `frame_10`, `frame10`."""
  from_left, place, _, number = field
  words = _WORD.findall(stem)
  place = place if from_left else len(words) - 1 - place
  before = _DIGITS.split(words[place])[number]
  if not before and not number and place:
    before = words[place - 1]
  return before.lower() in ('frame', 'frames')


def _fields(stem: str) -> dict[_Field, int]:
  """The numbers in a name."""
  words = _WORD.findall(stem)
  fields = {}
  for place, word in enumerate(words):
    letters = _DIGITS.sub('#', word)
    for number, digits in enumerate(_DIGITS.findall(word)):
      if len(digits) <= _MAX_DIGITS:
        fields[True, place, letters, number] = int(digits)
        fields[False, len(words) - 1 - place, letters, number] = int(digits)
  return fields
