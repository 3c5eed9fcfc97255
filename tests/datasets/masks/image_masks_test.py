"""Tests of grey_images and label_images, and of how frames are counted and sizes fitted."""

import pathlib
import pickle
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.datasets.masks.mask_helpers import HEIGHT, WIDTH, blob, clip, planes, refusal, video
from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.frame_matching import ANOTHER_RATE
from zsar_jax.datasets.masks.grey_images import open_grey
from zsar_jax.datasets.masks.label_images import open_egohos, open_palette
from zsar_jax.errors import UserError
from zsar_jax.recipes.regions import OBJECT, OBJECT_BOX, PERSON

_SAMPLES = pathlib.Path(__file__).parents[4] / 'shared' / 'data' / 'person_masks'


@pytest.fixture(name='folder')
def _folder(tmp_path):
  folder = tmp_path / 'arm_wrestling' / 'clip_7'
  folder.mkdir(parents=True)
  return folder


def _save(path: pathlib.Path, values: np.ndarray, mode: str | None = None) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  if mode == 'P':
    image = Image.fromarray(values.astype(np.uint8))
    image.putpalette([(37 * n) % 256 for n in range(768)])
  else:
    image = Image.fromarray(values)
  image.save(path)


def _grey(mask: np.ndarray) -> np.ndarray:
  return np.where(mask, 255, 0).astype(np.uint8)


def _grey_clip(folder: pathlib.Path, numbers, name: str = '{:06d}.png') -> dict[int, np.ndarray]:
  masks = {number: blob(number) for number in numbers}
  for number, mask in masks.items():
    _save(folder / name.format(number), _grey(mask))
  return masks


def _assert_planes(drawn, expected, bit: int = PERSON) -> None:
  assert len(drawn) == len(expected)
  for plane, mask in zip(drawn, expected, strict=True):
    if mask is None:
      assert plane is None
    else:
      np.testing.assert_array_equal(plane, np.where(mask, bit, 0))


@pytest.mark.parametrize('first', [0, 1])
def test_the_first_number_of_grey_masks_is_inferred(tmp_path, folder, first):
  masks = _grey_clip(folder, range(first, first + 3))
  source = open_grey(str(tmp_path))
  assert source.region_names == ('person',)
  assert source.parameters['first'] == first
  drawn, remarks = planes(source)
  _assert_planes(drawn, list(masks.values()))
  assert remarks == {}


def test_only_kept_frames_are_decoded(tmp_path, folder):
  masks = _grey_clip(folder, range(5))
  (folder / '000003.png').write_bytes(b'not an image')
  source = open_grey(str(tmp_path), region='object_box')
  _assert_planes(planes(source, video(5, [0, 2, 4]))[0], [masks[0], masks[2], masks[4]], OBJECT_BOX)
  with pytest.raises(ClipError, match='000003.png cannot be decoded'):
    planes(source, video(5))


def test_empty_is_not_unannotated(tmp_path, folder):
  _save(folder / '0.png', np.zeros((HEIGHT, WIDTH), np.uint8))
  mask = _grey_clip(folder, [2])[2]
  drawn, remarks = planes(open_grey(str(tmp_path)), video(4))
  _assert_planes(drawn, [np.zeros((HEIGHT, WIDTH)), None, mask, None])
  assert remarks == {'frames without masks': '2 of 4'}
  drawn, remarks = planes(open_grey(str(tmp_path)), video(4, [0, 2]))
  assert remarks == {}


def test_masks_beyond_the_end_are_left_out(tmp_path, folder):
  masks = _grey_clip(folder, range(1, 6))
  drawn, remarks = planes(open_grey(str(tmp_path)))
  _assert_planes(drawn, [masks[1], masks[2], masks[3]])
  assert remarks == {'masks beyond the end': '2 of 5, up to 5'}
  # Another frame rate.
  _grey_clip(folder, [6])
  with pytest.raises(ClipError, match='1 to 6 and the video has 3 frames, so they cannot belong'):
    planes(open_grey(str(tmp_path)))


