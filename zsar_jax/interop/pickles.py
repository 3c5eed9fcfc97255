"""Pickles of weights, read without running what they ask for.

A pickle is a program: it names functions and has them called. Here every name stands for an
inert object of this file, and a name that weights have no need of is refused. What comes out
are dictionaries, `StridedTensor`s and `PickledArray`s, whose data nobody has looked at yet.
"""

import io
import pathlib
import pickle
import pickletools
import types
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from zsar_jax.errors import UserError, first_line
from zsar_jax.interop.tensors import BFLOAT16


class _Inert(type):
  """Classes that a pickle, which may set attributes on what it names, cannot change."""

  def __setattr__(cls, name: str, value: Any) -> None:
    raise pickle.UnpicklingError(f'it sets {name} of {cls.__name__}')


class _Frozen(metaclass=_Inert):
  """Instances that a pickle cannot change either."""

  __slots__ = ()

  def __setattr__(self, name: str, value: Any) -> None:
    raise pickle.UnpicklingError(f'it sets {name} of a name')


class _Function(_Frozen):
  """Something that may be called."""

  __slots__ = ('_function',)

  def __init__(self, function: Callable):
    object.__setattr__(self, '_function', function)

  def __call__(self, *arguments: Any) -> Any:
    return self._function(*arguments)


class _StorageType(_Frozen):
  """The name of a type of storage, which is not called."""

  __slots__ = ('dtype',)

  def __init__(self, dtype: np.dtype):
    object.__setattr__(self, 'dtype', dtype)


class Storage(metaclass=_Inert):
  """Numbers of PyTorch's that lie in a place of their own in the file.

  Attributes:
    dtype: their type.
    key: their name in the file.
    count: how many.
  """

  __slots__ = ('count', 'dtype', 'key')

  def __init__(self, dtype: np.dtype, key: str, count: int):
    self.dtype, self.key, self.count = dtype, key, count


class StridedTensor(metaclass=_Inert):
  """A view of a storage, offset and strides counted in elements; nothing is checked yet."""

  __slots__ = ('offset', 'shape', 'storage', 'strides')

  def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any):
    self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides


class ScriptObject(metaclass=_Inert):
  """A module in a TorchScript archive: its attributes, without its code."""

  __slots__ = ('attributes',)

  def __setstate__(self, state: Any) -> None:
    self.attributes = state


class PickledArray(metaclass=_Inert):
  """A NumPy array, as the state that NumPy pickles; nothing is checked yet.

  Attributes:
    state: (version, shape, dtype, in Fortran's order, bytes or a list of objects).
  """

  __slots__ = ('state',)

  def __setstate__(self, state: Any) -> None:
    self.state = state


class PickledDtype(metaclass=_Inert):
  """A NumPy dtype: its code, such as 'f4', and its byte order."""

  __slots__ = ('code', 'order')

  def __init__(self, code: Any, *rest: Any):
    del rest
    self.code, self.order = code, '='

  def __setstate__(self, state: Any) -> None:
    self.order = state[1]


class _Settings(dict, metaclass=_Inert):
  """A run's settings, which checkpoints hold beside their weights; nobody reads them."""

  def __setstate__(self, state: Any) -> None:
    pass


_STORAGES = {
  'BFloat16Storage': BFLOAT16,
  'BoolStorage': np.dtype(np.bool_),
  'ByteStorage': np.dtype(np.uint8),
  'CharStorage': np.dtype(np.int8),
  'DoubleStorage': np.dtype(np.float64),
  'FloatStorage': np.dtype(np.float32),
  'HalfStorage': np.dtype(np.float16),
  'IntStorage': np.dtype(np.int32),
  'LongStorage': np.dtype(np.int64),
  'ShortStorage': np.dtype(np.int16),
}

_array = _Function(lambda *ignored: PickledArray())
_scalar = _Function(lambda *ignored: None)
_same = _Function(lambda values: values)

_GLOBALS = types.MappingProxyType(
  {
    'collections.OrderedDict': OrderedDict,
    'torch._utils._rebuild_tensor_v2': _Function(
      lambda storage, offset, shape, strides, *rest: StridedTensor(storage, offset, shape, strides)
    ),
    'torch._utils._rebuild_parameter': _Function(lambda data, *rest: data),
    'torch.jit._pickle.build_boollist': _same,
    'torch.jit._pickle.build_doublelist': _same,
    'torch.jit._pickle.build_intlist': _same,
    'torch.jit._pickle.build_tensorlist': _same,
    **{f'torch.{name}': _StorageType(dtype) for name, dtype in _STORAGES.items()},
    'numpy.dtype': PickledDtype,
    'numpy.ndarray': PickledArray,
    'numpy.core.multiarray._reconstruct': _array,
    'numpy._core.multiarray._reconstruct': _array,
    'numpy.core.multiarray.scalar': _scalar,
    'numpy._core.multiarray.scalar': _scalar,
    # How old pickles write bytes.
    '_codecs.encode': _Function(lambda text, encoding: text.encode('latin1')),
    'argparse.Namespace': _Settings,
    'yacs.config.CfgNode': _Settings,
  }
)


class _Unpickler(pickle.Unpickler):
  def __init__(self, file: BinaryIO, path: pathlib.Path):
    super().__init__(file)
    self._path = path
    self.storages: dict[str, Storage] = {}

  def find_class(self, module: str, name: str) -> Any:
    if module.startswith('__torch__'):
      return ScriptObject
    if f'{module}.{name}' not in _GLOBALS:
      raise UserError(
        f'{self._path}: asks for {module}.{name}, which weights have no need of, and was not'
        ' loaded; where you trust it, save its state dict alone with safetensors'
      )
    return _GLOBALS[f'{module}.{name}']

  def persistent_load(self, pid: Any) -> Storage:
    kind, storage_type, key, _, count, *view = pid
    if kind != 'storage' or any(view) or not isinstance(storage_type, _StorageType):
      raise pickle.UnpicklingError('it refers to something else than storages')
    if type(key) is not str or type(count) is not int:
      raise pickle.UnpicklingError('a storage has no name')
    self.storages[key] = Storage(storage_type.dtype, key, count)
    return self.storages[key]


def load(file: BinaryIO, path: pathlib.Path) -> tuple[Any, dict[str, Storage]]:
  """Reads one pickle from where `file` is, and leaves `file` behind it.

  Args:
    file: seekable.
    path: names it in errors.

  Returns:
    What was pickled, and the storages that it refers to, by their keys.

  Raises:
    UserError: for a damaged pickle, and for one that asks for anything but weights.
  """
  start = file.tell()
  try:
    for opcode, argument, _ in pickletools.genops(file):
      # Python's unpickler makes room for as many objects as the greatest number given to one,
      # and takes extensions from other pickles without asking `find_class`.
      numbered = 'PUT' in opcode.name and argument > file.tell() - start
      if numbered or opcode.name.startswith('EXT'):
        raise pickle.UnpicklingError(f'an odd {opcode.name}')
    size = file.tell() - start
    file.seek(start)
    unpickler = _Unpickler(io.BytesIO(file.read(size)), path)
    return unpickler.load(), unpickler.storages
  except UserError:
    raise
  except Exception as error:  # Of damaged pickles, Python's unpickler raises almost anything.
    raise UserError(
      f'{path}: damaged, or no file of weights ({first_line(error)}); fetch it again'
    ) from None
