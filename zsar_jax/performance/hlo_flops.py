"""The floating-point operations of a compiled program's matrix products and convolutions."""

import json
import math
import re
from collections.abc import Sequence

import numpy as np

from zsar_jax.performance.hlo import Array, Computation, Instruction, Module

# The products of [L, M] matrices in cuDNN's attention. Its backward pass computes the logits again,
# and the gradients of weights, values, queries and keys.
_ATTENTION_PRODUCTS = {'__cudnn$fmhaSoftmax': 2, '__cudnn$fmhaSoftmaxBackward': 5}


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
      total += instruction_flops(instruction, computation) * (
        min(times, 1) if loops_once else times
      )
  return total


def instruction_flops(instruction: Instruction, computation: Computation) -> float:
  """Returns the floating-point operations of one run of an instruction.

  Args:
    instruction: a product, a convolution or a call of cuBLAS or cuDNN, which count; any other
      counts as 0, including the fusion around a product.
    computation: in which it is.
  """
  if instruction.opcode not in ('dot', 'convolution', 'custom-call'):
    return 0.0
  if instruction.opcode == 'custom-call' and not instruction.target.startswith('__cu'):
    return 0.0
  operands = [computation[operand].arrays[0] for operand in instruction.operands]
  if instruction.opcode == 'convolution' or instruction.target.startswith('__cudnn$conv'):
    return _convolution_flops(instruction, *operands[:2])
  if instruction.opcode == 'dot':
    contracted = re.search(r'lhs_contracting_dims=\{([\d,]*)\}', instruction.attributes)
    axes = [int(axis) for axis in contracted[1].split(',') if axis] if contracted else []
    return _product_flops(instruction.arrays[0], operands[0], axes)
  if instruction.target.startswith('__cublas$'):
    config = _backend_config(instruction)['gemm_backend_config']
    axes = config['dot_dimension_numbers']['lhs_contracting_dimensions']
    return _product_flops(instruction.arrays[0], operands[0], [int(axis) for axis in axes])
  if products := _ATTENTION_PRODUCTS.get(instruction.target):
    config = _backend_config(instruction)['cudnn_fmha_backend_config']
    logits = math.prod(map(int, config['intermediate_tensor_shape']['dimensions']))
    return 2.0 * products * logits * operands[0].shape[-1]  # Queries are [N, L, H, d].
  return 0.0


def _backend_config(instruction: Instruction) -> dict:
  """Returns what the compiler for GPUs notes about a call of a library."""
  start = instruction.attributes.index('backend_config=') + len('backend_config=')
  return json.JSONDecoder().raw_decode(instruction.attributes, start)[0]


def _product_flops(result: Array, left: Array, contracted: Sequence[int]) -> float:
  return 2.0 * result.size * math.prod(left.shape[axis] for axis in contracted)


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
