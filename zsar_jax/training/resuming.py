"""Resuming a run: what a checkpoint records of it, and what must agree with it afterwards."""

import pathlib
import zlib
from typing import Any

from ml_collections import ConfigDict

from zsar_jax.data.subset import Subset
from zsar_jax.errors import UserError
from zsar_jax.models.compute import Compute
from zsar_jax.runtime import numerics_environment
from zsar_jax.runtime.progress import log
from zsar_jax.weights.checkpoint import has_checkpoint
from zsar_jax.weights.initial import (
  SEEN_CLASSES,
  InitialWeights,
  run_seen_classes,
  source_seen_classes,
)

Meta = dict[str, Any]


def make_meta(subset: Subset, seen: list[str], initial: InitialWeights, compute: Compute) -> Meta:
  """Returns the JSON object that is saved with each checkpoint of a run.

  Args:
    subset: the training clips.
    seen: the classes seen in training, from `seen_classes`.
    initial: the weights that training starts from.
    compute: how the model is computed.
  """
  environment = numerics_environment.current()
  environment['attention'] = compute.attention
  environment['deterministic'] = environment['platform'] != 'gpu' or compute.deterministic
  return {
    'clips': fingerprint(subset),
    SEEN_CLASSES: seen,
    'start': initial.source_step(),
    'computed_with': environment,
  }


def check_meta(saved: Meta, current: Meta, workdir: pathlib.Path, config: ConfigDict) -> None:
  """Raises a `UserError` if a checkpoint was trained on other data or from other weights.

  Args:
    saved: the JSON object of the checkpoint.
    current: the same of this start, from `make_meta`.
    workdir: the run's folder.
    config: the config of this start.
  """
  remedies = {'clips': 'restore the data'}
  if config.optim.distillation or config.eval.interpolate:
    remedies['start'] = 'config.model.init_from is a run that has gone on since; keep a copy of it'
  for name, remedy in remedies.items():
    if saved.get(name) != current[name]:
      raise UserError(
        f'{workdir}: the checkpoint was made with other {name} ({saved.get(name)}, now'
        f' {current[name]}), so going on would not be the same run; {remedy}, or take another'
        ' --workdir'
      )


def log_machine_changes(saved: Meta, current: Meta) -> None:
  """Logs if the checkpoint was computed with other software or devices than this start."""
  before, now = saved.get('computed_with'), current['computed_with']
  if changes := numerics_environment.describe_changes(before, now):
    log(f'{changes}: the numbers may differ from those of an undisturbed run in their last bits')


def fingerprint(subset: Subset) -> int:
  """Returns a checksum of the clips, their order and their classes."""
  names = [*subset.classes, *map(subset.clip_id, range(len(subset)))]
  return zlib.crc32(subset.labels.tobytes(), zlib.crc32('\n'.join(names).encode()))


def seen_classes(config: ConfigDict, subset: Subset, workdir: pathlib.Path) -> list[str]:
  """Returns the classes of this run's training, and of the training of its initial weights.

  Args:
    config: a validated config.
    subset: the training clips.
    workdir: the run's folder, whose checkpoint records the classes if there is one.
  """
  if has_checkpoint(workdir):
    earlier = run_seen_classes(workdir, '--workdir')
  elif config.model.init_from:
    earlier = source_seen_classes(config.model.init_from)
  else:
    earlier = []
  if earlier is None:
    log(f'which classes {config.model.init_from} was trained on is not known, and not checked')
  return sorted({*subset.classes, *(earlier or ())})
