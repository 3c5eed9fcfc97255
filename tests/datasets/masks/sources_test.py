"""Clips with masks of several sources, or of some frames only: the records and the report."""

import dataclasses

import cv2
import numpy as np
import pytest

from tests.datasets.video_test import write_video
from zsar_jax.data.dataset import open_dataset
from zsar_jax.data.records import decode_plane, encode_plane
from zsar_jax.data.subset import select
from zsar_jax.datasets import build_report, mask_gates
from zsar_jax.datasets.build import build
from zsar_jax.datasets.masks import made_files
from zsar_jax.datasets.masks.spec import open_masks
from zsar_jax.datasets.sources.folder import list_folder
from zsar_jax.datasets.staging import Chunk, stage_chunk
from zsar_jax.datasets.video import Storage
from zsar_jax.datasets.video_builder import VideoBuilder, encode_task
from zsar_jax.datasets.video_reading import read_video
from zsar_jax.errors import UserError
from zsar_jax.recipes import language
from zsar_jax.recipes.regions import OBJECT, PERSON, PERSON_BOX

SIZE = (48, 64)
FRAMES = 20


@pytest.fixture(name='clips')
def _clips(tmp_path):
  """Clips a to d: A shows people in a and b, B objects in b and c."""
  mask = np.zeros(SIZE, np.uint8)
  mask[8:24, 4:20] = 255
  for name in 'abcd':
    write_video(tmp_path / 'videos' / 'x' / f'{name}.mp4', [9 * n for n in range(FRAMES)])
  for source, names, shown in (('A', 'ab', mask), ('B', 'bc', mask[::-1])):
    for name in names:
      folder = tmp_path / source / 'x' / name
      folder.mkdir(parents=True)
      for number in range(FRAMES):
        cv2.imwrite(str(folder / f'{number:05d}.png'), shown)
  return tmp_path


def _builder(root, *masks, keep='all', **options):
  listing = list_folder(str(root / 'videos'))
  sources = [open_masks(text) for text in masks]
  return VideoBuilder(root / 'out', 'mine', listing, Storage(keep=keep), sources, **options)


def test_sources_that_know_different_clips(clips):
  people, objects = f'grey:{clips}/A', f'palette:{clips}/B,values=*:object'
  builder = _builder(clips, people, objects, boxes_from_shapes=True)
  tasks = builder.tasks()['train']
  staged = stage_chunk(Chunk(tuple(tasks), encode_task, ('x',)), str(clips / 'staged'))
  assert [entry.num_annotated for entry in staged.entries] == [FRAMES, FRAMES, FRAMES, 0]
  share = 16 * 16 / (SIZE[0] * SIZE[1])
  nan = np.nan
  coverage = [entry.coverage for entry in staged.entries]
  expected = [[share, nan] * 2, [share] * 4, [nan, share] * 2, [nan] * 4]
  np.testing.assert_allclose(coverage, expected)
  # A region that is unknown counts as neither shown nor empty.
  assert [entry.empty for entry in staged.entries] == [(0, 0, 0, 0)] * 4
  report = build_report.make_report({'train': [staged]}, builder.region_names, {})['train']
  for region in ('person', 'object', 'person_box', 'object_box'):
    assert report['regions'][region]['annotated'] == 0.5
    assert report['regions'][region]['never'] == 0
  assert report['remarks'] == {
    f'masks of grey:{clips}/A alone': {'x/a': 'object, object_box unknown'},
    f'masks of palette:{clips}/B alone': {'x/c': 'person, person_box unknown'},
    'no masks': {'x/d': 'not annotated'},
  }
  assert f'masks of grey:{clips}/A alone: 1 clip' in build_report.describe(
    'mine', {'train': report}
  )


def test_recipes_need_clips_that_know_all_their_regions(clips):
  build(_builder(clips, f'grey:{clips}/A', f'grey:{clips}/B,region=object'), workers=0)
  opened = open_dataset(clips / 'out', 'mine', 'train')
  assert [len(select(opened, 'all', how, '')) for how in ('nearest', 'drop')] == [4, 1]
  everything = select(opened, 'all', 'nearest', '')
  for text in ('background=normal', 'person=black,object=black'):
    everything.check_recipe(language.parse(text), 'field')
  apart = dataclasses.replace(everything, positions=np.array([0, 2, 3]), labels=np.zeros(3, int))
  apart.check_recipe(language.parse('object=black'), 'field')
  for text in ('background=normal', 'person=black,object=black'):
    with pytest.raises(UserError, match='3 clips of mine is annotated with all that the recipe'):
      apart.check_recipe(language.parse(text), 'field')


def test_sources_of_one_region_complete_each_other(clips):
  builder = _builder(clips, f'grey:{clips}/A', f'palette:{clips}/B')
  encoded = [encode_task(task) for task in builder.tasks()['train']]
  assert [sum(clip.record['annotated']) for clip in encoded] == [FRAMES, FRAMES, FRAMES, 0]
  drawn = [decode_plane(clip.record['regions'][3], *SIZE) for clip in encoded[:3]]
  single, double = 16 * 16, 2 * 16 * 16
  assert [np.count_nonzero(plane == PERSON) for plane in drawn] == [single, double, single]
  assert encoded[0].remarks == {f'masks of grey:{clips}/A alone': 'all regions known'}


