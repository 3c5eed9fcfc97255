"""Reads pickles of weights without running their code.

A pickle is a program that names functions and calls them. Here each name is replaced by an inert
object (see `pickle_names`) or refused. The result consists of dictionaries and of the objects of
`pickled_objects`, whose data are not checked yet.
"""

import pathlib
from collections.abc import Sequence
from typing import Any, BinaryIO

from zsar_jax.errors import UserError, first_line
from zsar_jax.weights.formats import pickle_names
from zsar_jax.weights.formats.lazy_arrays import printable
from zsar_jax.weights.formats.pickle_interpreter import Interpreter
from zsar_jax.weights.formats.pickle_names import Function, RecordType, StorageType
from zsar_jax.weights.formats.pickled_objects import (
  PickledArray,
  PickledDtype,
  Record,
  ScriptObject,
  Storage,
)


def load(file: BinaryIO, path: pathlib.Path) -> tuple[Any, dict[str, Storage]]:
  """Reads one pickle from the current position of `file` and moves the position behind it.

  Args:
    file: a seekable file.
    path: its path, for errors.

  Returns:
    The pickled object, and the storages that it refers to, by their keys.

  Raises:
    UserError: if the pickle is damaged or contains a name that weights do not need.
  """
  interpreter = _Interpreter(path, path.stat().st_size)
  try:
    return interpreter.run(file), interpreter.storages
  except UserError:
    raise
  except Exception as error:  # pickletools raises almost anything for damaged pickles.
    raise UserError(
      f'{path}: damaged or not a file of weights ({first_line(error)}); fetch it again'
    ) from None


class _Interpreter(Interpreter):
  """Interprets pickles of weights.

  Attributes:
    storages: the storages that the pickle refers to, by their keys.
  """

  def __init__(self, path: pathlib.Path, size: int):
    """Creates an interpreter for a file of `size` bytes."""
    super().__init__()
    self._path = path
    # The number of characters that may still be encoded. Without a limit, a pickle could encode
    # the same long text again and again.
    self._encodable = size
    self.storages: dict[str, Storage] = {}

  def key(self, value: Any) -> Any:
    if isinstance(value, tuple) or isinstance(value, int) and value.bit_length() > 64:
      # Replaced because such keys are never looked up, hashing nested tuples can overflow the
      # stack, and any number of long integers can share one hash.
      return Record('key', value)
    if isinstance(value, dict | list):
      raise ValueError('a key is mutable')
    return value

  def find_global(self, module: str, name: str) -> Any:
    if module.startswith('__torch__'):
      return Function(lambda *_: ScriptObject())
    full_name = f'{module}.{name}'
    if full_name in pickle_names.GLOBALS:
      return pickle_names.GLOBALS[full_name]
    if full_name in pickle_names.DICTIONARIES:
      return Function(self._dictionary)
    if full_name in pickle_names.GETATTR:
      return Function(self._member)
    if pickle_names.is_record(module, name):
      return RecordType(full_name)
    raise self._refusal(full_name)

  def _refusal(self, name: str) -> UserError:
    return UserError(
      f'{self._path}: not loaded, because it uses {printable(name)}, which weights do not need; if'
      ' you trust the file, save its state dict alone with safetensors'
    )

  def _member(self, target: Any, name: Any) -> RecordType:
    """Returns a member of a class of another program."""
    if not isinstance(target, RecordType) or type(name) is not str:
      raise self._refusal('builtins.getattr')
    return RecordType(f'{target.name[:100]}.{name[:100]}')

  def _dictionary(self, *arguments: Any) -> dict[Any, Any]:
    """Returns a dictionary built from pairs or from another dictionary."""
    content = arguments[-1] if arguments else ()
    dictionary: dict[Any, Any] = {}
    if isinstance(content, dict):
      self.spend(len(content))
      dictionary.update(content)
    elif isinstance(content, list | tuple):
      self.spend(2 * len(content))
      for key, value in content:
        dictionary[self.key(key)] = value
    return dictionary

  def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
    if isinstance(function, RecordType):
      return Record(function.name, arguments)
    if not isinstance(function, Function):
      raise ValueError('it calls something that is not a function')
    if function.compute is pickle_names.encode_latin1:
      self._encodable -= len(arguments[0])
      if self._encodable < 0:
        raise ValueError('it encodes more text than it contains')
    return function.compute(*arguments)

  def set_state(self, target: Any, state: Any) -> None:
    if isinstance(target, ScriptObject):
      target.attributes = state
    elif isinstance(target, PickledDtype):
      target.order = state[1]
    elif isinstance(target, PickledArray | Record):
      target.state = state
    elif type(target) is not dict:  # The attributes of a state dict are ignored.
      raise ValueError('it sets the state of an object that has none')

  def make_set(self, values: Sequence[Any]) -> Record:
    return Record('set', values)

  def extend(self, target: Any, values: Sequence[Any]) -> None:
    if not isinstance(target, Record):  # The elements of a set are never read.
      super().extend(target, values)

  def items(self, target: Any) -> dict[Any, Any]:
    return target.items if isinstance(target, Record) else super().items(target)

  def load_persistent(self, reference: Any) -> Storage:
    if type(reference) is not tuple or not 5 <= len(reference) <= 6:
      raise ValueError('it refers to something other than a storage')
    kind, storage_type, key, _, count, *view = reference
    if kind != 'storage' or any(view) or not isinstance(storage_type, StorageType):
      raise ValueError('it refers to something other than a storage')
    if type(key) is not str or type(count) is not int:
      raise ValueError('a storage has no name or size')
    self.storages[key] = Storage(storage_type.dtype, key, count)
    return self.storages[key]
