"""Requests to buckets: many at once, and sent again where they fail or stall."""

import asyncio
import contextlib
import errno
import functools
import math
import pathlib
import random
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from zsar_jax.errors import UserError, error_reason, first_line
from zsar_jax.runtime import bucket_errors
from zsar_jax.runtime.daemon_threads import DaemonThreads
from zsar_jax.storage import s3_reads

# The most requests of this process under way at once. At 30 ms each, 64 give 2,000 a second, more
# than a process can use.
MAX_REQUESTS = 64

# The most files, or parts of files, that are uploaded at once, and the bytes of a part. An upload
# goes on as long as parts arrive.
_MAX_UPLOADS = 8
_UPLOAD_PART_BYTES = 1 << 24

# Seconds without success after which a request fails for good. Each attempt may take as long as its
# bytes usually do, however long that is.
RETRY_SECONDS = 300.0

# The times that a file may be sent anew although parts of it arrive each time.
_MAX_TRANSFERS = 8

# Seconds after which a lack of credentials or rights is final. They may be renewed while a program
# runs.
_CREDENTIALS_SECONDS = 10.0

# A request is cancelled and sent again after this time, which doubles with each attempt, so that a
# slow network is not taken for a server that stalls.
_PATIENCE_SECONDS = 10.0
_BYTES_PER_SECOND = 1 << 20

# The longest pause before the second attempt, and before any. Pauses are random, because the hosts
# of a pod are throttled at the same moment.
_FIRST_PAUSE_SECONDS = 0.2
_MAX_PAUSE_SECONDS = 20.0

# The size of an object whose size is not known, usually and at most, and of the listing of millions
# of objects.
_USUAL_BYTES = 1 << 25
_LARGEST_BYTES = 1 << 40
_LONGEST_LISTING = 1 << 30

# Seconds of failures after which a process says so, and between such lines.
_SILENT_SECONDS = 20.0

# In what buckets say about an object, the keys that identify its content: of S3, Google Cloud
# Storage, Azure, web servers and other file systems.
_VERSIONS = (
  *('ETag', 'etag', 'generation', 'md5Hash'),
  *('LastModified', 'Last-Modified', 'last_modified', 'mtime', 'created'),
)

# The schemes of the stores in which the size of parts can be chosen.
_S3 = ('s3', 's3a')
_GCS = ('gs', 'gcs')

# The most parts that S3 takes for a file.
_MAX_S3_PARTS = 10_000

# Errors that another attempt does not change.
_LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, TypeError, NotImplementedError)


class UnreachableError(UserError):
  """A bucket did not answer for `RETRY_SECONDS`, or denied access; no damage of the data."""


def read_ranges(ranges: Sequence[tuple[Any, int, int]]) -> list[bytes]:
  """Reads ranges of objects, all at once.

  Args:
    ranges: (path, begin, end) in bytes, the path as `paths.as_path` returns it. All ranges lie
      within their objects.

  Raises:
    OSError: if an object does not exist, or may not be read.
    UnreachableError: if the bucket fails for too long.
  """

  async def read() -> list[bytes]:
    requests = [
      _persist(functools.partial(_read_range, path, begin, end), path, end - begin)
      for path, begin, end in ranges
    ]
    return await _gather(requests)

  return _run(read())


def read_objects(paths: Sequence[Any]) -> list[bytes]:
  """Reads whole objects, all at once.

  Raises:
    OSError: if an object does not exist, or may not be read.
    UnreachableError: if the bucket fails for too long.
  """

  async def read() -> list[bytes]:
    requests = [
      _persist(functools.partial(_read_range, path, None, None), path, _USUAL_BYTES, check=False)
      for path in paths
    ]
    return await _gather(requests)

  return _run(read())


def download(path: Any, size: int | None, file: pathlib.Path, **options: Any) -> None:
  """Copies an object to a local file, as one request.

  Args:
    path: of a file system with asynchronous functions.
    size: its bytes, if they are known.
    file: is replaced.
    options: those of the file system.

  Raises:
    OSError: if the object does not exist, may not be read, or the file cannot be written.
    UnreachableError: if the server fails for too long.
  """
  from fsspec.callbacks import Callback

  progress = _Progress(_LARGEST_BYTES if size is None else size)

  async def request() -> None:
    callback = Callback(hooks={'progress': progress.hook()})
    await path.fs._get_file(path.path, str(file), callback=callback, **options)

  _run(_persist(request, path, _UPLOAD_PART_BYTES, check=False, progress=progress))


