"""The names that pickles of weights may contain, and the inert objects that replace them.

Names of Python, PyTorch and NumPy are refused unless they are listed here, since a file could use
them to run code. Names of other programs, such as the classes of a training program's settings and
logs, become `Record`s.
"""

import dataclasses
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from zsar_jax.weights.formats.lazy_arrays import BFLOAT16
from zsar_jax.weights.formats.pickled_objects import PickledArray, PickledDtype, StridedTensor


@dataclasses.dataclass(eq=False, slots=True)
class Function:
  """Replaces a function that a pickle may call; `compute` is called instead."""

  compute: Callable[..., Any]


@dataclasses.dataclass(eq=False, slots=True)
class StorageType:
  """Replaces a class of PyTorch storages, which pickles name but do not call."""

  dtype: np.dtype


@dataclasses.dataclass(eq=False, slots=True)
class RecordType:
  """Replaces a class or function of another program; calling it gives a `Record`."""

  name: str


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


def _tensor_subclass(function: Any, subclass: Any, arguments: Any, *_: Any) -> StridedTensor:
  """Returns the tensor in an instance of a tensor subclass, or in a tensor with attributes."""
  del subclass
  if function is not _REBUILD or type(arguments) is not tuple:
    raise ValueError('a tensor is rebuilt by an unknown function')
  return _tensor(*arguments)


def _array(data: Any, dtype: Any, shape: Any, order: Any = 'C', *_: Any) -> PickledArray:
  """Returns an array as pickle protocol 5 writes it."""
  return PickledArray((1, shape, dtype, order == 'F', data))


def encode_latin1(text: str, encoding: str) -> bytes:
  """Returns bytes, which pickle protocols before 3 write as text."""
  del encoding
  return text.encode('latin1')


_REBUILD = Function(_tensor)
_SEQUENCE = Function(lambda values=(), *_: values)
_PARAMETER = Function(lambda data, *_: data)
_EMPTY_ARRAY = Function(lambda *_: PickledArray())

# Functions and storage types that weights need.
GLOBALS = types.MappingProxyType(
  {
    'torch._utils._rebuild_tensor_v2': _REBUILD,
    'torch._utils._rebuild_parameter': _PARAMETER,
    'torch._utils._rebuild_parameter_with_state': _PARAMETER,
    'torch._tensor._rebuild_from_type_v2': Function(_tensor_subclass),
    'torch.Size': _SEQUENCE,
    'torch.jit._pickle.build_boollist': _SEQUENCE,
    'torch.jit._pickle.build_doublelist': _SEQUENCE,
    'torch.jit._pickle.build_intlist': _SEQUENCE,
    'torch.jit._pickle.build_tensorlist': _SEQUENCE,
    **{f'torch.{name}': StorageType(dtype) for name, dtype in _STORAGES.items()},
    'numpy.dtype': Function(lambda code, *_: PickledDtype(code)),
    'numpy.core.multiarray._reconstruct': _EMPTY_ARRAY,
    'numpy._core.multiarray._reconstruct': _EMPTY_ARRAY,
    'numpy.core.numeric._frombuffer': Function(_array),
    'numpy._core.numeric._frombuffer': Function(_array),
    '_codecs.encode': Function(encode_latin1),
  }
)

# Classes that become plain dictionaries.
DICTIONARIES = frozenset(
  f'{module}.{name}'
  for module, name in (
    ('collections', 'OrderedDict'),
    ('collections', 'defaultdict'),
    ('collections', 'Counter'),
    ('builtins', 'dict'),
    ('__builtin__', 'dict'),
  )
)

# The function by which pickles refer to a member of a class.
GETATTR = ('builtins.getattr', '__builtin__.getattr')

# Classes of Python, PyTorch and NumPy that training programs save with their weights and that
# contain nothing that can run.
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
# Modules that consist only of such classes.
_RECORD_MODULES = (
  *('numpy.dtypes.', 'numpy.random.', 'torch.amp.', 'torch.cuda.', 'torch.distributed.'),
  *('torch.nn.', 'torch.optim.', 'torch.utils.'),
)
_PYTHON_2_MODULES = ('__builtin__', 'commands', 'copy_reg', 'exceptions', 'urllib2')
_REFUSED_PACKAGES = frozenset([*sys.stdlib_module_names, *_PYTHON_2_MODULES, 'numpy', 'torch'])


def is_record(module: str, name: str) -> bool:
  """Returns whether a name is that of a class or function that becomes a `Record`."""
  return (
    f'{module}.{name}' in _RECORDS
    or f'{module}.'.startswith(_RECORD_MODULES)
    or module.partition('.')[0] not in _REFUSED_PACKAGES
  )
