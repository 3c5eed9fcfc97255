"""Checkpoints; the only file that knows Orbax.

A checkpoint is {state, meta}: the training state as plain arrays, and a JSON object with what
has to agree for the run to go on. The data pipeline needs no state besides the step, see
`data.pipeline`. A checkpoint appears under its final name only when it is complete, so one that
was being written when the process died is not taken for one; and it holds checksums of its files,
so one that was cut or changed on the disk afterwards is not taken for one either.
"""

import collections
import contextlib
import functools
import json
import math
import os
import pathlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp
import tensorstore

from zsar_jax.errors import UserError, first_line
from zsar_jax.runtime import checksums, distributed, file_systems, trees
from zsar_jax.runtime.progress import log
from zsar_jax.runtime.wording import pluralize
from zsar_jax.weights.orbax_runtime import adapt_to_file_system, silence_orbax

FOLDER = 'checkpoints'

# Where training puts checkpoints that it does not go on from.
DAMAGED = 'damaged_checkpoints'

# What Orbax notes of each checkpoint, times among it.
_NOTES = '_CHECKPOINT_METADATA'

# Devices that hold the same array each write a slice of it where the slices have so many bytes.
# Cutting one is a program of its own to compile, for each shape, device and place.
_SLICE = 2**24

T = TypeVar('T')


class DamagedCheckpoint(UserError):
  """A checkpoint that is not as it was written.

  Attributes:
    reason: what shows it.
  """

  def __init__(self, message: str, reason: str = ''):
    super().__init__(message)
    self.reason = reason


