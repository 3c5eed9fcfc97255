"""Reading the traces of `jax.profiler`: which operation ran when, and of which kind it is.

A trace is an XSpace, a protocol buffer of planes, whose lines and events `jax.profiler.ProfileData`
reads. What an operation is made of stands in the compiled program, which the trace holds too, as an
HloProto in the plane '/host:metadata'; that is read here, from the wire format
(protobuf.dev/programming-guides/encoding). Field numbers: tsl/profiler/protobuf/xplane.proto,
xla/service/hlo.proto and xla/xla_data.proto.

Where operations are found:

    CPU    in the plane '/host:CPU', on the lines of the threads: events with a stat 'hlo_op'
    GPU    in planes '/device:GPU:0', ...: kernels on the lines of streams, with a stat 'hlo_op'
    TPU    in planes '/device:TPU:0', ...: on the line 'XLA Ops', where what goes on beside them
           (the line 'Async XLA Ops') counts as long as it is waited for

Of these the layout of CPU was seen; the others are as the profiler's sources describe them.
"""

import dataclasses
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

import jax

from zsar_jax.errors import UserError
from zsar_jax.training.profiling import DATA_WAIT, STEP

CATEGORIES = (
  'matmul',
  'attention',
  'layer norm',
  'copies',
  'collectives',
  'augmentation and masks',
  'infeed and transfers',
  'other',
)

# Operations whose time is that of the operations in them.
_CONTROL = ('while', 'call', 'conditional')

_COLLECTIVES = ('all-reduce', 'all-gather', 'all-to-all', 'reduce-scatter', 'collective', 'ragged')
_TRANSFERS = ('infeed', 'outfeed', 'send', 'recv', 'memcpyh2d', 'memcpyd2h')
_MOVES = {
  'bitcast',
  'bitcast-convert',
  'broadcast',
  'concatenate',
  'constant',
  'copy',
  'copy-done',
  'copy-start',
  'dynamic-slice',
  'dynamic-update-slice',
  'get-tuple-element',
  'pad',
  'parameter',
  'reshape',
  'slice',
  'transpose',
  'tuple',
}

# Of the scopes that the models and the step name (`jax.named_scope`).
_SCOPES = {
  'attention': 'attention',
  'layer_norm': 'layer norm',
  'augment': 'augmentation and masks',
}


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One operation of a compiled program.

  Attributes:
    opcode: such as 'fusion'.
    parts: the opcodes in it, of a fusion those fused, otherwise its own.
    scopes: the names of the Python scopes that it and its parts come from, 'a/b/c'.
    target: what a custom call calls.
  """

  opcode: str
  parts: frozenset[str]
  scopes: tuple[str, ...]
  target: str = ''


@dataclasses.dataclass(frozen=True)
class Span:
  """Something that took time.

  Attributes:
    name: of the operation, such as 'fusion.3', or of the annotation.
    start: in ns.
    end: in ns.
    category: of an operation, one of `CATEGORIES`.
    own: ns without the operations that ran inside it.
  """

  name: str
  start: float
  end: float
  category: str = ''
  own: float = 0.0


@dataclasses.dataclass(frozen=True)
class Trace:
  """What is used of a trace.

  Attributes:
    ops: by device, such as 'CPU' or 'TPU:0', its operations.
    waits: when the training loop waited for a batch.
    steps: when it dispatched its steps.
  """

  ops: dict[str, list[Span]]
  waits: list[Span]
  steps: list[Span]


def newest_files(folder: pathlib.Path) -> list[pathlib.Path]:
  """The files of the newest trace below a folder, one of each host.

  Raises:
    UserError: if there is none.
  """
  files = sorted(folder.glob('**/*.xplane.pb'), key=lambda path: path.parent.name)
  if not files:
    raise UserError(
      f'{folder}: no *.xplane.pb there; record a trace with --config.profile.steps=(10,15)'
    )
  return [path for path in files if path.parent == files[-1].parent]


def read_trace(path: pathlib.Path) -> Trace:
  """Reads the trace of one host.

  Raises:
    UserError: if the file is not a trace.
  """
  try:
    content = path.read_bytes()
    planes = list(jax.profiler.ProfileData.from_serialized_xspace(content).planes)
    programs = dict(_instructions(content))
  except (OSError, RuntimeError, ValueError, IndexError) as error:
    raise UserError(
      f'{path}: not readable as a trace of jax.profiler ({str(error).splitlines()[0]}); record it'
      ' anew'
    ) from None
  ops: dict[str, list[Span]] = {}
  waits, steps = [], []
  for plane in planes:
    device = re.fullmatch(r'/device:((GPU|TPU):\d+).*', plane.name)
    for line in plane.lines:
      if device and not _has_operations(device[2], line.name):
        continue
      found = []
      for event in line.events:
        span = (event.name, event.start_ns, event.start_ns + event.duration_ns)
        if plane.name.startswith('/host') and event.name in (STEP, DATA_WAIT):
          (steps if event.name == STEP else waits).append(Span(*span))
        elif operation := _operation(event, bool(device)):
          found.append((operation, *span[1:]))
      if found:
        place = device[1] if device else plane.name.rpartition(':')[2]
        ops.setdefault(place, []).extend(_with_own_time(found, programs))
  if not ops:
    raise UserError(f'{path}: the trace holds no operation of a device; record it anew')
  return Trace(ops, waits, steps)


def _has_operations(kind: str, line: str) -> bool:
  """Whether a line of a device's plane is one of operations; the others sum them up."""
  return line == 'XLA Ops' if kind == 'TPU' else line.startswith('Stream')


