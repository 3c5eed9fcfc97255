"""Reads the compiled programs that a trace contains.

A trace is an XSpace, a protocol buffer, and its plane '/host:metadata' holds an HloProto of each
program. `jax.profiler.ProfileData` does not show them, so this module reads the wire format
(protobuf.dev/programming-guides/encoding). Field numbers: tsl/profiler/protobuf/xplane.proto,
xla/service/hlo.proto and xla/xla_data.proto.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any


@dataclasses.dataclass(frozen=True)
class Operation:
  """One operation of a compiled program.

  Attributes:
    opcode: such as 'fusion'.
    parts: the opcodes inside it: of a fusion the fused ones, otherwise its own.
    scopes: the names of the Python scopes that it and its parts come from, 'a/b/c'.
    target: what a custom call calls.
  """

  opcode: str
  parts: frozenset[str]
  scopes: tuple[str, ...]
  target: str = ''


def read_operations(content: bytes) -> dict[tuple[str, str], Operation]:
  """Returns the operations of the programs in an XSpace, by (program, name) and by ('', name).

  Raises:
    ValueError: if the content is no protocol buffer.
    IndexError: if it is cut short.
  """
  operations = {}
  for plane in _values(content, 1):
    if b'/host:metadata' not in _values(plane, 2):
      continue
    for entry in _values(plane, 4):
      for metadata in _values(entry, 2):
        for stat in _values(metadata, 5):
          for program in _values(stat, 6):
            for module in _values(program, 1):
              program_name = _text(_fields(module), 1)
              for name, operation in _read_module(module):
                operations[program_name, name] = operations['', name] = operation
  return operations


def _read_module(module: bytes) -> Iterator[tuple[str, Operation]]:
  """Yields the name and the content of each operation of an HloModuleProto."""
  computations = {}
  for computation in _values(module, 3):
    number = next(iter(_values(computation, 5)), 0)
    computations[number] = [_fields(instruction) for instruction in _values(computation, 2)]
  for instructions in computations.values():
    for fields in instructions:
      opcode = _text(fields, 2)
      parts = [fields]
      if opcode == 'fusion' or opcode.startswith('async'):
        called = _integers(fields.get(38, ()))
        parts += [part for number in called for part in computations.get(number, ())]
      scopes = {_text(_fields(metadata), 2) for part in parts for metadata in part.get(7, ())}
      opcodes = frozenset(_text(part, 2) for part in parts) - {'fusion'}
      yield (
        _text(fields, 1),
        Operation(opcode, opcodes, tuple(sorted(scopes - {''})), _text(fields, 28)),
      )


def _text(fields: dict[int, list[Any]], number: int) -> str:
  return fields[number][0].decode() if number in fields else ''


def _integers(values: Iterable[Any]) -> Iterator[int]:
  """Yields repeated integers, packed or not."""
  for value in values:
    if isinstance(value, int):
      yield value
      continue
    position = 0
    while position < len(value):
      number, position = _varint(value, position)
      yield number


def _values(message: bytes, number: int) -> list[Any]:
  return _fields(message).get(number, [])


def _fields(message: bytes) -> dict[int, list[Any]]:
  """Returns the values of a message, integers or bytes, by field number.

  Raises:
    ValueError: if it is no message.
    IndexError: if it is cut short.
  """
  fields: dict[int, list[Any]] = {}
  position = 0
  while position < len(message):
    key, position = _varint(message, position)
    wire_type = key & 7
    if wire_type == 0:
      value, position = _varint(message, position)
    elif wire_type in (1, 2, 5):
      length = {1: 8, 5: 4}.get(wire_type)
      if length is None:
        length, position = _varint(message, position)
      if position + length > len(message):
        raise ValueError('it is cut short')
      value, position = message[position : position + length], position + length
    else:
      raise ValueError(f'it has a field of the wire type {wire_type}')
    fields.setdefault(key >> 3, []).append(value)
  return fields


def _varint(message: bytes, position: int) -> tuple[int, int]:
  """Returns the number at a position, and the position after it."""
  number = shift = 0
  while True:
    byte = message[position]
    position += 1
    number |= (byte & 0x7F) << shift
    if byte < 0x80:
      return number, position
    shift += 7
