"""Writes and reads checkpoints; only this package knows Orbax.

A checkpoint is {state, meta}: the training state as plain arrays, and a JSON object with the facts
that must agree when the run resumes. The data pipeline needs no state besides the step, see
`data.pipeline`.

Incomplete and damaged checkpoints are never read. A checkpoint gets its final name only when it is
complete, which excludes one that was being written when the process died. It also holds checksums
of its files, which reveal one that was cut or changed on the disk afterwards.
"""

import contextlib
import functools
import os
import pathlib
import re
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp

from zsar_jax.errors import UserError, first_line
from zsar_jax.models.video_model import Params
from zsar_jax.runtime import bucket_errors, distributed, trees
from zsar_jax.runtime.progress import log
from zsar_jax.runtime.wording import pluralize
from zsar_jax.storage import buckets, checksums, file_systems
from zsar_jax.weights.array_store import missing_parts
from zsar_jax.weights.orbax_runtime import (
  adapt_to_file_system,
  can_store,
  is_unreachable,
  silence_orbax,
  storage_path,
)
from zsar_jax.weights.state import State

FOLDER = 'checkpoints'

# The folder to which training moves damaged checkpoints when it resumes from an earlier one.
DAMAGED_FOLDER = 'damaged_checkpoints'

# Orbax's own metadata file in each checkpoint, which holds timestamps among other things.
_ORBAX_METADATA = '_CHECKPOINT_METADATA'

# The smallest slice, in bytes, in which devices with copies of one array share the work of writing
# it. Cutting a slice compiles a program for each shape, device and position, so small arrays are
# written whole by one device.
_MIN_SLICE_BYTES = 2**24

# Seconds that training may wait for the checkpoint before the next one without a warning.
_LONG_WAIT = 5.0

T = TypeVar('T')


class DamagedCheckpoint(UserError):
  """A checkpoint whose files are missing, cut or changed.

  Attributes:
    reason: the evidence, in words.
  """

  def __init__(self, message: str, reason: str = ''):
    super().__init__(message)
    self.reason = reason