def _operation(event: Any, device: bool) -> tuple[str, str] | None:
  """The program ('' if unknown) and the HLO operation that an event is of, if it is of one."""
  stats = dict(event.stats)
  if 'hlo_op' in stats:
    return str(stats.get('hlo_module', '')), str(stats['hlo_op'])
  # TPUs name events by their operation; kernels and copies of a GPU without one keep their names.
  return ('', event.name.lstrip('%').split(' = ')[0]) if device else None


def _with_own_time(
  events: list[tuple[tuple[str, str], float, float]],
  programs: dict[tuple[str, str], Instruction],
) -> Iterator[Span]:
  """The spans of one line, whose events lie in one another or one after another."""
  open_spans: list[list[Any]] = []  # [operation, start, end, ns inside it]

  def close(until: float) -> Iterator[Span]:
    while open_spans and open_spans[-1][2] <= until:
      operation, start, end, inside = open_spans.pop()
      if open_spans:
        open_spans[-1][3] += end - start
      name = operation[1]
      # Of an event that does not say its program, any that has such an operation.
      instruction = programs.get(operation) or programs.get(('', name))
      if not (instruction.opcode if instruction else name).startswith(_CONTROL):
        yield Span(name, start, end, categorize(name, instruction), max(end - start - inside, 0))

  for operation, start, end in sorted(events, key=lambda event: (event[1], -event[2])):
    yield from close(start)
    open_spans.append([operation, start, end, 0.0])
  yield from close(float('inf'))


def categorize(name: str, instruction: Instruction | None) -> str:
  """The kind of an operation, one of `CATEGORIES`; of one without a program by its name."""
  instruction = instruction or Instruction(name, frozenset((re.sub(r'\.\d+$', '', name),)), ())
  what = {instruction.opcode, *instruction.parts, name.lower()}
  if any(part.startswith(_COLLECTIVES) for part in what) or 'nccl' in name.lower():
    return 'collectives'
  if any(part.startswith(_TRANSFERS) for part in what):
    return 'infeed and transfers'
  if instruction.parts <= _MOVES or name.lower().startswith(('memcpy', 'copy-')):
    return 'copies'
  product = bool(instruction.parts & {'dot', 'convolution'})
  for scope, found in _SCOPES.items():
    scoped = any(scope in path.split('/') or f'({scope})' in path for path in instruction.scopes)
    # A product that a norm is fused into is a product.
    if scoped and not (product and found == 'layer norm'):
      return found
  if product or re.search(r'gemm|matmul|dot|convolution', f'{name} {instruction.target}'):
    return 'matmul'
  return 'other'


