"""Inpainted frames of made masks in the records, and masks whose inpainted frames are refused."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

from tests.inpainted_clips import (
  HEIGHT,
  NO_MASKS,
  NOBODY,
  NUM_FRAMES,
  UNKNOWN,
  WIDTH,
  build,
  write_clips,
  write_masks,
)
from zsar_jax.data import frame_table, records
from zsar_jax.data.dataset import open_dataset
from zsar_jax.datasets.masks import made_files
from zsar_jax.datasets.masks.made import MadeSource
from zsar_jax.recipes.regions import PERSON


def _table(dataset):
  (path,) = dataset.directory.glob('*.frames.npy')
  return np.load(path)


def _report(root):
  return json.loads((root / 'data/scenes/1.0.0/build_report.json').read_text())['train']


def test_the_bytes_of_inpainted_frames_are_stored(tmp_path):
  clips = write_clips(tmp_path)
  build(tmp_path)
  dataset = open_dataset(tmp_path / 'data', 'scenes', 'train')
  assert dataset.has_inpainted
  assert set(dataset.index.ids) == {*clips, NO_MASKS}
  for position, record in enumerate(dataset):
    frames = dataset.frames(position)
    stored = [frames.inpainted(t) for t in range(NUM_FRAMES)]
    if record['id'] == NO_MASKS:
      assert list(record['inpainted']) == []
      assert stored == [b''] * NUM_FRAMES
    else:
      assert list(record['inpainted']) == stored == clips[record['id']].inpainted
      assert [t for t, jpeg in enumerate(stored) if not jpeg] == [NOBODY, UNKNOWN]
    assert [frames.frame(t) for t in range(NUM_FRAMES)] == list(record['frames'])
    planes = [frames.plane(t) if frames.annotated[t] else b'' for t in range(NUM_FRAMES)]
    assert planes == list(record['regions'])
  assert _table(dataset).dtype == frame_table.INPAINTED_ROW_DTYPE


def test_records_without_inpainted_frames_have_the_format_of_before(tmp_path):
  write_clips(tmp_path, inpaint=False)
  build(tmp_path)
  dataset = open_dataset(tmp_path / 'data', 'scenes', 'train')
  assert not dataset.has_inpainted
  assert 'inpainted' not in dataset[0]
  assert dataset.frames(0).inpainted(0) == b''
  assert _table(dataset).dtype == frame_table.ROW_DTYPE
  features = json.loads((dataset.directory / 'features.json').read_text())
  assert 'inpainted' not in json.dumps(features)


def _halved(image):
  return image.reshape(HEIGHT, 2, WIDTH, 2, 3).mean((1, 3))


def _doubled(image):
  """Interpolates bilinearly at the centers of pixels of half the size."""
  for axis in (0, 1):
    padded = np.pad(image, [(1, 1) if n == axis else (0, 0) for n in range(3)], mode='edge')
    before, after = np.delete(padded, [-2, -1], axis), np.delete(padded, [0, 1], axis)
    pairs = np.stack([0.75 * image + 0.25 * before, 0.75 * image + 0.25 * after], axis + 1)
    shape = [side * (1 + (n == axis)) for n, side in enumerate(image.shape)]
    image = pairs.reshape(shape)
  return image


@pytest.mark.parametrize('reduced', [True, False])
def test_inpainted_frames_are_scaled_to_the_stored_frames(tmp_path, reduced):
  clips = write_clips(tmp_path, count=1, scale=2 if reduced else 0.5)
  build(tmp_path, '--jpeg-quality=97')
  dataset = open_dataset(tmp_path / 'data', 'scenes', 'train')
  (name,) = clips
  jpeg = dataset.frames(dataset.index.ids.index(name)).inpainted(0)
  made = made_files.read_clip(made_files.clip_path(tmp_path / 'masks', name)).frames[0].inpainted
  made = records.decode_frame(made).astype(float)
  scaled = np.rint(_halved(made) if reduced else _doubled(made)).astype(np.uint8)
  expected = records.decode_frame(next(records.encode_frames([scaled], 97)))
  difference = np.abs(records.decode_frame(jpeg).astype(int) - expected)
  assert difference.mean() < 1
  remarks = _report(tmp_path)['remarks'].get('inpainted frames enlarged')
  assert remarks == (None if reduced else {name: f'from {WIDTH // 2} x {HEIGHT // 2}'})


@pytest.mark.parametrize('damage', ['none', 'cut', 'size'])
def test_a_clip_whose_people_would_be_visible_is_left_out(tmp_path, damage):
  clips = write_clips(tmp_path, count=2)
  name, clip = next(iter(clips.items()))
  small = next(records.encode_frames([cv2.resize(clip.frames[0], (WIDTH // 2, HEIGHT // 2))]))
  wrong = {'none': b'', 'cut': clip.inpainted[1][:-9], 'size': small}[damage]
  changed = dataclasses.replace(clip, inpainted=[clip.inpainted[0], wrong, *clip.inpainted[2:]])
  settings = made_files.read_settings(tmp_path / 'masks')
  write_masks(tmp_path / 'masks', name, changed, made_files.settings_checksum(settings))
  build(tmp_path)
  unreadable = _report(tmp_path)['unreadable']
  assert list(unreadable) == [name]
  assert 'damaged; delete it and make it again' in unreadable[name]


def test_two_sources_of_people_are_refused(tmp_path, capsys):
  write_clips(tmp_path, count=1)
  for clip in ('jumping/00', NO_MASKS):
    (tmp_path / 'grey' / clip).mkdir(parents=True)
    for t in range(NUM_FRAMES):
      mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
      cv2.imwrite(str(tmp_path / 'grey' / clip / f'{t:04d}.png'), mask)
  made, grey = f'made:{tmp_path / "masks"}', f'grey:{tmp_path / "grey"}'
  for masks in ((made, grey), (grey, made), (made, made)):
    with pytest.raises(SystemExit):
      build(tmp_path, '--masks', *masks)
    assert 'may still show people' in capsys.readouterr().err
  # Objects are no people. Whoever has objects alone, has unknown people and no inpainted frames.
  build(tmp_path, '--masks', made, f'{grey},region=object')
  dataset = open_dataset(tmp_path / 'data', 'scenes', 'train')
  assert [len(record['inpainted']) for record in dataset] == [NUM_FRAMES, 0]
  assert list(np.isnan(dataset.index.coverage[:, 0])) == [False, True]
  assert list(_report(tmp_path)['remarks'][f'masks of {grey} alone']) == [NO_MASKS]


def test_masks_without_people_have_no_inpainted_frames(tmp_path):
  settings = {'regions': ['object'], made_files.INPAINTING: {'method': 'telea'}}
  made_files.write_settings(tmp_path, settings)
  assert not MadeSource(str(tmp_path)).has_inpainted
  assert PERSON == 1
