"""Tests of zsar_jax.datasets.sources.ucf_hmdb."""

import pytest

from tests.datasets.sources.kinetics_test import touch
from zsar_jax.datasets.sources.ucf_hmdb import list_hmdb51, list_ucf101
from zsar_jax.errors import UserError


@pytest.fixture(name='ucf')
def _ucf(tmp_path):
  """Videos and lists of two classes; one file spells its class differently, as in UCF101."""
  touch(
    tmp_path / 'UCF-101',
    'Archery/v_Archery_g01_c01.avi',
    'Archery/v_Archery_g02_c01.mp4',
    'HandstandPushups/v_HandStandPushups_g01_c01.avi',
  )
  lists = tmp_path / 'lists'
  lists.mkdir()
  (lists / 'classInd.txt').write_text('1 Archery\n2 HandstandPushups\n')
  first, second = 'Archery/v_Archery_g01_c01.avi', 'Archery/v_Archery_g02_c01.avi'
  third = 'HandstandPushups/v_HandStandPushups_g01_c01.avi'
  for number, (train, test) in enumerate(
    (([first], [third]), ([second], [first]), ([third], [])), 1
  ):
    (lists / f'trainlist0{number}.txt').write_text(
      ''.join(f'{path} {1 + (path == third)}\r\n' for path in train)
    )
    (lists / f'testlist0{number}.txt').write_text(''.join(f'{path}\n' for path in test))
  return tmp_path / 'UCF-101', lists


def test_ucf101(ucf):
  videos, lists = ucf
  listing = list_ucf101(videos, lists)
  assert listing.classes == ('Archery', 'HandstandPushups')
  assert [(clip.id, clip.label) for clip in listing.splits['clips']] == [
    ('Archery/v_Archery_g01_c01', 0),
    ('Archery/v_Archery_g02_c01', 0),
    ('HandstandPushups/v_HandStandPushups_g01_c01', 1),
  ]
  assert listing.splits['clips'][1].path == str(videos / 'Archery' / 'v_Archery_g02_c01.mp4')
  assert listing.clip_splits == {
    'train1': ('Archery/v_Archery_g01_c01',),
    'test1': ('HandstandPushups/v_HandStandPushups_g01_c01',),
    'train2': ('Archery/v_Archery_g02_c01',),
    'test2': ('Archery/v_Archery_g01_c01',),
    'train3': ('HandstandPushups/v_HandStandPushups_g01_c01',),
    'test3': (),
  }


@pytest.mark.parametrize(
  ('file', 'text', 'words'),
  [
    ('classInd.txt', '1 Archery\n3 Other\n', 'must be 2 and the name of a class'),
    ('testlist01.txt', 'Jumping/v_a.avi\n', "'Jumping' is not a class"),
    ('testlist01.txt', '../Archery/v_a.avi\n', 'does not lie below'),
    ('testlist01.txt', '/etc/passwd\n', 'does not lie below'),
    ('trainlist01.txt', 'Archery/v_Archery_g01_c01.avi 2\n', 'where Archery is class 1'),
    ('classInd.txt', '1  Archery\n', "label ' Archery' must be one line"),
    (
      'testlist01.txt',
      'Archery/v_Archery_g01_c01.avi\n',
      'testlist01.txt, line 1: .*g01_c01 is listed for training and for test of split 1',
    ),
  ],
)
def test_ucf101_refuses(ucf, file, text, words):
  (ucf[1] / file).write_text(text)
  with pytest.raises(UserError, match=words):
    list_ucf101(*ucf)


def test_ucf101_accepts_a_redundant_slash(ucf):
  (ucf[1] / 'trainlist01.txt').write_text('Archery//v_Archery_g09_c01.avi 1\n')
  clip = next(clip for clip in list_ucf101(*ucf).splits['clips'] if clip.id.endswith('g09_c01'))
  assert clip.name == 'Archery/v_Archery_g09_c01'
  assert clip.path == str(ucf[0] / f'{clip.name}.avi')


def test_empty_lists_are_refused(ucf, tmp_path):
  for path in ucf[1].glob('*list*.txt'):
    path.write_text('\n')
  with pytest.raises(UserError, match='lists list no clip; copy them again'):
    list_ucf101(*ucf)
  (tmp_path / 'hmdb').mkdir()
  for number in (1, 2, 3):
    (tmp_path / 'hmdb' / f'wave_test_split{number}.txt').write_text('a.avi 0\n')
  with pytest.raises(UserError, match='hmdb list no clip; copy them again'):
    list_hmdb51(ucf[0], tmp_path / 'hmdb')


