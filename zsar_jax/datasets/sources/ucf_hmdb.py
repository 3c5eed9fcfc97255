"""Lists the clips of UCF101 and HMDB51, each with three divisions into training and test clips.

Every clip is stored once, in the split 'clips'; 'train1', 'test1', ... 'test3' are parts of it.
"""

import os
import pathlib
import re
from collections.abc import Mapping

from zsar_jax.data.class_names import match_classes, to_nfc
from zsar_jax.datasets.sources.listing import (
  ClipCollector,
  Listing,
  check_label,
  read_text,
  relative_path,
)
from zsar_jax.datasets.sources.video_index import VideoIndex
from zsar_jax.errors import UserError
from zsar_jax.storage.paths import as_path

_SPLITS = (1, 2, 3)

# The third column of HMDB51's lists; 0 marks a clip that a split does not use.
_HMDB_PARTS = {'0': None, '1': 'train', '2': 'test'}

# {part of the clips: {'class/file': file and line of the list}}
_Parts = dict[str, dict[str, str]]


def list_ucf101(videos: str | os.PathLike[str], annotations: str | os.PathLike[str]) -> Listing:
  """Lists the clips of UCF101.

  Args:
    videos: the folder UCF-101, with a folder for each class.
    annotations: the folder ucfTrainTestlist: classInd.txt with lines '1 ApplyEyeMakeup', and
      trainlist01.txt to testlist03.txt with lines 'ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi',
      followed by the label in the lists for training.

  Raises:
    UserError: A list is missing or wrong.
  """
  folder = as_path(annotations, '--annotations')
  classes: list[str] = []
  for where, line in _lines(folder / 'classInd.txt'):
    number, _, name = line.partition(' ')
    if number != str(len(classes) + 1) or not name:
      raise UserError(
        f'{where}: {line!r} must be {len(classes) + 1} and the name of a class; copy the file again'
      )
    check_label(name, where)
    classes.append(name)
  parts: _Parts = {}
  numbered = []
  for division in _SPLITS:
    for part in ('train', 'test'):
      listed = parts.setdefault(f'{part}{division}', {})
      for where, line in _lines(folder / f'{part}list{division:02d}.txt'):
        match = re.fullmatch(r'(.+?)(?: +(\d+))?', line)
        assert match is not None  # A line has a character.
        listed[match[1]] = where
        numbered.append((match[1].partition('/')[0], match[2], line, where))
  classes_of = match_classes((name for name, *_ in numbered), classes)
  number_of = {name: number for number, name in enumerate(classes, start=1)}
  for name, label, line, where in numbered:
    if label and classes_of[name] and int(label) not in map(number_of.get, classes_of[name]):
      raise UserError(
        f'{where}: {line!r} contradicts classInd.txt, where {name} is class'
        f' {number_of[classes_of[name][0]]}; copy the file again'
      )
  return _listing(VideoIndex(videos), folder, tuple(classes), parts)


def list_hmdb51(videos: str | os.PathLike[str], annotations: str | os.PathLike[str]) -> Listing:
  """Lists the clips of HMDB51.

  Args:
    videos: the folder of a folder for each class.
    annotations: the folder testTrainMulti_7030_splits of files {class}_test_split{1,2,3}.txt with
      lines '{clip}.avi 1': 1 for training, 2 for test, 0 for a clip that is not used.

  Raises:
    UserError: A list is missing or wrong.
  """
  folder = as_path(annotations, '--annotations')
  names: dict[str, dict[int, pathlib.Path]] = {}
  for path in sorted(folder.glob('[!.]*.txt')):  # Excludes macOS' companions ._NAME.
    match = re.fullmatch(r'(.+)_test_split([123])', to_nfc(path.stem))
    if match:
      names.setdefault(match[1], {})[int(match[2])] = path
  if not names:
    raise UserError(
      f'--annotations: {folder} has no file like brush_hair_test_split1.txt; give the folder'
      ' testTrainMulti_7030_splits'
    )
  parts: _Parts = {}
  for name in names:
    for number in _SPLITS:
      path = names[name].get(number, folder / f'{name}_test_split{number}.txt')
      for where, line in _lines(path):
        clip, _, kind = line.rpartition(' ')
        if kind not in _HMDB_PARTS or not clip.strip():
          raise UserError(f'{where}: {line!r} is not a clip and 0, 1 or 2; copy the file again')
        if _HMDB_PARTS[kind]:
          parts.setdefault(f'{_HMDB_PARTS[kind]}{number}', {})[f'{name}/{clip.strip()}'] = where
  return _listing(VideoIndex(videos), folder, tuple(names), parts)


def _listing(
  videos: VideoIndex, folder: pathlib.Path, classes: tuple[str, ...], parts: _Parts
) -> Listing:
  """Creates the listing of all clips that are in any part.

  Args:
    videos: the videos.
    folder: the folder of the lists, for errors.
    classes: the vocabulary, in label order.
    parts: the clips of each part.

  Raises:
    UserError: A clip is of no class, there is no clip, or a clip is both for training and test.
  """
  label_of = {name: label for label, name in enumerate(classes)}
  folders = videos.class_folders(classes)
  first_listed: dict[str, str] = {}  # Where each path is listed first, for errors.
  for listed in parts.values():
    first_listed = listed | first_listed
  listed_paths = {
    path: str(relative_path(path, where)).rpartition('/') for path, where in first_listed.items()
  }
  classes_of = match_classes((name for name, _, _ in listed_paths.values()), classes)
  collector = ClipCollector()
  ids = {}  # The clip of each listed path.
  # By class and video: lists differ in the case of names.
  ids_by_video: dict[tuple[str, str], str] = {}
  for path, (folder_name, _, file) in listed_paths.items():
    where = first_listed[path]
    if len(classes_of[folder_name]) != 1:
      raise UserError(f'{where}: {folder_name!r} is not a class of the lists; copy the file again')
    (name,) = classes_of[folder_name]
    expected = f'{folder_name}/{file}'
    copies = videos.find_clip(expected, name, folders)
    clip_id = f'{name}/{os.path.splitext(file)[0]}'
    ids[path] = ids_by_video.setdefault((name, copies[0]), clip_id) if copies else clip_id
    if ids[path] == clip_id:
      clip = videos.listed_clip(clip_id, label_of[name], copies, expected)
      collector.add('clips', clip, where)
  if not ids:
    raise UserError(f'--annotations: the files of {folder} list no clip; copy them again')
  _check_disjoint(parts, ids)
  # The split is not called 'all', because TFDS keeps that name for itself.
  clips = sorted(collector.splits['clips'], key=lambda clip: (clip.label, clip.id))
  clip_splits = {
    part: tuple(dict.fromkeys(ids[path] for path in listed)) for part, listed in parts.items()
  }
  return Listing(classes, {'clips': clips}, clip_splits=clip_splits, remarks=collector.remarks)


def _check_disjoint(parts: _Parts, ids: Mapping[str, str]) -> None:
  """Raises a `UserError` if a clip is for training and for test in the same division."""
  for number in _SPLITS:
    training_ids = {ids[path] for path in parts.get(f'train{number}', ())}
    for path, where in parts.get(f'test{number}', {}).items():
      if ids[path] in training_ids:
        raise UserError(
          f'{where}: clip {ids[path]} is listed for training and for test of split {number}; copy'
          ' the lists again'
        )


def _lines(path: pathlib.Path) -> list[tuple[str, str]]:
  """Reads the lines of a list that are not empty, each with its file and line number."""
  lines = read_text(path, '--annotations').splitlines()
  return [(f'{path}, line {n}', line.strip()) for n, line in enumerate(lines, 1) if line.strip()]