class Checkpoints:
  """The checkpoints of one run, written in the background.

  Used as a context manager, it waits at the end until everything saved is on disk.
  """

  def __init__(self, workdir: pathlib.Path, keep: int = 1, field: str = '--workdir'):
    """Opens `workdir`/checkpoints; the folder is created by the first save.

    Args:
      workdir: the run's folder.
      keep: the number of newest checkpoints to keep.
      field: the setting that `workdir` comes from, for errors of buckets.

    Raises:
      UserError: if Orbax's own metadata is damaged, or the folder is in a bucket that cannot hold
        checkpoints or does not answer.
    """
    self._folder, self._field = (workdir / FOLDER).absolute(), field
    root = storage_path(self._folder, field)
    # A bucket has no renaming. There, a file that is written last marks complete checkpoints.
    self._marks = buckets.is_remote(self._folder)
    self._saving_step: int | None = None
    self._saving_arrays = 0
    self._failed = False
    self._error: BaseException | None = None  # The first error of the background writer.
    silence_orbax()
    options = ocp.CheckpointManagerOptions(
      max_to_keep=keep,
      create=False,
      enable_async_checkpointing=True,
      async_options=ocp.options.AsyncOptions(post_finalization_callback=self._seal),
      temporary_path_class=ocp.path.atomicity.CommitFileTemporaryPath if self._marks else None,
    )
    arrays = ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=_MIN_SLICE_BYTES)
    registry = ocp.type_handlers.create_type_handler_registry((jax.Array, arrays))
    handlers = {
      'state': ocp.PyTreeCheckpointHandler(type_handler_registry=registry),
      'meta': ocp.JsonCheckpointHandler(),
    }
    try:
      with buckets.reporting_errors(self._folder, field):
        self._manager = ocp.CheckpointManager(root, options=options, item_handlers=handlers)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
      raise UserError(
        f'{self._folder}: a file {_ORBAX_METADATA} in it is damaged ({_reason(error)}); delete it,'
        ' the checkpoint does not need it'
      ) from None

    if distributed.is_multiprocess():
      self._record_writer_errors()

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *exception: Any) -> None:
    if not self._failed:
      with contextlib.suppress(UserError) if exception[0] else contextlib.nullcontext():
        self.wait()
    if not self._failed:  # After a failure, Orbax would wait for threads that never end.
      self._manager.close()

  @property
  def latest(self) -> int | None:
    """The step of the newest complete checkpoint, which may be damaged; None without any."""
    return self._manager.latest_step()

  @property
  def writing(self) -> bool:
    """Whether a checkpoint is being written in the background."""
    return self._manager.is_saving_in_progress()

  def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
    """Copies `state` off the devices and writes it in the background.

    Raises:
      UserError: if this checkpoint or the one before it cannot be written.
    """
    began = time.monotonic()
    self.wait()
    if (waited := time.monotonic() - began) > _LONG_WAIT:
      log(
        f'step {step} waited {waited:.0f} seconds until the checkpoint of step {self._saving_step}'
        ' was written; a larger config.checkpoint.every saves less often'
      )
    self._saving_step, self._saving_arrays = step, len(jax.tree.leaves(state))
    with self._writable(), jax.transfer_guard('allow'):
      if not self._marks:
        self._folder.mkdir(parents=True, exist_ok=True)
        adapt_to_file_system(file_systems.missing_features(self._folder))
      items = ocp.args.Composite(state=ocp.args.PyTreeSave(state), meta=ocp.args.JsonSave(meta))
      self._manager.save(step, args=items)

  def wait(self) -> None:
    """Waits until everything saved is on disk.

    Raises:
      UserError: if it cannot be written.
    """
    with self._writable():
      # Orbax's own wait would first wait for the other processes, also after a failed write.
      while distributed.is_multiprocess() and self._manager.is_saving_in_progress():
        if self._error:
          self._failed = True
          raise self._error
        time.sleep(0.02)
      self._manager.wait_until_finished()

  def read_newest(self, read: Callable[[int], T]) -> tuple[int, T] | None:
    """Reads the newest checkpoint that is not damaged.

    Args:
      read: a function of a step that reads its checkpoint through `meta` and `restore`.

    Returns:
      The step and the result of `read`; None if there is no checkpoint.

    Raises:
      UserError: if all checkpoints are damaged, or from `read`.
    """
    steps = sorted(self._manager.all_steps(), reverse=True)
    for step in steps:
      folder = self._folder / str(step)
      verify = functools.partial(_verify, folder, self._field)
      sealed, damage = distributed.broadcast_from_main(verify)
      try:
        if damage:
          raise DamagedCheckpoint(f'{folder}: the checkpoint is damaged ({damage})')
        return step, read(step)
      except DamagedCheckpoint as error:
        if self._has_newer(steps[0]):
          return self.read_newest(read)
        if sealed and not damage:
          raise UserError(
            f'{folder}: the files are as they were written, but cannot be read here'
            f' ({error.reason}); try again with the versions of JAX and Orbax that wrote them'
          ) from None
        if step == steps[-1]:
          raise UserError(
            f'{error}, and there is none before it; delete {self._folder} to start over'
          ) from None
        log(f'{error}; the one before it is used')
    return None

  def _has_newer(self, step: int) -> bool:
    """Returns whether the run still trains and has written a checkpoint after `step` meanwhile.

    It may have deleted that of `step` then, while this program read it.
    """
    if distributed.is_multiprocess():  # Processes would have to agree on it.
      return False
    with buckets.reporting_errors(self._folder, self._field):
      self._manager.reload()
      latest = self._manager.latest_step()
    return latest is not None and latest > step

  def clear_after(self, step: int) -> None:
    """Deletes unfinished checkpoints, and moves those after `step` aside.

    Args:
      step: the step that the run resumes after. Later checkpoints are damaged.
    """
    if distributed.is_main() and self._folder.is_dir():
      for unfinished in self._unfinished():
        buckets.remove_folder(unfinished)
      aside = self._folder.parent / DAMAGED_FOLDER
      for later in (other for other in self._manager.all_steps() if other > step):
        if not self._marks:
          aside.mkdir(exist_ok=True)
        target = aside / f'{later}.{len(list(aside.glob(f"{later}.*")))}'
        buckets.move_folder(self._folder / str(later), target)
        log(f'the damaged checkpoint was moved to {target}')
    distributed.wait_for_all('cleared')
    self._manager.reload()

  def meta(self, step: int) -> dict[str, Any]:
    """Reads the JSON object saved with a checkpoint."""
    with self._readable(step):
      items = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))
      if not isinstance(items['meta'], dict):
        raise ValueError('the metadata saved with the state is not a JSON object')
      return items['meta']

  def shapes(self, step: int) -> dict[str, tuple[int, ...]]:
    """Reads the shapes of the arrays in a checkpoint, by path, from its own metadata."""
    with self._readable(step):
      return dict(_leaves(self._manager.item_metadata(step)['state'].tree))

  def restore(self, step: int, template: Any) -> Any:
    """Reads arrays of a checkpoint onto the devices.

    Args:
      step: the checkpoint's step.
      template: a tree of ShapeDtypeStructs with shardings, one for each array to read. It may be a
        part of what was saved, such as the parameters alone.

    Raises:
      UserError: if the checkpoint holds other arrays under the template's top-level keys.
    """
    self._check_shapes(step, self.shapes(step), dict(_leaves(template)))
    restore = ocp.args.PyTreeRestore(
      item=template,
      restore_args=ocp.checkpoint_utils.construct_restore_args(template),
      partial_restore=True,
    )
    with jax.transfer_guard('allow'), self._readable(step):
      return self._manager.restore(step, args=ocp.args.Composite(state=restore))['state']

  @contextlib.contextmanager
  def _readable(self, step: int) -> Iterator[None]:
    """Turns the errors of Orbax for missing or cut files into a `DamagedCheckpoint`."""
    try:
      yield
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
      reason, folder = _reason(error), self._folder / str(step)
      if self._marks and (is_unreachable(error) or bucket_errors.describe(error)):
        raise UserError(
          f'{self._field}: {folder}: the bucket cannot be read ({reason}); see to the network and'
          ' the rights, and the same command goes on'
        ) from None
      message = f'{folder}: the checkpoint is damaged ({reason})'
      raise DamagedCheckpoint(message, reason) from None

  @contextlib.contextmanager
  def _writable(self) -> Iterator[None]:
    """Turns the errors of Orbax for a full or missing disk, or a bucket, into a `UserError`."""
    try:
      yield
    except Exception as error:
      described = bucket_errors.describe(error)
      if not (described or isinstance(error, OSError | ValueError | NotImplementedError)):
        raise
      self._failed = True
      reason, remedy = described or (
        _reason(error),
        'look at the bucket' if self._marks else 'make room',
      )
      # Orbax's own list of steps includes the failed one, so the folders are counted instead.
      after = ''
      with contextlib.suppress(*((Exception,) if self._marks else ())):
        names = (path.name for path in self._folder.glob('*') if not self._is_unfinished(path))
        kept = max((int(name) for name in names if name.isdigit()), default=0)
        after = f' after step {kept}' if kept else ' from the start'
      raise UserError(
        f'{self._folder}: the checkpoint of step {self._saving_step} could not be written'
        f' ({reason}); {remedy}, and the same command goes on{after}'
      ) from None

  def _record_writer_errors(self) -> None:
    """Records an error of the background writer as soon as it occurs.

    Orbax shows such an error only to a caller that waits for the write, and with several processes
    that wait first synchronizes with the others. If the write of one process fails, the others
    never arrive, and the error would show only after Orbax's timeout of several minutes. Orbax has
    no callback for failed writes, so its private thread function is wrapped. A change of these
    names in Orbax fails here, when the checkpoints are opened.
    """
    writer = self._manager._checkpointer._async_manager
    write = writer._thread_func

    def write_and_record(*args: Any) -> None:
      write(*args)
      self._error = self._error or writer._exception

    writer._thread_func = write_and_record

  def _unfinished(self) -> list[pathlib.Path]:
    """Returns the folders of checkpoints that were not written to the end."""
    return [folder for folder in self._folder.glob('*') if self._is_unfinished(folder)]

  def _is_unfinished(self, folder: pathlib.Path) -> bool:
    if self._marks:
      return not (folder / ocp.path.atomicity.COMMIT_SUCCESS_FILE).exists()
    return '.orbax-checkpoint-tmp' in folder.name

  def _seal(self) -> None:
    """Writes the checksums of a checkpoint whose files are complete, before Orbax commits it."""
    if distributed.is_main():
      name = str(self._saving_step)
      if self._marks:
        folder = self._folder / name
      else:
        (folder,) = self._folder.glob(f'{name}.orbax-checkpoint-tmp*')
      if distributed.is_multiprocess() and (
        lost := missing_parts(folder / 'state', self._saving_arrays)
      ):
        raise UserError(
          f'{self._folder}: the checkpoint of step {self._saving_step} lacks {lost}, which another'
          ' process wrote elsewhere; make --workdir the same folder on all hosts'
        )
      # Orbax still adds to its metadata afterwards.
      checksums.write(folder, exclude=(_ORBAX_METADATA,))

  def _check_shapes(
    self, step: int, saved: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]
  ) -> None:
    """Raises a `UserError` if the saved arrays are not the expected ones; both are by path."""
    missing = [path for path in expected if path not in saved]
    differing = [path for path, shape in expected.items() if saved.get(path, shape) != shape]
    roots = {path.split('/')[0] for path in expected}
    extra = [path for path in saved if path.split('/')[0] in roots and path not in expected]
    prefix = f'{self._folder / str(step)}: a checkpoint of another model'
    remedy = 'set config.model as it was in that run, or take another --workdir'
    if differing:
      path = differing[0]
      raise UserError(
        f'{prefix}: {path} is {saved[path]} there and {expected[path]} here; {remedy}'
      )
    if missing or extra:
      difference = f'it lacks {missing[0]}' if missing else f'it also holds {extra[0]}'
      raise UserError(
        f'{prefix}: {difference} ({pluralize(len(missing), "array")} missing, {len(extra)} left'
        f' over); {remedy}'
      )