def test_hmdb51(tmp_path):
  videos = touch(
    tmp_path / 'hmdb',
    'brush_hair/A & B (1)_brush_hair_0.avi',
    'brush_hair/b.avi',
    'cartwheel/c #1.avi',
  )
  lists = tmp_path / 'lists'
  lists.mkdir()
  for number, (a, b, c) in enumerate(('120', '211', '012'), 1):
    (lists / f'brush_hair_test_split{number}.txt').write_text(
      f'A & B (1)_brush_hair_0.avi {a} \nb.avi {b} \n'
    )
    (lists / f'cartwheel_test_split{number}.txt').write_text(f'c #1.avi {c} \n')
  listing = list_hmdb51(videos, lists)
  first, second, third = 'brush_hair/A & B (1)_brush_hair_0', 'brush_hair/b', 'cartwheel/c #1'
  assert [clip.id for clip in listing.splits['clips']] == [first, second, third]
  assert all(touched.path.endswith('.avi') for touched in listing.splits['clips'])
  assert listing.clip_splits == {
    'train1': (first,),
    'test1': (second,),
    'test2': (first,),
    'train2': (second, third),
    'train3': (second,),
    'test3': (third,),
  }

  (lists / 'cartwheel_test_split2.txt').write_text('c #1.avi 3\n')
  with pytest.raises(UserError, match='cartwheel_test_split2.txt, line 1'):
    list_hmdb51(videos, lists)
  with pytest.raises(UserError, match='has no file like brush_hair_test_split1'):
    list_hmdb51(videos, tmp_path)


@pytest.mark.parametrize(
  ('existing', 'is_found'),
  [
    ('Archery/v_Archery_g01_c01.webm', True),
    ('archery/v_Archery_g01_c01.avi', True),
    ('v_Archery_g01_c01.avi', True),
    ('train/Archery/v_Archery_g01_c01.avi', True),
    ('HandstandPushups/v_Archery_g01_c01.avi', False),
    ('old/v_Archery_g01_c01.avi', False),
  ],
)
def test_a_clip_is_never_taken_from_another_class(ucf, tmp_path, existing, is_found):
  videos = touch(tmp_path / 'other', existing)
  clip = list_ucf101(videos, ucf[1]).splits['clips'][0]
  assert clip.path == str(videos / (existing if is_found else 'Archery/v_Archery_g01_c01.avi'))


def test_a_video_cannot_be_two_clips(tmp_path):
  lists = tmp_path / 'lists'
  lists.mkdir()
  for number in (1, 2, 3):
    for name in ('cartwheel', 'catch'):
      (lists / f'{name}_test_split{number}.txt').write_text('b.avi 1\n')
  with pytest.raises(UserError, match="clips 'cartwheel/b' and 'catch/b' are both the video"):
    list_hmdb51(touch(tmp_path / 'videos', 'b.avi'), lists)


@pytest.mark.parametrize('listed', ['HandStandPushups', 'HandstandPushups', 'handstand_pushups'])
def test_case_of_names_is_ignored(ucf, tmp_path, listed):
  videos = touch(tmp_path / 'other', 'HandstandPushups/v_HandstandPushups_g01_c01.avi')
  for path in ucf[1].glob('*list*.txt'):
    path.write_text('')
  first = f'{listed}/v_HandStandPushups_g01_c01.avi'
  (ucf[1] / 'trainlist01.txt').write_text(f'{first} 2\n')
  (ucf[1] / 'trainlist02.txt').write_text('HandstandPushups/v_HandstandPushups_g01_c01.avi 2\n')
  listing = list_ucf101(videos, ucf[1])
  (clip,) = listing.splits['clips']
  assert clip.path == str(videos / 'HandstandPushups/v_HandstandPushups_g01_c01.avi')
  assert listing.classes[clip.label] == 'HandstandPushups'
  assert listing.clip_splits['train1'] == listing.clip_splits['train2'] == (clip.id,)
  (ucf[1] / 'trainlist01.txt').write_text(f'{first} 1\n')
  with pytest.raises(UserError, match=f'where {listed} is class 2'):
    list_ucf101(videos, ucf[1])


def test_companions_of_macos_are_not_lists(tmp_path):
  lists = touch(tmp_path / 'lists', *(f'._wave_test_split{number}.txt' for number in (1, 2, 3)))
  for number in (1, 2, 3):
    (lists / f'._wave_test_split{number}.txt').write_bytes(b'\x00\x05\x16\x07\xff')
    (lists / f'wave_test_split{number}.txt').write_text('b.avi 1\n')
  videos = touch(tmp_path / 'videos', 'wave/b.avi', 'wave/._b.avi')
  assert [clip.id for clip in list_hmdb51(videos, lists).splits['clips']] == ['wave/b']
