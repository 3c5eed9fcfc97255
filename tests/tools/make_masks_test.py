"""Tests of tools.make_masks: from videos to masks, to a data set, and its flags."""

import json
import pathlib
import shlex
import subprocess
import sys

import numpy as np
import pytest

from tests.datasets.video_test import write_video
from tools import build_dataset, compare_masks, make_masks
from zsar_jax.data import dataset, records
from zsar_jax.datasets.masks import made_files
from zsar_jax.recipes.regions import PERSON

ROOT = pathlib.Path(__file__).parents[2]

# Marks the bright half of each frame, without the project.
_PROGRAM = """
import pathlib, sys
from PIL import Image
frames, masks = map(pathlib.Path, sys.argv[1:3])
for path in frames.iterdir():
  image = Image.open(path).convert('L').point(lambda level: 255 * (level > 30))
  image.save(masks / path.name)
"""


@pytest.fixture(name='videos')
def _videos(tmp_path):
  for number, name in enumerate(('run/a', 'run/b', 'walk/c')):
    write_video(tmp_path / 'videos' / f'{name}.mp4', [90 + 40 * number, 200, 150, 220, 120, 250])
  return tmp_path / 'videos'


@pytest.fixture(name='command')
def _command(tmp_path):
  (tmp_path / 'program.py').write_text(_PROGRAM)
  return shlex.join([sys.executable, str(tmp_path / 'program.py'), '{frames}', '{masks}'])


def test_masks_become_a_data_set(videos, command, tmp_path, capsys):
  out = tmp_path / 'masks'
  flags = [f'--videos={videos}', f'--out={out}', '--keep=segments:3', '--workers=0']
  make_masks.main([*flags, f'--command={command}', '--dilate=0'])
  assert '3 of 3 clips, 9 frames; 0 failed' in capsys.readouterr().out
  settings = made_files.read_settings(out)
  assert (settings['maker'], settings['regions']) == ('command', ['person'])
  assert json.loads((out / 'report.json').read_text())['made'] == 3

  build_dataset.main(
    ['--dataset=folder', f'--videos={videos}', f'--masks=made:{out}', '--keep=segments:3']
    + [f'--out={tmp_path / "data"}', '--workers=0']
  )
  clips = dataset.open_dataset(tmp_path / 'data', 'folder', 'train')
  assert clips.index.num_annotated.tolist() == clips.index.num_frames.tolist() == [3, 3, 3]
  record = clips[0]
  for code in record['regions']:
    plane = records.decode_plane(code, 48, 64)
    expected = np.zeros((48, 64), np.uint8)
    expected[:, 32:] = PERSON
    assert (plane != expected).mean() < 0.05  # The edge is blurred by the video's codec.


def test_made_masks_know_their_videos(videos, command, tmp_path, capsys):
  for side in 'ab':
    make_masks.main(
      [f'--videos={videos}', f'--out={tmp_path / side}', f'--command={command}', '--workers=0']
    )
  sides = [str(tmp_path / side) for side in 'ab']
  compare_masks.main([*sides, f'--out={tmp_path}', '--workers=0'])
  report = json.loads((tmp_path / 'comparison.json').read_text())
  assert report['regions']['person']['iou'] == 1
  videos.rename(tmp_path / 'elsewhere')
  capsys.readouterr()
  with pytest.raises(SystemExit):
    compare_masks.main([*sides, f'--out={tmp_path}'])
  assert '--videos: give the folder' in capsys.readouterr().err


def test_more_frames_than_masks(videos, command, tmp_path):
  """Frames without masks are not annotated; those with masks are kept."""
  out = tmp_path / 'masks'
  flags = [f'--videos={videos}', f'--out={out}', '--keep=segments:2', '--workers=0']
  make_masks.main([*flags, f'--command={command}'])
  for keep, frames in (('all', 6), ('segments:3', 3)):
    data = tmp_path / keep.replace(':', '-')
    build_dataset.main(
      ['--dataset=folder', f'--videos={videos}', f'--masks=made:{out}', f'--keep={keep}']
      + [f'--out={data}', '--workers=0']
    )
    index = dataset.open_dataset(data, 'folder', 'train').index
    assert index.num_frames.tolist() == [frames] * 3
    assert index.num_annotated.tolist() == [2] * 3


def test_other_videos_of_the_same_names_are_refused(videos, command, tmp_path, capsys):
  out = tmp_path / 'masks'
  make_masks.main([f'--videos={videos}', f'--out={out}', f'--command={command}', '--workers=0'])
  write_video(videos / 'run/a.mp4', [90, 200, 150, 220, 120])
  write_video(videos / 'run/b.mp4', [20, 20, 20, 20, 20, 20])
  build_dataset.main(
    ['--dataset=folder', f'--videos={videos}', f'--masks=made:{out}', '--workers=0']
    + [f'--out={tmp_path / "data"}']
  )
  printed = capsys.readouterr().out
  assert 'run/a.masks has masks of a video with 6 frames, and this one has 5' in printed
  assert 'run/b.masks has masks of frames that look different' in printed