def latest_step(run: pathlib.Path, field: str = '--workdir') -> int | None:
  """Returns the step of a run's newest complete checkpoint, or None without any.

  Args:
    run: its workdir.
    field: the setting that `run` comes from, for errors.
  """
  if not can_store(run):
    return None
  with Checkpoints(run, field=field) as checkpoints:
    return checkpoints.latest


def has_checkpoint(run: pathlib.Path, field: str = '--workdir') -> bool:
  """Returns whether a run holds a complete checkpoint; see `latest_step`."""
  return latest_step(run, field) is not None


def load_meta(run: pathlib.Path, field: str) -> dict[str, Any]:
  """Reads the JSON object saved with the newest checkpoint of a run; see `load_state`."""
  with Checkpoints(run, field=field) as checkpoints:
    return _newest(checkpoints, run, field, checkpoints.meta)


def load_state(
  run: pathlib.Path, template: Callable[[Collection[str]], State], field: str
) -> State:
  """Reads entries of the newest state of a run.

  Args:
    run: its workdir.
    template: a function of the paths of the saved arrays that returns the ShapeDtypeStructs, with
      shardings, of the arrays to read.
    field: the setting that `run` comes from, for errors.

  Raises:
    UserError: if there is no checkpoint, or it is another model's.
  """
  with Checkpoints(run, field=field) as checkpoints:
    return _newest(
      checkpoints,
      run,
      field,
      lambda step: checkpoints.restore(step, template(checkpoints.shapes(step))),
    )