def test_counting_from_another_number_is_reported(tmp_path, folder):
  _grey_clip(folder, range(1, 4))
  other = tmp_path / 'b'
  _grey_clip(other, range(0, 3))
  # The other clip counts from 0, so this clip is off by one.
  source = open_grey(str(tmp_path))
  assert source.parameters['first'] == 0
  planes(source, of=clip('b'))
  with pytest.raises(ClipError, match='1 to 3 and the video has 3 frames.*add first=1'):
    planes(source)
  # With a mask lost at the end, nothing shows it.
  _, remarks = planes(source, video(4))
  about = 'masks are numbered 1 to 3 and the video has 4 frames'
  assert remarks == {'may count from 1': about, 'frames without masks': '1 of 4'}
  _grey_clip(folder, [6])
  with pytest.raises(ClipError, match='1 to 6 and the video has 5 frames, so they may count'):
    planes(source, video(5))
  # An explicit first number is trusted.
  _, remarks = planes(open_grey(str(tmp_path), first=0), video(5))
  assert remarks == {'masks beyond the end': '1 of 4, up to 6', 'frames without masks': '2 of 5'}
  with pytest.raises(ClipError, match='numbered 0, but frames are counted from 1; add first=0'):
    planes(open_grey(str(tmp_path), first=1), of=clip('b'))
  # An extra mask is no evidence if frame 0 has a mask.
  _grey_clip(other, [3])
  assert planes(source, of=clip('b'))[1] == {'masks beyond the end': '1 of 4, up to 3'}


def test_masks_that_begin_with_1_may_count_from_0(tmp_path, folder):
  _grey_clip(folder, range(1, 4))
  # Counted from 0, they are masks of frames 1 to 3.
  _, remarks = planes(open_grey(str(tmp_path)), video(4))
  about = 'masks are numbered 1 to 3 and the video has 4 frames'
  assert remarks == {'may count from 0': about, 'frames without masks': '1 of 4'}
  for first, frames in ((None, 3), (None, 2), (1, 4)):
    _, remarks = planes(open_grey(str(tmp_path), first=first), video(frames))
    assert 'may count from 0' not in remarks


def test_names_without_numbers_are_quoted_if_no_folder_has_others(tmp_path, folder):
  for name in ('17-0', '94-7', '33-9'):
    cv2.imwrite(str(folder / f'{name}.png'), np.zeros((4, 4), np.uint8))
  message = f'--masks: {folder}: more than one number differs in the names 17-0, 33-9, 94-7'
  with pytest.raises(UserError, match=message):
    open_grey(str(tmp_path))


def test_the_first_number_is_required_if_it_cannot_be_inferred(tmp_path, folder):
  masks = _grey_clip(folder, [4, 8])
  with pytest.raises(UserError, match='--masks: no mask numbered 0 or 1 .* first=0 or first=1'):
    open_grey(str(tmp_path))
  drawn, _ = planes(open_grey(str(tmp_path), first=0), video(9))
  _assert_planes(drawn, [None] * 4 + [masks[4]] + [None] * 3 + [masks[8]])
  # The folder of a clip instead of the folder of clips.
  _grey_clip(folder, [0])
  with pytest.raises(UserError, match='no mask numbered 0'):
    open_grey(str(folder))


def test_spread_masks_are_distributed_evenly(tmp_path, folder):
  masks = _grey_clip(folder, [3, 4, 5, 6], name='{:06d}.jpg')
  source = open_grey(str(tmp_path), spread=True)
  drawn, remarks = planes(source, video(8))
  expected = [None] * 8
  for frame, number in zip([0, 2, 5, 7], masks, strict=True):
    expected[frame] = number
  assert [plane is None for plane in drawn] == [number is None for number in expected]
  assert remarks == {'frames without masks': '4 of 8'}
  # More masks than frames: each frame has a mask.
  drawn, remarks = planes(source, video(2))
  assert all(plane is not None for plane in drawn)
  assert remarks == {}
  # With a mask lost, the frames of the others are unknown.
  (folder / '000005.jpg').unlink()
  with pytest.raises(ClipError, match='no mask is numbered 5, between 4 and 6'):
    planes(source, video(8))


