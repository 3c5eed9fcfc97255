"""Tests of zsar_jax.datasets.masks.arrays."""

import io
import pathlib
import zipfile

import numpy as np
import pytest

from tests.datasets.masks.mask_helpers import HEIGHT, WIDTH, blob, clip, planes, refusal, video
from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.arrays import open_arrays
from zsar_jax.errors import UserError
from zsar_jax.recipes.regions import OBJECT, OBJECT_BOX, PERSON, PERSON_BOX

_CLIP = clip('a/c')
_MASKS = np.stack([blob(n) for n in range(3)])


@pytest.fixture(name='root')
def _root(tmp_path):
  (tmp_path / 'a').mkdir()
  return tmp_path


def _planes(root: pathlib.Path, facts=None, **options):
  return planes(open_arrays(str(root), **options), facts, _CLIP)


@pytest.mark.parametrize(
  'array',
  [
    _MASKS,
    _MASKS.astype(np.uint8),
    _MASKS.astype(np.uint8) * 255,
    _MASKS.astype(np.int64),
    _MASKS.astype('>i2') * 255,
  ],
)
@pytest.mark.parametrize('kind', ['npy', 'npz', 'compressed'])
def test_binary_arrays(root, kind, array):
  if kind == 'npy':
    np.save(root / 'a' / 'c.npy', array)
  else:
    (np.savez if kind == 'npz' else np.savez_compressed)(root / 'a' / 'c.npz', array)
  drawn, remarks = _planes(root, video(3, [0, 2]))
  np.testing.assert_array_equal(drawn, np.where(_MASKS[[0, 2]], PERSON, 0))
  assert remarks == {}
  drawn, _ = _planes(root, region='object_box')
  np.testing.assert_array_equal(drawn, np.where(_MASKS, OBJECT_BOX, 0))


def test_wrong_counts_and_spread(root):
  np.save(root / 'a' / 'c.npy', _MASKS)
  for num_frames in (2, 5):
    message = f'c.npy has 3 masks and the video {num_frames} frames; .* add stride=N or spread=yes'
    with pytest.raises(ClipError, match=message):
      _planes(root, video(num_frames))
  drawn, _ = _planes(root, video(5), spread=True)
  assert [plane is None for plane in drawn] == [False, True, False, True, False]
  np.testing.assert_array_equal(drawn[2], np.where(_MASKS[1], PERSON, 0))
  drawn, _ = _planes(root, video(5), stride=(2, None))
  assert [plane is None for plane in drawn] == [False, True, False, True, False]
  drawn, _ = _planes(root, video(7), stride=(2, 1))
  assert [plane is None for plane in drawn] == [True, False, True, False, True, False, True]
  with pytest.raises(ClipError, match='3 masks and the video 7 frames, 4 with stride=2; save one'):
    _planes(root, video(7), stride=(2, None))
  # Arrays have no numbers: masks match frames by position, even if frames have numbers.
  drawn, _ = _planes(root, video(numbers=[7, 8, 12]))
  np.testing.assert_array_equal(drawn, np.where(_MASKS, PERSON, 0))
  assert open_arrays(str(root)).parameters['path'] == str(root)


def test_arrays_named_after_regions(root):
  other = _MASKS[::-1]
  np.savez_compressed(root / 'a' / 'c.npz', object=other, person=_MASKS, person_box=other)
  source = open_arrays(str(root))
  assert source.region_names == ('person', 'object', 'person_box')
  drawn, _ = planes(source, of=_CLIP)
  expected = np.where(_MASKS, PERSON, 0) | np.where(other, OBJECT | PERSON_BOX, 0)
  np.testing.assert_array_equal(drawn, expected)
  # A clip without one of the arrays would have its objects painted as background.
  np.savez(root / 'a' / 'd.npz', person=_MASKS)
  with pytest.raises(ClipError, match='d.npz must have the arrays person, object, person_box'):
    planes(source, of=clip('a/d'))
  with pytest.raises(
    ClipError, match='c.npz has the arrays object, person, person_box; save a single'
  ):
    _planes(root, region='person')
  np.savez(root / 'a' / 'c.npz', person=_MASKS, object=_MASKS[:2], person_box=_MASKS)
  with pytest.raises(ClipError, match=r'arrays have \[2, 3\] frames'):
    planes(source, of=_CLIP)


