"""Compiles a program ahead of time and reports what the compiler says about it."""

import dataclasses
import math
import re
import time
from typing import Any

import jax

from zsar_jax.performance import hlo
from zsar_jax.performance.hlo_sources import Sources
from zsar_jax.performance.programs import Program

_PACKAGE = __name__.partition('.')[0]


@dataclasses.dataclass(frozen=True)
class Compiled:
  """What the compiler says about one program, for each device.

  Attributes:
    seconds: how long compiling took.
    arguments: bytes, with the padding of their layouts.
    outputs: bytes that do not reuse those of arguments.
    temporaries: bytes.
    code: bytes.
    flops: the compiler's own count, with the bodies of loops counted once; NaN if it has none, as
      for GPUs.
    module: the compiled program; None if it did not fit.
    sources: of the module; None if it did not fit.
    required: bytes in total.
    fits: whether the compiler found room for it.
  """

  seconds: float
  arguments: float
  outputs: float
  temporaries: float
  code: float
  flops: float
  module: hlo.Module | None
  sources: Sources | None
  required: float
  fits: bool = True


def compile_program(program: Program, options: dict[str, Any] | None = None) -> Compiled:
  """Compiles a program for the devices of its arguments; one that does not fit is no error.

  Args:
    program: the program.
    options: of the compiler, in addition to those of the jitted function.
  """
  start = time.monotonic()
  lowered = program.trace().lower()
  try:
    compiled = lowered.compile(compiler_options=options or None)
  except jax.errors.JaxRuntimeError as error:
    required = parse_required_bytes(str(error))
    if required is None:
      raise
    return Compiled(
      time.monotonic() - start, 0, 0, 0, 0, math.nan, None, None, required, fits=False
    )
  memory = compiled.memory_analysis()
  sizes = (
    memory.argument_size_in_bytes,
    memory.output_size_in_bytes - memory.alias_size_in_bytes,
    memory.temp_size_in_bytes,
    memory.generated_code_size_in_bytes,
  )
  operations = (compiled.cost_analysis() or {}).get('flops', math.nan)
  text = compiled.as_text()
  module, sources = hlo.Module(text), Sources(text, _PACKAGE)
  return Compiled(time.monotonic() - start, *sizes, operations, module, sources, sum(sizes))


def parse_required_bytes(message: str) -> float | None:
  """Returns how many bytes a program needs, from the TPU compiler's out-of-memory message."""
  match = re.search(r'Used ([\d.]+)([KMGT]?) of|temporaries \(([\d.]+)([KMGT]?)\)', message)
  if not ('Ran out of memory' in message and match):
    return None
  number, unit = (match[1], match[2]) if match[1] else (match[3], match[4])
  return float(number) * 1024 ** ' KMGT'.index(unit or ' ')
