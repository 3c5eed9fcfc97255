"""A read-only S3 server of a folder on this machine, with the latency and the faults of a bucket.

The first level of the folder are the buckets. It knows the requests with which data sets are read:
listing, HEAD, and GET of ranges. Signatures are not checked. It is written for speed, so that a
measurement does not measure the server.
"""

import asyncio
import dataclasses
import functools
import json
import multiprocessing
import os
import pathlib
import random
import socket
import time
import urllib.parse
import urllib.request
import xml.sax.saxutils
from typing import Any

# The most entries of one answer to a listing, as S3's.
_LISTED = 1000


@dataclasses.dataclass(frozen=True)
class Faults:
  """How a server misbehaves.

  Attributes:
    latency: seconds from a request to its answer.
    unavailable: the share of requests that are answered with status 503, SlowDown.
    cut: the share of bodies that end too early, with the connection.
    short: the share of bodies that lack their last byte, as their header says.
    stalled: the share of answers that never come.
    rate: requests per second beyond which the answer is status 503; 0 for any number.
    refuses_signed_urls: whether requests must be signed in their headers.
  """

  latency: float = 0.0
  unavailable: float = 0.0
  cut: float = 0.0
  short: float = 0.0
  stalled: float = 0.0
  rate: float = 0.0
  refuses_signed_urls: bool = False


class _Server:
  """What the connections share."""

  def __init__(self, root: pathlib.Path, faults: Faults):
    self.root, self.faults = root, faults
    self.random = random.Random(0)
    self.counts = {'requests': 0, 'bytes': 0, 'open': 0, 'most': 0, 'faults': 0, 'signed_urls': 0}
    self._second, self._in_second = 0, 0

  def is_throttled(self) -> bool:
    """Returns whether this request is one too many in this second."""
    second = int(time.monotonic())
    if second != self._second:
      self._second, self._in_second = second, 0
    self._in_second += 1
    return 0 < self.faults.rate < self._in_second

  @functools.lru_cache(maxsize=4096)  # noqa: B019  The server lives as long as its process.
  def file(self, name: str) -> tuple[int, int, str]:
    """Returns (descriptor, size, etag) of an object; raises `OSError` if there is none."""
    path = self.root / name
    if not path.is_file():
      raise FileNotFoundError(name)
    descriptor = os.open(path, os.O_RDONLY)
    status = os.fstat(descriptor)
    return descriptor, status.st_size, f'{status.st_mtime_ns:x}-{status.st_size:x}'

  def answer(self, method: str, target: str, headers: dict[str, str]) -> tuple[str, dict, bytes]:
    """Returns status, headers and body."""
    url = urllib.parse.urlsplit(target)
    name = urllib.parse.unquote(url.path).strip('/')
    if name == '_counts':
      return '200 OK', {}, json.dumps(self.counts).encode()
    query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
    if 'X-Amz-Signature' in query:
      self.counts['signed_urls'] += 1
      if self.faults.refuses_signed_urls:
        return '403 Forbidden', {}, b'<Error><Code>AccessDenied</Code></Error>'
    if 'list-type' in query:
      return '200 OK', {'Content-Type': 'application/xml'}, self._list(name, query)
    try:
      descriptor, size, etag = self.file(name)
    except OSError:
      body = b'' if method == 'HEAD' else b'<Error><Code>NoSuchKey</Code></Error>'
      return '404 Not Found', {}, body
    answer = {'ETag': f'"{etag}"', 'Last-Modified': 'Sat, 01 Nov 2025 00:00:00 GMT'}
    if method == 'HEAD':
      return '200 OK', answer | {'Content-Length': str(size)}, b''
    if 'range' not in headers:
      return '200 OK', answer, os.pread(descriptor, size, 0)
    first, _, last = headers['range'].removeprefix('bytes=').partition('-')
    end = min(int(last) + 1 if last else size, size)
    answer['Content-Range'] = f'bytes {first}-{end - 1}/{size}'
    return '206 Partial Content', answer, os.pread(descriptor, end - int(first), int(first))

  def _list(self, bucket: str, query: dict[str, str]) -> bytes:
    prefix, delimiter = query.get('prefix', ''), query.get('delimiter', '')
    folder = self.root / bucket
    start = folder / prefix.rpartition('/')[0]
    paths = start.rglob('*') if not delimiter else start.glob('*')
    contents, prefixes = [], set()
    for path in paths:
      key = path.relative_to(folder).as_posix()
      if path.is_dir():
        if delimiter and f'{key}/'.startswith(prefix):
          prefixes.add(f'{key}/')
      elif key.startswith(prefix):
        contents.append((key, path.stat()))
    contents.sort(key=lambda item: item[0])
    first = int(query.get('continuation-token', 0))
    entries = [
      f'<Contents><Key>{xml.sax.saxutils.escape(key)}</Key>'
      f'<LastModified>2025-11-01T00:00:00.000Z</LastModified>'
      f'<ETag>"{status.st_mtime_ns:x}-{status.st_size:x}"</ETag><Size>{status.st_size}</Size>'
      '<StorageClass>STANDARD</StorageClass></Contents>'
      for key, status in contents[first : first + _LISTED]
    ]
    entries += [f'<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>' for name in prefixes]
    more = first + _LISTED < len(contents)
    token = f'<NextContinuationToken>{first + _LISTED}</NextContinuationToken>' if more else ''
    return (
      '<?xml version="1.0" encoding="UTF-8"?>'
      '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
      f'<Name>{bucket}</Name><Prefix>{prefix}</Prefix><KeyCount>{len(entries)}</KeyCount>'
      f'<MaxKeys>{_LISTED}</MaxKeys><IsTruncated>{str(more).lower()}</IsTruncated>{token}'
      f'{"".join(entries)}</ListBucketResult>'
    ).encode()


