"""Pickles of weights, read without running what they ask for.

A pickle is a program: it names functions and has them called. Here every name stands for something
inert of this file. Names of other programs (a training's settings, its logs) become `Record`s, in
which nothing runs. Of Python, PyTorch and NumPy, whose functions and formats a file could mean to
use, a name that weights have no need of is refused. What comes out are dictionaries, `Record`s,
`StridedTensor`s and `PickledArray`s, whose data nobody has looked at yet.
"""

import pathlib
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import numpy as np

from zsar_jax.errors import UserError, first_line
from zsar_jax.weights.formats.instructions import Interpreter
from zsar_jax.weights.formats.tensors import BFLOAT16, shown


class _Function:
  """What is computed here where a pickle calls a function."""

  __slots__ = ('compute',)

  def __init__(self, compute: Callable[..., Any]):
    self.compute = compute


class _StorageType:
  """The name of a type of storage, which is not called."""

  __slots__ = ('dtype',)

  def __init__(self, dtype: np.dtype):
    self.dtype = dtype


class _Name:
  """The name of a class or function, of which a call gives a `Record`."""

  __slots__ = ('name',)

  def __init__(self, name: str):
    self.name = name


class Record:
  """An object of another program, of which only what it holds is kept.

  Attributes:
    name: of its class.
    items: what it holds as a dictionary.
    state: its attributes, as they were pickled.
  """

  __slots__ = ('items', 'name', 'state')

  def __init__(self, name: str, state: Any = None):
    self.name, self.state, self.items = name, state, {}


class Storage:
  """Numbers of PyTorch's that lie in a place of their own in the file.

  Attributes:
    dtype: their type.
    key: their name in the file.
    count: how many.
  """

  __slots__ = ('count', 'dtype', 'key')

  def __init__(self, dtype: np.dtype, key: str, count: int):
    self.dtype, self.key, self.count = dtype, key, count


class StridedTensor:
  """A view of a storage, offset and strides counted in elements; nothing is checked yet."""

  __slots__ = ('offset', 'shape', 'storage', 'strides')

  def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any):
    self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides


class ScriptObject:
  """A module in a TorchScript archive: its attributes, without its code."""

  __slots__ = ('attributes',)

  def __init__(self):
    self.attributes = None


class PickledArray:
  """A NumPy array, as the state that NumPy pickles; nothing is checked yet.

  Attributes:
    state: (version, shape, dtype, in Fortran's order, bytes or a list of objects).
  """

  __slots__ = ('state',)

  def __init__(self, state: Any = None):
    self.state = state


class PickledDtype:
  """A NumPy dtype: its code, such as 'f4', and its byte order."""

  __slots__ = ('code', 'order')

  def __init__(self, code: Any):
    self.code, self.order = code, '='


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


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> StridedTensor:
  return StridedTensor(storage, offset, shape, strides)


def _tensor_of_type(function: Any, kind: Any, arguments: Any, *_: Any) -> StridedTensor:
  """A tensor of a class of its own, or with attributes: what is beneath."""
  del kind
  if function is not _REBUILD or type(arguments) is not tuple:
    raise ValueError('a tensor is made in an odd way')
  return _tensor(*arguments)


def _array(data: Any, dtype: Any, shape: Any, order: Any = 'C', *_: Any) -> PickledArray:
  """An array as the fifth protocol has it."""
  return PickledArray((1, shape, dtype, order == 'F', data))


def _latin1(text: str, encoding: str) -> bytes:
  """How old pickles write bytes."""
  del encoding
  return text.encode('latin1')


_REBUILD = _Function(_tensor)
_SAME = _Function(lambda values=(), *_: values)
_DATA = _Function(lambda data, *_: data)
_EMPTY_ARRAY = _Function(lambda *_: PickledArray())
_DTYPE = _Function(lambda code, *_: PickledDtype(code))

_GLOBALS = types.MappingProxyType(
  {
    'torch._utils._rebuild_tensor_v2': _REBUILD,
    'torch._utils._rebuild_parameter': _DATA,
    'torch._utils._rebuild_parameter_with_state': _DATA,
    'torch._tensor._rebuild_from_type_v2': _Function(_tensor_of_type),
    'torch.Size': _SAME,
    'torch.jit._pickle.build_boollist': _SAME,
    'torch.jit._pickle.build_doublelist': _SAME,
    'torch.jit._pickle.build_intlist': _SAME,
    'torch.jit._pickle.build_tensorlist': _SAME,
    **{f'torch.{name}': _StorageType(dtype) for name, dtype in _STORAGES.items()},
    'numpy.dtype': _DTYPE,
    'numpy.core.multiarray._reconstruct': _EMPTY_ARRAY,
    'numpy._core.multiarray._reconstruct': _EMPTY_ARRAY,
    'numpy.core.numeric._frombuffer': _Function(_array),
    'numpy._core.numeric._frombuffer': _Function(_array),
    '_codecs.encode': _Function(_latin1),
  }
)
_DICTIONARIES = frozenset(
  f'{module}.{name}'
  for module, name in (
    ('collections', 'OrderedDict'),
    ('collections', 'defaultdict'),
    ('collections', 'Counter'),
    ('builtins', 'dict'),
    ('__builtin__', 'dict'),
  )
)

