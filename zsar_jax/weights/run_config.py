"""Checks that the config of a start goes with the run whose config was saved before."""

import json
import pathlib
from collections.abc import Collection
from typing import Any

from ml_collections import ConfigDict

from zsar_jax.config import default_config, to_json
from zsar_jax.errors import UserError
from zsar_jax.runtime import agreement
from zsar_jax.storage.files import read_file

# Settings that may change when a run is resumed, because its result does not depend on them.
CHANGEABLE_FIELDS = (
  *('log', 'checkpoint', 'eval', 'mesh', 'profile'),
  *('model.attention', 'model.deterministic'),
  *('data.dir', 'data.cache', 'data.cache_gib', 'data.embedded', 'data.workers'),
  *('data.on_worker_failure', 'data.patience', 'data.max_bad_clips'),
)

# Settings that must not change when a trained checkpoint is evaluated.
MODEL_FIELDS = (
  'model.preset',
  'model.normalization',
  'model.temporal',
  'model.temporal_layers',
  'model.prompts.image',
  'model.prompts.text',
  'model.prompts.depth',
  'text.tokenizer',
  'view.num_frames',
  'view.size',
)


def check_same_run(
  config: ConfigDict, saved: pathlib.Path, fields: Collection[str] | None = None
) -> None:
  """Checks that a config continues the run whose config was saved.

  Args:
    config: the config of this start.
    saved: the workdir's config.json.
    fields: the settings that must be equal; None for all but `CHANGEABLE_FIELDS`.

  Raises:
    UserError: if a setting differs, or the file cannot be read.
  """
  try:
    # A setting that did not exist when the run began has its default.
    before = _merge(json.loads(to_json(default_config())), json.loads(read_file(saved)))
  except (OSError, ValueError) as error:
    raise UserError(
      f'{saved}: not readable as JSON ({error}); take another --workdir or restore the file'
    ) from None
  now = json.loads(to_json(config))
  for field, old, new in agreement.differences(before, now):
    changeable = any(field == name or field.startswith(f'{name}.') for name in CHANGEABLE_FIELDS)
    if field in fields if fields is not None else not changeable:
      raise UserError(
        f'{saved}: config.{field} was {old!r} when this run began and is {new!r} now, which'
        ' would make it another run; take another --workdir or set it back'
      )


def _merge(default: Any, saved: Any) -> Any:
  """Merges nested dictionaries; the values of `saved` take precedence."""
  if isinstance(default, dict) and isinstance(saved, dict):
    return default | {key: _merge(default.get(key), value) for key, value in saved.items()}
  return saved
