"""Carries out the instructions of pickles, without Python's unpickler.

A pickle is a program, and files come from strangers. Python's unpickler calls what a pickle names;
and even one that finds no function to call is brought down by a key of nested tuples, whose hash
overflows the stack. Here the instructions are read one by one. Those that make dictionaries, lists,
tuples, texts and numbers are carried out; every other one is refused unless a subclass gives it a
harmless meaning.

Memory and time are bounded: no instruction makes more than it is long, but for those that count
what they copy, and there are at most `MOST_STEPS`.
"""

import os
import pickletools
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, NoReturn

# A checkpoint of ViT-L/14 with its optimizer's state takes 60,000.
MOST_STEPS = 2_000_000
# Checkpoints of PyTorch before 1.6 begin with a number of 10 bytes.
_MOST_BITS = 256


class Interpreter:
  """What a pickle of dictionaries, lists, tuples, texts and numbers holds.

  The keys of dictionaries are texts. A subclass allows more by overriding the public methods below
  `spend`.
  """

  def __init__(self):
    self._opcode = ''
    self._steps = 0
    self._stack: list[Any] = []
    self._marks: list[int] = []
    self._memo: dict[int, Any] = {}

  def run(self, file: BinaryIO) -> Any:
    """Carries out one pickle from where `file` is, and leaves `file` behind it.

    Args:
      file: seekable.

    Raises:
      ValueError: for a pickle that asks for anything else, or for too much.
      Exception: almost any, for a damaged one.
    """
    for opcode, argument, _ in pickletools.genops(_Reader(file)):
      self._opcode = opcode.name
      self.spend(1)
      if opcode.name not in _INSTRUCTIONS:
        self.refuse()
      _INSTRUCTIONS[opcode.name](self, argument)
    if len(self._stack) != 1:
      raise ValueError('it is no single value')
    return self._stack[0]

  def spend(self, steps: int) -> None:
    """Counts steps of work.

    Raises:
      ValueError: there were too many.
    """
    self._steps += steps
    if self._steps > MOST_STEPS:
      raise ValueError(f'it takes more than {MOST_STEPS:,} steps')

  def refuse(self) -> NoReturn:
    """Refuses the current instruction."""
    raise ValueError(f'it asks for {self._opcode}')

  def key(self, value: Any) -> Any:
    """What stands for `value` as the key of a dictionary; hashing and comparing it is cheap."""
    if type(value) is not str:
      raise ValueError('a key is no text')
    return value

  def find(self, module: str, name: str) -> Any:
    """What stands for a name of a module."""
    self.refuse()

  def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
    """What stands for the result of a call."""
    self.refuse()

  def build(self, target: Any, state: Any) -> None:
    """Gives an object its state."""
    self.refuse()

  def collect(self, values: Sequence[Any]) -> Any:
    """What stands for a set."""
    self.refuse()

  def extend(self, target: Any, values: Sequence[Any]) -> None:
    """Adds values to a list or set."""
    if type(target) is not list:
      raise ValueError('it adds to something that is no list')
    target.extend(values)

  def items(self, target: Any) -> dict[Any, Any]:
    """The dictionary that keys and values for `target` are added to."""
    if type(target) is not dict:
      raise ValueError('it adds to something that is no dictionary')
    return target

  def refer(self, reference: Any) -> Any:
    """What stands for something outside of the pickle."""
    self.refuse()

  def fill(self, target: dict[Any, Any], pairs: Sequence[Any]) -> None:
    """Adds keys and values, in turn, to a dictionary."""
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
      target[self.key(key)] = value

  def _pop(self, count: int | None = None) -> list[Any]:
    """Takes the uppermost values, by default those above the last mark."""
    start = self._marks.pop() if count is None else len(self._stack) - count
    if not 0 <= start <= len(self._stack):
      raise ValueError('it ends too early')
    values = self._stack[start:]
    del self._stack[start:]
    return values

  def _push(self, value: Any) -> None:
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
      raise ValueError('a number is too long')
    self._stack.append(value)

  def _extend(self, values: list[Any]) -> None:
    self.extend(self._stack[-1], values)

  def _set_items(self, pairs: list[Any]) -> None:
    self.fill(self.items(self._stack[-1]), pairs)

  def _make_dict(self) -> None:
    pairs, made = self._pop(), {}
    self.fill(made, pairs)
    self._push(made)

  def _remember(self, number: int | None) -> None:
    number = len(self._memo) if number is None else number
    # Python's unpickler makes room for as many objects as the greatest number given to one.
    if number > self._steps:
      raise ValueError(f'an odd {self._opcode}')
    self._memo[number] = self._stack[-1]

  def _call(self, function: Any, arguments: Any) -> None:
    if type(arguments) is not tuple:
      raise ValueError('it calls without arguments')
    self.spend(len(arguments))
    self._push(self.call(function, arguments))

  def _find(self, module: Any, name: Any) -> Any:
    if type(module) is not str or type(name) is not str:
      raise ValueError('a name is no text')
    return self.find(module, name)

  def _call_new(self, named: bool) -> None:
    if named:
      function, arguments, options = self._pop(3)
      if type(options) is not dict:
        raise ValueError('it names its arguments by no dictionary')
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
    self.build(self._stack[-1], state)

  def _pop_one(self) -> None:
    # Above the last mark there may be nothing: then it is the mark that goes.
    if self._marks and self._marks[-1] == len(self._stack):
      self._marks.pop()
    else:
      self._pop(1)


Instruction = Callable[[Interpreter, Any], None]


def _table() -> dict[str, Instruction]:
  """The instructions that are carried out, by their names in `pickletools`."""
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
  add('POP', lambda it, _: it._pop_one())
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
  add('PUT BINPUT LONG_BINPUT MEMOIZE', lambda it, number: it._remember(number))
  add('GET BINGET LONG_BINGET', lambda it, number: it._push(it._memo[number]))
  # What follows is for subclasses.
  add('EMPTY_SET', lambda it, _: it._push(it.collect(())))
  add('FROZENSET', lambda it, _: it._push(it.collect(it._pop())))
  add('ADDITEMS', lambda it, _: it._extend(it._pop()))
  add('GLOBAL', lambda it, name: it._push(it._find(*name.split(' ', 1))))
  add('STACK_GLOBAL', lambda it, _: it._push(it._find(*it._pop(2))))
  add('REDUCE NEWOBJ', lambda it, _: it._call_new(named=False))
  add('NEWOBJ_EX', lambda it, _: it._call_new(named=True))
  add('INST', lambda it, name: it._call_marked(name))
  add('OBJ', lambda it, _: it._call_marked(None))
  add('BUILD', lambda it, _: it._build())
  add('PERSID', lambda it, reference: it._push(it.refer(reference)))
  add('BINPERSID', lambda it, _: it._push(it.refer(*it._pop(1))))
  return table


_INSTRUCTIONS = _table()


class _Reader:
  """A file of which nothing is asked that it does not have."""

  def __init__(self, file: BinaryIO):
    self._file = file
    start = file.tell()
    self._end = file.seek(0, os.SEEK_END)
    file.seek(start)
    self.tell = file.tell
    self.readline = file.readline

  def read(self, size: int) -> bytes:
    return self._file.read(size) if size <= self._end - self._file.tell() else b''