def list_tree(folder: Any) -> dict[str, dict[str, Any]]:
  """Lists the objects below a folder in a bucket, with those of its subfolders.

  Returns:
    {path of the object below the folder: what the bucket says about it}, with its 'size' in bytes.

  Raises:
    UnreachableError: if the bucket fails for too long.
  """
  fs, path = folder.fs, folder.path.rstrip('/')

  async def request() -> dict[str, dict[str, Any]]:
    if fs.async_impl:
      return await fs._find(path, detail=True)
    return await _in_thread(lambda: fs.find(path, detail=True))

  async def read() -> dict[str, dict[str, Any]]:
    return await _persist(request, folder, _LONGEST_LISTING, check=False)

  # A file is found as itself, and some programs write an object for a folder, with '/' at the end.
  return {
    name[len(path) + 1 :]: entry
    for name, entry in _run(read()).items()
    if name.startswith(f'{path}/') and not name.endswith('/')
  }


def list_folder(folder: Any) -> dict[str, dict[str, Any]]:
  """Lists the objects of a folder in a bucket, without those of its subfolders, in one request.

  Returns:
    {name: what the bucket says about the object}, with its 'size' in bytes.

  Raises:
    UnreachableError: if the bucket fails for too long.
  """
  fs, path = folder.fs, folder.path

  async def request() -> list[dict[str, Any]]:
    try:
      if fs.async_impl:
        return await fs._ls(path, detail=True)
      return await _in_thread(lambda: fs.ls(path, detail=True))
    except FileNotFoundError:
      return []

  async def read() -> list[dict[str, Any]]:
    return await _persist(request, folder, 0, check=False)

  entries = _run(read())
  return {
    entry['name'].rpartition('/')[2]: entry for entry in entries if entry.get('type') == 'file'
  }


def version(entry: dict[str, Any]) -> str:
  """Returns a text that differs for another content of an object; '' if the bucket has none.

  Args:
    entry: what the bucket says about the object, from `list_folder` or `list_tree`.
  """
  return str(next((entry[key] for key in _VERSIONS if entry.get(key)), ''))


