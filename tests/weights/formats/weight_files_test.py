"""Damaged and malicious files are refused in one sentence, and nothing is returned."""

import json
import struct
import zipfile

import numpy as np
import pytest
from flax import serialization
from safetensors.numpy import save_file

from tests.weights.formats.written import ARRAYS, read, refused
from zsar_jax.errors import UserError
from zsar_jax.weights.formats import weight_files


def _safetensors(path, header, data=bytes(24)):
  text = json.dumps(header).encode()
  path.write_bytes(struct.pack('<Q', len(text)) + text + data)
  return path


@pytest.mark.parametrize(
  'header',
  [
    {'a': {'dtype': 'F32', 'shape': [2, 3], 'data_offsets': [0, 25]}},
    {'a': {'dtype': 'F32', 'shape': [2, 4], 'data_offsets': [0, 24]}},
    {'a': {'dtype': 'F32', 'shape': [2**40, 2**40], 'data_offsets': [0, 24]}},
    {
      'a': {'dtype': 'F32', 'shape': [4], 'data_offsets': [0, 16]},
      'b': {'dtype': 'F32', 'shape': [4], 'data_offsets': [8, 24]},
    },
    {'a': {'dtype': 'O', 'shape': [6], 'data_offsets': [0, 24]}},
    {'a': 3},
  ],
)
def test_safetensors_that_contradict_themselves(header, tmp_path):
  refused(_safetensors(tmp_path / 'a', header), 'damaged')


def test_truncated_safetensors_and_other_types(tmp_path):
  save_file(ARRAYS, tmp_path / 'a')
  good = (tmp_path / 'a').read_bytes()
  for cut in (1, 20, len(good) - 12):
    (tmp_path / 'b').write_bytes(good[:-cut])
    refused(tmp_path / 'b', 'damaged')
  (tmp_path / 'b').write_bytes(struct.pack('<Q', 2**60) + good[8:])
  refused(tmp_path / 'b', 'damaged')
  header = {'a': {'dtype': 'F8_E4M3', 'shape': [24], 'data_offsets': [0, 24]}}
  refused(
    _safetensors(tmp_path / 'c', header), 'a has the type F8_E4M3, which CLIP weights do not have'
  )


def test_bfloat16_safetensors(tmp_path):
  header = {'a': {'dtype': 'BF16', 'shape': [2, 2], 'data_offsets': [0, 8]}}
  data = np.array([1, -2.5, 0, 3], np.float32).view(np.uint32)
  path = _safetensors(tmp_path / 'a', header, (data >> 16).astype('<u2').tobytes())
  np.testing.assert_array_equal(read(path)['a'].astype(np.float32), [[1, -2.5], [0, 3]])


def test_shards(tmp_path):
  save_file(ARRAYS, tmp_path / 'first.safetensors')
  outside = tmp_path.parent / f'{tmp_path.name}-outside.safetensors'
  save_file(ARRAYS, outside)
  index = tmp_path / 'model.safetensors.index.json'

  def write(weight_map):
    index.write_text(json.dumps({'weight_map': weight_map}))

  write({'a': 'first.safetensors', 'b': 'first.safetensors'})
  np.testing.assert_array_equal(read(index)['a'], ARRAYS['a'])
  for name in (f'../{outside.name}', str(outside), '..', '', index.name, 'x\\first.safetensors'):
    write({'a': name})
    refused(index, 'is not a file in the same folder|is missing')
  write({'a': 'second.safetensors'})
  refused(index, 'its part second.safetensors is missing')
  write({'c': 'first.safetensors'})
  refused(index, 'first.safetensors: lacks c')
  write([])
  refused(index, 'no weight_map')
  index.write_text('[' * 100000)
  refused(index, 'not readable as JSON')


def test_numpy_files(tmp_path):
  path = tmp_path / 'a.npy'
  np.save(path, ARRAYS['a'])
  refused(path, 'an array of numbers instead')
  np.save(path, np.array([1, 'a', None], object), allow_pickle=True)
  refused(path, 'an array of numbers instead')
  np.save(path, {'a': np.array(['x', None], object)}, allow_pickle=True)
  refused(path, 'a is not an array of numbers')
  np.save(path, {'a': np.ones(2, '>f4')}, allow_pickle=True)
  refused(path, 'a is not an array of numbers')
  np.save(path, [1], allow_pickle=True)
  refused(path, 'an array of numbers instead')
  np.save(path, {'a': 1}, allow_pickle=True)
  refused(path, 'a is not an array of numbers')
  np.save(path, ARRAYS, allow_pickle=True)
  path.write_bytes(path.read_bytes()[:-9])
  refused(path, 'damaged')


