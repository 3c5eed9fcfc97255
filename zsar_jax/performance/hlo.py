"""Reads XLA's optimized HLO as text: what a compiled program computes, reads and sends.

A compiled program's own cost analysis counts the body of a loop once and knows nothing of
collectives, so both are taken from the text: an instruction counts as often as it is run.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Sequence

import numpy as np

COLLECTIVES = (
  'all-gather',
  'all-reduce',
  'reduce-scatter',
  'all-to-all',
  'ragged-all-to-all',
  'collective-permute',
  'collective-broadcast',
)

_HEADER = re.compile(r'^(ENTRY )?%?([\w.\-]+) \(.*\{$')
_INSTRUCTION = re.compile(r'^\s+(ROOT )?%?([\w.\-]+) = ')
_ARRAY = re.compile(r'([a-z]\w*)\[([\d,]*)\](\{[^}]*\})?')
_NAME = re.compile(r'%([\w.\-]+)')
_CALLED = re.compile(r'(?:calls|to_apply|body|condition)=%?([\w.\-]+)')
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.\-]+)')
_TRIPS = re.compile(r'known_trip_count["\s:{]+n["\s:]+(\d+)')

# What moves nothing: names for parts of other instructions' results.
_FREE = frozenset(
  ('parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'while', 'conditional', 'call')
  + ('after-all', 'partition-id', 'replica-id', 'opt-barrier', 'iota')
)


@dataclasses.dataclass(frozen=True)
class Array:
  """One array among an instruction's results.

  Attributes:
    dtype: as HLO writes it, such as 'bf16'.
    shape: its dimensions.
    on_chip: whether it lies in another memory than the device's main one.
  """

  dtype: str
  shape: tuple[int, ...]
  on_chip: bool = False

  @property
  def size(self) -> int:
    """Elements."""
    return math.prod(self.shape)

  @property
  def bytes(self) -> float:
    """Bytes, without the padding of its layout."""
    return self.size * _itemsize(self.dtype)


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of HLO.

  Attributes:
    name: unique in its computation.
    opcode: such as 'all-gather'.
    arrays: the result, flattened where it is a tuple.
    operands: names.
    attributes: the rest of the line.
  """

  name: str
  opcode: str
  arrays: tuple[Array, ...]
  operands: tuple[str, ...]
  attributes: str
  is_root: bool = False

  def window(self, key: str) -> list[str] | None:
    """The values of one part of a convolution's window, one for each spatial dimension."""
    found = re.search(rf'window=\{{[^}}]*\b{key}=([\d_x\-]+)', self.attributes)
    return found[1].split('x') if found else None


