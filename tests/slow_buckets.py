"""A folder of this machine as a bucket of S3, with latency and faults, for tests."""

import asyncio
import collections
import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
from fsspec.asyn import get_loop

from tools.benchmarks.bucket_server import Faults, SlowBucket
from zsar_jax.data import dataset_files
from zsar_jax.storage import bucket_requests


@contextlib.contextmanager
def slow_bucket(root: pathlib.Path, faults: Faults | None = None) -> Iterator[SlowBucket]:
  """Serves the folders in `root` as buckets, for this process and those that it starts."""
  s3fs = pytest.importorskip('s3fs')
  with SlowBucket(root, faults or Faults()) as server, pytest.MonkeyPatch.context() as patch:
    for name in ('AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'):
      patch.setenv(name, 'test')
    patch.setenv('AWS_DEFAULT_REGION', 'us-east-1')
    patch.setenv('AWS_ENDPOINT_URL', server.url)
    s3fs.S3FileSystem.clear_instance_cache()
    # Files of the same URL on another server.
    patch.setattr(dataset_files, '_open_files', collections.OrderedDict())
    try:
      yield server
    finally:
      asyncio.run_coroutine_threadsafe(_cancel_requests(), get_loop()).result()
      s3fs.S3FileSystem.clear_instance_cache()


async def _cancel_requests() -> None:
  """Cancels the requests of other threads, which would be sent again for minutes."""
  for task in asyncio.all_tasks():
    coroutine: Any = task.get_coro()
    if coroutine.cr_code.co_filename == bucket_requests.__file__:
      task.cancel()
