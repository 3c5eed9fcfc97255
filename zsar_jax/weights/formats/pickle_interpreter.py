"""Interprets the instructions of untrusted pickles without Python's unpickler.

A pickle is a program, and Python's unpickler calls whatever it names. Even an unpickler that finds
no function to call crashes on a key of nested tuples, whose hash overflows the stack. Here
instructions that build dictionaries, lists, tuples, strings and numbers are executed; all others
are refused unless a subclass gives them a harmless meaning.

Memory and time are bounded: an instruction creates no more than its own length, except for those
that count what they copy as steps, and there are at most `MAX_STEPS` steps.
"""

import os
import pickletools
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, NoReturn

# A checkpoint of ViT-L/14 with the state of its optimizer takes 60,000 steps.
MAX_STEPS = 2_000_000
# The longest integer. Checkpoints of PyTorch before 1.6 begin with one of 80 bits.
_MAX_BITS = 256


class Interpreter:
  """Reads pickles of dictionaries, lists, tuples, strings and numbers.

  Keys of dictionaries must be strings. A subclass supports more by overriding the public methods
  that follow `refuse`.
  """

  def __init__(self):
    self._opcode = ''
    self._steps = 0
    self._stack: list[Any] = []
    self._marks: list[int] = []
    self._memo: dict[int, Any] = {}

  def run(self, file: BinaryIO) -> Any:
    """Reads one pickle from the current position of `file` and moves the position behind it.

    Args:
      file: a seekable file.

    Returns:
      The pickled object.

    Raises:
      ValueError: if the pickle contains a refused instruction or takes too many steps.
      Exception: almost any, if the pickle is damaged.
    """
    # The stub asks for a full file; `genops` only reads bytes and lines.
    for opcode, argument, _ in pickletools.genops(_Reader(file)):  # type: ignore[arg-type]
      self._opcode = opcode.name
      self.spend(1)
      if opcode.name not in _INSTRUCTIONS:
        self.refuse()
      _INSTRUCTIONS[opcode.name](self, argument)
    if len(self._stack) != 1:
      raise ValueError('it is not a single value')
    return self._stack[0]

  def spend(self, steps: int) -> None:
    """Counts steps of work.

    Raises:
      ValueError: if there are too many.
    """
    self._steps += steps
    if self._steps > MAX_STEPS:
      raise ValueError(f'it takes more than {MAX_STEPS:,} steps')

  def refuse(self) -> NoReturn:
    """Refuses the current instruction."""
    raise ValueError(f'it asks for {self._opcode}')

  def key(self, value: Any) -> Any:
    """Returns a replacement of `value` as a dictionary key that is cheap to hash and compare."""
    if type(value) is not str:
      raise ValueError('a key is not a string')
    return value

  def find_global(self, module: str, name: str) -> Any:
    """Returns the replacement of a name in a module."""
    self.refuse()

  def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
    """Returns the replacement of the result of a call."""
    self.refuse()

  def set_state(self, target: Any, state: Any) -> None:
    """Sets the state of an object."""
    self.refuse()

  def make_set(self, values: Sequence[Any]) -> Any:
    """Returns the replacement of a set."""
    self.refuse()

  def extend(self, target: Any, values: Sequence[Any]) -> None:
    """Adds values to a list or set."""
    if type(target) is not list:
      raise ValueError('it adds elements to something that is not a list')
    target.extend(values)

  def items(self, target: Any) -> dict[Any, Any]:
    """Returns the dictionary to which keys and values of `target` are added."""
    if type(target) is not dict:
      raise ValueError('it adds entries to something that is not a dictionary')
    return target

  def load_persistent(self, reference: Any) -> Any:
    """Returns the replacement of an object outside the pickle."""
    self.refuse()

  def fill(self, target: dict[Any, Any], pairs: Sequence[Any]) -> None:
    """Adds alternating keys and values to a dictionary."""
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
      target[self.key(key)] = value

  def _pop(self, count: int | None = None) -> list[Any]:
    """Pops the top `count` values of the stack, by default those above the last mark."""
    start = self._marks.pop() if count is None else len(self._stack) - count
    if not 0 <= start <= len(self._stack):
      raise ValueError('it ends too early')
    values = self._stack[start:]
    del self._stack[start:]
    return values

  def _push(self, value: Any) -> None:
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:
      raise ValueError('an integer is too long')
    self._stack.append(value)

  def _extend(self, values: list[Any]) -> None:
    self.extend(self._stack[-1], values)

  def _set_items(self, pairs: list[Any]) -> None:
    self.fill(self.items(self._stack[-1]), pairs)

  def _make_dict(self) -> None:
    pairs = self._pop()
    dictionary: dict[Any, Any] = {}
    self.fill(dictionary, pairs)
    self._push(dictionary)

  def _memoize(self, number: int | None) -> None:
    number = len(self._memo) if number is None else number
    # Memo numbers count up. (Python's unpickler allocates as many entries as the largest number.)
    if number > self._steps:
      raise ValueError(f'{self._opcode} has an invalid number')
    self._memo[number] = self._stack[-1]

  def _call(self, function: Any, arguments: Any) -> None:
    if type(arguments) is not tuple:
      raise ValueError('it calls without arguments')
    self.spend(len(arguments))
    self._push(self.call(function, arguments))

  def _find(self, module: Any, name: Any) -> Any:
    if type(module) is not str or type(name) is not str:
      raise ValueError('a name is not a string')
    return self.find_global(module, name)

  def _call_new(self, has_keywords: bool) -> None:
    if has_keywords:
      function, arguments, options = self._pop(3)
      if type(options) is not dict:
        raise ValueError('its keyword arguments are not a dictionary')
      arguments = (*arguments, *options.values())
    else:
      function, arguments = self._pop(2)
    self._call(function, arguments)

  def _call_marked(self, name: str | None) -> None:
    values = self._pop()
    function = values.pop(0) if name is None else self._find(*name.split(' ', 1))
    self._call(function, tuple(values))

  def _build(self) -> None:
    (state,) = self._pop(1)
    self.set_state(self._stack[-1], state)

  def _pop_top(self) -> None:
    # If no value is above the last mark, the mark itself is popped.
    if self._marks and self._marks[-1] == len(self._stack):
      self._marks.pop()
    else:
      self._pop(1)


