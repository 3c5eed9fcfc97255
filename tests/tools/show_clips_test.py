"""Tests of tools.show_clips, drawing and fonts: the contents of pictures, and errors."""

import dataclasses
import json
import shutil

import cv2
import matplotlib
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from tests.inpainted_clips import build, write_clips
from tests.toy import CLASSES, build_toy
from tools import inspect_dataset, score_charts, show_clips
from zsar_jax.data.dataset import open_dataset
from zsar_jax.data.subset import select
from zsar_jax.data.view import View
from zsar_jax.evaluation import contact_sheets
from zsar_jax.recipes import language
from zsar_jax.recipes.regions import REGION_BITS
from zsar_jax.runtime import fonts
from zsar_jax.storage import checksums

VIEW = View(num_frames=4, size=64, centre_crop=1.0)
NOTHING = contact_sheets.Column('none', language.parse('none'))


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return build_toy(tmp_path_factory.mktemp('toy'))


def _read(path):
  """Returns i64[H, W, 3], RGB."""
  return cv2.imread(str(path))[..., ::-1].astype(int)


def run(monkeypatch, *flags):
  monkeypatch.setattr('sys.argv', ['show_clips', *flags])
  show_clips.main()


def test_rows_are_spread_over_the_classes(data_dir):
  clips = select(open_dataset(data_dir, 'toy', 'validation'), 'all', 'nearest', '')
  rows = contact_sheets.choose_clips([clips], 5)
  assert {subset.classes[subset.labels[position]] for subset, position in rows} == set(CLASSES)


def test_a_sheet_shows_the_painted_colors(tmp_path, monkeypatch, data_dir):
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
  sheet = _read(out)
  for color in np.eye(3, dtype=int) * 255:
    columns = (np.abs(sheet - color).max(-1) < 8).nonzero()[1]
    assert len(columns) > 1000
    assert columns.min() > sheet.shape[1] / 2  # Only in the second column.


def test_sheets_show_inpainted_frames(tmp_path, monkeypatch, data_dir, capsys):
  """In these clips, people are red, and an inpainter has painted them and a rim yellow."""
  write_clips(tmp_path, count=16, unknown=None)
  build(tmp_path)
  flags = [f'--out={tmp_path / "sheet.png"}', '--clips=4', '--frames=2']
  recipes = '--recipes=none;person=inpaint;background=swap'
  run(monkeypatch, f'--dataset-dir={tmp_path / "data"}', recipes, *flags)
  columns = np.array_split(_read(tmp_path / 'sheet.png'), 3, axis=1)
  red, yellow = (
    [int((np.abs(column - color).max(-1) < 60).sum()) for column in columns]
    for color in ((255, 0, 0), (200, 200, 0))
  )
  assert red[1] < 0.05 * min(red[0], red[2])
  # Where backgrounds are swapped, the rim of the other clip is seen beside the person.
  assert 5 * yellow[0] < yellow[2] < 0.7 * yellow[1]
  monkeypatch.setattr(
    'sys.argv', ['inspect', str(tmp_path / 'data'), f'--out={tmp_path}', '--clips=2']
  )
  inspect_dataset.main()
  columns = np.array_split(_read(tmp_path / 'scenes.png'), 4, axis=1)
  yellow = [(np.abs(column - (200, 200, 0)).max(-1) < 60).sum() for column in columns]
  assert 5 * max(yellow[:3]) < yellow[3]
  with pytest.raises(SystemExit):
    run(monkeypatch, f'--dataset-dir={data_dir}', '--recipes=person=inpaint', *flags)
  assert 'toy has none; make them with zsar make-masks --inpaint' in capsys.readouterr().err


def test_names_are_not_parsed_as_formulas(tmp_path, data_dir):
  clips = select(open_dataset(data_dir, 'toy', 'validation'), 'all', 'nearest', '')
  clips = dataclasses.replace(clips, classes=('a$_$b',) * len(CLASSES))
  contact_sheets.draw_contact_sheet([(clips, 0)], [NOTHING], VIEW, tmp_path / 'a.png')
  assert (tmp_path / 'a.png').is_file()