def test_masks_that_end_early_are_reported(tmp_path, folder):
  _grey_clip(folder, range(1, 4))
  source = open_grey(str(tmp_path))
  assert ANOTHER_RATE not in planes(source, video(5))[1]
  _, remarks = planes(source, video(6))
  about = '3 masks, numbered 1 to 3, end at frame 3 of 6; stride=N or spread=yes if they are of fra'
  assert remarks[ANOTHER_RATE].startswith(about)
  for options in ({'spread': True}, {'stride': (2, None)}):
    assert ANOTHER_RATE not in planes(open_grey(str(tmp_path), **options), video(6))[1]
  _grey_clip(folder, [6])
  assert ANOTHER_RATE not in planes(source, video(10))[1]


@pytest.mark.parametrize(('stride', 'frames'), [((10, None), (0, 10, 20)), ((10, 9), (9, 19, 29))])
def test_masks_of_every_tenth_frame(tmp_path, folder, stride, frames):
  masks = _grey_clip(folder, [1, 2, 3])
  source = open_grey(str(tmp_path), stride=stride)
  assert source.parameters['stride'] == 10
  drawn, remarks = planes(source, video(30))
  expected = dict(zip(frames, masks.values(), strict=True))
  _assert_planes(drawn, [expected.get(n) for n in range(30)])
  assert remarks == {'frames without masks': '27 of 30'}


@pytest.mark.parametrize('opener', [open_grey, open_palette])
def test_hashes_and_suffixes_are_not_frame_numbers(tmp_path, folder, opener):
  masks = {10: blob(10), 5: blob(5), 90: blob(90)}
  hashes = ('b20b31ca125c1d544b14297f73c8f1e0', '74f3b9e94adc1828885335bcdf448ac6', 'cbc3ba00ee808')
  for (number, mask), digest in zip(masks.items(), hashes, strict=True):
    _save(folder / f'clip_7_mp4-{number:04d}_png.rf.{digest}.png', _grey(mask))
  _save(tmp_path / 'a' / '0.png', _grey(blob(0)))
  (folder / '._clip_7_mp4-0010_png.rf.b20b31ca.png').write_bytes(b'Mac OS X')
  drawn, _ = planes(opener(str(tmp_path)), video(91))
  _assert_planes(drawn, [masks.get(n) for n in range(91)])
  _save(folder / f'{hashes[0]}.png', _grey(mask))
  with pytest.raises(ClipError, match='no number counts up in the names .*name the files by'):
    planes(opener(str(tmp_path)), video(91))


@pytest.mark.parametrize('opener', [open_grey, open_palette])
def test_frames_of_a_folder_match_by_number(tmp_path, folder, opener):
  own = [n for n in range(1, 21) if n != 6]
  masks = _grey_clip(folder, own)
  drawn, remarks = planes(opener(str(tmp_path)), video(numbers=own))
  _assert_planes(drawn, list(masks.values()))
  assert remarks == {}


def test_noisy_jpeg_and_color_channels_are_grey(tmp_path, folder):
  mask = np.zeros((HEIGHT, WIDTH), bool)
  mask[8:16, 8:24] = True
  cv2.imwrite(str(folder / '0.jpg'), _grey(mask), [cv2.IMWRITE_JPEG_QUALITY, 60])
  cv2.imwrite(str(folder / '1.png'), np.repeat(_grey(mask)[..., None], 3, axis=2))
  cv2.imwrite(str(folder / '2.jpeg'), np.repeat(_grey(mask)[..., None], 3, axis=2))
  Image.fromarray(mask).save(folder / '3.png')
  assert Image.open(folder / '3.png').mode == '1'
  drawn, _ = planes(open_grey(str(tmp_path)), video(4))
  _assert_planes(drawn, [mask] * 4)


