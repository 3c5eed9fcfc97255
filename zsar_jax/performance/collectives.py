"""The collectives of a compiled program: what they carry, over which mesh axes, how many bytes."""

import dataclasses
import math
import re

import numpy as np

from zsar_jax.performance.hlo import Array, Computation, Instruction, Module

KINDS = (
  'all-gather',
  'all-reduce',
  'reduce-scatter',
  'all-to-all',
  'ragged-all-to-all',
  'collective-permute',
  'collective-broadcast',
)

# The `axes` of a collective over the network between TPU slices.
SLICES = ('slices',)

# How the TPU compiler names what the hosts of several slices do together.
_TRANSFER = re.compile(r'_xla_megascale_transfer_type="(\w+)"')
_TRANSFER_SLICES = re.compile(r'_xla_megascale_target="\{([\d,:]+)\}x')


@dataclasses.dataclass(frozen=True)
class Collective:
  """What one collective moves.

  Attributes:
    kind: one of `KINDS`.
    arrays: the full arrays that are gathered, reduced or exchanged.
    axes: the mesh axes that it goes over; none if the devices are no product of axes; `SLICES` if
      it goes over the network between slices.
    group: the number of devices that take part in it together.
    count: how often the program runs it.
    name: the traced operation that it comes from.
  """

  kind: str
  arrays: tuple[Array, ...]
  axes: tuple[str, ...]
  group: int
  count: int
  name: str

  @property
  def bytes(self) -> float:
    """Bytes of the full arrays."""
    return sum(array.bytes for array in self.arrays)

  @property
  def moved(self) -> float:
    """Bytes that each device sends in all runs, by the best known algorithms.

    In a group of n devices a ring sends (n - 1) / n of the full arrays for a gather, a scatter or
    an exchange, and twice that for an all-reduce (Chan et al., "Collective communication: theory,
    practice, and experience", 2007).
    """
    if self.kind in ('collective-permute', 'collective-broadcast'):
      return self.count * self.bytes
    share = (self.group - 1) / self.group
    return self.count * self.bytes * share * (2 if self.kind == 'all-reduce' else 1)


def find_collectives(module: Module, mesh_shape: dict[str, int]) -> list[Collective]:
  """Returns all collectives of a program, in the order of the text.

  A collective that runs beside other work has its start, its middle and its end in fusions with one
  channel, and counts once. Outside fusions, collectives that were combined share a channel but are
  different ones.

  The TPU compiler splits a collective over several slices. The parts within a slice are collectives
  of their own; between the slices, each device hands its part to its host with a `send`.

  Args:
    module: the program.
    mesh_shape: the sizes of the mesh axes, by name.
  """
  collectives: dict[object, Collective] = {}
  for computation_name, times in module.runs.items():
    computation = module.computations[computation_name]
    for instruction in computation.values():
      kind = instruction.opcode.removesuffix('-start')
      if transfer := _slice_transfer(instruction, computation, times):
        collectives[computation_name, instruction.name] = transfer
      if kind not in KINDS:
        continue
      groups = replica_groups(instruction.attributes, math.prod(mesh_shape.values()))
      if groups.shape[1] == 1:
        continue
      channel = re.search(r'channel_id=(\d+)', instruction.attributes)
      key = (computation_name, instruction.name)
      # The TPU compiler writes a reduce-scatter as a fusion of that name.
      if kind == 'all-reduce' and computation_name.startswith('all-reduce-scatter'):
        kind = 'reduce-scatter'
      elif channel and computation_name in module.fused:
        key = (kind, channel[1])
      arrays = tuple(
        array
        for operand in instruction.operands
        for array in _concatenated(computation[operand], computation, module)
      )
      if kind == 'all-gather':
        arrays = tuple(_gathered_array(array, instruction, groups.shape[1]) for array in arrays)
      operation = re.search(r'op_name="([^"]*)"', instruction.attributes)
      collectives[key] = Collective(
        kind,
        arrays,
        group_axes(groups, mesh_shape),
        groups.shape[1],
        times,
        operation[1] if operation else '',
      )
  return list(collectives.values())


def _slice_transfer(
  instruction: Instruction, computation: Computation, times: int
) -> Collective | None:
  """Returns what an instruction sends to other slices; None if it sends nothing there."""
  transfer = _TRANSFER.search(instruction.attributes)
  if instruction.opcode != 'send' or not transfer:
    return None
  kind = transfer[1].lower().replace('_', '-')
  kind = 'collective-permute' if kind == 'one-to-one' else kind
  group = 0  # The number of slices; a transfer to a single one names no set of them.
  slices = _TRANSFER_SLICES.search(instruction.attributes)
  for part in slices[1].split(',') if slices else ():
    first, _, last = part.partition(':')
    group += int(last or first) - int(first) + 1
  group = group or 2
  arrays = computation[instruction.operands[0]].arrays
  if kind == 'all-gather':
    arrays = tuple(dataclasses.replace(a, shape=(group, *a.shape)) for a in arrays)
  return Collective(kind, arrays, SLICES, group, times, instruction.operation)