@pytest.mark.parametrize(('position', 'marked'), [(0, True), (1, False)])
def test_frames_that_are_not_annotated_are_marked(tmp_path, data_dir, position, marked):
  """Every third clip of the toy data set has masks for every other frame only."""
  clips = select(open_dataset(data_dir, 'toy', 'train'), 'all', 'nearest', '')
  contact_sheets.draw_contact_sheet([(clips, position)], [NOTHING], VIEW, tmp_path / 'a.png')
  sheet = _read(tmp_path / 'a.png')
  orange = sheet[..., 0] - sheet[..., 2] > 60  # All else is grey.
  columns = np.flatnonzero(orange[: orange.shape[0] // 2].any(0)) / sheet.shape[1]
  # The first and the last of frames 0, 1, 3 and 4.
  assert bool(len(columns)) == marked
  assert not ((columns > 0.3) & (columns < 0.7)).any()
  # The middle one, which is annotated, takes the place of all.
  frozen = contact_sheets.Column('freeze', language.parse('freeze'))
  contact_sheets.draw_contact_sheet([(clips, position)], [frozen], VIEW, tmp_path / 'b.png')
  sheet = _read(tmp_path / 'b.png')
  assert not (sheet[..., 0] - sheet[..., 2] > 60)[: sheet.shape[0] // 2].any()


def test_regions_are_outlined_and_not_painted():
  video = np.full((1, 8, 10, 3), 100, np.uint8)
  plane = np.zeros((1, 8, 10), np.uint8)
  plane[0, 2:6, 3:8] = REGION_BITS['person']
  contact_sheets.outline_regions(video, plane)
  edge = plane[0] > 0
  edge[3:5, 4:7] = False
  assert (video[0][edge] == [0xE4, 0x1A, 0x1C]).all()
  assert (video[0][~edge] == 100).all()


def test_outlines_of_a_sheet(tmp_path, monkeypatch, data_dir):
  out = tmp_path / 'a.png'
  run(monkeypatch, f'--dataset-dir={data_dir}', f'--out={out}', '--outline', '--clips=1')
  sheet = _read(out)
  assert (np.abs(sheet - [0xE4, 0x1A, 0x1C]).max(-1) < 40).sum() > 100  # The person's edge.
  # Grey inside, like the clips.
  assert (np.ptp(sheet, axis=-1) < 8).mean() > 0.8


def test_an_existing_split_is_shown_by_default(tmp_path, monkeypatch, data_dir):
  folder = shutil.copytree(data_dir, tmp_path / 'copy')
  # As if only `validation` had been built.
  for path in folder.rglob('dataset_info.json'):
    info = json.loads(path.read_text())
    info['splits'] = [split for split in info['splits'] if split['name'] != 'train']
    path.write_text(json.dumps(info))
    checksums.write(path.parent)
  out = tmp_path / 'a.png'
  run(monkeypatch, f'--dataset-dir={folder}', f'--out={out}', '--clips=1', '--recipes=none')
  assert out.is_file()


@pytest.fixture(name='font')
def _font(tmp_path, monkeypatch):
  """A font with a single letter, which no other font here has."""
  builder = FontBuilder(1000)
  builder.setupGlyphOrder(['.notdef', 'letter'])
  builder.setupCharacterMap({0xE123: 'letter'})
  pen = TTGlyphPen(None)
  pen.moveTo((0, 0))
  for point in ((0, 700), (700, 700), (700, 0)):
    pen.lineTo(point)
  pen.closePath()
  builder.setupGlyf({name: pen.glyph() for name in ('.notdef', 'letter')})
  builder.setupHorizontalMetrics({'.notdef': (800, 0), 'letter': (800, 0)})
  builder.setupHorizontalHeader(ascent=800, descent=-200)
  builder.setupNameTable({'familyName': 'One Letter', 'styleName': 'Regular'})
  builder.setupOS2()
  builder.setupPost()
  builder.save(tmp_path / 'one.ttf')
  default_fonts = [font for font in font_manager.fontManager.ttflist if 'DejaVu' in font.name]
  monkeypatch.setattr(font_manager.fontManager, 'ttflist', default_fonts)
  return str(tmp_path / 'one.ttf')


def test_a_font_that_has_the_letters_is_chosen(monkeypatch, capsys, font):
  monkeypatch.setattr(font_manager, 'findSystemFonts', lambda: [font])
  assert fonts.choose_fonts(set('abc é')) == (['DejaVu Sans'], set())
  assert fonts.choose_fonts(set('a\ue123')) == (['DejaVu Sans', 'One Letter'], set())
  assert fonts.choose_fonts(set('a\ue123\ue124'))[1] == {'\ue124'}
  with fonts.fonts_for(['a', '\ue123'], 'a.png'):
    assert matplotlib.rcParams['font.family'] == ['DejaVu Sans', 'One Letter']
  assert not capsys.readouterr().err


@pytest.mark.filterwarnings('error')
def test_letters_without_a_font_give_a_single_sentence(tmp_path, monkeypatch, capsys, font):
  monkeypatch.setattr(font_manager, 'findSystemFonts', list)
  frames = np.zeros((1, 8, 8, 3), np.uint8)
  score_charts.draw_scores(frames, [('\ue123 \ue124', 0.9), ('b\x1b', 0.1)], tmp_path / 'a.png')
  sentence = capsys.readouterr().err
  assert sentence.count('\n') == 1
  assert 'a.png: no font on this system has \ue123 \ue124, so boxes' in sentence


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
