"""Lists the mask files of a clip by the frame numbers in their names."""

import contextlib
import os
import re
from collections.abc import Iterator, Sequence

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.frame_numbers import frame_numbers
from zsar_jax.errors import UserError
from zsar_jax.storage.folders import Folders

# The number of clips that are read to infer the number of the first frame.
MAX_SAMPLED_CLIPS = 200

_DIGIT = re.compile(r'[0-9]')


def numbered_files(
  folder: str, extensions: tuple[str, ...], number_required: bool = True
) -> dict[int, str]:
  """Lists the files of a folder by the frame numbers in their names.

  Args:
    folder: files with other extensions and hidden files are ignored.
    extensions: the extensions in lower case, with the dot.
    number_required: whether a file without a number is an error; otherwise it is left out.

  Returns:
    {number: path}.

  Raises:
    ClipError: The folder cannot be read, or two files have the same number.
  """
  try:
    names = sorted(os.listdir(folder))
  except OSError as error:
    raise ClipError(f'{folder} cannot be read ({error.strerror})') from None
  names = [name for name in names if _is_mask(name, extensions)]
  numbers = _numbers_by_name(folder, names)
  files: dict[int, str] = {}
  for name in names:
    number = numbers.get(name)
    if number is None and number_required:
      raise ClipError(f'{folder}/{name} has no frame number in its name; remove it or number it')
    if number in files:
      raise ClipError(
        f'{folder} has two masks numbered {number}, {os.path.basename(files[number])} and {name}; '
        'remove one'
      )
    if number is not None:
      files[number] = os.path.join(folder, name)
  return files


def infer_first_number(folders: Folders, extensions: tuple[str, ...]) -> int:
  """Infers from which number the masks in folders below a folder count frames.

  Args:
    folders: lists folders of masks, at any depth.
    extensions: the extensions of mask files.

  Returns:
    0 if any of the first folders has a mask numbered 0, or else 1 if any has a mask numbered 1.

  Raises:
    UserError: No folder has such a mask, or no file name in any folder has a frame number.
  """
  first, any_numbers = None, False
  reasons: list[str] = []
  for numbers in sampled_numbers(folders, extensions, reasons):
    any_numbers = True
    if 0 in numbers:
      return 0
    if 1 in numbers:
      first = 1
  if reasons and not any_numbers:
    raise UserError(f'--masks: {reasons[0]}')
  return require_first_number(first, folders.root)


def require_first_number(first: int | None, root: str) -> int:
  """Returns `first`; raises a `UserError` if it could not be inferred."""
  if first is None:
    raise UserError(
      f'--masks: no mask numbered 0 or 1 was found under {root}, so it is unknown from which '
      'number frames are counted; check the folder, or add first=0 or first=1 (either will do if '
      'videos are folders of images with the same numbers)'
    )
  return first


def sampled_numbers(
  folders: Folders, extensions: tuple[str, ...], reasons: list[str]
) -> Iterator[set[int]]:
  """Yields the numbers of the masks in each of the first folders below the root with masks.

  Args:
    folders: lists folders of masks, at any depth.
    extensions: the extensions of mask files.
    reasons: receives why the numbers of a folder cannot be read; the clip of that folder gets the
      error later.
  """
  sampled = 0
  pending = [folders.root]
  while pending and sampled < MAX_SAMPLED_CLIPS:
    folder = pending.pop()
    subfolders, names, numbers = [], [], {}
    with contextlib.suppress(OSError), contextlib.closing(folders.entries(folder)) as entries:
      for name, is_folder in entries:
        if is_folder:
          subfolders.append(os.path.join(folder, name))
        # Files in the root itself belong to no folder of a clip, and may be very many.
        elif folder != folders.root and _is_mask(name, extensions):
          names.append(name)
    try:
      numbers = _numbers_by_name(folder, sorted(names))
    except ClipError as error:
      reasons.append(error.reason)
    if numbers:
      yield set(numbers.values())
      sampled += 1
    pending += sorted(subfolders, reverse=True)


def _numbers_by_name(folder: str, names: Sequence[str]) -> dict[str, int]:
  """Returns {name: frame number} for the names with a digit; see `frame_numbers`."""
  stems = {name: os.path.splitext(name)[0] for name in names}
  stems = {name: stem for name, stem in stems.items() if _DIGIT.search(stem)}
  # The clip's name is that of the folder, or of its parent where each object has a folder.
  clip_names = folder.split(os.sep)[-2:]
  return dict(zip(stems, frame_numbers(list(stems.values()), folder, clip_names), strict=True))


def _is_mask(name: str, extensions: tuple[str, ...]) -> bool:
  return name.lower().endswith(extensions) and not name.startswith('.')
