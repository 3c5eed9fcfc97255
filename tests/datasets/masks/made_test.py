"""Masks that were made here: their files, and their frames in a build."""

import json
import os
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.datasets.masks.mask_helpers import HEIGHT, WIDTH, blob, clip, planes, video
from zsar_jax.data import records
from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks import made_files
from zsar_jax.datasets.masks.made import MadeSource
from zsar_jax.datasets.masks.made_files import MadeClip, MadeFrame, clip_path
from zsar_jax.datasets.video import THUMBNAIL_SIDE
from zsar_jax.errors import UserError
from zsar_jax.recipes.regions import PERSON

NAME = 'arm wrestling/clip_7'
SETTINGS = {'regions': ['person'], 'maker': 'stub', 'about': 'a test', 'notes': {'torch': '2'}}


def made_clip(numbers=(0, 1, 2), num_frames=3, unknown=(), height=HEIGHT, width=WIDTH) -> MadeClip:
  """Masks with a blob per frame, drawn from the frame's number."""
  frames = [
    MadeFrame(b'')
    if number in unknown
    else MadeFrame(
      records.encode_plane(blob(number, height, width) * np.uint8(PERSON)), number, number / 10
    )
    for number in numbers
  ]
  thumbnails = np.zeros((len(frames), THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)
  return MadeClip(num_frames, np.array(numbers), height, width, thumbnails, tuple(frames))


def write_made(root, masks: MadeClip, name=NAME) -> MadeSource:
  root.mkdir(exist_ok=True)
  made_files.write_settings(root, SETTINGS)
  checksum = made_files.settings_checksum(made_files.read_settings(root))
  made_files.write_clip(clip_path(root, name), masks, checksum, {'person empty': 0.5})
  return MadeSource(str(root))


def test_clips_are_read_back(tmp_path):
  frame = MadeFrame(b'plane', 2, 0.5, 0.25, PERSON, b'inpainted')
  thumbnails = np.arange(2 * THUMBNAIL_SIDE**2, dtype=np.uint8).reshape(2, THUMBNAIL_SIDE, -1)
  frames = (frame, MadeFrame(b''))
  masks = MadeClip(9, np.array([3, 8]), 5, 7, thumbnails, frames, {'kind': 'details'})
  path = tmp_path / 'a.masks'
  made_files.write_clip(path, masks, 'checksum', {'person jump': 4.5})
  again = made_files.read_clip(path, 'checksum')
  assert again.frames[0] == frame
  assert again.frames[1].plane == again.frames[1].inpainted == b''
  assert np.isnan(again.frames[1].score)
  np.testing.assert_array_equal(again.numbers, [3, 8])
  np.testing.assert_array_equal(again.thumbnails, thumbnails)
  assert again.remarks == {'kind': 'details'}
  assert (again.num_frames, again.height, again.width) == (9, 5, 7)
  assert made_files.read_gates(path, 'checksum') == (2, {'person jump': 4.5})
  with pytest.raises(ClipError, match='made in another way'):
    made_files.read_clip(path, 'another')


def test_planes_are_those_of_their_frames(tmp_path):
  source = write_made(tmp_path / 'masks', made_clip((0, 2, 5), num_frames=6, unknown=(5,)))
  drawn, remarks = planes(source, video(6))
  for number in (0, 2):
    np.testing.assert_array_equal(drawn[number], blob(number))
  assert [number for number, plane in enumerate(drawn) if plane is None] == [1, 3, 4, 5]
  assert remarks == {'frames without masks': '4 of 6'}
  drawn, remarks = planes(source, video(6, kept=[2]))
  np.testing.assert_array_equal(drawn[0], blob(2))
  assert not remarks
  assert source.region_names == ('person',)
  assert source.parameters['made'] == SETTINGS


def test_planes_are_scaled_to_the_stored_frames(tmp_path):
  source = write_made(tmp_path / 'masks', made_clip(height=2 * HEIGHT, width=2 * WIDTH))
  drawn, _ = planes(source, video(3, source=(4 * HEIGHT, 4 * WIDTH)))
  assert drawn[0].shape == (HEIGHT, WIDTH)
  shares = [drawn[0].mean(), blob(0, 2 * HEIGHT, 2 * WIDTH).mean()]
  assert shares[0] == pytest.approx(shares[1], abs=0.05)
  other = write_made(tmp_path / 'other', made_clip(height=HEIGHT, width=HEIGHT))
  with pytest.raises(ClipError, match='another aspect ratio'):
    planes(other)


def test_masks_of_other_frames_are_refused(tmp_path):
  source = write_made(tmp_path / 'masks', made_clip((1,), num_frames=3))
  with pytest.raises(ClipError, match='a video with 3 frames, and this one has 4'):
    list(source.for_clip(clip()).planes(video(4), {}))
  with pytest.raises(ClipError, match='frames 1 to 1, none of which is stored'):
    list(source.for_clip(clip()).planes(video(3, kept=[0, 2]), {}))

  def facts(level):
    bright = video(3)
    bright.thumbnails[1] = level
    return bright

  masks = source.for_clip(clip())
  assert len(list(masks.planes(facts(4), {}))) == 3  # As another compression would change it.
  with pytest.raises(ClipError, match='look different .* such as frame 1'):
    list(masks.planes(facts(30), {}))


def test_masks_that_are_made_again_are_read_again(tmp_path):
  masks = write_made(tmp_path, made_clip()).for_clip(clip())
  assert all(plane is not None for plane in masks.planes(video(), {}))
  write_made(tmp_path, made_clip(unknown=(1,)))
  drawn = list(masks.planes(video(), {}))
  assert [plane is None for plane in drawn] == [False, True, False]


def test_a_clip_without_masks_is_none(tmp_path):
  source = write_made(tmp_path / 'masks', made_clip())
  assert source.for_clip(clip('another')) is None
  # The folder of the class and the split may differ, as for all masks.
  assert source.for_clip(clip(f'train/{NAME.replace(" ", "_")}')) is not None


def test_settings_are_checked(tmp_path):
  with pytest.raises(UserError, match='--masks: .* has no made.json'):
    MadeSource(str(tmp_path))
  write_made(tmp_path, made_clip())
  nested = '{"format": 1, "regions": ' + '[' * 100_000
  for text in (
    '',
    '[]',
    '{}',
    '{"format": 1}',
    '{"format": 1, "regions": ["sky"]}',
    '\xff',
    nested,
  ):
    (tmp_path / 'made.json').write_text(text, encoding='latin-1')
    with pytest.raises(UserError, match='made.json is damaged'):
      MadeSource(str(tmp_path))
  (tmp_path / 'made.json').write_text('{"format": 2}')
  with pytest.raises(UserError, match='later version'):
    MadeSource(str(tmp_path))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_damaged_files_are_refused(tmp_path_factory, data):
  root = tmp_path_factory.mktemp('damaged')
  source = write_made(root / 'masks', made_clip())
  path = clip_path(root / 'masks', NAME)
  content = path.read_bytes()
  start = data.draw(st.integers(0, len(content) - 1))
  if data.draw(st.booleans()):
    damaged = content[:start]
  else:
    damaged = content[:start] + data.draw(st.binary(min_size=1, max_size=4)) + content[start + 1 :]
  path.write_bytes(damaged)
  # A changed byte of a plane may go unnoticed; nothing but a ClipError may come out.
  try:
    drawn = list(source.for_clip(clip()).planes(video(), {}))
  except ClipError:
    return
  assert all(plane is None or plane.shape == (HEIGHT, WIDTH) for plane in drawn)


@pytest.mark.parametrize(
  'change',
  [
    {'planes': [10**12, 5, 5]},
    {'planes': [-1, 5, 5]},
    {'planes': ['1', 5, 5]},
    {'numbers': [0, 0, 1]},
    {'numbers': [0, 1, 9]},
    {'numbers': [0, 1]},
    {'size': [10**9]},
    {'size': [0, 36]},
    {'thumbnails': 'zz'},
    {'num_frames': None},
    {'format': 2},
    {'score': [0.1]},
  ],
)
def test_headers_that_lie_are_refused(tmp_path, change):
  source = write_made(tmp_path, made_clip())
  path = clip_path(tmp_path, NAME)
  header, _, content = path.read_bytes().partition(b'\n')
  path.write_bytes(json.dumps(json.loads(header) | change).encode() + b'\n' + content)
  with pytest.raises(ClipError):
    list(source.for_clip(clip()).planes(video(), {}))


def test_a_file_that_changes_within_a_second_is_read_again(tmp_path):
  """Some file systems have times in whole seconds."""
  source = write_made(tmp_path / 'masks', made_clip((0, 1, 2)))
  path = clip_path(tmp_path / 'masks', NAME)
  masks = source.for_clip(clip(NAME))
  second = int(time.time())
  os.utime(path, (second, second))
  assert set(masks.annotated_frames(3, None)) == {0, 1, 2}
  size = path.stat().st_size
  content = made_clip((0, 1, 2), num_frames=4)
  made_files.write_clip(tmp_path / 'other', content, source._checksum, {'person empty': 0.5})
  path.write_bytes((tmp_path / 'other').read_bytes())  # In place: it keeps its inode.
  os.utime(path, (second, second))
  assert path.stat().st_size == size
  assert set(masks.annotated_frames(4, None)) == {0, 1, 2}