Instruction = Callable[[Interpreter, Any], object]


def _instructions() -> dict[str, Instruction]:
  """Returns the supported instructions by their names in `pickletools`."""
  table: dict[str, Instruction] = {}

  def add(names: str, instruction: Instruction) -> None:
    table.update(dict.fromkeys(names.split(), instruction))

  add('PROTO FRAME STOP', lambda it, _: None)
  add('STRING BINSTRING SHORT_BINSTRING', lambda it, value: it._push(value))
  add('UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8', lambda it, value: it._push(value))
  add('BINBYTES SHORT_BINBYTES BINBYTES8', lambda it, value: it._push(value))
  add('BYTEARRAY8', lambda it, value: it._push(bytes(value)))
  add('INT BININT BININT1 BININT2 LONG LONG1 LONG4', lambda it, value: it._push(value))
  add('FLOAT BINFLOAT', lambda it, value: it._push(value))
  add('NONE', lambda it, _: it._push(None))
  add('NEWTRUE', lambda it, _: it._push(True))
  add('NEWFALSE', lambda it, _: it._push(False))
  add('EMPTY_DICT', lambda it, _: it._push({}))
  add('EMPTY_LIST', lambda it, _: it._push([]))
  add('EMPTY_TUPLE', lambda it, _: it._push(()))
  add('MARK', lambda it, _: it._marks.append(len(it._stack)))
  add('POP', lambda it, _: it._pop_top())
  add('POP_MARK', lambda it, _: it._pop())
  add('DUP', lambda it, _: it._push(it._stack[-1]))
  add('LIST', lambda it, _: it._push(it._pop()))
  add('TUPLE', lambda it, _: it._push(tuple(it._pop())))
  add('TUPLE1', lambda it, _: it._push(tuple(it._pop(1))))
  add('TUPLE2', lambda it, _: it._push(tuple(it._pop(2))))
  add('TUPLE3', lambda it, _: it._push(tuple(it._pop(3))))
  add('DICT', lambda it, _: it._make_dict())
  add('APPEND', lambda it, _: it._extend(it._pop(1)))
  add('APPENDS', lambda it, _: it._extend(it._pop()))
  add('SETITEM', lambda it, _: it._set_items(it._pop(2)))
  add('SETITEMS', lambda it, _: it._set_items(it._pop()))
  add('PUT BINPUT LONG_BINPUT MEMOIZE', lambda it, number: it._memoize(number))
  add('GET BINGET LONG_BINGET', lambda it, number: it._push(it._memo[number]))
  # The base class refuses these.
  add('EMPTY_SET', lambda it, _: it._push(it.make_set(())))
  add('FROZENSET', lambda it, _: it._push(it.make_set(it._pop())))
  add('ADDITEMS', lambda it, _: it._extend(it._pop()))
  add('GLOBAL', lambda it, name: it._push(it._find(*name.split(' ', 1))))
  add('STACK_GLOBAL', lambda it, _: it._push(it._find(*it._pop(2))))
  add('REDUCE NEWOBJ', lambda it, _: it._call_new(has_keywords=False))
  add('NEWOBJ_EX', lambda it, _: it._call_new(has_keywords=True))
  add('INST', lambda it, name: it._call_marked(name))
  add('OBJ', lambda it, _: it._call_marked(None))
  add('BUILD', lambda it, _: it._build())
  add('PERSID', lambda it, reference: it._push(it.load_persistent(reference)))
  add('BINPERSID', lambda it, _: it._push(it.load_persistent(*it._pop(1))))
  return table


_INSTRUCTIONS = _instructions()


class _Reader:
  """A file that reads nothing if more bytes are requested than it has left."""

  def __init__(self, file: BinaryIO):
    self._file = file
    start = file.tell()
    self._end = file.seek(0, os.SEEK_END)
    file.seek(start)
    self.tell = file.tell
    self.readline = file.readline

  def read(self, size: int) -> bytes:
    return self._file.read(size) if size <= self._end - self._file.tell() else b''