class _Connection(asyncio.Protocol):
  """A connection: requests without a body, one after another."""

  transport: Any  # Known when the connection is made.

  def __init__(self, server: _Server):
    self._server = server
    self._received = b''

  def connection_made(self, transport: asyncio.BaseTransport) -> None:
    self.transport = transport
    self._server.counts['open'] += 1
    self._server.counts['most'] = max(self._server.counts['most'], self._server.counts['open'])

  def connection_lost(self, exc: Exception | None) -> None:
    self._server.counts['open'] -= 1

  def data_received(self, data: bytes) -> None:
    self._received += data
    while b'\r\n\r\n' in self._received:
      head, _, self._received = self._received.partition(b'\r\n\r\n')
      lines = head.decode('latin-1').split('\r\n')
      method, target, _ = lines[0].split(' ')
      headers = dict(line.lower().split(': ', 1) for line in lines[1:] if ': ' in line)
      delay = 0.0 if target == '/_counts' else self._server.faults.latency
      asyncio.get_running_loop().call_later(delay, self._answer, method, target, headers)

  def _answer(self, method: str, target: str, headers: dict[str, str]) -> None:
    server, faults, counts = self._server, self._server.faults, self._server.counts
    is_counted = target != '/_counts'
    status, answer, body = server.answer(method, target, headers)
    chance = server.random.random() if is_counted else 1.0
    cut = False
    counts['requests'] += is_counted
    if is_counted and server.is_throttled():
      chance = 0.0
      status = '503'
    for name in ('unavailable', 'cut', 'short', 'stalled'):
      share = getattr(faults, name)
      if status == '503' or (0 <= chance < share):
        counts['faults'] += 1
        if name == 'unavailable' or status == '503':
          status, answer = '503 Slow Down', {}
          body = b'' if method == 'HEAD' else b'<Error><Code>SlowDown</Code></Error>'
        elif name == 'stalled':
          return
        elif name == 'short':
          body = body[:-1]
        else:
          cut = True
        break
      chance -= share
    answer.setdefault('Content-Length', str(len(body)))
    lines = [f'HTTP/1.1 {status}', *(f'{name}: {value}' for name, value in answer.items())]
    if cut and body:
      body = body[: len(body) // 2]
    counts['bytes'] += len(body) if is_counted else 0
    if not self.transport.is_closing():
      self.transport.write('\r\n'.join(lines).encode() + b'\r\n\r\n' + body)
      if cut:
        self.transport.close()


async def serve(root: pathlib.Path, faults: Faults, listening: socket.socket) -> None:
  """Answers requests until it is cancelled."""
  shared = _Server(root, faults)
  loop = asyncio.get_running_loop()
  server = await loop.create_server(lambda: _Connection(shared), sock=listening, backlog=1024)
  async with server:
    await server.serve_forever()


class SlowBucket:
  """A server in a process of its own; a context that ends it.

  Attributes:
    url: its address, for AWS_ENDPOINT_URL.
  """

  def __init__(self, root: pathlib.Path, faults: Faults):
    """Starts it.

    Args:
      root: the folder whose folders are the buckets.
      faults: how it misbehaves.
    """
    with socket.socket() as listening:
      listening.bind(('127.0.0.1', 0))
      listening.listen(1024)
      self.url = f'http://127.0.0.1:{listening.getsockname()[1]}'
      # Not forked, because JAX or threads may run in this process.
      context = multiprocessing.get_context('spawn')
      self._process = context.Process(target=_run, args=(root, faults, listening), daemon=True)
      self._process.start()

  def counts(self) -> dict[str, int]:
    """Returns the numbers of requests, bytes, open connections, and the most of these."""
    with urllib.request.urlopen(f'{self.url}/_counts') as answer:
      return json.load(answer)

  def __enter__(self) -> 'SlowBucket':
    return self

  def __exit__(self, *_: object) -> None:
    self._process.kill()
    self._process.join()


def _run(root: pathlib.Path, faults: Faults, listening: socket.socket) -> None:
  asyncio.run(serve(root, faults, listening))
