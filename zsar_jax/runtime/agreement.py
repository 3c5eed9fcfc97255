"""What has to be the same in all processes of a run, and is compared before its first step."""

import contextlib
import hashlib
import importlib.metadata
import json
import pathlib
import time
import uuid
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from zsar_jax.errors import UserError
from zsar_jax.runtime import distributed
from zsar_jax.runtime.files import make_folder

# Libraries of which another version may compute, read or write something else.
_LIBRARIES = ('flax', 'grain', 'jax', 'jaxlib', 'numpy', 'optax', 'orbax-checkpoint')

# JAX's own settings that change what is computed.
_NUMERICS = (
  *('jax_enable_x64', 'jax_default_matmul_precision', 'jax_default_prng_impl'),
  *('jax_threefry_partitionable', 'jax_numpy_dtype_promotion'),
)

# Seconds in which a file that process 0 writes has to show on the other hosts.
_VISIBLE = 15.0


def check_command(settings: Mapping[str, Any]) -> None:
  """Compares the settings of a run and the versions of the code over all processes.

  Args:
    settings: the resolved config and the flags, which JSON can write.

  Raises:
    UserError: in all of them, naming the first field that differs, and the processes.
  """
  if distributed.is_multiprocess():
    numerics = {name: getattr(jax.config, name) for name in _NUMERICS}
    _check_same({**settings, **numerics}, 'start all processes with the same command')
    _check_same(_versions(), 'install the same versions on all hosts')


def check_workdir(workdir: pathlib.Path) -> None:
  """Makes the workdir, and sees that it is one folder for all processes.

  Raises:
    UserError: in all of them, where one does not find there what process 0 writes.
  """
  if not distributed.is_multiprocess():
    return
  token = None
  if distributed.is_main():
    make_folder(workdir, '--workdir')
    token = workdir / f'.seen_by_all_hosts-{uuid.uuid4().hex}'
    token.touch()
  try:
    name, where = distributed.broadcast_from_main(lambda: (token.name, str(workdir)))
    # A file system of a network may show a new file a little later.
    deadline = time.monotonic() + _VISIBLE
    while not (there := (workdir / name).exists()) and time.monotonic() < deadline:
      time.sleep(0.5)
    answers = distributed.exchange('the workdir', None if there else str(workdir))
  finally:
    if token:
      with contextlib.suppress(OSError):
        token.unlink()
  lost = {n: answer for n, answer in enumerate(answers) if answer is not None}
  if lost:
    n, folder = next(iter(lost.items()))
    others = f' ({len(lost)} processes do not)' if len(lost) > 1 else ''
    raise UserError(
      f'--workdir: {distributed.process_name(n)} does not find in {folder} what process 0 wrote to'
      f' {where}{others}; name a folder that all hosts share'
    )


def check_files(facts: Callable[[], Mapping[str, Any]]) -> None:
  """Compares what was read from files, such as data sets and weights, over all processes.

  Args:
    facts: returns what JSON can write, by the config's field that it is read for.

  Raises:
    UserError: in all of them, naming the first field that differs, and the processes.
  """
  if distributed.is_multiprocess():
    _check_same(facts(), 'give all hosts the same files')


def differences(before: Any, now: Any, path: str = '') -> list[tuple[str, Any, Any]]:
  """The dotted paths at which nested dictionaries differ, each with both values."""
  if isinstance(before, dict) and isinstance(now, dict):
    found = []
    for key in sorted(before.keys() | now.keys()):
      found += differences(before.get(key), now.get(key), f'{path}.{key}' if path else key)
    return found
  return [] if before == now else [(path, before, now)]


def _check_same(facts: Mapping[str, Any], remedy: str) -> None:
  mine = json.loads(json.dumps(facts))
  first = distributed.broadcast_from_main(lambda: mine)
  differing = differences(first, mine)
  answers = distributed.exchange(
    'what has to be the same', [(field, was, value) for field, was, value in differing[:1]]
  )
  found = [(n, *answer[0]) for n, answer in enumerate(answers) if answer]
  if not found:
    return
  n, field, was, value = min(found, key=lambda answer: (answer[1], answer[0]))
  same = [m for m, other, _, theirs in found if (other, theirs) == (field, value)]
  more = f' and {len(same) - 1} more' if len(same) > 1 else ''
  main = next(m for m, answer in enumerate(answers) if not answer)
  raise UserError(
    f'{field} is {_short(was)} in {distributed.process_name(main)} and {_short(value)} in'
    f' {distributed.process_name(n)}{more}; {remedy}'
  )


def tree_checksum(tree: Any) -> str:
  """A checksum of the arrays of a tree on the host, and of their paths."""
  total = 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    total = zlib.crc32(jax.tree_util.keystr(path).encode(), total)
    total = zlib.crc32(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8), total)
  return f'{total:08x}'


def _versions() -> dict[str, str]:
  """The versions of the libraries, and a checksum of this project's code."""
  code = hashlib.sha256()
  root = pathlib.Path(__file__).parents[1]
  for path in sorted(root.rglob('*.py')):
    code.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
  found = {"zsar_jax's code": f'checksum {code.hexdigest()[:12]}'}
  for name in _LIBRARIES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      found[f"{name}'s version"] = importlib.metadata.version(name)
  return found


def _short(value: Any) -> str:
  text = 'not set' if value is None else repr(value)
  return text if len(text) <= 80 else f'{text[:77]}...'