def test_the_threshold_is_that_of_hat(tmp_path, folder):
  values = np.full((HEIGHT, WIDTH), 128, np.uint8)
  values[:, :7] = 129
  _save(folder / '0.png', values)
  (plane,), _ = planes(open_grey(str(tmp_path)), video(1))
  np.testing.assert_array_equal(plane, np.where(np.arange(WIDTH) < 7, PERSON, 0) + 0 * plane)


def test_zeros_and_ones_are_not_taken_for_grey(tmp_path, folder):
  masks = _grey_clip(folder, [0])
  _save(folder / '1.png', blob(1).astype(np.uint8))
  _save(folder / '2.png', np.zeros((HEIGHT, WIDTH), np.uint8))
  source = open_grey(str(tmp_path))
  # HAT's probabilities are that faint in frames without people.
  _assert_planes(planes(source)[0], [masks[0], np.zeros((HEIGHT, WIDTH)), masks[0] * 0])
  _save(folder / '000000.png', blob(0).astype(np.uint8) * 3)
  with pytest.raises(ClipError, match='no mask has a value above 3.*palette:PATH'):
    planes(source)
  # The remark and the error come with the last mask, although unannotated frames follow.
  with pytest.raises(ClipError, match='no mask has a value above 3'):
    planes(source, video(5))
  _save(folder / '000000.png', blob(0).astype(np.uint8) * 90)
  drawn, remarks = planes(source)
  assert not np.any(drawn)
  assert remarks == {'masks never above 128': 'the brightest value is 90'}


def test_palette_gives_indices(tmp_path, folder):
  labels = np.zeros((HEIGHT, WIDTH), np.uint8)
  labels[3:9, 2:12], labels[6:20, 20:30], labels[20:, 4:9] = 1, 2, 7
  _save(folder / '00000.png', labels, 'P')
  _save(folder / '00001.png', labels)
  Image.fromarray(labels == 2).save(folder / '00002.png')
  # With 16 colors, Pillow packs two pixels into a byte.
  image = Image.fromarray(labels)
  image.putpalette([5 * n for n in range(48)])
  image.save(folder / '00003.png', bits=4)
  facts = video(4)
  united, remarks = planes(open_palette(str(tmp_path)), facts)
  _assert_planes(united, [labels > 0, labels > 0, labels == 2, labels > 0])
  assert remarks == {}
  source = open_palette(str(tmp_path), {'1': PERSON, '2': OBJECT})
  assert source.region_names == ('person', 'object')
  drawn, remarks = planes(source, facts)
  expected = np.select([labels == 1, labels == 2], [PERSON, OBJECT], 0)
  for n in (0, 1, 3):
    np.testing.assert_array_equal(drawn[n], expected)
  np.testing.assert_array_equal(drawn[2], np.where(labels == 2, PERSON, 0))
  assert remarks == {'labels not used': '7'}