def load_params(run: pathlib.Path, template: Params, field: str) -> Params:
  """Reads the newest parameters of a run; `template` is of them alone, see `load_state`."""
  return load_state(run, lambda saved: {'params': template}, field)['params']


def _newest(checkpoints: Checkpoints, run: pathlib.Path, field: str, read: Callable[[int], T]) -> T:
  newest = checkpoints.read_newest(read)
  if newest is None:
    raise UserError(
      f'{field}: {run} holds no checkpoint of this project; name the --workdir of a run that was'
      ' trained'
    )
  return newest[1]


@functools.lru_cache(maxsize=64)
def _cached_damage(folder: pathlib.Path, identity: int | None) -> str | None:
  """Returns `checksums.find_damage`, computed once per process for each `checksums.identity`."""
  del identity
  return checksums.find_damage(folder)


def _verify(folder: pathlib.Path, field: str) -> tuple[bool, str | None]:
  """Returns whether a checkpoint has checksums, and the damage that they reveal, in words."""
  with buckets.reporting_errors(folder, field):
    if not (folder / checksums.FILE).exists():
      return False, None
    return True, _cached_damage(folder, checksums.identity(folder))


def _reason(error: Exception) -> str:
  """Returns the system's message for an error of Python or TensorStore, or its first line."""
  code = re.search(r"os_error_code='(\d+)'", str(error))
  number = int(code[1]) if code else getattr(error, 'errno', None)
  return os.strerror(number) if number else first_line(error)


def _leaves(tree: Any) -> list[tuple[str, tuple[int, ...]]]:
  return [
    (trees.path_name(path), tuple(leaf.shape))
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  ]