def test_labels(root):
  labels = (_MASKS * np.arange(WIDTH) // 8).astype(np.int32)
  np.save(root / 'a' / 'c.npy', labels)
  with pytest.raises(ClipError, match='has the values 0, 1, 2, 3, 4, not just 0 and 1.*values='):
    _planes(root)
  drawn, remarks = _planes(root, values={'1': PERSON, '3': OBJECT, '70000': OBJECT})
  expected = np.select([labels == 1, labels == 3], [PERSON, OBJECT], 0)
  np.testing.assert_array_equal(drawn, expected)
  assert remarks == {'labels not used': '2, 4'}
  drawn, remarks = _planes(root, values={'2': PERSON, '*': OBJECT})
  np.testing.assert_array_equal(drawn, np.select([labels == 2, labels > 0], [PERSON, OBJECT], 0))
  assert remarks == {}


def test_zeros_ones_and_255_together_are_refused(root):
  array = _MASKS.astype(np.uint8)
  array[2] *= 255
  np.save(root / 'a' / 'c.npy', array)
  with pytest.raises(ClipError, match='has the values 0, 1, 255'):
    _planes(root)


@pytest.mark.parametrize(
  ('array', 'message'),
  [
    (_MASKS.astype(np.float32), 'is of float32; apply the threshold'),
    (_MASKS.astype(object), 'holds pickled objects'),
    (_MASKS[0], r'is bool\[24, 36\]; save \[frames, height, width\]'),
    (_MASKS[..., None], r'is bool\[3, 24, 36, 1\]'),
    (np.asfortranarray(_MASKS), 'in Fortran order'),
    (_MASKS.transpose(0, 2, 1).copy(), 'another aspect ratio'),
    (np.zeros((3, 0, 0), bool), 'is not read'),
    (np.array('x'), 'is of <U1'),
    (np.zeros(3, [('a', bool)]), 'is of '),
  ],
)
@pytest.mark.parametrize('save', [np.save, np.savez])
def test_other_arrays_are_refused(root, save, array, message):
  save(root / 'a' / ('c.npy' if save is np.save else 'c.npz'), array)
  with pytest.raises(ClipError, match=message):
    _planes(root)


def _header(shape: tuple[int, ...], dtype: str = '|u1') -> bytes:
  stream = io.BytesIO()
  np.lib.format.write_array_header_1_0(
    stream, {'descr': dtype, 'fortran_order': False, 'shape': shape}
  )
  return stream.getvalue()


@pytest.mark.parametrize(
  'shape',
  [(3, HEIGHT, WIDTH), (10**6, 10**4, 10**4), (2**62, 4, 1), (2**40, HEIGHT, WIDTH), (-1, 2, 2)],
)
def test_headers_that_claim_too_much_are_refused(root, shape):
  (root / 'a' / 'c.npy').write_bytes(_header(shape) + b'\0' * 100)
  with pytest.raises(ClipError, match='and has 100 bytes|states .* frames|cannot be read'):
    _planes(root)
  (root / 'a' / 'c.npy').unlink()
  with zipfile.ZipFile(root / 'a' / 'c.npz', 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr('masks.npy', _header(shape) + b'\0' * 100)
  with pytest.raises(ClipError, match='and has 100 bytes|states .* frames|cannot be read'):
    _planes(root)


def test_an_npz_with_a_false_directory_is_refused(root):
  """The archive states the size that the header claims, so reading reaches the end of the file."""
  shape = (10**6, HEIGHT, WIDTH)
  content = _header(shape) + b'\0' * 100
  path = root / 'a' / 'c.npz'
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr('masks.npy', content)
  claimed = len(_header(shape)) + 10**6 * HEIGHT * WIDTH
  stated = len(content).to_bytes(4, 'little')
  path.write_bytes(path.read_bytes().replace(stated, claimed.to_bytes(4, 'little')))
  with pytest.raises(ClipError, match='ends within frame 0|cannot be read'):
    _planes(root, video(10**6, [0]))


@pytest.mark.parametrize('suffix', ['npy', 'npz'])
def test_damaged_files_have_a_reason(root, suffix):
  path = root / 'a' / f'c.{suffix}'
  (np.save if suffix == 'npy' else np.savez_compressed)(path, _MASKS)
  content = path.read_bytes()
  source = open_arrays(str(root))
  for length in range(0, len(content), 13):
    path.write_bytes(content[:length])
    with pytest.raises(ClipError, match=f'c.{suffix}'):
      planes(source, of=_CLIP)
  rng = np.random.default_rng(0)
  for _ in range(100):
    damaged = bytearray(content)
    damaged[rng.integers(len(content))] ^= int(rng.integers(1, 256))
    path.write_bytes(damaged)
    assert f'c.{suffix}' in (refusal(lambda: planes(source, of=_CLIP)) or f'c.{suffix}')


def test_missing_files_and_folders(root):
  assert open_arrays(str(root)).for_clip(_CLIP) is None
  (root / 'a' / 'c').mkdir()
  assert open_arrays(str(root)).for_clip(_CLIP) is None
  with pytest.raises(UserError, match='is not a folder'):
    open_arrays(str(root / 'b'))