def test_msgpack_files(tmp_path):
  path = tmp_path / 'a.msgpack'
  good = serialization.msgpack_serialize({'params': {'x': {'a': ARRAYS['a']}}})
  path.write_bytes(good)
  np.testing.assert_array_equal(read(path)['x/a'], ARRAYS['a'])
  path.write_bytes(good[:-5])
  refused(path, 'damaged')
  path.write_bytes(serialization.msgpack_serialize({'a': 'text'}))
  refused(path, 'a is not an array')
  path.write_bytes(b'\xdf\xff\xff\xff\xff')
  refused(path, 'damaged')
  path.write_bytes(b'\x81\xa1a' * 5000)
  refused(path, 'damaged')


def test_files_without_weights(tmp_path):
  path = tmp_path / 'a'
  for content in (b'', b'<html>', bytes(100)):
    path.write_bytes(content)
    refused(path, 'neither safetensors, PyTorch')
  (tmp_path / 'adapter').mkdir()
  (tmp_path / 'adapter' / 'adapter_config.json').write_text('{}')
  save_file(ARRAYS, tmp_path / 'adapter' / 'adapter_model.safetensors')
  with pytest.raises(UserError, match='adapter: holds adapters .LoRA. without .* merge them'):
    weight_files.open_source(str(tmp_path / 'adapter'), 'SRC')
  with pytest.raises(UserError, match='SRC: .*nowhere does not exist'):
    weight_files.open_source(str(tmp_path / 'nowhere'), 'SRC')
  with pytest.raises(UserError, match='holds none of .* is not a run of this project'):
    weight_files.open_source(str(tmp_path), 'SRC')


def test_npz_files_are_mapped(tmp_path):
  arrays = {'params/a': np.arange(6, dtype=np.float32).reshape(2, 3), 'b': np.ones(4, np.float16)}
  np.savez(tmp_path / 'x.npz', **arrays, c=np.asfortranarray(np.eye(3)), empty=np.zeros((0, 2)))
  state = read(tmp_path / 'x.npz')
  assert state.keys() == {'params/a', 'b', 'c', 'empty'}
  for key, array in arrays.items():
    np.testing.assert_array_equal(state[key], array)
  np.testing.assert_array_equal(state['c'], np.eye(3))
  # The only file of weights in a folder.
  assert weight_files.open_source(str(tmp_path), 'SRC').content.state.keys() == state.keys()


def test_npz_files_that_are_refused(tmp_path):
  path = tmp_path / 'x.npz'
  np.savez_compressed(path, a=np.zeros((100, 100)))
  refused(path, 'a.npy is compressed; write the file again with numpy.savez')
  np.savez(path, a=np.array([{}], object))
  refused(path, 'a.npy is not an array of numbers')
  np.savez(path, a=np.zeros(100))
  content = path.read_bytes()
  path.write_bytes(content.replace(b"'shape': (100,)", b"'shape': (999,)"))
  refused(path, 'damaged|is not an array of numbers')
  path.write_bytes(content[: len(content) // 2])
  refused(path, 'damaged')


@pytest.mark.parametrize(
  ('descr', 'shape'),
  [('<f4', '(-2, -3)'), ('<f4', '(True, 6)'), (('<f4', (2,)), '(3,)'), ('<U1', '(6,)')],
)
def test_npz_files_whose_headers_are_no_arrays_are_refused(tmp_path, descr, shape):
  header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}".ljust(117) + '\n'
  content = b'\x93NUMPY\x01\x00' + len(header).to_bytes(2, 'little') + header.encode()
  with zipfile.ZipFile(tmp_path / 'x.npz', 'w') as archive:
    archive.writestr('a.npy', content + bytes(24))
  refused(tmp_path / 'x.npz', 'a.npy is (not an array of numbers|damaged)')