class Checkpoints:
  """The checkpoints of one run, written in the background. A context manager."""

  def __init__(self, workdir: pathlib.Path, keep: int = 1):
    """Opens `workdir`/checkpoints; nothing is made before the first save.

    Args:
      workdir: the run's folder.
      keep: how many of the newest checkpoints stay.

    Raises:
      UserError: where Orbax's own notes are damaged.
    """
    self._folder = (workdir / FOLDER).absolute()
    self._writing: int | None = None
    self._arrays = 0
    self._failed = False
    self._error: BaseException | None = None
    silence_orbax()
    options = ocp.CheckpointManagerOptions(
      max_to_keep=keep,
      create=False,
      enable_async_checkpointing=True,
      async_options=ocp.options.AsyncOptions(post_finalization_callback=self._seal),
    )
    arrays = ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=_SLICE)
    registry = ocp.type_handlers.create_type_handler_registry((jax.Array, arrays))
    handlers = {
      'state': ocp.PyTreeCheckpointHandler(type_handler_registry=registry),
      'meta': ocp.JsonCheckpointHandler(),
    }
    try:
      self._manager = ocp.CheckpointManager(self._folder, options=options, item_handlers=handlers)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
      raise UserError(
        f'{self._folder}: a file {_NOTES} in it is damaged ({_reason(error)}); delete it, the'
        ' checkpoint does not need it'
      ) from None

    if distributed.is_multiprocess():
      self._note_errors()

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *exception: Any) -> None:
    if not self._failed:
      with contextlib.suppress(UserError) if exception[0] else contextlib.nullcontext():
        self.wait()
    if not self._failed:  # Orbax would wait for threads that wait for what has failed.
      self._manager.close()

  @property
  def latest(self) -> int | None:
    """The step of the newest complete checkpoint, whether or not it is damaged."""
    return self._manager.latest_step()

  @property
  def writing(self) -> bool:
    """Whether something saved is not on disk yet."""
    return self._manager.is_saving_in_progress()

  def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
    """Copies `state` off the devices and writes it in the background.

    Raises:
      UserError: where this checkpoint or the one before it cannot be written.
    """
    self.wait()
    self._writing, self._arrays = step, len(jax.tree.leaves(state))
    with self._writable(), jax.transfer_guard('allow'):
      self._folder.mkdir(parents=True, exist_ok=True)
      adapt_to_file_system(file_systems.missing_features(self._folder))
      items = ocp.args.Composite(state=ocp.args.PyTreeSave(state), meta=ocp.args.JsonSave(meta))
      self._manager.save(step, args=items)

  def wait(self) -> None:
    """Returns when everything saved is on disk; a `UserError` where it cannot be written."""
    with self._writable():
      # Where a write has failed, Orbax's own wait is for the other processes.
      while distributed.is_multiprocess() and self._manager.is_saving_in_progress():
        if self._error:
          self._failed = True
          raise self._error
        time.sleep(0.02)
      self._manager.wait_until_finished()

  def read_newest(self, read: Callable[[int], T]) -> tuple[int, T] | None:
    """The newest checkpoint that is whole: its step, and what `read` makes of it.

    Args:
      read: takes a step and reads what is needed, by `meta` and `restore`.

    Returns:
      None where there is no checkpoint.

    Raises:
      UserError: where each is damaged, and what `read` raises.
    """
    steps = sorted(self._manager.all_steps(), reverse=True)
    for step in steps:
      folder = self._folder / str(step)
      sealed, damage = distributed.broadcast_from_main(lambda folder=folder: _verified(folder))
      try:
        if damage:
          raise DamagedCheckpoint(f'{folder}: the checkpoint is damaged ({damage})')
        return step, read(step)
      except DamagedCheckpoint as error:
        if sealed and not damage:
          raise UserError(
            f'{folder}: what was written is there whole, but cannot be read here ({error.reason});'
            ' try again, with the versions of JAX and Orbax that wrote it'
          ) from None
        if step == steps[-1]:
          raise UserError(
            f'{error}, and there is none before it; delete {self._folder} to begin anew'
          ) from None
        log(f'{error}; the one before it is taken')
    return None

  def clear_after(self, step: int) -> None:
    """Makes room for new checkpoints: deletes unfinished ones, moves damaged ones aside.

    Args:
      step: of the checkpoint that the run goes on from; those after it are damaged.
    """
    if distributed.is_main() and self._folder.is_dir():
      for unfinished in self._folder.glob('*.orbax-checkpoint-tmp*'):
        shutil.rmtree(unfinished, ignore_errors=True)
      place = self._folder.parent / DAMAGED
      for later in (other for other in self._manager.all_steps() if other > step):
        place.mkdir(exist_ok=True)
        number = len(list(place.glob(f'{later}.*')))
        (self._folder / str(later)).rename(place / f'{later}.{number}')
        log(f'the damaged checkpoint is {place / f"{later}.{number}"} now')
    distributed.wait_for_all('cleared')
    self._manager.reload()

  def meta(self, step: int) -> dict[str, Any]:
    """The JSON object saved with a checkpoint."""
    with self._readable(step):
      items = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))
      if not isinstance(items['meta'], dict):
        raise ValueError('what was saved beside the state is no JSON object')
      return items['meta']

  def restore(self, step: int, state: Any) -> Any:
    """Reads a checkpoint onto the devices.

    Args:
      step: which one.
      state: a tree of ShapeDtypeStructs with shardings: what the arrays must look like. It may
        be a part of what was saved, such as the parameters alone.

    Raises:
      UserError: where the checkpoint holds something else.
    """
    with self._readable(step):
      saved = dict(_leaves(self._manager.item_metadata(step)['state'].tree))
    self._check(step, saved, dict(_leaves(state)))
    restore = ocp.args.PyTreeRestore(
      item=state,
      restore_args=ocp.checkpoint_utils.construct_restore_args(state),
      partial_restore=True,
    )
    with jax.transfer_guard('allow'), self._readable(step):
      return self._manager.restore(step, args=ocp.args.Composite(state=restore))['state']

  @contextlib.contextmanager
  def _readable(self, step: int) -> Iterator[None]:
    """Turns what Orbax raises for files that are missing or cut into one sentence."""
    try:
      yield
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
      reason = _reason(error)
      message = f'{self._folder / str(step)}: the checkpoint is damaged ({reason})'
      raise DamagedCheckpoint(message, reason) from None

  @contextlib.contextmanager
  def _writable(self) -> Iterator[None]:
    """Turns what Orbax raises where the disk is full or not there into one sentence."""
    try:
      yield
    except (OSError, ValueError, NotImplementedError) as error:
      self._failed = True
      # What Orbax would count has the one that failed.
      steps = (path.name for path in self._folder.glob('*'))
      kept = max((int(name) for name in steps if name.isdigit()), default=0)
      raise UserError(
        f'{self._folder}: the checkpoint of step {self._writing} could not be written'
        f' ({_reason(error)}); make room, and the same command goes on'
        + (f' after step {kept}' if kept else ' from the start')
      ) from None

  def _note_errors(self) -> None:
    """Keeps what goes wrong while a checkpoint is written, as soon as it does."""
    writer = self._manager._checkpointer._async_manager
    write = writer._thread_func

    def noting(*args: Any) -> None:
      write(*args)
      self._error = self._error or writer._exception

    writer._thread_func = noting

  def _seal(self) -> None:
    """Writes the checksums, when all files are there and before they get their final name."""
    if distributed.is_main():
      (folder,) = self._folder.glob(f'{self._writing}.orbax-checkpoint-tmp*')
      if distributed.is_multiprocess() and (lost := missing_parts(folder / 'state', self._arrays)):
        raise UserError(
          f'{self._folder}: the checkpoint of step {self._writing} lacks {lost}, which another'
          ' process wrote elsewhere; see that --workdir is the same folder on all hosts'
        )
      # Orbax adds to its own notes when the folder has its final name.
      checksums.write(folder, exclude=(_NOTES,))

  def _check(self, step: int, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Compares shapes by path: what was saved with what is wanted."""
    missing = [path for path in wanted if path not in saved]
    differing = [path for path, shape in wanted.items() if path in saved and saved[path] != shape]
    roots = {path.split('/')[0] for path in wanted}
    extra = [path for path in saved if path.split('/')[0] in roots and path not in wanted]
    place = f'{self._folder / str(step)}: a checkpoint of another model'
    remedy = 'set config.model as it was in that run, or take another --workdir'
    if differing:
      path = differing[0]
      raise UserError(f'{place}: {path} is {saved[path]} there and {wanted[path]} here; {remedy}')
    if missing or extra:
      lacks = f'it lacks {missing[0]}' if missing else f'it also holds {extra[0]}'
      raise UserError(
        f'{place}: {lacks} ({pluralize(len(missing), "array")} missing, {len(extra)} left over);'
        f' {remedy}'
      )


def latest_step(run: pathlib.Path) -> int | None:
  """The step of a workdir's newest complete checkpoint, None where there is none."""
  with Checkpoints(run) as checkpoints:
    return checkpoints.latest


def has_checkpoint(run: pathlib.Path) -> bool:
  """Whether a workdir holds a complete checkpoint."""
  return latest_step(run) is not None


def load_meta(run: pathlib.Path, field: str) -> dict[str, Any]:
  """The JSON object saved with the newest checkpoint of a run; see `load_params`."""
  with Checkpoints(run) as checkpoints:
    return _newest(checkpoints, run, field, checkpoints.meta)


def load_params(run: pathlib.Path, template: Any, field: str) -> Any:
  """The newest parameters of a run; `template` is of them, see `load_state`."""
  return load_state(run, {'params': template}, field)['params']


def load_state(run: pathlib.Path, template: Any, field: str) -> Any:
  """A part of the newest state of a run.

  Args:
    run: its workdir.
    template: the part's ShapeDtypeStructs, with shardings.
    field: where `run` comes from, for errors.

  Raises:
    UserError: where there is no checkpoint, or it is another model's.
  """
  with Checkpoints(run) as checkpoints:
    return _newest(checkpoints, run, field, lambda step: checkpoints.restore(step, template))


def _newest(checkpoints: Checkpoints, run: pathlib.Path, field: str, read: Callable[[int], T]) -> T:
  found = checkpoints.read_newest(read)
  if found is None:
    raise UserError(
      f'{field}: {run} holds no checkpoint of this project; name the --workdir of a run that was'
      ' trained'
    )
  return found[1]


@functools.lru_cache(maxsize=64)
def _sums_agree(folder: pathlib.Path, changed: int) -> str | None:
  """`checksums.find_damage`, once for each checkpoint and time of change that a process meets."""
  del changed
  return checksums.find_damage(folder)


def _verified(folder: pathlib.Path) -> tuple[bool, str | None]:
  """Whether a checkpoint has checksums, and what is wrong with it by them."""
  sums = folder / checksums.FILE
  if not sums.exists():
    return False, None
  return True, _sums_agree(folder, sums.stat().st_mtime_ns)


def missing_parts(state: pathlib.Path, arrays: int) -> str | None:
  """What is not there of a state that several processes wrote, in words; None where all is.

  Every process writes its chunks into files of its own, and process 0 joins what it sees of them.

  Args:
    state: the folder of the arrays.
    arrays: how many there are.
  """
  base = {'driver': 'file', 'path': f'{state}/'}
  store = tensorstore.KvStore.open({'driver': 'ocdbt', 'base': base}).result()
  keys = [key.decode() for key in store.list().result()]
  heads = [key for key in keys if key.endswith('/.zarray')]
  if len(heads) < arrays:
    return f'{arrays - len(heads)} of {arrays} arrays'
  chunks = collections.Counter(key.rpartition('/')[0] for key in keys)
  for head, content in [(head, store.read(head)) for head in heads]:
    layout, name = json.loads(content.result().value), head.rpartition('/')[0]
    count = math.prod(
      -(-size // chunk) for size, chunk in zip(layout['shape'], layout['chunks'], strict=True)
    )
    if chunks[name] < count + 1:  # With its head.
      return f'{count + 1 - chunks[name]} of {count} parts of {name}'
  return None


def _reason(error: Exception) -> str:
  """What the system said of a file, of which Python or TensorStore tells; or a first line."""
  code = re.search(r"os_error_code='(\d+)'", str(error))
  number = int(code[1]) if code else getattr(error, 'errno', None)
  return os.strerror(number) if number else first_line(error)


def _leaves(tree: Any) -> list[tuple[str, tuple[int, ...]]]:
  return [
    (trees.path_name(path), tuple(leaf.shape))
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  ]
