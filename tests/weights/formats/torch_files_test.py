"""Damaged and malicious pickles are refused in one sentence, without being executed."""

import os
import pathlib
import pickle
import struct
import subprocess
import zipfile

import numpy as np
import pytest

from tests.weights.formats.written import (
  ARRAYS,
  Stored,
  Tensor,
  archive,
  legacy,
  numpy_file,
  read,
  refused,
)
from zsar_jax.weights.formats import pickle_names


class Call:
  """An object whose pickle calls a function with arguments."""

  def __init__(self, function, *arguments):
    self.call = (function, arguments)

  def __reduce__(self):
    return self.call


def test_the_pickles_of_this_test_are_read(tmp_path):
  for path in (
    archive(tmp_path / 'a', {'a': Tensor()}),
    legacy(tmp_path / 'b', {'a': Tensor()}),
  ):
    np.testing.assert_array_equal(read(path)['a'], ARRAYS['a'])
  np.save(tmp_path / 'c.npy', ARRAYS, allow_pickle=True)
  for path in (tmp_path / 'c.npy', numpy_file(tmp_path / 'd', pickle.dumps(np.array(ARRAYS), 2))):
    arrays = read(path)
    for key, array in ARRAYS.items():
      np.testing.assert_array_equal(arrays[key], array)


def harm(canary):
  """Returns objects whose unpickling would create the file `canary`."""
  touch = f"open({str(canary)!r}, 'w')"
  return {
    'os.system': Call(os.system, f'touch {canary}'),
    'builtins.eval': Call(eval, touch),
    'builtins.exec': Call(exec, touch),
    'builtins.open': Call(open, str(canary), 'w'),
    'subprocess.Popen': Call(subprocess.Popen, ['touch', str(canary)]),
    'builtins.getattr': Call(getattr, pathlib.Path(canary), 'touch'),
  }


@pytest.mark.parametrize('container', ['zip', 'legacy', 'numpy', 'bare'])
@pytest.mark.parametrize('name', harm('x'))
def test_nothing_is_executed(container, name, tmp_path):
  canary = tmp_path / 'canary'
  content = pickle.dumps({'model': harm(canary)[name], 'a': 1}, protocol=2)
  path = tmp_path / 'weights'
  if container == 'zip':
    archive(path, content)
  elif container == 'legacy':
    legacy(path, content)
  elif container == 'numpy':
    numpy_file(path, content)
  else:
    path.write_bytes(content)
  refused(path, r'not loaded, because it uses \S+, which weights do not need')
  assert not canary.exists()
  # Python's unpickler does create it.
  if name == 'builtins.open':
    pickle.loads(content)['model'].close()
    assert canary.exists()


@pytest.mark.parametrize(
  'content',
  [
    # These set an attribute of a function, of a class, and a slot of an instance.
    b'\x80\x02ctorch._utils\n_rebuild_parameter\n}X\x01\x00\x00\x00aK\x01sb.',
    b'\x80\x02ctorch._utils\n_rebuild_parameter\nN}X\x09\x00\x00\x00_functionK\x01s\x86b.',
    b'\x80\x02cnumpy\ndtype\nN}X\x08\x00\x00\x00__init__K\x01s\x86b.',
    b'\x80\x02ctorch\nFloatStorage\nN}X\x05\x00\x00\x00dtypeK\x01s\x86b.',
    b'\x80\x02ctorch\nFloatStorage\n)R.',  # A storage type that is called.
    b'\x80\x02c__torch__\nA\n)R}b.',  # A TorchScript module that is called.
    b'\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.',  # More bytes than the file has.
    b'\x80\x02X\x01\x00\x00\x00aQ.',  # A storage that is a string.
    b'\x80\x02K\x01.',
    b'\x80\x02].',
    b'\x80\x02}.',
    b'\x80\x02(K\x01',
    b'',
  ],
)
def test_odd_pickles(content, tmp_path):
  before = pickle_names.GLOBALS['torch.FloatStorage'].dtype
  refused(archive(tmp_path / 'a', content), 'damaged|no state dict|not a tree')
  refused(legacy(tmp_path / 'b', content), 'damaged|no state dict|not a tree|truncated')
  assert pickle_names.GLOBALS['torch.FloatStorage'].dtype is before
  np.testing.assert_array_equal(read(archive(tmp_path / 'c', {'a': Tensor()}))['a'], ARRAYS['a'])


