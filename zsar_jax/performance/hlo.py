"""Parses XLA's optimized HLO text: its instructions, and how often each computation is run.

The cost analysis of a compiled program counts the body of a loop once and does not know
collectives. `hlo_costs` and `collectives` therefore work on the parsed text, in which an
instruction counts as often as it is run.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Sequence

_HEADER = re.compile(r'^(ENTRY )?%?([\w.\-]+) \(.*\{$')
_INSTRUCTION = re.compile(r'^\s+(ROOT )?%?([\w.\-]+) = ')
_ARRAY = re.compile(r'([a-z]\w*)\[([\d,]*)\](\{[^}]*\})?')
_NAME = re.compile(r'%([\w.\-]+)')
_CALLED = re.compile(r'(?:calls|to_apply|body|condition)=%?([\w.\-]+)')
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.\-]+)')
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_TRIP_COUNT = re.compile(r'known_trip_count["\s:{]+n["\s:]+(\d+)')


@dataclasses.dataclass(frozen=True)
class Array:
  """One array of an instruction's result.

  Attributes:
    dtype: as HLO writes it, such as 'bf16'.
    shape: its dimensions.
    on_chip: whether it lies in another memory than the device's main memory.
  """

  dtype: str
  shape: tuple[int, ...]
  on_chip: bool = False

  @property
  def size(self) -> int:
    """The number of elements."""
    return math.prod(self.shape)

  @property
  def bytes(self) -> float:
    """Bytes, without the padding of the layout."""
    return self.size * _itemsize(self.dtype)


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of HLO.

  Attributes:
    name: unique in its computation.
    opcode: such as 'all-gather'.
    arrays: the result, flattened if it is a tuple.
    operands: the names of the instructions whose results it takes.
    attributes: the rest of the line; for parameters and constants what is in the parentheses, too.
    is_root: whether its result is that of the computation.
  """

  name: str
  opcode: str
  arrays: tuple[Array, ...]
  operands: tuple[str, ...]
  attributes: str
  is_root: bool = False

  def called(self, role: str) -> str:
    """Returns the computation that it calls as its 'body', 'calls', ...; '' if there is none."""
    match = re.search(rf'{role}=%?([\w.\-]+)', self.attributes)
    return match[1] if match else ''

  @property
  def all_called(self) -> list[str]:
    """The computations that it calls."""
    return _CALLED.findall(self.attributes)

  @property
  def target(self) -> str:
    """What a 'custom-call' calls, such as '__cublas$lt$matmul'; '' for other instructions."""
    match = _TARGET.search(self.attributes) if self.opcode == 'custom-call' else None
    return match[1] if match else ''

  @property
  def operation(self) -> str:
    """The traced operation that it comes from, with its scopes; '' if it is not known."""
    match = re.search(r'op_name="([^"]*)"', self.attributes)
    return match[1] if match else ''

  @property
  def parameter_number(self) -> int:
    """The number of a 'parameter' instruction."""
    return int(self.attributes.partition(')')[0])

  @property
  def tuple_index(self) -> int:
    """The index of a 'get-tuple-element' instruction."""
    index = re.search(r'index=(\d+)', self.attributes)
    assert index is not None, self.attributes
    return int(index[1])

  @property
  def constant(self) -> int | None:
    """The value of a 'constant' instruction if it is an integer."""
    match = re.match(r'(-?\d+)\)', self.attributes)
    return int(match[1]) if match else None


Computation = dict[str, Instruction]  # By name.

# An integer as (a, b) in a * counter + b, for the counter of a loop; None for any other value.
_Linear = tuple[int, int] | None


