"""What a compiled program computes, and what it reads and writes in the device's main memory."""

import math
import re
from collections.abc import Sequence

import numpy as np

from zsar_jax.performance.hlo import Array, Computation, Instruction, Module

# Instructions that move nothing, because their results are names for parts of other results.
_FREE = frozenset(
  ('parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'while', 'conditional', 'call')
  + ('after-all', 'partition-id', 'replica-id', 'opt-barrier', 'iota')
)

# Instructions that read only the part of an operand that they return.
_SLICES = ('dynamic-slice', 'slice', 'gather')


def matmul_flops(module: Module, loops_once: bool = False) -> float:
  """Returns the floating-point operations of the matrix products and convolutions.

  Args:
    module: the program.
    loops_once: whether to count the bodies of loops once, as XLA's own analysis does.
  """
  total = 0.0
  for name, times in module.runs.items():
    computation = module.computations[name]
    for instruction in computation.values():
      if instruction.opcode in ('dot', 'convolution'):
        operands = [computation[operand].arrays[0] for operand in instruction.operands]
        count = _dot_flops if instruction.opcode == 'dot' else _convolution_flops
        total += count(instruction, *operands) * (min(times, 1) if loops_once else times)
  return total


def memory_bytes(module: Module) -> float:
  """Returns the bytes read from and written to the device's main memory.

  Every instruction outside fusions reads its operands and writes its results, as far as these lie
  in main memory. If a fusion only takes slices of an operand, the slices count.
  """
  total = 0.0
  for name, times in module.runs.items():
    if name not in module.fused:
      computation = module.computations[name]
      total += times * sum(
        _traffic(instruction, computation, module) for instruction in computation.values()
      )
  return total


def _traffic(instruction: Instruction, computation: Computation, module: Module) -> float:
  """Returns the bytes that one run of an instruction reads and writes in main memory."""
  opcode = instruction.opcode
  operands = [computation[name] for name in instruction.operands if name in computation]
  if opcode in _FREE or opcode.endswith('-start'):
    return 0.0
  if opcode.endswith('-done'):
    return _copy_traffic(instruction, operands, computation)
  if opcode in _SLICES:
    return 2 * _main_bytes(instruction.arrays)
  fusion = module.computations.get(instruction.called('calls'), {}) if opcode == 'fusion' else {}
  parameters = {
    inner.parameter_number: inner.name for inner in fusion.values() if inner.opcode == 'parameter'
  }
  read = 0.0
  for number, operand in enumerate(operands):
    users = [inner for inner in fusion.values() if parameters.get(number) in inner.operands]
    size = _main_bytes(operand.arrays)
    if users and all(user.opcode in _SLICES for user in users):
      size = min(size, sum(user.arrays[0].bytes for user in users))
    read += size
  return read + _main_bytes(instruction.arrays)


def _copy_traffic(
  done: Instruction, operands: Sequence[Instruction], computation: Computation
) -> float:
  """Returns the traffic of an asynchronous copy, whose `start` instruction names its source."""
  sources = operands[0].operands if operands else ()
  arrays = [computation[name].arrays for name in sources[:1] if name in computation]
  ends = [*(arrays[0][:1] if arrays else ()), *done.arrays[:1]]
  size = done.arrays[0].bytes if done.arrays else 0.0
  return size * sum(not end.on_chip for end in ends)


def _main_bytes(arrays: Sequence[Array]) -> float:
  return sum(array.bytes for array in arrays if not array.on_chip)


def _dot_flops(instruction: Instruction, left: Array, right: Array) -> float:
  del right
  contracted = re.search(r'lhs_contracting_dims=\{([\d,]*)\}', instruction.attributes)
  axes = [int(axis) for axis in contracted[1].split(',') if axis] if contracted else []
  return 2.0 * instruction.arrays[0].size * math.prod(left.shape[axis] for axis in axes)


def _convolution_flops(instruction: Instruction, left: Array, right: Array) -> float:
  """Returns the multiplications and additions inside the image, as XLA counts them.

  The TPU compiler writes batched matrix products as convolutions with a dilated input. Most of
  their products are with the zeros in between, and are never computed.
  """
  labels = re.search(r'dim_labels=(\w+)_(\w+)->(\w+)', instruction.attributes)
  assert labels is not None, instruction.attributes
  image, kernel, result = labels[1], labels[2], labels[3]
  output = instruction.arrays[0]
  spatial = sorted(label for label in image if label.isdigit())
  windows = {
    key: _window(instruction, key) for key in ('size', 'stride', 'pad', 'lhs_dilate', 'rhs_dilate')
  }
  inside = 1  # Pairs of an output position and a kernel position that fall on a pixel.
  for number, label in enumerate(spatial):
    window = {key: values[number] if values else None for key, values in windows.items()}
    size = int(window['size'] or 1)
    stride, image_dilation, kernel_dilation = (
      int(window[key] or 1) for key in ('stride', 'lhs_dilate', 'rhs_dilate')
    )
    padding = int((window['pad'] or '0_0').split('_')[0])
    pixels = left.shape[image.index(label)]
    starts = np.arange(output.shape[result.index(label)]) * stride - padding
    reached = starts[:, None] + np.arange(size)[None] * kernel_dilation
    inside *= int(
      (
        (reached >= 0) & (reached % image_dilation == 0) & (reached // image_dilation < pixels)
      ).sum()
    )
  features = right.shape[kernel.index('i')]
  return (
    2.0 * inside * features * (output.shape[result.index('b')] * output.shape[result.index('f')])
  )


def _window(instruction: Instruction, key: str) -> list[str] | None:
  """Returns one part of a convolution's window, a value for each spatial dimension."""
  match = re.search(rf'window=\{{[^}}]*\b{key}=([\d_x\-]+)', instruction.attributes)
  return match[1].split('x') if match else None
