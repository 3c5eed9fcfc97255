"""Adjusts what Orbax has no options for: its log messages, weak file systems, and buckets."""

import asyncio
import functools
import logging
import os
import re
import sys
from collections.abc import Collection
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.storage import bucket_requests, buckets, file_systems

# The statuses of TensorStore's errors that say nothing about the content of an object.
_FAILURES = re.compile(
  'ABORTED|DEADLINE_EXCEEDED|PERMISSION_DENIED|RESOURCE_EXHAUSTED|UNAUTHENTICATED|UNAVAILABLE'
)


@functools.cache
def silence_orbax() -> None:
  """Keeps off stderr what Orbax, TensorStore and asyncio print when a checkpoint write fails.

  They raise the same errors, which `weights.checkpoint` turns into one sentence. A full disk would
  otherwise add hundreds of lines of tracebacks.
  """
  # Orbax logs through absl.
  logging.getLogger('absl').addFilter(_is_not_from_orbax)
  logging.getLogger('asyncio').addFilter(_names_no_file_of_orbax)
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


def storage_path(folder: Any, field: str) -> Any:
  """Returns a folder as Orbax takes it, and makes Orbax and TensorStore read and write it.

  Args:
    folder: on a disk or in a bucket.
    field: the flag or config field that names it, for errors.

  Raises:
    UserError: if it is in a bucket that TensorStore does not know, or has a name that it cuts.
  """
  if not buckets.is_remote(folder):
    return folder
  if not can_store(folder):
    scheme = buckets.scheme(folder)
    reason = 'with # or ? in its name ' if scheme == 'gs' else ''
    raise UserError(
      f'{field}: {folder}: a folder in {scheme}:// {reason}cannot hold checkpoints; name another,'
      ' of a disk, of gs:// or of s3://'
    )
  # Otherwise epath would use TensorFlow where it is installed, which has other credentials.
  os.environ['EPATH_USE_TF'] = 'false'
  _limit_retries()
  if buckets.scheme(folder) == 's3':
    _adapt_to_s3()
  from etils import epath

  return epath.Path(str(folder))


def is_unreachable(error: BaseException) -> bool:
  """Returns whether TensorStore's error says that a bucket failed or denied access."""
  # The names of objects may have any words.
  return bool(_FAILURES.search(re.sub(r'\S*/\S*', ' ', str(error))))


def can_store(folder: Any) -> bool:
  """Returns whether checkpoints can be in a folder."""
  if not buckets.is_remote(folder):
    return True
  # In gs://, Orbax takes what follows # or ? for parts of a URL, and writes the arrays of all such
  # folders to one.
  scheme = buckets.scheme(folder)
  return scheme == 's3' or (scheme == 'gs' and not re.search('[#?]', str(folder)))


def key_value_store(folder: Any) -> dict[str, Any]:
  """Returns TensorStore's description of a folder on a disk, in gs:// or in s3://."""
  if not buckets.is_remote(folder):
    return {'driver': 'file', 'path': f'{folder}/'}
  from orbax.checkpoint._src.path import gcs_utils

  return gcs_utils.get_kvstore_for_gcs(f'{folder}/')


@functools.cache
def _limit_retries() -> None:
  """Makes TensorStore give a request up after the time of `bucket_requests`, not 15 minutes."""
  from orbax.checkpoint._src.serialization import tensorstore_utils

  # The pauses double from 1 to 32 seconds: 31 s for the first five, 32 s for each of the others.
  retries = {'max_retries': 5 + round((bucket_requests.RETRY_SECONDS - 31) / 32)}
  for context in (
    tensorstore_utils._BASE_TS_CONTEXT,
    tensorstore_utils._DEFAULT_OCDBT_TS_CONTEXT,
  ):
    context |= {'s3_request_retries': retries, 'gcs_request_retries': retries}


@functools.cache
def _adapt_to_s3() -> None:
  """Makes Orbax write to s3:// as it writes to gs://, which TensorStore can do as well.

  Orbax has no option for this. If a name is gone from a later version, this fails.
  """
  from orbax.checkpoint._src.path import gcs_utils
  from orbax.checkpoint._src.serialization import tensorstore_utils

  of_gcs, uses_gcs = gcs_utils.get_kvstore_for_gcs, tensorstore_utils._use_gcs_driver
  normalize = tensorstore_utils._normalize_path

  def key_value_store(path: str) -> dict[str, Any]:
    return _s3_store(path) if path.startswith('s3://') else of_gcs(path)

  gcs_utils.get_kvstore_for_gcs = key_value_store
  tensorstore_utils._use_gcs_driver = lambda path: path.startswith('s3://') or uses_gcs(path)
  tensorstore_utils._normalize_path = lambda path: re.sub('^s3:/(?!/)', 's3://', normalize(path))


def _s3_store(path: str) -> dict[str, Any]:
  """Returns TensorStore's description of a path, at the endpoint that s3fs uses."""
  import fsspec

  bucket, _, key = path.removeprefix('s3://').partition('/')
  store: dict[str, Any] = {'driver': 's3', 'bucket': bucket, 'path': key}
  if os.environ.get('AWS_ACCESS_KEY_ID') and os.environ.get('AWS_SECRET_ACCESS_KEY'):
    store['aws_credentials'] = {'type': 'environment'}  # Others would be looked for and missed.
  fs = fsspec.filesystem('s3')
  fs.connect()
  endpoint = fs.s3.meta.endpoint_url
  if not re.search(r'\.amazonaws\.com(\.cn)?$', endpoint):  # TensorStore finds Amazon's itself.
    store |= {'endpoint': endpoint, 'aws_region': fs.s3.meta.region_name or 'us-east-1'}
  return store


def _is_not_from_orbax(record: logging.LogRecord) -> bool:
  # Of its warnings, only that a save waits for the one before it, which `Checkpoints` reports.
  is_reported = record.levelno >= logging.ERROR or 'previous save' in record.getMessage()
  return not is_reported or 'orbax' not in record.pathname


def _names_no_file_of_orbax(record: logging.LogRecord) -> bool:
  # asyncio reports errors of tasks that nobody awaited, with the file that defines the task.
  return 'orbax' not in record.getMessage()