class Module:
  """A compiled program.

  Attributes:
    computations: by name.
    entry: the name of the computation that the program starts with.
    unknown_loops: the loops whose number of passes the text does not show; their bodies count once.
  """

  def __init__(self, text: str):
    self.computations: dict[str, Computation] = {}
    self.entry = ''
    self.unknown_loops: list[str] = []
    current: Computation = {}
    for line in text.splitlines():
      if header := _HEADER.match(line):
        current = self.computations.setdefault(header[2], {})
        if header[1]:
          self.entry = header[2]
      elif match := _INSTRUCTION.match(line):
        instruction = _parse(line, match)
        current[instruction.name] = instruction

  @functools.cached_property
  def runs(self) -> dict[str, int]:
    """How often each computation is run, with those inside fusions and without reducers."""
    counts: dict[str, int] = {}
    self.unknown_loops.clear()

    def visit(name: str, times: int) -> None:
      counts[name] = counts.get(name, 0) + times
      for instruction in self.computations[name].values():
        for called, repeats in self._calls(instruction, name):
          visit(called, times * repeats)

    visit(self.entry, 1)
    return counts

  @functools.cached_property
  def fused(self) -> set[str]:
    """The computations inside fusions."""
    return {
      name
      for computation in self.computations.values()
      for instruction in computation.values()
      if instruction.opcode == 'fusion'
      for name in instruction.all_called
    }

  def _calls(self, instruction: Instruction, caller: str) -> Iterator[tuple[str, int]]:
    """The computations that an instruction runs, and how often each."""
    if instruction.opcode == 'while':
      trips = self._trip_count(instruction)
      if trips is None:
        self.unknown_loops.append(f'{caller}/{instruction.name}')
      yield instruction.called('body'), 1 if trips is None else trips
    elif instruction.opcode in ('fusion', 'call', 'async-start'):
      for name in instruction.all_called:
        yield name, 1
    elif instruction.opcode == 'conditional':
      for names, name in _BRANCHES.findall(instruction.attributes):
        for branch in _NAME.findall(names) or [name]:
          yield branch, 1

  def _trip_count(self, loop: Instruction) -> int | None:
    """Returns how many passes a loop has.

    The compiler notes it, or the condition compares a counter that starts at 0 with a constant.
    """
    if noted := _TRIP_COUNT.search(loop.attributes):
      return int(noted[1])
    condition = list(self._flatten(self.computations[loop.called('condition')]))
    comparisons = [part for part in condition if part.opcode == 'compare']
    limits = {
      part.constant
      for part in condition
      if part.opcode == 'constant' and part.constant is not None and part.constant >= 0
    }
    counters = {part.tuple_index for part in condition if part.opcode == 'get-tuple-element'}
    if (
      len(comparisons) == 1
      and 'direction=LT' in comparisons[0].attributes
      and len(limits) == len(counters) == 1
      and (increment := self._increment(loop.called('body'), counters.pop()))
    ):
      return -(-limits.pop() // increment)
    return None

  def _increment(self, body: str, counter: int) -> int | None:
    """Returns by how much a pass of a loop raises its counter: more than 1 if it is unrolled."""

    def evaluate(computation: str, name: str, arguments: Sequence[_Linear]) -> _Linear:
      instruction = self.computations[computation][name]
      operands = [
        functools.partial(evaluate, computation, operand, arguments)
        for operand in instruction.operands
      ]
      match instruction.opcode:
        case 'constant':
          return None if instruction.constant is None else (0, instruction.constant)
        case 'parameter':
          return arguments[instruction.parameter_number] if arguments else None
        case 'get-tuple-element':
          return (1, 0) if instruction.tuple_index == counter and not arguments else None
        case 'copy' | 'bitcast':
          return operands[0]()
        case 'add':
          first, second = operands[0](), operands[1]()
          return first and second and (first[0] + second[0], first[1] + second[1])
        case 'fusion':
          inner = instruction.called('calls')
          root = _root(self.computations[inner]).name
          return evaluate(inner, root, [operand() for operand in operands])
      return None

    results = _root(self.computations[body]).operands
    value = evaluate(body, results[counter], []) if counter < len(results) else None
    return value[1] if value and value[0] == 1 and value[1] > 0 else None

  def _flatten(self, computation: Computation) -> Iterator[Instruction]:
    """The instructions of a computation and of its fusions."""
    for instruction in computation.values():
      yield instruction
      if instruction.opcode == 'fusion':
        yield from self._flatten(self.computations[instruction.called('calls')])


def _parse(line: str, match: re.Match[str]) -> Instruction:
  """Parses an instruction; `match` ends where the type of its result begins."""
  rest = line[match.end() :]
  end = _closing_parenthesis(rest) + 1 if rest.startswith('(') else rest.index(' ')
  kind, rest = rest[:end], rest[end:].lstrip()
  opcode, _, rest = rest.partition('(')
  end = _closing_parenthesis('(' + rest) - 1
  operands, attributes = rest[:end], rest[end:]
  if opcode in ('parameter', 'constant'):
    attributes, operands = rest, ''
  arrays = tuple(
    Array(dtype, tuple(map(int, filter(None, shape.split(',')))), bool(layout and 'S(' in layout))
    for dtype, shape, layout in _ARRAY.findall(kind)
  )
  return Instruction(
    match[2], opcode, arrays, tuple(_NAME.findall(operands)), attributes, bool(match[1])
  )


def _closing_parenthesis(text: str) -> int:
  """Returns the position of the parenthesis that closes the one at position 0."""
  depth = 0
  for position, letter in enumerate(text):
    depth += (letter == '(') - (letter == ')')
    if depth == 0:
      return position
  raise ValueError(f'no closing parenthesis in {text[:200]!r}')


def _root(computation: Computation) -> Instruction:
  return next(instruction for instruction in computation.values() if instruction.is_root)


def _itemsize(dtype: str) -> float:
  if dtype in ('token', 'opaque'):
    return 0
  bits = re.search(r'\d+', dtype)
  return {'pred': 1.0, 'c64': 8.0, 'c128': 16.0}.get(dtype, int(bits[0]) / 8 if bits else 0.0)
