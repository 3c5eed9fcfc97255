"""Compares, before the first step, what must be the same in all processes of a run."""

import contextlib
import hashlib
import importlib.metadata
import json
import pathlib
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from zsar_jax.errors import UserError
from zsar_jax.runtime import distributed

# Libraries whose version may change what is computed, read or written.
_LIBRARIES = ('flax', 'grain', 'jax', 'jaxlib', 'numpy', 'optax', 'orbax-checkpoint')

# JAX's own settings that change what is computed.
_NUMERICS = (
  *('jax_enable_x64', 'jax_default_matmul_precision', 'jax_default_prng_impl'),
  *('jax_threefry_partitionable', 'jax_numpy_dtype_promotion'),
)


def check_command(settings: Mapping[str, Any]) -> None:
  """Compares the settings of a run and the versions of the code over all processes.

  Args:
    settings: the resolved config and the flags, of types that JSON has.

  Raises:
    UserError: in all processes, naming the first field that differs and the processes.
  """
  if distributed.is_multiprocess():
    numerics = {name: getattr(jax.config, name) for name in _NUMERICS}
    _check_same({**settings, **numerics}, 'start all processes with the same command')
    _check_same(_versions(), 'install the same versions on all hosts')


def check_files(facts: Callable[[], Mapping[str, Any]]) -> None:
  """Compares what was read from files, such as data sets and weights, over all processes.

  Args:
    facts: returns, by config field, facts about what was read for it, of types that JSON has.

  Raises:
    UserError: in all processes, naming the first field that differs and the processes.
  """
  if distributed.is_multiprocess():
    _check_same(facts(), 'give all hosts the same files')


def differences(before: Any, now: Any, path: str = '') -> list[tuple[str, Any, Any]]:
  """Returns the dotted paths at which nested dictionaries differ, each with both values."""
  if isinstance(before, dict) and isinstance(now, dict):
    result = []
    for key in sorted(before.keys() | now.keys()):
      result += differences(before.get(key), now.get(key), f'{path}.{key}' if path else key)
    return result
  return [] if before == now else [(path, before, now)]


def tree_checksum(tree: Any) -> str:
  """Returns a checksum of the host arrays of a tree and of their paths."""
  total = 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    total = zlib.crc32(jax.tree_util.keystr(path).encode(), total)
    total = zlib.crc32(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data, total)
  return f'{total:08x}'


def _check_same(facts: Mapping[str, Any], remedy: str) -> None:
  """Compares facts with those of process 0, in all processes.

  Raises:
    UserError: in all processes, naming the first field, in alphabetical order, that differs.
  """
  own = json.loads(json.dumps(facts))
  reference = distributed.broadcast_from_main(lambda: own)
  answers = distributed.exchange('what has to be the same', differences(reference, own)[:1])
  # (process, field, process 0's value, the process's value)
  reports = [(n, *answer[0]) for n, answer in enumerate(answers) if answer]
  if not reports:
    return
  process, field, expected, value = min(reports, key=lambda report: (report[1], report[0]))
  same = [n for n, other, _, theirs in reports if (other, theirs) == (field, value)]
  more = f' and {len(same) - 1} more' if len(same) > 1 else ''
  main = next(n for n, answer in enumerate(answers) if not answer)
  raise UserError(
    f'{field} is {_shorten(expected)} in {distributed.process_name(main)} and {_shorten(value)} in'
    f' {distributed.process_name(process)}{more}; {remedy}'
  )


def _versions() -> dict[str, str]:
  """Returns the versions of the libraries, and a checksum of this project's code."""
  code = hashlib.sha256()
  root = pathlib.Path(__file__).parents[1]
  for path in sorted(root.rglob('*.py')):
    code.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
  versions = {"zsar_jax's code": f'checksum {code.hexdigest()[:12]}'}
  for name in _LIBRARIES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      versions[f"{name}'s version"] = importlib.metadata.version(name)
  return versions


def _shorten(value: Any) -> str:
  text = 'not set' if value is None else repr(value)
  return text if len(text) <= 80 else f'{text[:77]}...'
