"""The contact sheet: what it shows, and what it refuses."""

import dataclasses

import cv2
import numpy as np
import pytest

from tests.toy import CLASSES, build_toy
from tools import show_clips
from zsar_jax.data.dataset import open_dataset
from zsar_jax.data.subset import select
from zsar_jax.ops import recipes


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return build_toy(tmp_path_factory.mktemp('toy'))


def run(monkeypatch, *flags):
  monkeypatch.setattr('sys.argv', ['show_clips', *flags])
  show_clips.main()


def test_rows_are_spread_over_the_classes(data_dir):
  clips = select(open_dataset(data_dir, 'toy', 'validation'), 'all', 'nearest', '')
  rows = show_clips.choose_clips([clips], 5)
  assert {subset.classes[subset.labels[position]] for subset, position in rows} == set(CLASSES)


def test_a_sheet_shows_the_painted_colours(tmp_path, monkeypatch, data_dir):
  out = tmp_path / 'folder' / 'sheet.png'
  painted = 'background=#ff0000,object=#00ff00,person=#0000ff'
  run(
    monkeypatch,
    f'--dataset-dir={data_dir}',
    f'--recipes=none;{painted}',
    f'--out={out}',
    '--clips=2',
    '--frames=2',
  )
  sheet = cv2.imread(str(out))[..., ::-1].astype(int)
  for colour in np.eye(3, dtype=int) * 255:
    found = (np.abs(sheet - colour).max(-1) < 8).nonzero()[1]
    assert len(found) > 1000
    assert found.min() > sheet.shape[1] / 2  # Only in the second column.


def test_names_are_no_formulas(tmp_path, data_dir):
  clips = select(open_dataset(data_dir, 'toy', 'validation'), 'all', 'nearest', '')
  clips = dataclasses.replace(clips, classes=('a$_$b',) * len(CLASSES))
  view = show_clips.View(num_frames=1, size=16, centre_crop=1.0)
  show_clips.draw([(clips, 0)], [recipes.parse('none')], view, tmp_path / 'a.png')
  assert (tmp_path / 'a.png').is_file()


@pytest.mark.parametrize(
  ('flags', 'words'),
  [
    (['--recipes=none;object'], 'character 1'),
    (['--clips=0'], '--clips'),
    (['--split=test'], "no split 'test'"),
    (['--dataset-dir=/nowhere'], '/nowhere'),
    (
      ['--dataset-dir=/nowhere', f'--out={__file__}/a.png'],
      f'--out: {__file__} cannot be a folder',
    ),
  ],
)
def test_refusals(tmp_path, monkeypatch, capsys, data_dir, flags, words):
  with pytest.raises(SystemExit) as exit_:
    run(monkeypatch, f'--dataset-dir={data_dir}', f'--out={tmp_path / "a.png"}', *flags)
  assert exit_.value.code == 2
  assert words in capsys.readouterr().err
