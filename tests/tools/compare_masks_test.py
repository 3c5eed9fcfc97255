"""Tests of tools.compare_masks: masks of two folders, their report and the picture."""

import json
import pathlib

import cv2
import numpy as np
import pytest

from tests.datasets.video_test import write_video
from tools import compare_masks, mask_overlays
from zsar_jax.data.records import encode_plane
from zsar_jax.datasets.masks import made_files
from zsar_jax.datasets.video import Storage
from zsar_jax.datasets.video_reading import read_video
from zsar_jax.recipes.regions import PERSON

_SHARED = pathlib.Path(__file__).parents[3] / 'shared' / 'data' / 'person_masks' / 'bmx-trees'


def _write(folder, columns):
  """Writes masks of 20 x 30 pixels that begin at the columns; returns them."""
  folder.mkdir(parents=True)
  masks = []
  for number, column in enumerate(columns):
    mask = np.zeros((48, 64), np.uint8)
    mask[9:39, column : column + 20] = 255
    cv2.imwrite(str(folder / f'{number:05d}.png'), mask)
    masks.append(mask)
  return masks


@pytest.fixture(name='root')
def _root(tmp_path):
  """Clips a to d: a has equal masks, b shifted ones, c only in A, d only in B."""
  for name in 'abcd':
    write_video(tmp_path / 'videos' / f'{name}.mp4', [20 * n for n in range(4)])
  for side, shift, names in (('A', 10, 'abc'), ('B', 0, 'abd')):
    for name in names:
      _write(tmp_path / side / name, [shift * (name == 'b')] * 4)
  return tmp_path


def _run(root, *flags, masks=None, reference=None):
  sides = [masks or f'grey:{root / "A"}', reference or f'grey:{root / "B"}']
  compare_masks.main([*sides, f'--videos={root / "videos"}', f'--out={root / "out"}', *flags])
  return json.loads((root / 'out' / 'comparison.json').read_text())


def test_two_folders_of_masks(root, capsys):
  report = _run(root, '--workers=0')
  person = report['regions']['person']
  assert (person['iou'], person['missed'], person['added']) == (0.6667, 0.25, 0.25)
  assert report['clips']['a']['regions']['person']['iou'] == 1
  assert report['clips']['b']['regions']['person']['iou'] == 0.3333
  assert report['clips']['b']['regions']['person']['worst_frames'] == [0, 1, 2, 3]
  assert (report['only_in_masks'], report['only_in_reference']) == (['c'], ['d'])
  assert report['frames'] == 8
  printed = capsys.readouterr().out
  assert 'clips that only A has masks of: 1' in printed
  rows = [line for line in printed.splitlines() if ', person ' in line]
  assert [row.partition(',')[0] for row in rows] == ['mean', 'b', 'a']
  assert '0.333' in rows[1]
  assert '50.0 %' in rows[1]
  # Half of the shape in each color, and each color in the legend as well.
  sheet = cv2.imread(str(root / 'out' / 'comparison.png'))[..., ::-1].astype(int)
  blue, red, yellow = (
    (sheet[60:, :, strongest].min(-1) - sheet[60:, :, weakest].max(-1) > 40).sum()
    for strongest, weakest in (([2], [0]), ([0], [1, 2]), ([0, 1], [2]))
  )
  assert min(blue, red, yellow) > 1000
  assert max(blue, red, yellow) < 1.3 * min(blue, red, yellow)
  assert _run(root, '--workers=2') == report


def test_the_colors_of_an_overlay():
  frame = np.full((2, 2, 3), 100, np.uint8)
  mask, reference = np.array([[1, 1], [0, 0]]) > 0, np.array([[1, 0], [1, 0]]) > 0
  picture = mask_overlays.overlay(frame, mask, reference)

  def blend(color):
    return [round(0.4 * 100 + 0.6 * value) for value in bytes.fromhex(color[1:])]

  colors = mask_overlays.COLORS
  expected = [
    [blend(colors['agreement']), blend(colors['added'])],
    [blend(colors['missed']), [100] * 3],
  ]
  np.testing.assert_array_equal(picture, expected)