def test_an_empty_folder_is_not_an_annotation(clips):
  (clips / 'B' / 'x' / 'a').mkdir()
  (clips / 'B' / 'x' / 'a' / '.DS_Store').touch()
  builder = _builder(clips, f'grey:{clips}/A', f'palette:{clips}/B,values=*:object')
  clip = encode_task(builder.tasks()['train'][0])
  assert sum(clip.record['annotated']) == FRAMES
  assert clip.remarks == {f'masks of grey:{clips}/A alone': 'object unknown'}


def test_boxes_of_some_clips_and_shapes_of_others(clips):
  builder = _builder(clips, f'grey:{clips}/A', f'grey:{clips}/B,region=person_box')
  plane = decode_plane(encode_task(builder.tasks()['train'][2]).record['regions'][0], *SIZE)
  assert set(np.unique(plane)) == {PERSON << 4, PERSON << 4 | PERSON_BOX}
  assert not (plane & OBJECT << 4).any()


@pytest.mark.parametrize(
  ('keep', 'remaining', 'kept'),
  [
    ('segments:4', [0], [0, 7, 12, 17]),
    ('segments:4', [19], [2, 7, 12, 19]),
    ('segments:4', range(0, 20, 4), [0, 8, 12, 16]),
    ('every:7', [0, 10, 19], [0, 10, 19]),
  ],
)
def test_sparse_masks_are_kept(clips, keep, remaining, kept):
  for number in set(range(FRAMES)) - set(remaining):
    (clips / 'A' / 'x' / 'a' / f'{number:05d}.png').unlink()
  builder = _builder(clips, f'grey:{clips}/A', keep=keep)
  record = encode_task(builder.tasks()['train'][0]).record
  assert record['annotated'] == [frame in remaining for frame in kept]
  assert any(record['annotated'])
  levels = [cv2.imdecode(np.frombuffer(jpeg, np.uint8), 0)[24, 48] for jpeg in record['frames']]
  np.testing.assert_allclose(levels, [9 * frame for frame in kept], atol=6)


def _write_made(root, name, regions, frames):
  """Writes masks of x/a as zsar make-masks does; returns the value for --masks."""
  settings = {'regions': regions, 'maker': 'stub', 'licenses': {}}
  (root / name).mkdir()
  made_files.write_settings(root / name, settings)
  video = read_video(str(root / 'videos' / 'x' / 'a.mp4'), Storage(), 30, None).facts
  clip = made_files.MadeClip(
    num_frames=FRAMES,
    numbers=video.kept,
    height=SIZE[0],
    width=SIZE[1],
    thumbnails=video.thumbnails,
    frames=tuple(frames),
  )
  path = made_files.clip_path(root / name, 'x/a')
  made_files.write_clip(path, clip, made_files.settings_checksum(settings))
  return f'made:{root / name}', clip


def test_masks_made_here_have_the_same_measures_when_made_and_when_built(clips, monkeypatch):
  rng = np.random.default_rng(0)
  frames = {}
  for bit in (PERSON, OBJECT):
    frames[bit] = [
      made_files.MadeFrame(
        encode_plane(rng.choice([0, bit], SIZE).astype(np.uint8)), people, *rng.random(2)
      )
      for people in rng.integers(0, 60, FRAMES).tolist()
    ]
  frames[OBJECT][3] = made_files.MadeFrame(b'')  # Not annotated.
  people, person_clip = _write_made(clips, 'people', ['person'], frames[PERSON])
  objects, _ = _write_made(clips, 'objects', ['object'], frames[OBJECT])
  measured = []
  monkeypatch.setattr(
    mask_gates, 'failed_gates', lambda measures: measured.append(measures) or {'many people': 2.5}
  )

  def build_with(*masks):
    builder = _builder(clips, *masks)
    chunk = Chunk(tuple(builder.tasks()['train'][:1]), encode_task, ('x',))
    return builder, stage_chunk(chunk, str(clips / 'staged' / str(len(masks))))

  builder, staged = build_with(people)
  meter = mask_gates.MaskMeter(['person'])  # As making the masks measures them.
  for index, frame in enumerate(person_clip.frames):
    meter.add(made_files.decode_plane(person_clip, index), frame)
  assert measured == [meter.measures()]
  assert {'person area', 'removed', 'median score', 'people change'} <= set(measured[0])
  report = build_report.make_report(
    {'train': [staged]}, builder.region_names, {}, builder.mask_sources
  )['train']
  assert report['gates'] == {'many people': {'x/a': 2.5}}
  assert report['masks'][0]['made']['maker'] == 'stub'

  # With both sources, a frame has the lower score and the more people; frame 3 does not count.
  build_with(people, objects)
  pairs = [pair for n, pair in enumerate(zip(*frames.values(), strict=True)) if n != 3]
  assert measured[1]['people'] == max(max(a.people, b.people) for a, b in pairs)
  lowest = [min(a.score, b.score) for a, b in pairs]
  np.testing.assert_allclose(measured[1]['median score'], np.median(lowest), atol=1e-4)
  outside = [max(a.outside, b.outside) for a, b in pairs]
  np.testing.assert_allclose(measured[1]['removed'], np.mean(outside), atol=1e-4)
