"""The Python functions that a compiled program's instructions come from.

The head of XLA's HLO text has tables of file names, function names, places in files and stack
frames; an instruction names the innermost frame of its stack.
"""

import functools
import pathlib
import re

from zsar_jax.performance.hlo import Instruction

_ROW = re.compile(r'^(\d+) (?:"(.*)"|\{(.*)\})$')
_TABLES = ('FileNames', 'FunctionNames', 'FileLocations', 'StackFrames')

# A stack longer than this is none that JAX writes; it bounds the search in a damaged table.
_MAX_DEPTH = 100


class Sources:
  """Finds functions of one package in the stacks of instructions.

  Attributes:
    package: the name of the package, which is a folder in the path of its files.
  """

  def __init__(self, text: str, package: str):
    """Reads the tables.

    Args:
      text: of a compiled program.
      package: see the class.
    """
    self.package = package
    self._tables: dict[str, dict[int, str]] = {name: {} for name in _TABLES}
    current: dict[int, str] | None = None
    for line in text.splitlines():
      if line in self._tables:
        current = self._tables[line]
      elif row := _ROW.match(line):
        if current is not None:
          current[int(row[1])] = row[2] if row[2] is not None else row[3]
      elif line.startswith(('%', 'ENTRY')):
        break  # The instructions begin.

  def function(self, instruction: Instruction) -> str:
    """Returns the innermost function of the package in an instruction's stack.

    Args:
      instruction: of the program.

    Returns:
      The names of its module and itself, such as 'layers.ResidualBlock.__call__'; '' if the stack
      has none.
    """
    frame = re.search(r'stack_frame_id=(\d+)', instruction.attributes)
    return self._function(int(frame[1])) if frame else ''

  @functools.cache  # noqa: B019  It lives as long as the plan of a program.
  def _function(self, frame: int) -> str:
    for _ in range(_MAX_DEPTH):
      entry = _numbers(self._tables['StackFrames'].get(frame, ''))
      location = _numbers(self._tables['FileLocations'].get(entry.get('file_location_id', 0), ''))
      if not location:
        break
      file = self._tables['FileNames'].get(location['file_name_id'], '')
      if f'/{self.package}/' in file:
        function = self._tables['FunctionNames'].get(location['function_name_id'], '')
        return f'{pathlib.PurePath(file).stem}.{function}'
      frame = entry['parent_frame_id'] - 1  # One higher than the parent's number; 1 is no parent.
    return ''


def _numbers(text: str) -> dict[str, int]:
  return {name: int(number) for name, number in re.findall(r'(\w+)=(\d+)', text)}
