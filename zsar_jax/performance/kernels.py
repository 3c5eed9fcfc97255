"""The kernels of a compiled program: their kinds, and which of them move memory for what.

On GPUs every instruction outside fusions is a kernel, or a few. What runs between the matrix
products only moves memory, so that its traffic is its cost.
"""

import collections
import dataclasses
import operator
from collections.abc import Callable, Iterator
from typing import Any

from zsar_jax.performance.collectives import KINDS
from zsar_jax.performance.hlo import Computation, Instruction, Module
from zsar_jax.performance.hlo_costs import instruction_bytes, results
from zsar_jax.performance.hlo_flops import instruction_flops
from zsar_jax.performance.hlo_sources import Sources

# The kinds of kernels whose cost is computing; those of the others is their traffic.
PRODUCTS = ('cuBLASLt', 'cuBLAS', 'Triton product', 'cuDNN convolution') + (
  'cuDNN attention',
  'cuDNN attention, backward',
)

# What only moves elements, which matters for a fusion without arithmetic.
_MOVES = frozenset(
  ('parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'bitcast-convert', 'copy')
  + ('broadcast', 'concatenate', 'dynamic-slice', 'dynamic-update-slice', 'pad', 'reshape')
  + ('slice', 'transpose', 'iota', 'reverse', 'gather')
)

# What says nothing about where a fusion comes from.
_NO_WORK = ('parameter', 'constant', 'tuple', 'fusion', 'bitcast', 'broadcast', 'get-tuple-element')

# The instruction that decides how the compiler for GPUs writes a fusion, and the kind's name.
_HEROES = {
  'reduce': 'reduction',
  'transpose': 'transposition',
  'scatter': 'scatter',
  'concatenate': 'concatenation',
}


@dataclasses.dataclass(frozen=True)
class Kernel:
  """What one instruction does in all its runs.

  Attributes:
    kind: such as 'cuBLASLt' or 'reduction'.
    source: the function or the functions that it comes from, such as 'layers.LayerNorm'.
    backward: whether any part of it belongs to a backward pass.
    results: its results, such as 'f32[8,16]'.
    count: how often it runs.
    flops: of products, in all runs.
    bytes: that it reads and writes in main memory, in all runs.
  """

  kind: str
  source: str
  backward: bool
  results: str
  count: int
  flops: float
  bytes: float


def find_kernels(module: Module, sources: Sources) -> list[Kernel]:
  """Returns the kernels of a program, in the order of the text; asynchronous ones count at the end.

  Args:
    module: the program.
    sources: of the same program.
  """
  kernels = []
  for name, times in module.runs.items():
    if name in module.fused:
      continue
    computation = module.computations[name]
    for instruction in computation.values():
      size = instruction_bytes(instruction, computation, module)
      if not size:
        continue
      parts = list(_parts(instruction, computation, module))
      flops = sum(instruction_flops(*part) for part in parts)
      source, backward = '', False
      origin: Instruction | None = instruction
      while origin and not source:
        inside = [part for part, _ in _parts(origin, computation, module)]
        source, backward = _source(inside, sources)
        # What the compiler adds, such as a copy to another layout, has the source of its operand.
        origin = computation.get(origin.operands[0]) if origin.operands else None
      arrays = [f'{x.dtype}[{",".join(map(str, x.shape))}]' for x in results(instruction)]
      kernels.append(
        Kernel(
          _kind(instruction, [part for part, _ in parts[1:]]),
          source or 'unknown',
          backward,
          ' '.join(arrays),
          times,
          times * flops,
          times * size,
        )
      )
  return kernels


def kernel_rows(kernels: list[Kernel], times: int) -> list[dict[str, Any]]:
  """Returns a row for each kind of kernels; those with the most traffic come first.

  Args:
    kernels: of the step.
    times: how often the step runs them.
  """
  return [{'kind': kind} | row for kind, row in _sum(kernels, lambda kernel: kernel.kind, times)]


def traffic_rows(kernels: list[Kernel], times: int) -> list[dict[str, Any]]:
  """Returns which kernels outside products move memory; those that move most come first.

  Kernels of one kind and one source with equal results, as in repeated blocks, share a row.

  Args:
    kernels: of the step.
    times: how often the step runs them.
  """
  moving = [kernel for kernel in kernels if kernel.kind not in PRODUCTS]
  names = ('source', 'backward', 'kind', 'results')
  return [
    dict(zip(names, key, strict=True)) | {'count': row['count'], 'bytes': row['bytes']}
    for key, row in _sum(moving, operator.attrgetter(*names), times)
  ]


def _sum(
  kernels: list[Kernel], key: Callable[[Kernel], Any], times: int
) -> list[tuple[Any, dict[str, Any]]]:
  """Returns the sums over the kernels of each key; the key with the most traffic comes first."""
  rows: dict[Any, dict[str, Any]] = collections.defaultdict(
    lambda: {'count': 0, 'flops': 0.0, 'bytes': 0.0}
  )
  for kernel in kernels:
    row = rows[key(kernel)]
    for name in row:
      row[name] += times * getattr(kernel, name)
  return sorted(rows.items(), key=lambda item: -item[1]['bytes'])


def _parts(
  instruction: Instruction, computation: Computation, module: Module
) -> Iterator[tuple[Instruction, Computation]]:
  """Yields an instruction and what is inside it if it is a fusion, each with its computation."""
  yield instruction, computation
  if instruction.opcode == 'fusion':
    inside = module.computations[instruction.called('calls')]
    for part in inside.values():
      yield from _parts(part, inside, module)


def _kind(instruction: Instruction, inside: list[Instruction]) -> str:
  opcode = instruction.opcode.removesuffix('-start').removesuffix('-done')
  if opcode in KINDS:
    return 'NCCL'
  if opcode == 'custom-call':
    return _library(instruction.target)
  opcodes = {part.opcode for part in inside} or {opcode}
  if '"kind":"__triton' in instruction.attributes:
    return 'Triton product' if 'dot' in opcodes else 'Triton'
  heroes = [name for hero, name in _HEROES.items() if hero in opcodes]
  # A loop fusion computes each element of its results by itself, whatever it moves.
  if heroes and 'kind=kLoop' not in instruction.attributes:
    return heroes[0]
  if opcodes <= _MOVES:
    return 'copy' if instruction.operands else 'fill'
  return 'elementwise'


def _library(target: str) -> str:
  for prefix, kind in (
    ('__cublas$lt', 'cuBLASLt'),
    ('__cublas', 'cuBLAS'),
    ('__cudnn$fmhaSoftmaxBackward', 'cuDNN attention, backward'),
    ('__cudnn$fmha', 'cuDNN attention'),
    ('__cudnn$conv', 'cuDNN convolution'),
  ):
    if target.startswith(prefix):
      return kind
  return target


def _source(parts: list[Instruction], sources: Sources) -> tuple[str, bool]:
  """Returns the two functions that most of a kernel comes from, and whether it is backward."""
  counts: collections.Counter[str] = collections.Counter()
  backward = False
  for part in parts:
    if part.opcode in _NO_WORK and len(parts) > 1:
      continue
    backward |= 'transpose(' in part.operation
    if function := sources.function(part):
      counts[function.split('.<locals>')[0].removesuffix('.__call__')] += 1
  # The optimizer's kernels contain the last casts of the gradients.
  backward &= not parts[0].operation or 'transpose(' in parts[0].operation
  return ' + '.join(name for name, _ in counts.most_common(2)), backward