def test_folders_of_objects_are_united(tmp_path, folder):
  people = {1: blob(1), 2: blob(2), 9: blob(3)}
  for number, mask in people.items():
    _save(folder / f'{number:03d}' / '00000.png', _grey(mask))
  _save(folder / '002' / '00001.png', people[2].astype(np.uint8))
  drawn, remarks = planes(open_palette(str(tmp_path), {'1': PERSON, '2': PERSON, '9': OBJECT}))
  both = np.where(people[1] | people[2], PERSON, 0) | np.where(people[9], OBJECT, 0)
  np.testing.assert_array_equal(drawn[0], both)
  np.testing.assert_array_equal(drawn[1], np.where(people[2], PERSON, 0))
  assert drawn[2] is None
  assert remarks == {'frames without masks': '1 of 3'}
  # SA-V counts objects from 000, and an object may have a number that no pixel can have.
  _save(folder / '000' / '00000.png', _grey(blob(4)))
  _save(folder / '300' / '00000.png', _grey(blob(5)))
  drawn, _ = planes(open_palette(str(tmp_path)))
  every = people[1] | people[2] | people[9] | blob(4) | blob(5)
  np.testing.assert_array_equal(drawn[0], np.where(every, PERSON, 0))
  drawn, remarks = planes(open_palette(str(tmp_path), {'0': OBJECT, '2': PERSON}))
  both = np.where(people[2], PERSON, 0) | np.where(blob(4), OBJECT, 0)
  np.testing.assert_array_equal(drawn[0], both)
  assert remarks['labels not used'] == '1, 9, 300'
  with pytest.raises(ClipError, match='009 has the label 9, and this format ends at 8'):
    planes(open_egohos(str(tmp_path)))
  _save(folder / '00000.png', _grey(people[1]))
  with pytest.raises(ClipError, match='images as well as folders of objects'):
    planes(open_palette(str(tmp_path)))


def test_egohos_labels(tmp_path, folder):
  labels = np.repeat(np.arange(9, dtype=np.uint8), 4)[None].repeat(HEIGHT, 0)
  _save(folder / '0.png', labels)
  source = open_egohos(str(tmp_path))
  (plane,), remarks = planes(source, video(1))
  np.testing.assert_array_equal(plane[5, ::4], [0] + 2 * [PERSON] + 6 * [OBJECT])
  assert remarks == {}
  assert source.region_names == ('person', 'object')
  (plane,), _ = planes(open_egohos(str(tmp_path), {'3': OBJECT}), video(1))
  np.testing.assert_array_equal(plane[5, ::4], [0, 0, 0, OBJECT, 0, 0, 0, 0, 0])
  _save(folder / '0.png', labels + 1)
  with pytest.raises(ClipError, match='0.png has the label 9, and this format ends at 8'):
    planes(source, video(1))


def _header_alone(width: int, height: int) -> bytes:
  """A PNG that claims a size and has no pixels."""
  header = b'IHDR' + struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
  data = b'IDAT' + zlib.compress(b'')
  return b'\x89PNG\r\n\x1a\n' + b''.join(
    struct.pack('>I', len(chunk) - 4) + chunk + struct.pack('>I', zlib.crc32(chunk))
    for chunk in (header, data, b'IEND')
  )


_RGB = np.stack([np.full((HEIGHT, WIDTH), level, np.uint8) for level in (200, 10, 10)], -1)


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'', 'is an empty file'),
    (b'<html>404</html>', 'cannot be decoded'),
    (_header_alone(WIDTH, HEIGHT), 'cannot be decoded'),
    (_header_alone(WIDTH, HEIGHT)[:40], 'cannot be decoded'),
    (_header_alone(10**5, 10**5), 'cannot be decoded|is not read'),
    (_header_alone(16000, 16000), 'cannot be decoded|another aspect ratio'),
    (
      _header_alone(HEIGHT, WIDTH),
      'another aspect ratio, so the mask may be letterboxed or rotated',
    ),
    (_header_alone(WIDTH, WIDTH), f'mask is {WIDTH} x {WIDTH} and the video {WIDTH} x {HEIGHT}'),
  ],
)
@pytest.mark.parametrize('opener', [open_grey, open_palette])
def test_damaged_images_have_a_reason(tmp_path, folder, opener, content, message):
  (folder / '00000.png').write_bytes(content)
  with pytest.raises(ClipError, match=message) as error:
    planes(opener(str(tmp_path)), video(1))
  assert '00000.png' in error.value.reason