def test_masks_that_were_made_here_need_no_format(root, capsys):
  settings = {'regions': ['person'], 'maker': 'stub', 'licenses': {'weights': 'AGPL-3.0'}}
  folder = root / 'made'
  folder.mkdir()
  made_files.write_settings(folder, settings)
  facts = read_video(root / 'videos' / 'b.mp4', Storage()).facts
  plane = np.zeros((48, 64), np.uint8)
  plane[9:39, 5:25] = PERSON
  frames = tuple(made_files.MadeFrame(encode_plane(plane)) for _ in facts.kept)
  clip = made_files.MadeClip(4, facts.kept, 48, 64, facts.thumbnails, frames)
  checksum = made_files.settings_checksum(settings)
  made_files.write_clip(made_files.clip_path(folder, 'b'), clip, checksum)
  report = _run(root, '--workers=0', masks=str(folder))
  assert report['regions']['person']['iou'] == 0.6  # 15 of 25 columns.
  assert report['masks']['made']['maker'] == 'stub'
  assert 'A: made:made: maker stub; licenses: weights AGPL-3.0' in capsys.readouterr().out


@pytest.mark.parametrize(
  ('flags', 'sides', 'message'),
  [
    ([], {'masks': 'grey:ROOT/nowhere'}, 'ROOT/nowhere is not a folder'),
    ([], {'masks': 'ROOT/A'}, "'ROOT/A' must be FORMAT:PATH"),
    ([], {'masks': 'grey:ROOT/A,region=object'}, 'A has masks of object and B of person;'),
    ([], {'reference': 'grey:ROOT/others'}, 'A has masks of 3 and B of 0 of the 4 videos'),
    (['--keep=some'], {}, '--keep: '),
    (['--workers=-1'], {}, '--workers must be 0 or more, not -1'),
    (['--short-side=1'], {}, '--short-side must be 16 or more, not 1'),
  ],
)
def test_errors(root, capsys, flags, sides, message):
  _write(root / 'others' / 'e', [0])
  sides = {name: text.replace('ROOT', str(root)) for name, text in sides.items()}
  with pytest.raises(SystemExit) as error:
    _run(root, '--workers=0', *flags, **sides)
  assert error.value.code == 2
  assert message.replace('ROOT', str(root)) in capsys.readouterr().err


def test_clips_that_all_fail(root, capsys):
  for path in (root / 'A').rglob('*.png'):
    path.write_bytes(b'no image')
  with pytest.raises(SystemExit):
    _run(root, '--workers=0')
  assert 'no clip can be compared; a: ' in capsys.readouterr().err


@pytest.mark.skipif(not _SHARED.exists(), reason='no ../shared/data')
def test_real_masks(tmp_path):
  """DAVIS' masks agree with themselves, and less with shifted ones, which miss what they add."""
  (tmp_path / 'videos').mkdir()
  (tmp_path / 'videos' / 'bmx').symlink_to(_SHARED / 'frames')
  (tmp_path / 'B').mkdir()
  (tmp_path / 'B' / 'bmx').symlink_to(_SHARED / 'masks')
  (tmp_path / 'A' / 'bmx').mkdir(parents=True)
  for path in (_SHARED / 'masks').glob('*.png'):
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(tmp_path / 'A' / 'bmx' / path.name), np.roll(mask, 3, axis=1))
  flags = ('--keep=every:10', '--workers=0')
  same = _run(tmp_path, *flags, masks=f'grey:{tmp_path / "B"}')['regions']['person']
  assert same == {'iou': 1, 'boundary_f': 1, 'missed': 0, 'added': 0}
  shifted = _run(tmp_path, *flags)['regions']['person']
  assert 0.2 < shifted['iou'] < 0.8
  assert shifted['missed'] == pytest.approx(shifted['added'], abs=0.01)
  # The tolerance is 4 pixels of 240 x 432.
  assert shifted['boundary_f'] > 0.99
