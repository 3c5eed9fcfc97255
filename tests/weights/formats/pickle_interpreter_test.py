"""Files that would exhaust memory, time or stack are refused quickly, in one sentence."""

import io
import json
import pathlib
import pickle
import struct
import time
import zipfile

import msgpack
import numpy as np
import pytest

from tests.weights.formats.written import ARRAYS, archive, legacy, read, refused
from tests.weights.formats.written import Tensor as WrittenTensor
from zsar_jax.errors import UserError
from zsar_jax.weights.formats import pickle_interpreter, torch_files, wrappers
from zsar_jax.weights.formats.pickle_interpreter import Interpreter

_P = b'\x80\x02'
_NAME = b'cprogram\nClass\nq\x00'


def _text(text):
  return b'X' + struct.pack('<I', len(text)) + text


def _items(count, value):
  return b''.join(_text(b'k%d' % n) + value + b's' for n in range(count))


ATTACKS = {
  # 2**150 nested tuples as the key of a dictionary.
  'a key that is shared': b'})' + b''.join(b'q%ch%c\x86' % (n, n) for n in range(150)) + b'K\x01s.',
  'a deep key': b'})' + b'\x85' * 100_000 + b'K\x01s.',
  'a deep key of a set': b'c__builtin__\nset\n(' + b')' + b'\x85' * 30_000 + b'lt\x85R.',
  'a deep frozen set': _P + b'()' + b'\x85' * 30_000 + b'\x91.',
  'deep tuples': b'}' + _text(b'a') + b')' + b'\x85' * 30_000 + b's.',
  'deep lists': b'}' + _text(b'a') + b']' * 20_000 + b'a' * 19_999 + b's.',
  'deep dictionaries': b'}' + (_text(b'a') + b'}') * 15_000 + b's' * 15_000 + b'.',
  'deep objects': _NAME + b')' + b'q\x01h\x00h\x01\x81\x85' * 10_000 + b'.',
  'deep states': _NAME + b')\x81' + b'q\x01h\x00)\x81h\x01b' * 3 + b'0' * 3 + b'.',
  'a dictionary in itself': b'}q\x01' + _text(b'a') + b'h\x01s.',
  'long numbers': b'\x8b' + struct.pack('<i', 10**6) + b'\x01' * 10**6 + b'.',
  # Integers that all have the same hash.
  'keys with equal hashes': b'}'
  + b''.join(
    b'\x8a\x14' + (n * (2**61 - 1)).to_bytes(20, 'little') + b'K\x01s' for n in range(1, 10_000)
  )
  + b'.',
  'texts encoded again': _text(b'a' * 10**5)
  + b'q\x01'
  + _text(b'latin1')
  + b'q\x02c_codecs\nencode\nq\x03'
  + b'h\x03h\x01h\x02\x86R0' * 3_000
  + b'.',
  'dictionaries copied again': b'('
  + b'K\x01K\x02\x86' * 3_000
  + b'lq\x01ccollections\nOrderedDict\nq\x02'
  + b'h\x02h\x01\x85R0' * 3_000
  + b'.',
  'calls with many arguments': b'('
  + b'N' * 3_000
  + b'tq\x01'
  + _NAME
  + b'h\x00h\x01R0' * 1_000
  + b'.',
  'dictionaries shared': b'}' + _items(3_000, b'N') + b'q\x010}' + _items(3_000, b'h\x01') + b'.',
  'modules that share their parts': b'c__torch__\nM\nq\x00}q\x01'
  + _items(3_000, b'h\x00)\x81h\x01b')
  + b'0h\x00)\x81h\x01b.',
  'too many instructions': b'}' * 150_000 + b'.',
}


@pytest.mark.parametrize('name', ATTACKS)
def test_exhausting_pickles(name, tmp_path, monkeypatch):
  monkeypatch.setattr(pickle_interpreter, 'MAX_STEPS', 120_000)
  container = legacy if 'deep' in name else archive
  path = container(tmp_path / 'a', _P + ATTACKS[name])
  before = time.process_time()
  refused(path, 'damaged|no state dict|not a tree|more than a model')
  assert time.process_time() - before < 5


def test_large_numbers_of_dictionaries_are_searched_quickly():
  before = time.process_time()
  with pytest.raises(UserError, match='no state dict'):
    wrappers.unwrap(pathlib.Path('a'), {str(number): {} for number in range(400_000)})
  assert time.process_time() - before < 20  # Quadratic work takes hours.


@pytest.mark.parametrize('protocol', range(6))
def test_pickles_of_every_protocol(protocol):
  value = {'a': [1, -(2**40), 2.5, True, None, 'ü', (), (1,), (1, 2), (1, 2, 3), (4,) * 5]}
  value['b'] = {'c': value['a'], 'd': {}}
  if protocol > 2:  # Older protocols write bytes as a call.
    value['e'] = b'x'
  result = Interpreter().run(io.BytesIO(pickle.dumps(value, protocol)))
  assert result == value
  assert result['a'] is result['b']['c']


def test_archives_with_long_directories(tmp_path, monkeypatch):
  path = archive(tmp_path / 'a', {'a': WrittenTensor()})
  np.testing.assert_array_equal(read(path)['a'], ARRAYS['a'])
  with zipfile.ZipFile(path, 'a') as file:
    for number in range(100):
      file.writestr(f'm/extra/{number}', b'')
  monkeypatch.setattr(torch_files, '_MAX_DIRECTORY_BYTES', 3_000)
  refused(path, 'damaged .its directory is too long')


def test_exhausting_msgpack(tmp_path):
  path = tmp_path / 'a'

  def array(shape, kind, content):
    return msgpack.ExtType(1, msgpack.packb((shape, kind, content)))

  for content, words in (
    # Flax would interpret these bytes as an address.
    (msgpack.packb({'a': array((1,), 'object', b'12345678')}), 'damaged .an array of object'),
    (msgpack.packb({'a': array((10**6, 10**6), 'float32', b'1234')}), 'damaged'),
    (msgpack.packb({'a': msgpack.ExtType(2, b'')}), 'damaged .an extension of type 2'),
    (b'\xdf' + struct.pack('>I', 10**6) + b'\xa1a\x80' * 10**6, 'damaged .*max_map_len'),
    (b'\x81\xa1a\xdd' + struct.pack('>I', 10**6) + b'\x90' * 10**6, 'damaged .*max_array_len'),
    (
      b'\x88' + b''.join(b'\xa1%c\xde\xff\xff' % (97 + n) + b'\xa1a\xc0' * 65535 for n in range(8)),
      'damaged .more than 100,000 entries',
    ),
    (b'\x81\xa1a' * 400 + b'\x80', 'an array is called a/a'),
  ):
    path.write_bytes(content)
    refused(path, words)


def test_files_with_more_arrays_than_a_model(tmp_path):
  header = {f'k{n}': {'dtype': 'F32', 'shape': [0], 'data_offsets': [0, 0]} for n in range(20_001)}
  text = json.dumps(header).encode()
  path = tmp_path / 'a'
  path.write_bytes(struct.pack('<Q', len(text)) + text)
  refused(path, 'holds 20,001 arrays')
  index = tmp_path / 'a.index.json'
  index.write_text(json.dumps({'weight_map': {'a': 'b.index.json'}}))
  (tmp_path / 'b.index.json').write_text(json.dumps({'weight_map': {'a': 'a.index.json'}}))
  refused(index, 'its part b.index.json is an index too')
  index.write_text(' ' * (16 * 2**20 + 1))
  refused(index, 'not readable as JSON .more than 16 MiB')
