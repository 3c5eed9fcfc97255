"""Writes weight files byte by byte, so that they can be invalid."""

import io
import pickle
import struct
import zipfile

import jax
import numpy as np
import pytest

from zsar_jax.errors import UserError
from zsar_jax.weights.formats import torch_files, weight_files

ARRAYS = {'a': np.arange(6, dtype=np.float32).reshape(2, 3), 'b': np.ones(4, np.float16)}


def random_params(model, seed=0):
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), model.abstract_params
  )


class Global:
  """A name to write into a pickle; its module need not exist."""

  def __init__(self, module, name):
    self.text = f'c{module}\n{name}\n'.encode()

  def __call__(self):
    """Never called; only callable objects are pickled as the name of a function."""
    raise NotImplementedError


REBUILD = Global('torch._utils', '_rebuild_tensor_v2')


class Pickler(pickle._Pickler):
  """Writes `Global`s by name, and `Stored` as references to storages."""

  def save(self, value, *arguments, **options):
    if isinstance(value, Global):
      self.write(value.text)
    else:
      super().save(value, *arguments, **options)

  def persistent_id(self, value):
    return value.pid if isinstance(value, Stored) else None


class Stored:
  """A reference to a storage."""

  def __init__(self, key='0', count=6, kind='FloatStorage', module='torch'):
    self.pid = ('storage', Global(module, kind), key, 'cpu', count)


class Tensor:
  """A tensor in PyTorch's pickles."""

  def __init__(self, storage=None, offset=0, shape=(2, 3), strides=(3, 1)):
    self.arguments = (storage or Stored(), offset, shape, strides, False, {})

  def __reduce__(self):
    return REBUILD, self.arguments


def dumps(value):
  file = io.BytesIO()
  Pickler(file, protocol=2).dump(value)
  return file.getvalue()


def archive(path, content, data=None, **options):
  """Writes a zip archive of PyTorch: a pickle (or its object) and the bytes of the storages."""
  with zipfile.ZipFile(path, 'w', **options) as file:
    file.writestr('m/data.pkl', content if isinstance(content, bytes) else dumps(content))
    for key, values in (data or {'0': ARRAYS['a'].tobytes()}).items():
      file.writestr(f'm/data/{key}', values)
  return path


def legacy(path, content, keys=('0',), data=None):
  machine = {'protocol_version': 1001, 'little_endian': True, 'type_sizes': {}}
  head = [torch_files.LEGACY_MAGIC, 1001, machine]
  pickles = b''.join(pickle.dumps(value, protocol=2) for value in head)
  pickles += content if isinstance(content, bytes) else dumps(content)
  pickles += pickle.dumps(list(keys), protocol=2)
  path.write_bytes(
    pickles + (struct.pack('<q', 6) + ARRAYS['a'].tobytes() if data is None else data)
  )
  return path


def numpy_file(path, content):
  file = io.BytesIO()
  np.lib.format.write_array_header_1_0(file, {'descr': '|O', 'fortran_order': False, 'shape': ()})
  path.write_bytes(file.getvalue() + content)
  return path


def read(path):
  state = weight_files.read_file(path).state
  return {key: np.asarray(tensor.read()) for key, tensor in state.items()}


def refused(path, words):
  with pytest.raises(UserError, match=words) as caught:
    read(path)
  message = str(caught.value)
  assert str(path.parent) in message
  assert '\n' not in message
  assert len(message) < 500
