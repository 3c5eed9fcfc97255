"""What a compiled program reads from and writes to the device's main memory."""

from collections.abc import Sequence

from zsar_jax.performance.hlo import Array, Computation, Instruction, Module

# Instructions that move nothing, because their results are names for parts of other results.
_FREE = frozenset(
  ('parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'while', 'conditional', 'call')
  + ('after-all', 'partition-id', 'replica-id', 'opt-barrier', 'iota')
)

# Instructions that read only the part of an operand that they return.
_SLICES = ('dynamic-slice', 'slice', 'gather')

# Instructions of which an element of the result needs one element of each operand.
_ELEMENTWISE = ('bitcast', 'convert', 'copy', 'transpose', 'reshape', 'negate')
_ELEMENTWISE += ('add', 'subtract', 'multiply', 'divide', 'exponential', 'rsqrt', 'select')

# Instructions that change a part of their first operand in place; the number of the operand that
# holds the new values.
_UPDATES = {'dynamic-update-slice': 1, 'scatter': 2}


def memory_bytes(module: Module) -> float:
  """Returns the bytes read from and written to the device's main memory.

  Every instruction outside fusions reads its operands and writes its results, as far as these lie
  in main memory. If a fusion only takes slices of an operand, the slices count; if it changes a
  part of an operand in place, the part counts. The memory in which cuBLAS and cuDNN work does not
  count.
  """
  total = 0.0
  for name, times in module.runs.items():
    if name not in module.fused:
      computation = module.computations[name]
      total += times * sum(
        instruction_bytes(instruction, computation, module) for instruction in computation.values()
      )
  return total


def instruction_bytes(instruction: Instruction, computation: Computation, module: Module) -> float:
  """Returns the bytes that one run of an instruction reads and writes in main memory.

  Args:
    instruction: of the program, outside of fusions.
    computation: in which it is.
    module: the program.
  """
  opcode = instruction.opcode
  operands = [computation[name] for name in instruction.operands if name in computation]
  if opcode in (*_FREE, 'send', 'recv') or opcode.endswith('-start'):
    return 0.0
  if opcode == 'async-done':
    return 0.0  # What runs is in a computation of its own.
  if opcode.endswith('-done'):
    return _async_traffic(instruction, operands, computation)
  if opcode in _SLICES:
    return 2 * _main_bytes(instruction.arrays)
  if opcode in _UPDATES:
    return 2 * _main_bytes(operands[_UPDATES[opcode]].arrays[:1])
  if opcode == 'fusion':
    fusion = module.computations.get(instruction.called('calls'), {})
    return _fusion_traffic(instruction, operands, fusion)
  return sum(_main_bytes(operand.arrays) for operand in operands) + _main_bytes(
    results(instruction)
  )


def results(instruction: Instruction) -> tuple[Array, ...]:
  """Returns an instruction's results without the memory in which a library works."""
  arrays = instruction.arrays
  if instruction.target.startswith('__cu'):
    while len(arrays) > 1 and arrays[-1].dtype in ('s8', 'u8') and len(arrays[-1].shape) == 1:
      arrays = arrays[:-1]
  return arrays


def _fusion_traffic(
  instruction: Instruction, operands: Sequence[Instruction], fusion: Computation
) -> float:
  """Returns the traffic of a fusion, which reads its operands once and writes its results."""
  users: dict[str, list[Instruction]] = {name: [] for name in fusion}
  for inner in fusion.values():
    for name in dict.fromkeys(inner.operands):
      users[name].append(inner)
  updated = _updated_parameters(fusion)
  known: dict[str, float] = {}
  read = 0.0
  for inner in fusion.values():
    if inner.opcode == 'parameter' and inner.parameter_number not in updated:
      arrays = operands[inner.parameter_number].arrays
      size = sum(array.size for array in arrays)
      share = min(1.0, _elements_read(inner, users, known) / size) if size else 0.0
      read += share * _main_bytes(arrays)
  written = _main_bytes(instruction.arrays)
  for number, new_bytes in updated.items():
    # The rest of the result stays what it is.
    if size := _main_bytes(operands[number].arrays):
      written += new_bytes - size
  return read + written


def _elements_read(
  value: Instruction, users: dict[str, list[Instruction]], known: dict[str, float]
) -> float:
  """Returns how many elements of a value inside a fusion are needed for its results.

  Args:
    value: an instruction of the fusion.
    users: of each instruction, by its name; none of a root.
    known: what was found for other values, which grows.
  """
  if value.name not in known:
    size = float(sum(array.size for array in value.arrays))
    needed = 0.0 if users[value.name] else size
    for user in users[value.name]:
      if user.opcode in _SLICES and user.operands[0] == value.name:
        needed += _elements_read(user, users, known)
      elif user.opcode in _ELEMENTWISE:
        needed = max(needed, _elements_read(user, users, known))
      else:
        needed = size
    known[value.name] = min(size, needed)
  return known[value.name]


def _updated_parameters(fusion: Computation) -> dict[int, float]:
  """Returns the parameters that a fusion changes in place, and the bytes that it writes there."""
  updated = {}
  roots = [inner for inner in fusion.values() if inner.is_root]
  for root in roots:
    for result in [fusion[name] for name in root.operands] if root.opcode == 'tuple' else [root]:
      while result.opcode == 'bitcast':
        result = fusion[result.operands[0]]
      if result.opcode in _UPDATES:
        target = fusion[result.operands[0]]
        while target.opcode == 'bitcast':
          target = fusion[target.operands[0]]
        if target.opcode == 'parameter':
          new = fusion[result.operands[_UPDATES[result.opcode]]]
          updated[target.parameter_number] = _main_bytes(new.arrays)
  return updated


def _async_traffic(
  done: Instruction, operands: Sequence[Instruction], computation: Computation
) -> float:
  """Returns the traffic of an asynchronous copy, slice or collective.

  Args:
    done: its end.
    operands: of the end: the start, which names the sources.
    computation: in which it is.
  """
  sources = operands[0].operands if operands else ()
  arrays = [computation[name].arrays for name in sources if name in computation]
  if done.opcode not in ('copy-done', 'slice-done'):
    return sum(map(_main_bytes, arrays)) + _main_bytes(done.arrays)
  ends = [*(arrays[0][:1] if arrays else ()), *done.arrays[:1]]
  size = done.arrays[0].bytes if done.arrays else 0.0
  return size * sum(not end.on_chip for end in ends)


def _main_bytes(arrays: Sequence[Array]) -> float:
  return sum(array.bytes for array in arrays if not array.on_chip)
