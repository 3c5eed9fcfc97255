"""Tests of zsar_jax.datasets.masks.frame_numbers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.frame_numbers import frame_numbers

_HASHES = (
  'b20b31ca125c1d544b14297f73c8f1e0',
  '74f3b9e94adc1828885335bcdf448ac6',
  'cbc3ba00ee808fbb1a083e3ad0d13c7a',
)


@pytest.mark.parametrize(
  'names',
  [
    '{:05d}',
    'frame_{}',
    'frame{:06d}',
    'clip_7_{:04d}',
    'clip_7_frame{}',
    'v_Archery_g01_c02_{:05d}',
    'P01_01_frame_{:010d}',
    'a_mp4-{:04d}_jpg.rf.HASH',
    'HASH-frame_{:04d}',
    'HASH_{}_HASH',
    '{:05d}_mask_1',
    '{:05d}_seg_v2',
    '{:05d}@2x',
    '{}.jpg',
    '{}.mp4',
    '2021-01-02 10.11 {:03d}',
    '\u5e27{}_\u906e\u7f69',
  ],
)
def test_the_number_that_counts_up_is_the_frame(names):
  frames = (10, 50, 90)
  stems = [
    names.replace('HASH', hash_).format(frame) for frame, hash_ in zip(frames, _HASHES, strict=True)
  ]
  assert frame_numbers(stems, 'here') == list(frames)
  assert frame_numbers(stems[::-1], 'here') == list(frames[::-1])


@pytest.mark.parametrize(
  ('stem', 'owners', 'number'),
  [
    ('00000', (), 0),
    ('00100', ('001', '7'), 100),
    ('img00012', (), 12),
    ('clip_7_00010', ('clip_7',), 10),
    ('clip_7_00010', ('001', 'clip_7'), 10),
    ('a_mp4-0010_jpg.rf.' + _HASHES[0], ('a',), 10),
    ('3f5a1b2c-frame0010', (), 10),
    ('clip_7', ('clip_7',), 7),
    ('seq_00001_frame_0000000140', (), 140),
  ],
)
def test_a_single_name(stem, owners, number):
  assert frame_numbers([stem], 'here', owners) == [number]
  assert frame_numbers([stem, stem], 'here', owners) == [number] * 2


@pytest.mark.parametrize(
  ('stems', 'message'),
  [
    (_HASHES, 'no number counts up in the names b20b31ca125c1d544b14297f73c8f1e0, 74f3'),
    (['frame_1', '2_overview'], 'no number counts up in the names frame_1, 2_overview'),
    (
      ['1_4', '2_6', '3_5'],
      'more than one number differs in the names 1_4, 2_6, 3_5, so the frames',
    ),
    (['10_33', '50_167', '90_300'], 'more than one number differs'),
    (['clip_7_00010'], 'unknown which number in the name clip_7_00010 is the frame'),
    (['0010_mask_1'], 'name it by its frame number alone'),
    ([_HASHES[0]], 'unknown which number'),
    (['9' * 5000], 'unknown which number'),
    (['-2', '-1', '0'], 'the number in the name -2 is negative'),
  ],
)
def test_names_without_a_clear_frame_number_are_refused(stems, message):
  with pytest.raises(ClipError, match=message) as error:
    frame_numbers(list(stems), 'here')
  assert error.value.reason.startswith('here: ')


def test_a_time_beside_the_number():
  stems = [f'frame_{n}_{1000 * n // 30}ms' for n in range(3, 8)]
  assert frame_numbers(stems, 'here') == [3, 4, 5, 6, 7]
  # Frame and object: two masks of one frame look like two frames here; the caller decides.
  assert frame_numbers(['0010_1', '0010_2'], 'here') == [1, 2]
  assert frame_numbers(['f10', 'f010', 'f11'], 'here') == [10, 10, 11]


def test_the_number_after_the_word_frame():
  frames = (140, 170, 205)
  for names in ('seq_{:05d}_frame_{:010d}', '{}-Frame{}', 'object{}_frames_{:05d}_mask'):
    stems = [names.format(index, frame) for index, frame in enumerate(frames)]
    assert frame_numbers(stems, 'here') == list(frames)
  # Frame and object, also where the objects count up.
  assert frame_numbers(['frame_7_1', 'frame_7_2'], 'here') == [1, 2]


@settings(deadline=None, max_examples=50)
@given(
  st.text(st.characters(categories=('L', 'P')), max_size=6),
  st.lists(st.integers(0, 10**6), min_size=2, max_size=9, unique=True),
  st.integers(0, 7),
  st.text(st.characters(categories=('L', 'P')), max_size=6),
)
def test_any_text_around_the_number(before, numbers, width, after):
  stems = [f'7 {before}{number:0{width}d}{after} 8' for number in numbers]
  assert frame_numbers(stems, 'here') == numbers