# Of Python, PyTorch and NumPy: classes of values that training programs save with their weights,
# and which hold nothing that can run.
_RECORDS = frozenset(
  f'{module}.{name}'
  for modules, names in (
    ('argparse', 'Namespace'),
    ('types', 'SimpleNamespace'),
    (
      'builtins __builtin__',
      'set frozenset list tuple bytearray bytes str int float bool complex object slice range'
      ' long unicode xrange',
    ),
    ('collections', 'deque'),
    ('copyreg copy_reg', '_reconstructor'),
    ('datetime', 'date datetime time timedelta timezone'),
    ('decimal', 'Decimal'),
    ('functools', 'partial'),
    ('logging', 'getLogger Logger'),
    (
      'pathlib pathlib._local',
      'Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath',
    ),
    ('re', '_compile'),
    ('typing', 'Any Dict List Optional Tuple Union'),
    ('uuid', 'UUID'),
    (
      'torch',
      'device dtype Tensor float16 float32 float64 half float double bfloat16 int8 int16 int32'
      ' int64 short int long uint8 bool',
    ),
    ('torch.nn.parameter', 'Buffer Parameter'),
    ('torch.torch_version', 'TorchVersion'),
    ('numpy', 'ndarray bool_ float16 float32 float64 int8 int16 int32 int64 uint8 str_'),
    ('numpy.core.multiarray numpy._core.multiarray', 'scalar'),
  )
  for module in modules.split()
  for name in names.split()
)
# And modules of nothing but such classes.
_RECORD_MODULES = (
  *('numpy.dtypes', 'numpy.random', 'torch.amp', 'torch.cuda', 'torch.distributed', 'torch.nn'),
  *('torch.optim', 'torch.utils'),
)
# How pickles write the name of what is in a class.
_ATTRIBUTE = ('builtins.getattr', '__builtin__.getattr')
_PYTHON_2 = ('__builtin__', 'commands', 'copy_reg', 'exceptions', 'urllib2')
_REFUSED = frozenset([*sys.stdlib_module_names, *_PYTHON_2, 'numpy', 'torch'])


class _Interpreter(Interpreter):
  def __init__(self, path: pathlib.Path, size: int):
    super().__init__()
    self._path = path
    # The characters that may still be encoded: the same text could be again and again.
    self._encodable = size
    self.storages: dict[str, Storage] = {}

  def key(self, value: Any) -> Any:
    if isinstance(value, tuple) or isinstance(value, int) and value.bit_length() > 64:
      # Nobody looks these up. The hash of nested tuples can overflow the stack, and of long numbers
      # any number have the same.
      return Record('key', value)
    if isinstance(value, dict | list):
      raise ValueError('a key can change')
    return value

  def find(self, module: str, name: str) -> Any:
    if module.startswith('__torch__'):
      return _Function(lambda *_: ScriptObject())
    full = f'{module}.{name}'
    if full in _GLOBALS:
      return _GLOBALS[full]
    if full in _DICTIONARIES:
      return _Function(self._dictionary)
    if full in _ATTRIBUTE:
      return _Function(self._attribute)
    if (
      full in _RECORDS
      or f'{module}.'.startswith(tuple(f'{known}.' for known in _RECORD_MODULES))
      or module.partition('.')[0] not in _REFUSED
    ):
      return _Name(full)
    raise self._refusal(full)

  def _refusal(self, name: str) -> UserError:
    return UserError(
      f'{self._path}: asks for {shown(name)}, which weights have no need of, and was not'
      ' loaded; where you trust it, save its state dict alone with safetensors'
    )

  def _attribute(self, target: Any, name: Any) -> _Name:
    """The name of what is in a class of another program."""
    if not isinstance(target, _Name) or type(name) is not str:
      raise self._refusal('builtins.getattr')
    return _Name(f'{target.name[:100]}.{name[:100]}')

  def _dictionary(self, *arguments: Any) -> dict[Any, Any]:
    """A dictionary that is made of pairs or of another one."""
    content = arguments[-1] if arguments else ()
    made: dict[Any, Any] = {}
    if isinstance(content, dict):
      self.spend(len(content))
      made.update(content)
    elif isinstance(content, list | tuple):
      self.spend(2 * len(content))
      for key, value in content:
        made[self.key(key)] = value
    return made

  def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
    if isinstance(function, _Name):
      return Record(function.name, arguments)
    if not isinstance(function, _Function):
      raise ValueError('it calls what is no function')
    if function.compute is _latin1:
      self._encodable -= len(arguments[0])
      if self._encodable < 0:
        raise ValueError('it encodes more text than it holds')
    return function.compute(*arguments)

  def build(self, target: Any, state: Any) -> None:
    if isinstance(target, ScriptObject):
      target.attributes = state
    elif isinstance(target, PickledDtype):
      target.order = state[1]
    elif isinstance(target, PickledArray | Record):
      target.state = state
    elif type(target) is not dict:  # Attributes of a state dict are of no use here.
      raise ValueError('it gives a state to something that has none')

  def collect(self, values: Sequence[Any]) -> Record:
    return Record('set', values)

  def extend(self, target: Any, values: Sequence[Any]) -> None:
    if not isinstance(target, Record):  # Nobody reads what is in a set.
      super().extend(target, values)

  def items(self, target: Any) -> dict[Any, Any]:
    return target.items if isinstance(target, Record) else super().items(target)

  def refer(self, reference: Any) -> Storage:
    if type(reference) is not tuple or not 5 <= len(reference) <= 6:
      raise ValueError('it refers to something else than storages')
    kind, storage_type, key, _, count, *view = reference
    if kind != 'storage' or any(view) or not isinstance(storage_type, _StorageType):
      raise ValueError('it refers to something else than storages')
    if type(key) is not str or type(count) is not int:
      raise ValueError('a storage has no name')
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
  interpreter = _Interpreter(path, path.stat().st_size)
  try:
    return interpreter.run(file), interpreter.storages
  except UserError:
    raise
  except Exception as error:  # Of damaged pickles, pickletools raises almost anything.
    raise UserError(
      f'{path}: damaged, or no file of weights ({first_line(error)}); fetch it again'
    ) from None