Computation = dict[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Collective:
  """What one collective moves.

  Attributes:
    kind: one of `COLLECTIVES`.
    arrays: the whole arrays: what is gathered, reduced, or exchanged.
    axes: the mesh axes that it goes over; none where the devices are no axes' product.
    group: the number of devices that take part in it together.
    count: how often a run of the program comes by.
    name: of the traced operation that it comes from.
  """

  kind: str
  arrays: tuple[Array, ...]
  axes: tuple[str, ...]
  group: int
  count: int
  name: str

  @property
  def bytes(self) -> float:
    """Of the whole arrays, once."""
    return sum(array.bytes for array in self.arrays)

  @property
  def moved(self) -> float:
    """The bytes that each device sends in all, by the best known algorithms.

    A ring sends (n - 1) / n of the whole for a gather, a scatter or an exchange, and twice that
    for an all-reduce (Chan et al., "Collective communication: theory, practice, and experience",
    2007).
    """
    if self.kind in ('collective-permute', 'collective-broadcast'):
      return self.count * self.bytes
    share = (self.group - 1) / self.group
    return self.count * self.bytes * share * (2 if self.kind == 'all-reduce' else 1)


# How often a loop's counter is in a number, and what is added to it; None for another number.
_Sum = tuple[int, int] | None


class Module:
  """A compiled program.

  Attributes:
    computations: by name.
    entry: the name of the first one.
    unknown_loops: loops whose trips the text does not tell; their bodies count once.
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
    """How often each computation is run; those inside fusions included, reducers left out."""
    counts: dict[str, int] = {}
    self.unknown_loops.clear()

    def visit(name: str, times: int) -> None:
      counts[name] = counts.get(name, 0) + times
      for instruction in self.computations[name].values():
        for called, often in self._calls(instruction, name):
          visit(called, times * often)

    visit(self.entry, 1)
    return counts

  def _calls(self, instruction: Instruction, where: str) -> Iterator[tuple[str, int]]:
    """The computations that an instruction runs, and how often each."""
    if instruction.opcode == 'while':
      trips = self._trips(instruction)
      if trips is None:
        self.unknown_loops.append(f'{where}/{instruction.name}')
      yield _called(instruction, 'body'), 1 if trips is None else trips
    elif instruction.opcode in ('fusion', 'call', 'async-start'):
      for name in _CALLED.findall(instruction.attributes):
        yield name, 1
    elif instruction.opcode == 'conditional':
      for names, name in _BRANCHES.findall(instruction.attributes):
        for branch in _NAME.findall(names) or [name]:
          yield branch, 1

  def _trips(self, loop: Instruction) -> int | None:
    """What the compiler says, or a condition that compares a counter from 0 with a constant."""
    if told := _TRIPS.search(loop.attributes):
      return int(told[1])
    condition = list(self._within(self.computations[_called(loop, 'condition')]))
    compared = [one for one in condition if one.opcode == 'compare']
    limits = {
      int(found[1])
      for one in condition
      if one.opcode == 'constant' and (found := re.match(r'(\d+)\)', one.attributes))
    }
    counters = {_index(one) for one in condition if one.opcode == 'get-tuple-element'}
    if (
      len(compared) == 1
      and 'direction=LT' in compared[0].attributes
      and len(limits) == len(counters) == 1
      and (step := self._step(_called(loop, 'body'), counters.pop()))
    ):
      return -(-limits.pop() // step)
    return None

  def _step(self, body: str, counter: int) -> int | None:
    """By how much a pass through a loop's body raises its counter: more than 1 if unrolled."""

    def value(place: str, name: str, arguments: Sequence[_Sum]) -> _Sum:
      one = self.computations[place][name]
      parts = [functools.partial(value, place, operand, arguments) for operand in one.operands]
      match one.opcode:
        case 'constant':
          found = re.match(r'(-?\d+)\)', one.attributes)
          return (0, int(found[1])) if found else None
        case 'parameter':
          return arguments[int(one.attributes.partition(')')[0])] if arguments else None
        case 'get-tuple-element':
          return (1, 0) if _index(one) == counter and not arguments else None
        case 'copy' | 'bitcast':
          return parts[0]()
        case 'add':
          first, second = parts[0](), parts[1]()
          return first and second and (first[0] + second[0], first[1] + second[1])
        case 'fusion':
          inner = _called(one, 'calls')
          return value(inner, _root(self.computations[inner]).name, [part() for part in parts])
      return None

    after = _root(self.computations[body]).operands
    found = value(body, after[counter], []) if counter < len(after) else None
    return found[1] if found and found[0] == 1 and found[1] > 0 else None

  @functools.cached_property
  def _fused(self) -> set[str]:
    """The computations that are the insides of fusions."""
    return {
      name
      for computation in self.computations.values()
      for instruction in computation.values()
      if instruction.opcode == 'fusion'
      for name in _CALLED.findall(instruction.attributes)
    }

  def _within(self, computation: Computation) -> Iterator[Instruction]:
    """The instructions of a computation, those of its fusions included."""
    for instruction in computation.values():
      yield instruction
      if instruction.opcode == 'fusion':
        yield from self._within(self.computations[_called(instruction, 'calls')])

  def matmul_flops(self, once: bool = False) -> float:
    """Floating-point operations of the matrix products and convolutions.

    Args:
      once: counts the bodies of loops once, as XLA's own analysis does.
    """
    total = 0.0
    for name, times in self.runs.items():
      computation = self.computations[name]
      for instruction in computation.values():
        if instruction.opcode in ('dot', 'convolution'):
          operands = [computation[operand].arrays[0] for operand in instruction.operands]
          count = _dot_flops if instruction.opcode == 'dot' else _convolution_flops
          total += count(instruction, *operands) * (min(times, 1) if once else times)
    return total

  def memory_bytes(self) -> float:
    """Bytes read from and written to the device's main memory.

    Every instruction outside fusions reads its operands and writes its results, where these lie
    there; of an operand that a fusion only takes slices of, the slices count.
    """
    total = 0.0
    for name, times in self.runs.items():
      if name not in self._fused:
        computation = self.computations[name]
        total += times * sum(self._traffic(one, computation) for one in computation.values())
    return total

  def _traffic(self, instruction: Instruction, computation: Computation) -> float:
    opcode = instruction.opcode
    operands = [computation[name] for name in instruction.operands if name in computation]
    if opcode in _FREE or opcode.endswith('-start'):
      return 0.0
    if opcode.endswith('-done'):
      # A copy from one memory to another, or in one: `start` names what it reads.
      sources = operands[0].operands if operands else ()
      places = [computation[name].arrays for name in sources[:1] if name in computation]
      ends = [*(places[0][:1] if places else ()), *instruction.arrays[:1]]
      size = instruction.arrays[0].bytes if instruction.arrays else 0.0
      return size * sum(not end.on_chip for end in ends)
    if opcode in ('dynamic-slice', 'slice', 'gather'):
      return 2 * _main_bytes(instruction.arrays)
    read = 0.0
    inner = self.computations.get(_called(instruction, 'calls'), {}) if opcode == 'fusion' else {}
    parameters = {
      int(one.attributes.split(')')[0]): one.name
      for one in inner.values()
      if one.opcode == 'parameter'
    }
    for place, operand in enumerate(operands):
      users = [one for one in inner.values() if parameters.get(place) in one.operands]
      whole = _main_bytes(operand.arrays)
      if users and all(one.opcode in ('dynamic-slice', 'slice', 'gather') for one in users):
        whole = min(whole, sum(one.arrays[0].bytes for one in users))
      read += whole
    return read + _main_bytes(instruction.arrays)

  def collectives(self, mesh_shape: dict[str, int]) -> list[Collective]:
    """All collectives, for a mesh with such axes, in the order of the text.

    One that runs beside other work has its start, its middle and its end in fusions of their own
    with one and the same channel, and counts once. Elsewhere those that were put together have
    all the same channel.
    """
    found: dict[object, Collective] = {}
    for name, times in self.runs.items():
      computation = self.computations[name]
      for instruction in computation.values():
        kind = instruction.opcode.removesuffix('-start')
        if kind not in COLLECTIVES:
          continue
        groups = replica_groups(instruction.attributes, math.prod(mesh_shape.values()))
        if groups.shape[1] == 1:
          continue
        channel = re.search(r'channel_id=(\d+)', instruction.attributes)
        key = (name, instruction.name)
        # The TPU compiler writes a reduce-scatter as a fusion of that name.
        if kind == 'all-reduce' and name.startswith('all-reduce-scatter'):
          kind = 'reduce-scatter'
        elif channel and name in self._fused:
          key = (kind, channel[1])
        operands = [computation[operand] for operand in instruction.operands]
        arrays = tuple(array for operand in operands for array in operand.arrays)
        if kind == 'all-gather':
          arrays = tuple(_grown(array, instruction, groups.shape[1]) for array in arrays)
        operation = re.search(r'op_name="([^"]*)"', instruction.attributes)
        found[key] = Collective(
          kind,
          arrays,
          group_axes(groups, mesh_shape),
          groups.shape[1],
          times,
          operation[1] if operation else '',
        )
    return list(found.values())


def replica_groups(attributes: str, devices: int) -> np.ndarray:
  """i64[G, N]: the devices, by their place in the mesh, that take part together.

  HLO has four ways to write them: lists, `[2,4]<=[8]` with an optional transposition, axes of
  a mesh, and the pairs of a collective-permute.

  Args:
    attributes: of a collective.
    devices: how many there are in all.

  Raises:
    ValueError: for a text that is written in none of these.
  """
  if found := re.search(r'source_target_pairs=\{(.*?\})\}', attributes):
    pairs = np.array(re.findall(r'\{(\d+),(\d+)\}', found[1]), int)
    return pairs[pairs[:, 0] != pairs[:, 1]] if (pairs[:, 0] != pairs[:, 1]).any() else pairs[:, :1]
  if found := re.search(r'replica_groups=\{(.*?\})\}', attributes):
    return np.array([group.split(',') for group in re.findall(r'\{([\d,]+)\}', found[1])], int)
  if re.search(r'replica_groups=\{\}', attributes):
    return np.arange(devices)[None]
  iota = r'\[([\d,]+)\](?:T\(([\d,]+)\))?'
  if found := re.search(rf'replica_groups=\[(\d+),(\d+)\]<={iota}', attributes):
    return _iota(found[3], found[4]).reshape(int(found[1]), int(found[2]))
  found = re.search(
    rf'replica_groups=mesh\[([^\]]*)\](?:, device_ids=\({iota}\))? \{{([^}}]*)\}}', attributes
  )
  if not found:
    raise ValueError(f'no replica groups that can be read in {attributes[:200]!r}')
  sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", found[1])}
  order = _iota(found[2], found[3]) if found[2] else np.arange(devices)
  # An axis may be cut: 'x':(2)4 are the 4 parts in the middle, after 2 larger ones.
  shape, chosen = [], []
  wanted = re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", found[4])
  for name, size in sizes.items():
    cuts = [(int(before), int(part)) for other, before, part in wanted if other == name and before]
    if cuts:
      before, part = cuts[0]
      chosen.append(len(shape) + 1)
      shape += [before, part, size // (before * part)]
    else:
      if any(other == name for other, _, _ in wanted):
        chosen.append(len(shape))
      shape.append(size)
  rest = [axis for axis in range(len(shape)) if axis not in chosen]
  together = math.prod(shape[axis] for axis in chosen)
  return order.reshape(shape).transpose(*rest, *chosen).reshape(-1, together)


def group_axes(groups: np.ndarray, mesh_shape: dict[str, int]) -> tuple[str, ...]:
  """The mesh axes along which the devices of a group differ.

  Args:
    groups: i64[G, N], devices by their place in the mesh.
    mesh_shape: the sizes of the axes, by name.
  """
  places = np.stack(np.unravel_index(groups, tuple(mesh_shape.values())), axis=-1)  # [G, N, axes]
  differs = (places != places[:, :1]).any((0, 1))
  return tuple(name for name, differ in zip(mesh_shape, differs, strict=True) if differ)


def _iota(shape: str, transposed: str | None) -> np.ndarray:
  sizes = [int(size) for size in shape.split(',')]
  devices = np.arange(math.prod(sizes)).reshape(sizes)
  if transposed:
    devices = devices.transpose([int(axis) for axis in transposed.split(',')])
  return devices.ravel()


def _parse(line: str, match: re.Match[str]) -> Instruction:
  """Reads one instruction; `match` ends where its type begins."""
  rest = line[match.end() :]
  end = _closing(rest, 0) + 1 if rest.startswith('(') else rest.index(' ')
  kind, rest = rest[:end], rest[end:].lstrip()
  opcode, _, rest = rest.partition('(')
  end = _closing('(' + rest, 0) - 1
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


def _closing(text: str, start: int) -> int:
  """Where the parenthesis at `start` is closed."""
  depth = 0
  for place in range(start, len(text)):
    depth += (text[place] == '(') - (text[place] == ')')
    if depth == 0:
      return place
  raise ValueError(f'no closing parenthesis in {text[:200]!r}')


def _called(instruction: Instruction, role: str) -> str:
  found = re.search(rf'{role}=%?([\w.\-]+)', instruction.attributes)
  return found[1] if found else ''


def _root(computation: Computation) -> Instruction:
  return next(one for one in computation.values() if one.is_root)


def _index(element: Instruction) -> int:
  """Which element of a tuple it is."""
  return int(re.search(r'index=(\d+)', element.attributes)[1])


def _grown(array: Array, gather: Instruction, group: int) -> Array:
  """What an all-gather makes of one of its operands."""
  axis = int(re.search(r'dimensions=\{(\d+)', gather.attributes)[1])
  shape = list(array.shape)
  shape[axis] *= group
  return dataclasses.replace(array, shape=tuple(shape))


def _main_bytes(arrays: Sequence[Array]) -> float:
  return sum(array.bytes for array in arrays if not array.on_chip)


def _itemsize(dtype: str) -> float:
  if dtype in ('token', 'opaque'):
    return 0
  bits = re.search(r'\d+', dtype)
  return {'pred': 1.0, 'c64': 8.0, 'c128': 16.0}.get(dtype, int(bits[0]) / 8 if bits else 0.0)


def _dot_flops(instruction: Instruction, left: Array, right: Array) -> float:
  del right
  contracted = re.search(r'lhs_contracting_dims=\{([\d,]*)\}', instruction.attributes)
  axes = [int(axis) for axis in contracted[1].split(',') if axis] if contracted else []
  return 2.0 * instruction.arrays[0].size * math.prod(left.shape[axis] for axis in axes)


def _convolution_flops(instruction: Instruction, left: Array, right: Array) -> float:
  """Multiplications and additions with what lies inside the image, as XLA counts them.

  The TPU compiler writes batched matrix products as convolutions with a dilated input, of whose
  products most are with the zeros in between, and are never computed.
  """
  labels = re.search(r'dim_labels=(\w+)_(\w+)->(\w+)', instruction.attributes)
  image, kernel, result = labels[1], labels[2], labels[3]
  output = instruction.arrays[0]
  valid = 1
  spatial = sorted(label for label in image if label.isdigit())
  windows = {
    key: instruction.window(key) for key in ('size', 'stride', 'pad', 'lhs_dilate', 'rhs_dilate')
  }
  for number, label in enumerate(spatial):
    part = {key: values[number] if values else None for key, values in windows.items()}
    size = int(part['size'] or 1)
    stride, base, wide = (int(part[key] or 1) for key in ('stride', 'lhs_dilate', 'rhs_dilate'))
    low = int((part['pad'] or '0_0').split('_')[0])
    pixels = left.shape[image.index(label)]
    places = np.arange(output.shape[result.index(label)]) * stride - low
    reached = places[:, None] + np.arange(size)[None] * wide
    inside = (reached >= 0) & (reached % base == 0) & (reached // base < pixels)
    valid *= int(inside.sum())
  features = right.shape[kernel.index('i')]
  others = output.shape[result.index('b')] * output.shape[result.index('f')]
  return 2.0 * valid * features * others