def _concatenated(
  operand: Instruction, computation: Computation, module: Module
) -> tuple[Array, ...]:
  """Returns the arrays of an operand, or what it is concatenated from.

  XLA for GPUs reduces many arrays as one.
  """
  inside = operand
  if operand.opcode == 'fusion':
    fusion = module.computations[operand.called('calls')].values()
    inside = next(part for part in fusion if part.is_root)
  if inside.opcode == 'concatenate' and len(operand.arrays) == 1:
    parts = [array for name in operand.operands for array in computation[name].arrays]
    if sum(part.size for part in parts) == operand.arrays[0].size:
      return tuple(dataclasses.replace(operand.arrays[0], shape=part.shape) for part in parts)
  return operand.arrays


def replica_groups(attributes: str, devices: int) -> np.ndarray:
  """Parses the groups of devices that take part in a collective together.

  HLO writes them in four ways: as lists, as `[2,4]<=[8]` with an optional transposition, as axes
  of a mesh, and as the pairs of a collective-permute.

  Args:
    attributes: of a collective.
    devices: the number of devices.

  Returns:
    i64[G, N], devices by their position in the mesh.

  Raises:
    ValueError: if the text has none of the four forms.
  """
  if match := re.search(r'source_target_pairs=\{(.*?\})\}', attributes):
    pairs = np.array(re.findall(r'\{(\d+),(\d+)\}', match[1]), int)
    moves = pairs[:, 0] != pairs[:, 1]
    return pairs[moves] if moves.any() else pairs[:, :1]
  if match := re.search(r'replica_groups=\{(.*?\})\}', attributes):
    return np.array([group.split(',') for group in re.findall(r'\{([\d,]+)\}', match[1])], int)
  if re.search(r'replica_groups=\{\}', attributes):
    return np.arange(devices)[None]
  iota = r'\[([\d,]+)\](?:T\(([\d,]+)\))?'
  if match := re.search(rf'replica_groups=\[(\d+),(\d+)\]<={iota}', attributes):
    return _iota(match[3], match[4]).reshape(int(match[1]), int(match[2]))
  match = re.search(
    rf'replica_groups=mesh\[([^\]]*)\](?:, device_ids=\({iota}\))? \{{([^}}]*)\}}', attributes
  )
  if not match:
    raise ValueError(f'no replica groups that can be read in {attributes[:200]!r}')
  sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", match[1])}
  order = _iota(match[2], match[3]) if match[2] else np.arange(devices)
  return _mesh_groups(sizes, order, match[4])


def _mesh_groups(sizes: dict[str, int], order: np.ndarray, text: str) -> np.ndarray:
  """Returns groups that are written as axes of a mesh.

  Args:
    sizes: of the axes of the mesh, by name.
    order: the devices of the mesh.
    text: the axes, such as "'x','y'". An axis may be split: "'x':(2)4" are the 4 parts in the
      middle, inside 2 larger parts.
  """
  axes = re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", text)
  shape, grouped = [], []
  for name, size in sizes.items():
    parts = [(int(outer), int(part)) for other, outer, part in axes if other == name and outer]
    if parts:
      outer, part = parts[0]
      grouped.append(len(shape) + 1)
      shape += [outer, part, size // (outer * part)]
    else:
      if any(other == name for other, _, _ in axes):
        grouped.append(len(shape))
      shape.append(size)
  others = [axis for axis in range(len(shape)) if axis not in grouped]
  group = math.prod(shape[axis] for axis in grouped)
  return order.reshape(shape).transpose(*others, *grouped).reshape(-1, group)


def group_axes(groups: np.ndarray, mesh_shape: dict[str, int]) -> tuple[str, ...]:
  """Returns the mesh axes along which the devices of a group differ.

  Args:
    groups: i64[G, N], devices by their position in the mesh.
    mesh_shape: the sizes of the axes, by name.
  """
  positions = np.stack(np.unravel_index(groups, tuple(mesh_shape.values())), -1)  # [G, N, axes]
  differs = (positions != positions[:, :1]).any((0, 1))
  return tuple(name for name, differ in zip(mesh_shape, differs, strict=True) if differ)


def _iota(shape: str, transposed: str | None) -> np.ndarray:
  sizes = [int(size) for size in shape.split(',')]
  devices = np.arange(math.prod(sizes)).reshape(sizes)
  if transposed:
    devices = devices.transpose([int(axis) for axis in transposed.split(',')])
  return devices.ravel()


def _gathered_array(array: Array, gather: Instruction, group: int) -> Array:
  """Returns what an all-gather makes of one of its operands."""
  dimensions = re.search(r'dimensions=\{(\d+)', gather.attributes)
  assert dimensions is not None, gather.attributes
  axis = int(dimensions[1])
  shape = list(array.shape)
  shape[axis] *= group
  return dataclasses.replace(array, shape=tuple(shape))
