"""Adjusts what Orbax has no options for: its log messages, and weak file systems."""

import asyncio
import functools
import logging
import sys
from collections.abc import Collection
from typing import Any

from zsar_jax.runtime import file_systems


@functools.cache
def silence_orbax() -> None:
  """Keeps off stderr what Orbax, TensorStore and asyncio print when a checkpoint write fails.

  They raise the same errors, which `weights.checkpoint` turns into one sentence. A full disk would
  otherwise add hundreds of lines of tracebacks.
  """
  # Orbax logs through absl.
  logging.getLogger('absl').addFilter(_is_not_from_orbax)
  logging.getLogger('asyncio').addFilter(_names_no_checkpoint)
  default_hook = sys.unraisablehook

  def hook(unraisable: Any) -> None:
    # TensorStore calls one of Orbax's event loops, which is closed after the first error.
    frame = unraisable.exc_traceback.tb_frame if unraisable.exc_traceback else None
    if frame is None or frame.f_code is not asyncio.BaseEventLoop.call_soon_threadsafe.__code__:
      default_hook(unraisable)

  sys.unraisablehook = hook


def adapt_to_file_system(lacking: Collection[str]) -> None:
  """Makes TensorStore write checkpoints without features that the file system lacks.

  By default, TensorStore locks each file that it writes, renames it and calls fsync. Checkpoints do
  not need this: one counts as complete only when its folder gets its final name. Since a checkpoint
  is dozens of renamings, which take seconds each on some file systems, none of them locks and
  renames its files.

  Args:
    lacking: the missing features, from `file_systems.missing_features`.
  """
  from orbax.checkpoint._src.serialization import tensorstore_utils

  options: dict[str, Any] = {'file_io_locking': {'mode': 'non_atomic'}}
  if file_systems.SYNCING in lacking:
    options['file_io_sync'] = False
  tensorstore_utils._BASE_TS_CONTEXT.update(options)
  tensorstore_utils._DEFAULT_OCDBT_TS_CONTEXT.update(options)


def _is_not_from_orbax(record: logging.LogRecord) -> bool:
  # Of its warnings, only that a save waits for the one before it, which `Checkpoints` reports.
  is_reported = record.levelno >= logging.ERROR or 'previous save' in record.getMessage()
  return not is_reported or 'orbax' not in record.pathname


def _names_no_checkpoint(record: logging.LogRecord) -> bool:
  # asyncio reports errors of tasks that nobody awaited; those of Orbax name the unfinished folder.
  return 'orbax-checkpoint-tmp' not in record.getMessage()
