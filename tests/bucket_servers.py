"""Servers of the protocols of S3 and Google Cloud Storage on this machine, as pytest fixtures.

`s3_server` and `gcs_server` run for a whole session; `s3_bucket`, `gcs_bucket` and `bucket_url` set
the environment and return the URL of a folder of its own. They need the extra `servers`.
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping

import pytest

from tests.ports import free_port
from zsar_jax.storage import buckets

_BUCKET = 'zsar-tests'

# Makes gcsfs use HTTP alone, as the emulator has no gRPC; gcsfs reads it when it is imported.
_HTTP_ONLY = {'GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT': 'false'}
os.environ.update(_HTTP_ONLY)


@dataclasses.dataclass(frozen=True)
class BucketServer:
  """A running server.

  Attributes:
    endpoint: 'http://127.0.0.1:PORT'.
    bucket: the URL of a bucket that exists.
    environment: what programs need to use the server instead of the real one.
    pid: the server's process.
  """

  endpoint: str
  bucket: str
  environment: Mapping[str, str]
  pid: int


@pytest.fixture(scope='session')
def s3_server() -> Iterator[BucketServer]:
  """moto's server of S3."""
  for module in ('s3fs', 'moto', 'flask'):
    pytest.importorskip(module)
  port = free_port()
  with _running(_program('moto_server'), '-H', '127.0.0.1', '-p', str(port)) as process:
    endpoint = f'http://127.0.0.1:{port}'
    _wait_for(endpoint, process)
    # moto accepts requests without signatures.
    urllib.request.urlopen(urllib.request.Request(f'{endpoint}/{_BUCKET}', method='PUT'))
    environment = {
      'AWS_ACCESS_KEY_ID': 'test',
      'AWS_SECRET_ACCESS_KEY': 'test',
      'AWS_DEFAULT_REGION': 'us-east-1',
      'AWS_ENDPOINT_URL': endpoint,
    }
    yield BucketServer(endpoint, f's3://{_BUCKET}', environment, process.pid)


@pytest.fixture(scope='session')
def gcs_server() -> Iterator[BucketServer]:
  """An emulator of Google Cloud Storage."""
  for module in ('gcsfs', 'gcp_storage_emulator'):
    pytest.importorskip(module)
  port = free_port()
  program = pathlib.Path(__file__).with_name('gcs_emulator.py')
  command = (sys.executable, str(program), 'start', '--in-memory', '--quiet')
  options = ('--host=127.0.0.1', f'--port={port}', f'--default-bucket={_BUCKET}')
  with _running(*command, *options) as process:
    endpoint = f'http://127.0.0.1:{port}'
    _wait_for(endpoint, process)
    environment = {
      'STORAGE_EMULATOR_HOST': endpoint,
      'TENSORSTORE_GCS_HTTP_URL': endpoint,
      'FSSPEC_GS_TOKEN': 'anon',
      **_HTTP_ONLY,
    }
    yield BucketServer(endpoint, f'gs://{_BUCKET}', environment, process.pid)


@pytest.fixture
def s3_bucket(s3_server, monkeypatch) -> Iterator[str]:
  """The URL of an empty folder in S3."""
  with _environment(s3_server, monkeypatch):
    yield f'{s3_server.bucket}/{uuid.uuid4().hex}'


@pytest.fixture
def gcs_bucket(gcs_server, monkeypatch) -> Iterator[str]:
  """The URL of an empty folder in Google Cloud Storage."""
  with _environment(gcs_server, monkeypatch):
    yield f'{gcs_server.bucket}/{uuid.uuid4().hex}'


@pytest.fixture(params=['s3_bucket', 'gcs_bucket'])
def bucket_url(request) -> str:
  """The URL of an empty folder in S3, then in Google Cloud Storage."""
  return request.getfixturevalue(request.param)


@contextlib.contextmanager
def _environment(server: BucketServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
  """Sets the environment, for programs that a test starts and for this process."""
  import fsspec

  buckets._configure_fsspec()  # Once in a process, so not after the copies below.
  for name, value in server.environment.items():
    monkeypatch.setenv(name, value)
  # fsspec reads its variables when it is imported.
  for scheme in ('gs', 's3'):
    monkeypatch.setitem(fsspec.config.conf, scheme, dict(fsspec.config.conf.get(scheme, {})))
  fsspec.config.set_conf_env(fsspec.config.conf)
  kind = fsspec.get_filesystem_class(server.bucket.split(':')[0])
  kind.clear_instance_cache()
  yield
  kind.clear_instance_cache()


@contextlib.contextmanager
def _running(*command: str) -> Iterator[subprocess.Popen]:
  process = subprocess.Popen(
    command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
  )
  try:
    yield process
  finally:
    with contextlib.suppress(ProcessLookupError):
      os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _program(name: str) -> str:
  """Returns a program of this Python's environment, which need not be activated."""
  path = shutil.which(name, path=str(pathlib.Path(sys.executable).parent)) or shutil.which(name)
  return path or pytest.skip(f'{name} is not installed')


def _wait_for(endpoint: str, process: subprocess.Popen) -> None:
  deadline = time.monotonic() + 60
  while time.monotonic() < deadline:
    if process.poll() is not None:
      break
    try:
      urllib.request.urlopen(endpoint, timeout=5)
      return
    except urllib.error.HTTPError:
      return
    except OSError:
      time.sleep(0.1)
  pytest.fail(f'{process.args[0]} does not answer at {endpoint}')