@pytest.mark.parametrize('name', ['0.png', '0.jpg'])
def test_truncated_images_are_refused(tmp_path, folder, name):
  noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), np.uint8)
  _save(folder / name, noise)
  content = (folder / name).read_bytes()
  source = open_grey(str(tmp_path))
  (expected,), _ = planes(source, video(1))
  refused = 0
  for length in range(0, len(content), 3):
    (folder / name).write_bytes(content[:length])
    drawn = []
    reason = refusal(lambda drawn=drawn: drawn.extend(planes(source, video(1))[0]))
    if reason is None:
      np.testing.assert_array_equal(drawn, [expected])  # Only the file's end mark was cut off.
    else:
      assert 'cannot be decoded' in reason or 'is an empty file' in reason
      refused += 1
  assert refused > 0.95 * len(content) / 3


@pytest.mark.parametrize(
  ('opener', 'name', 'values', 'mode', 'message'),
  [
    (open_grey, '0.png', _RGB, None, 'is colored, not a grey mask'),
    (open_grey, '0.png', blob(0), 'P', 'is an image of mode P.* give it as palette:PATH'),
    (open_grey, '0.png', np.full((HEIGHT, WIDTH), 60000, np.uint16), None, 'mode I;16'),
    (open_palette, '0.png', _RGB, None, 'mode RGB; save the indices'),
    (open_palette, '0.jpg', _grey(blob(0)), None, 'does not keep labels'),
    (
      open_palette,
      '0.png',
      np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint8),
      None,
      'has more than 64 values, not labels; give it as grey:PATH',
    ),
  ],
)
def test_other_kinds_of_image_are_refused(tmp_path, folder, opener, name, values, mode, message):
  _save(folder / name, values, mode)
  with pytest.raises(ClipError, match=message):
    planes(opener(str(tmp_path)), video(1))