# (flags, the error)
WRONG_FLAGS = [
  ([], 'say how to make masks: give one of --track, --text, --boxes, --person'),
  (['--motion', '--threshold=0.5'], '--threshold is not a flag of --motion'),
  (['--person=x', '--object=y'], '--object is not a flag of --person'),
  (['--boxes=x'], '--boxes needs --object'),
  (['--text=x'], '--text needs --words'),
  (['--track=x'], '--track needs --person or --boxes'),
  (['--text=x', '--words=placeholders'], 'belong together'),
  (['--motion', '--shard=4/4'], "--shard: '4/4' must be I/N with I from 0 to N - 1"),
  (['--motion', '--shard=1'], "--shard: '1' must be I/N"),
  (['--motion', '--keep=some'], "--keep: 'some' is none of all, every:N, segments:N"),
  (['--motion', '--workers=-1'], '--workers must be 0 or more'),
  (['--motion', '--dilate=2'], '--dilate'),
  (['--motion', '--inpaint=fill'], '--inpaint'),
  (['--motion', '--beam_options=a=b'], '--beam_options needs --beam_runner'),
  (['--person=x', '--threshold=2'], '--threshold must be from 0 to 1'),
  (['--command=program'], '--command'),
  (['--track=x', '--boxes', 'boxes.json', '--threshold=.5'], '--threshold belongs to the network'),
  (['--boxes=/nowhere.json', '--object=x'], '/nowhere.json cannot be read'),
]


@pytest.mark.parametrize(('flags', 'message'), WRONG_FLAGS)
def test_wrong_flags_have_a_sentence(flags, message, videos, tmp_path, capsys):
  with pytest.raises(SystemExit) as error:
    make_masks.main([f'--videos={videos}', f'--out={tmp_path / "out"}', *flags])
  assert error.value.code == 2
  printed = capsys.readouterr().err
  assert message in printed
  assert printed.startswith('error: ')
  assert printed.count('\n') == 1


def test_a_clip_gets_the_nouns_of_its_label(tmp_path, monkeypatch):
  for name in ('7', '8', '9'):
    write_video(tmp_path / 'videos' / f'{name}.webm', [90, 200], codec='libvpx')
  entries = [
    {'id': name, 'template': 'Pushing [something]', 'placeholders': [f'a {noun}']}
    for name, noun in (('8', 'comb'), ('7', 'box'))
  ]
  (tmp_path / 'train.json').write_text(json.dumps(entries))
  (tmp_path / 'validation.json').write_text('[]')
  phrases = {}
  monkeypatch.setattr(
    make_masks.MaskRun,
    'make',
    lambda run, works: phrases.update({work.name: work.phrases for work in works}),
  )
  make_masks.main(
    [f'--videos={tmp_path / "videos"}', f'--out={tmp_path / "out"}', '--text=x', '--object=y']
    + ['--words=placeholders', f'--annotations={tmp_path}']
  )
  hand = {'hand': 'person'}
  assert phrases == {'7': hand | {'box': 'object'}, '8': hand | {'comb': 'object'}, '9': hand}


def test_no_videos(tmp_path, capsys):
  (tmp_path / 'empty').mkdir()
  for folder, message in (('empty', 'holds no video'), ('nowhere', 'is not a folder')):
    with pytest.raises(SystemExit):
      make_masks.main([f'--videos={tmp_path / folder}', f'--out={tmp_path / "out"}', '--motion'])
    assert message in capsys.readouterr().err


def test_help_needs_no_network_library():
  """The extra `masks` may be missing, and its packages take seconds to import."""
  script = (
    'import sys, tools.make_masks;'
    'print([name for name in ("torch", "torchvision", "transformers") if name in sys.modules])'
  )
  done = subprocess.run(
    [sys.executable, '-c', script], cwd=ROOT, capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == '[]'


def test_other_boxes_are_another_maker(videos, tmp_path, capsys):
  """A file of boxes is known by its content, not only by its name."""
  source, name = open_boxes_of(videos, tmp_path, 10), 'boxes_checksum'
  first = make_masks._list_works(str(videos), source)[2]
  capsys.readouterr()
  again = make_masks._list_works(str(videos), source)[2]
  assert '2 of 3 videos have no boxes and are left out' in capsys.readouterr().err
  assert again == first
  other = make_masks._list_works(str(videos), open_boxes_of(videos, tmp_path, 11))[2]
  assert other['boxes'] == first['boxes']
  assert other[name] != first[name]


def open_boxes_of(videos, tmp_path, edge):
  """Writes a box of the video 'a' and returns the flags that name it."""
  corners = {'x1': 0, 'y1': 0, 'x2': edge, 'y2': 100}
  label = {'standard_category': 'hand', 'box2d': corners}
  content = {'a': [{'name': 'a/0001.jpg', 'labels': [label]}]}
  (tmp_path / 'boxes.json').write_text(json.dumps(content))
  return {'boxes': [str(tmp_path / 'boxes.json')]}
