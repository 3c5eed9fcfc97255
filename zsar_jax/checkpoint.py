"""Checkpoints; the only file that knows Orbax.

A checkpoint is {state, meta}: the training state as plain arrays, and a JSON object with what
has to agree for the run to go on. The data pipeline needs no state besides the step, see
`data.pipeline`. A checkpoint appears under its final name only when it is complete, so one that
was being written when the process died is not taken for one.
"""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp

from zsar_jax import trees
from zsar_jax.errors import UserError

FOLDER = 'checkpoints'


class Checkpoints:
  """The checkpoints of one run, written in the background. A context manager."""

  def __init__(self, workdir: pathlib.Path, keep: int = 1):
    """Opens `workdir`/checkpoints; nothing is made before the first save.

    Args:
      workdir: the run's folder.
      keep: how many of the newest checkpoints stay.
    """
    self._folder = (workdir / FOLDER).absolute()
    options = ocp.CheckpointManagerOptions(
      max_to_keep=keep, create=False, enable_async_checkpointing=True
    )
    handlers = {'state': ocp.PyTreeCheckpointHandler(), 'meta': ocp.JsonCheckpointHandler()}
    self._manager = ocp.CheckpointManager(self._folder, options=options, item_handlers=handlers)

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *exception: Any) -> None:
    self._manager.close()

  @property
  def latest(self) -> int | None:
    """The step of the newest complete checkpoint."""
    return self._manager.latest_step()

  def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
    """Copies `state` off the devices and writes it in the background."""
    self._folder.mkdir(parents=True, exist_ok=True)
    items = ocp.args.Composite(state=ocp.args.PyTreeSave(state), meta=ocp.args.JsonSave(meta))
    with jax.transfer_guard('allow'):
      self._manager.save(step, args=items)

  def wait(self) -> None:
    """Returns when everything saved is on disk."""
    self._manager.wait_until_finished()

  def meta(self, step: int) -> dict[str, Any]:
    """The JSON object saved with a checkpoint."""
    with self._readable(step):
      items = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))
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
      reason = (str(error).strip() or type(error).__name__).splitlines()[0]
      raise UserError(
        f'{self._folder / str(step)}: the checkpoint is damaged ({reason[:200]}); delete that'
        ' folder to go on from the one before'
      ) from None

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
        f'{place}: {lacks} ({len(missing)} arrays missing, {len(extra)} left over); {remedy}'
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
    return checkpoints.meta(_newest(checkpoints, run, field))


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
    return checkpoints.restore(_newest(checkpoints, run, field), template)


def _newest(checkpoints: Checkpoints, run: pathlib.Path, field: str) -> int:
  if checkpoints.latest is None:
    raise UserError(
      f'{field}: {run} holds no checkpoint of this project; name the --workdir of a run that was'
      ' trained'
    )
  return checkpoints.latest


def _leaves(tree: Any) -> list[tuple[str, tuple[int, ...]]]:
  return [
    (trees.path_name(path), tuple(leaf.shape))
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  ]