def test_stretched_labels_are_refused(tmp_path, folder):
  # A grey PNG of 4 bits, whose value 1 Pillow reads as 17.
  rows = b''.join(b'\0' + bytes([0x11] * (WIDTH // 2)) for _ in range(HEIGHT))
  header = b'IHDR' + struct.pack('>IIBBBBB', WIDTH, HEIGHT, 4, 0, 0, 0, 0)
  chunks = (header, b'IDAT' + zlib.compress(rows), b'IEND')
  png = b'\x89PNG\r\n\x1a\n' + b''.join(
    struct.pack('>I', len(chunk) - 4) + chunk + struct.pack('>I', zlib.crc32(chunk))
    for chunk in chunks
  )
  (folder / '0.png').write_bytes(png)
  assert np.asarray(Image.open(folder / '0.png'))[0, 0] == 17
  with pytest.raises(ClipError, match='does not keep labels'):
    planes(open_palette(str(tmp_path)), video(1))


def test_names_of_files(tmp_path, folder):
  masks = _grey_clip(folder, range(2), name='frame_{:04d}.png')
  for name in ('readme.txt', '.hidden.png', 'notes'):
    (folder / name).write_bytes(b'x')
  _assert_planes(planes(open_grey(str(tmp_path)), video(2))[0], list(masks.values()))
  _grey_clip(folder, [1], name='frame_{}.png')
  with pytest.raises(ClipError, match='two masks numbered 1, frame_0001.png and frame_1.png'):
    planes(open_grey(str(tmp_path)), video(2))
  (folder / 'frame_1.png').rename(folder / 'cover.png')
  with pytest.raises(ClipError, match='cover.png has no frame number'):
    planes(open_grey(str(tmp_path)), video(2))


def test_folder_is_found_by_name_or_id(tmp_path):
  for folder in ('a b/x_1', 'c_d/y', '17'):
    _grey_clip(tmp_path / folder, [0])
  assert open_grey(str(tmp_path)).parameters['path'] == str(tmp_path)
  for name, clip_id, folder in [
    ('a b/x_1', '1', 'a b/x_1'),
    ('a_b/x_1', '1', 'a b/x_1'),
    ('c d/y', '1', 'c_d/y'),
    ('elsewhere/17', '17', '17'),
    ('val/a b/x_1', '1', 'a b/x_1'),
    ('data/val/c d/y', '1', 'c_d/y'),
  ]:
    source = open_grey(str(tmp_path))
    drawn = source.for_clip(clip(name, clip_id))
    assert drawn.folder == str(tmp_path / folder)
    assert pickle.loads(pickle.dumps(drawn)) == drawn
  for name, clip_id in [('a b/x 1', '1'), ('no/thing', '../' + tmp_path.name), ('z', '/')]:
    assert source.for_clip(clip(name, clip_id)) is None
  with pytest.raises(UserError, match='y may belong to data/val/c d/y or to train/c_d/y'):
    source.for_clip(clip('train/c_d/y'))
  with pytest.raises(UserError, match='--masks: .*nowhere is not a folder'):
    open_grey(str(tmp_path / 'nowhere'))


@pytest.mark.parametrize(
  ('mask_size', 'source', 'resized'),
  [
    ((48, 72), (48, 72), False),
    ((24, 36), (48, 72), False),
    ((96, 144), (48, 72), True),
    # Scaled by 0.7 and rounded.
    ((34, 50), (48, 72), True),
  ],
)
def test_masks_are_scaled(tmp_path, folder, mask_size, source, resized):
  height, width = mask_size
  mask = np.zeros(mask_size, bool)
  mask[height // 4 : height // 2, width // 6 : width // 2] = True
  _save(folder / '0.png', _grey(mask))
  (plane,), remarks = planes(open_grey(str(tmp_path)), video(1, source=source))
  # The pixel under each center.
  rows = ((np.arange(HEIGHT) + 0.5) * height / HEIGHT).astype(int)
  columns = ((np.arange(WIDTH) + 0.5) * width / WIDTH).astype(int)
  np.testing.assert_array_equal(plane, np.where(mask[np.ix_(rows, columns)], PERSON, 0))
  expected = {'masks resized': f'1 mask, from {width} x {height}'} if resized else {}
  assert remarks == expected


@pytest.mark.parametrize('size', [(256, 340), (320, 240), (240, 240), (640, 640), (241, 320 - 9)])
def test_another_aspect_ratio_is_refused(tmp_path, folder, size):
  _save(folder / '0.png', np.zeros(size, np.uint8))
  facts = video(1, source=(240, 320), size=(240, 320))
  if size == (256, 340):  # Within one percent of 4 : 3.
    assert planes(open_grey(str(tmp_path)), facts)[1] == {'masks resized': '1 mask, from 340 x 256'}
  else:
    with pytest.raises(ClipError, match='another aspect ratio'):
      planes(open_grey(str(tmp_path)), facts)


def test_nearly_square_masks_may_not_be_transposed(tmp_path, folder):
  _save(folder / '0.png', np.zeros((241, 240), np.uint8))
  facts = video(1, source=(240, 241), size=(240, 241))
  with pytest.raises(ClipError, match='another aspect ratio'):
    planes(open_grey(str(tmp_path)), facts)


@pytest.mark.skipif(not _SAMPLES.exists(), reason='no ../shared/data/person_masks')
@pytest.mark.parametrize('opener', [open_grey, open_palette])
def test_real_masks(opener):
  source = opener(str(_SAMPLES))
  assert source.parameters['first'] == 0
  facts = video(80, list(range(0, 80, 7)), size=(120, 216), source=(240, 432))
  drawn, remarks = planes(source, facts, clip('bmx-trees/masks'))
  assert remarks == {}
  for frame, plane in zip(facts.kept, drawn, strict=True):
    path = _SAMPLES / 'bmx-trees' / 'masks' / f'{frame:05d}.png'
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(plane, np.where(mask[1::2, 1::2] > 128, PERSON, 0))
    assert 0.005 < np.mean(plane > 0) < 0.5
  with pytest.raises(ClipError, match='rotated'):
    planes(source, video(80, source=(432, 240), size=(432, 240)), clip('bmx-trees/masks'))