@pytest.mark.parametrize(
  ('content', 'words'),
  [
    (b'\x80\x02\x82\x01.', 'asks for EXT1'),
    # A memo entry with number 2**32 - 1, for which Python would allocate memory.
    (b'\x80\x02Nr\xff\xff\xff\xff.', 'LONG_BINPUT has an invalid number'),
  ],
)
def test_instructions_that_are_refused(content, words, tmp_path):
  refused(archive(tmp_path / 'a', content), f'damaged or not a file .*{words}')


@pytest.mark.parametrize(
  ('tensor', 'words'),
  [
    (Tensor(offset=1), 'a reaches beyond its storage'),
    (Tensor(strides=(4, 1)), 'reaches beyond'),
    (Tensor(shape=(7,), strides=(0,)), 'reaches beyond'),
    (Tensor(shape=(10**9, 10**9), strides=(0, 0)), 'reaches beyond'),
    (Tensor(offset=-1), 'a is not a valid tensor'),
    (Tensor(strides=(-3, 1)), 'not a valid tensor'),
    (Tensor(strides=(1,)), 'not a valid tensor'),
    (Tensor(shape=(2.0, 3)), 'not a valid tensor'),
    (Tensor(shape=[2, 3]), 'not a valid tensor'),
    (Tensor(storage=3), 'not a valid tensor'),
    (Tensor(Stored(count=7)), "storage '0' of 7 x float32, and the file has 24 bytes"),
    (Tensor(Stored(count=10**15)), 'the file has 24 bytes'),
    (Tensor(Stored(kind='DoubleStorage')), 'float64, and the file has 24 bytes'),
    (Tensor(Stored(key='1')), 'has none'),
    (Tensor(Stored(key='../../m/data.pkl')), 'has none'),
    (Tensor(Stored(kind='QInt8Storage')), 'uses torch.QInt8Storage'),
    (Tensor(Stored(kind='load')), 'uses torch.load'),
  ],
)
def test_tensors_that_are_not_in_the_file(tensor, words, tmp_path):
  refused(archive(tmp_path / 'a', {'a': tensor}), words)


def test_truncated_legacy_files(tmp_path):
  good = legacy(tmp_path / 'a', {'a': Tensor()}).read_bytes()
  path = tmp_path / 'b'
  for cut in range(1, len(good), 7):
    path.write_bytes(good[:-cut])
    refused(path, 'truncated|damaged|reaches|has none')
  refused(legacy(path, {'a': Tensor()}, data=struct.pack('<q', 2**62)), 'truncated')
  refused(legacy(path, {'a': Tensor()}, data=struct.pack('<q', 6)), 'truncated')
  refused(legacy(path, {'a': Tensor()}, keys=('1',)), 'truncated or damaged')
  refused(legacy(path, {'a': Tensor()}, keys=([],)), 'truncated or damaged')
  path.write_bytes(pickle.dumps(7, 2) * 3)
  refused(path, 'a pickle, but not of PyTorch')


def test_truncated_archives(tmp_path):
  good = archive(tmp_path / 'a', {'a': Tensor()}).read_bytes()
  path = tmp_path / 'b'
  for cut in range(1, len(good), 11):
    path.write_bytes(good[:-cut])
    refused(path, 'damaged|truncated')
  start = good.index(ARRAYS['a'].tobytes())
  path.write_bytes(good[:start] + b'\xff' + good[start + 1 :])
  refused(path, 'damaged .Bad CRC')


def test_zip_bombs(tmp_path):
  big = {'0': bytes(10**7)}
  path = tmp_path / 'a'
  tensor = Tensor(Stored(count=10**7 // 4), 0, (2500000,), (1,))
  archive(path, {'a': tensor}, big, compression=zipfile.ZIP_DEFLATED)
  assert path.stat().st_size < 10**5
  refused(path, 'its data are compressed')
  # The directory of an uncompressed archive claims 4 GB.
  content = bytearray(archive(path, {'a': Tensor()}).read_bytes())
  entry = content.rindex(b'PK\x01\x02')
  content[entry + 20 : entry + 28] = struct.pack('<II', 2**32 - 2, 2**32 - 2)
  path.write_bytes(content)
  refused(path, 'declares more data than it holds|damaged')


def test_other_archives(tmp_path):
  path = tmp_path / 'a'
  with zipfile.ZipFile(path, 'w') as file:
    file.writestr('a.txt', 'a')
  refused(path, 'a zip archive, but not of PyTorch')
  archive(path, {'a': Tensor()})
  with zipfile.ZipFile(path, 'a') as file:
    file.writestr('m/byteorder', 'big')
  refused(path, 'big-endian')