def busy_intervals(spans: Iterable[Span]) -> list[tuple[float, float]]:
  """When at least one of the spans was going on, as intervals in order."""
  merged: list[tuple[float, float]] = []
  for start, end in sorted((span.start, span.end) for span in spans):
    if merged and start <= merged[-1][1]:
      merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
    else:
      merged.append((start, end))
  return merged


def uncovered_time(start: float, end: float, busy: Iterable[tuple[float, float]]) -> float:
  """The ns from `start` to `end` that lie in none of the intervals."""
  covered = sum(max(0.0, min(end, stop) - max(start, begin)) for begin, stop in busy)
  return end - start - covered


def _instructions(content: bytes) -> Iterator[tuple[tuple[str, str], Instruction]]:
  """(program, name) and content of each operation of the programs in an XSpace."""
  for plane in _values(content, 1):
    if b'/host:metadata' not in _values(plane, 2):
      continue
    for entry in _values(plane, 4):
      for metadata in _values(entry, 2):
        for stat in _values(metadata, 5):
          for program in _values(stat, 6):
            for module in _values(program, 1):
              called = _text(_fields(module), 1)
              for name, instruction in _instructions_of_module(module):
                yield (called, name), instruction
                yield ('', name), instruction


def _instructions_of_module(module: bytes) -> Iterator[tuple[str, Instruction]]:
  computations = {}
  for computation in _values(module, 3):
    found = [_fields(instruction) for instruction in _values(computation, 2)]
    computations[next(iter(_values(computation, 5)), 0)] = found
  for found in computations.values():
    for fields in found:
      opcode = _text(fields, 2)
      inside = [fields]
      if opcode == 'fusion' or opcode.startswith('async'):
        inside += [
          part for called in _numbers(fields.get(38, ())) for part in computations.get(called, ())
        ]
      scopes = {_text(_fields(one), 2) for part in inside for one in part.get(7, ())}
      parts = frozenset(_text(part, 2) for part in inside) - {'fusion'}
      name = _text(fields, 1)
      yield name, Instruction(opcode, parts, tuple(sorted(scopes - {''})), _text(fields, 28))


def _text(fields: dict[int, list[Any]], number: int) -> str:
  return fields[number][0].decode() if number in fields else ''


def _numbers(values: Iterable[Any]) -> Iterator[int]:
  """Repeated integers, packed or not."""
  for value in values:
    place = 0
    while isinstance(value, bytes) and place < len(value):
      number, place = _varint(value, place)
      yield number
    if isinstance(value, int):
      yield value


def _values(message: bytes, number: int) -> list[Any]:
  return _fields(message).get(number, [])


def _fields(message: bytes) -> dict[int, list[Any]]:
  """The values of a message by field number: integers, or bytes.

  Raises:
    ValueError: if it is no message.
    IndexError: if it ends too soon.
  """
  fields: dict[int, list[Any]] = {}
  place = 0
  while place < len(message):
    key, place = _varint(message, place)
    kind = key & 7
    if kind == 0:
      value, place = _varint(message, place)
    elif kind in (1, 2, 5):
      length = {1: 8, 5: 4}.get(kind)
      if length is None:
        length, place = _varint(message, place)
      if place + length > len(message):
        raise ValueError('it is cut short')
      value, place = message[place : place + length], place + length
    else:
      raise ValueError(f'it has a field of the wire type {kind}')
    fields.setdefault(key >> 3, []).append(value)
  return fields


def _varint(message: bytes, place: int) -> tuple[int, int]:
  """The number at a place, and the place after it."""
  number = shift = 0
  while True:
    byte = message[place]
    place += 1
    number |= (byte & 0x7F) << shift
    if byte < 0x80:
      return number, place
    shift += 7
