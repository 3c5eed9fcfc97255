"""Tests of zsar inspect --worst: data sets with masks that look wrong, and without."""

import json
import shutil

import cv2
import numpy as np

from tests.datasets.video_test import write_video
from tests.toy import build_toy
from tools import build_dataset, inspect_dataset
from zsar_jax.evaluation import contact_sheets


def _write_clips(root, shown):
  """Writes clips of frames with masks of a person, who is shown in some of the frames."""
  for name, frames in shown.items():
    write_video(root / 'videos' / f'{name}.mp4', [20 * n for n in range(len(frames))])
    (root / 'masks' / name).mkdir(parents=True)
    for number, visible in enumerate(frames):
      mask = np.zeros((48, 64), np.uint8)
      mask[8:40, 8:24] = 255 * visible
      cv2.imwrite(str(root / 'masks' / name / f'{number:05d}.png'), mask)


def _build(root, name, *flags):
  flags = ['--dataset=folder', f'--name={name}', f'--videos={root / "videos"}', *flags]
  build_dataset.main([*flags, f'--out={root / "out"}', '--workers=0'])
  return json.loads((root / 'out' / name / '1.0.0' / 'build_report.json').read_text())['train']


def test_clips_whose_masks_look_wrong(tmp_path, capsys, monkeypatch):
  shown = {
    'x/good': [1] * 8,
    'x/half': [1, 0] * 4,
    'y/third': [1, 1, 0, 1, 1, 0, 1, 0],
    'y/empty': [0] * 8,
  }
  _write_clips(tmp_path, shown)
  report = _build(tmp_path, 'own', '--masks', f'grey:{tmp_path / "masks"}')
  jump = 16.6667  # From a sixth of the frame to nothing, which counts as 1 %.
  assert report['gates'] == {
    'person empty': {'x/half': 0.5, 'y/empty': 1.0, 'y/third': 0.375},
    'person jump': {'x/half': jump, 'y/third': jump},
  }
  assert report['masks'] == [{'format': 'grey', 'path': 'masks'}]
  printed = capsys.readouterr().out
  assert '  masks that look wrong: 3 of 4 clips; ' in printed
  assert '    person empty: y/empty 100 %, x/half 50 %, y/third 37.5 %: where an ' in printed

  draw, sheets = contact_sheets.draw_contact_sheet, []

  def capture(rows, columns, view, path, notes):
    ids = [subset.clip_id(position) for subset, position in rows]
    sheets.append(list(zip(ids, notes, strict=True)))
    draw(rows, columns, view, path, notes)

  monkeypatch.setattr(contact_sheets, 'draw_contact_sheet', capture)
  inspect_dataset.main(
    [str(tmp_path / 'out'), '--worst=2', f'--out={tmp_path}', '--size=32', '--frames=2']
  )
  assert capsys.readouterr().out.endswith(f'{tmp_path / "own-worst.png"}\n')
  assert sheets == [
    [('y/empty', 'person empty 100 %'), ('x/half', 'person empty 50 %, person jump 16.7x')]
  ]
  assert cv2.imread(str(tmp_path / 'own-worst.png')).std() > 0


def test_the_reason_why_no_clip_looks_wrong(tmp_path, capsys):
  _write_clips(tmp_path, {'x/a': [1] * 4, 'y/b': [1] * 4})
  _build(tmp_path, 'none')
  _build(tmp_path, 'good', '--masks', f'grey:{tmp_path / "masks"}')
  build_toy(tmp_path / 'out')
  good = tmp_path / 'out' / 'good' / '1.0.0'
  earlier = shutil.copytree(good, tmp_path / 'earlier' / 'good' / '1.0.0')
  report = json.loads((earlier / 'build_report.json').read_text())
  for part in report.values():
    del part['gates'], part['masks']
  (earlier / 'build_report.json').write_text(json.dumps(report))
  for folder, sentence in (
    (good, 'good: the masks of no clip look wrong'),
    (tmp_path / 'out' / 'none', 'none: it has no masks'),
    (tmp_path / 'out' / 'toy', 'toy: its masks are not checked, as they are drawn with the clips'),
    (earlier, 'good: an earlier version built it; build it again to have its masks checked'),
  ):
    inspect_dataset.main([str(folder), '--worst=3', f'--out={tmp_path}'])
    assert capsys.readouterr().out.splitlines()[-1] == sentence