def upload(files: Sequence[tuple[pathlib.Path, Any]]) -> None:
  """Writes objects with the content of local files, several at once.

  Args:
    files: (local file, path in a bucket).

  Raises:
    OSError: if an object may not be written.
    UnreachableError: if the bucket fails for too long.
  """

  at_once = max(1, min(len(files), _MAX_UPLOADS))

  async def write() -> None:
    slots = asyncio.Semaphore(at_once)

    async def write_file(source: pathlib.Path, path: Any) -> None:
      async with slots:
        size = source.stat().st_size
        progress = _Progress(size)
        request = functools.partial(_put_file, source, path, _MAX_UPLOADS // at_once, progress)
        # What is sent as a whole: parts, or a file of less than two. The files share the network.
        sent = min(size, max(2, _MAX_UPLOADS // at_once) * _UPLOAD_PART_BYTES)
        sent = sent if path.fs.async_impl else size
        await _persist(request, path, sent * at_once, check=False, progress=progress)

    await _gather([write_file(*item) for item in files])

  _run(write())


class _Progress:
  """What has arrived of a file that is sent in parts.

  Attributes:
    time: when the last part arrived, by the monotonic clock. Parts do not count any more when the
      file was sent `_MAX_TRANSFERS` times.
  """

  def __init__(self, size: int):
    self.time = -math.inf
    self._bytes = 0
    self._remaining = size * _MAX_TRANSFERS
    self._timeout: asyncio.Timeout | None = None
    self._patience = 0.0

  @contextlib.contextmanager
  def attempt(self, timeout: asyncio.Timeout, patience: float) -> Iterator[None]:
    """Has `timeout` expire `patience` seconds after the last part that arrives in the block."""
    self._timeout, self._patience, self._bytes = timeout, patience, 0
    try:
      yield
    finally:
      self._timeout = None

  def hook(self) -> Callable[[int | None, int], None]:
    """Returns a hook of fsspec for this attempt, which takes the size and what has arrived."""
    timeout = self._timeout

    def update(size: int | None, arrived: int) -> None:
      del size
      # Parts of an earlier attempt may still arrive.
      if timeout is None or timeout is not self._timeout or timeout.expired():
        return
      if arrived > self._bytes and self._remaining > 0:
        self._remaining -= arrived - self._bytes
        self._bytes, self.time = arrived, time.monotonic()
        timeout.reschedule(asyncio.get_running_loop().time() + self._patience)

    return update


async def _put_file(
  source: pathlib.Path, path: Any, parts_at_once: int, progress: _Progress
) -> None:
  """Writes an object with the content of a file."""
  from fsspec.callbacks import Callback

  fs = path.fs
  if not fs.async_impl:
    await _in_thread(lambda: fs.put_file(str(source), path.path))
    return
  callback = Callback(hooks={'progress': progress.hook()})
  options: dict[str, Any] = {}
  if path.protocol in _S3:
    needed = math.ceil(source.stat().st_size / _MAX_S3_PARTS)
    options['chunksize'] = max(_UPLOAD_PART_BYTES, needed)
    options['max_concurrency'] = parts_at_once
  elif path.protocol in _GCS:
    options['chunksize'] = _UPLOAD_PART_BYTES
  await fs._put_file(str(source), path.path, callback=callback, **options)


async def _gather(requests: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
  """Awaits requests at once; if one fails, none of them goes on afterwards."""
  tasks = [asyncio.ensure_future(request) for request in requests]
  try:
    return await asyncio.gather(*tasks)
  finally:
    for task in tasks:
      task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
  """Runs a coroutine in fsspec's thread, and returns its result."""
  from fsspec.asyn import get_loop

  return asyncio.run_coroutine_threadsafe(coroutine, get_loop()).result()


async def _read_range(path: Any, begin: int | None, end: int | None) -> bytes:
  fs, name = path.fs, path.path
  if path.protocol in _S3 and begin is not None and end is not None:
    content = await s3_reads.read_range(fs, name, begin, end)
    if content is not None:
      return content
  if fs.async_impl:
    return await fs._cat_file(name, start=begin, end=end)
  return await _in_thread(lambda: fs.cat_file(name, start=begin, end=end))


# The threads of file systems that have no asynchronous functions.
_threads = DaemonThreads(MAX_REQUESTS, 'bucket')


async def _in_thread(function: Callable[[], Any]) -> Any:
  """Awaits a function of a file system that has no asynchronous ones."""
  return await asyncio.get_running_loop().run_in_executor(_threads, function)


@functools.cache
def _slots() -> asyncio.Semaphore:
  return asyncio.Semaphore(MAX_REQUESTS)


async def _persist(
  request: Callable[[], Coroutine[Any, Any, Any]],
  path: Any,
  size: int,
  check: bool = True,
  progress: _Progress | None = None,
) -> Any:
  """Awaits a request; sends it again, with growing pauses, until it succeeds.

  Args:
    request: sends it.
    path: what it asks for, for errors.
    size: the bytes that it transfers, or those of a part.
    check: whether its result must have this length.
    progress: of a transfer in parts; while they arrive, nothing has failed.
  """
  progress = progress or _Progress(0)
  began = math.inf  # The time in which others have all slots is no failure.
  attempt = 0
  while True:
    usual = _PATIENCE_SECONDS + size / _BYTES_PER_SECOND
    try:
      async with _slots():
        began = min(began, time.monotonic())
        remaining = max(began, progress.time) + RETRY_SECONDS - time.monotonic()
        # Each attempt may take as long as it usually does.
        patience = max(usual, min(usual * 2**attempt, remaining))
        async with asyncio.timeout(patience) as timeout:
          with progress.attempt(timeout, patience):
            result = await request()
      if not check or len(result) == size:
        return result
      reason = f'{len(result)} of {size} bytes arrived'
    except _LASTING:
      raise
    except TimeoutError:
      reason = f'no answer for {patience:.0f} seconds'
    except Exception as error:  # Each package for buckets raises classes of its own.
      if isinstance(error, OSError) and error.errno in (errno.EINVAL, errno.ENOENT):
        raise  # As for a range outside the object.
      if _is_hopeless(error, time.monotonic() - max(began, progress.time)):
        raise
      reason = first_line(error) if str(error) else error_reason(error)
    failing = time.monotonic() - max(began, progress.time)
    if failing > RETRY_SECONDS:
      raise UnreachableError(
        f'{path} cannot be reached for {failing:.0f} seconds ({reason}); see to the network and'
        ' the bucket, and the same command goes on'
      )
    if failing > _SILENT_SECONDS:
      _report(path, reason)
    pause = min(_MAX_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**attempt)
    await asyncio.sleep(random.uniform(0, pause))
    attempt += 1


def _is_hopeless(error: Exception, seconds: float) -> bool:
  """Returns whether a request that has failed for some seconds will fail for good."""
  return seconds > _CREDENTIALS_SECONDS and bucket_errors.is_for_lack_of_rights(error)


_last_report = -_SILENT_SECONDS


def _report(path: Any, reason: str) -> None:
  """Says that a bucket fails, once in a while."""
  global _last_report
  if time.monotonic() - _last_report > _SILENT_SECONDS:
    _last_report = time.monotonic()
    print(f'{path} is slow or fails ({reason}); trying again', file=sys.stderr, flush=True)
