"""Errors of buckets as sentences, against servers of the protocols and without any."""

import errno
import os
import re
import subprocess
import sys
import time

import google.protobuf.message
import pytest

from tests.ports import free_port
from zsar_jax.errors import UserError
from zsar_jax.runtime import bucket_errors
from zsar_jax.storage import buckets, files
from zsar_jax.storage.paths import as_path


def sentence(url):
  """The error of a folder for output."""
  with pytest.raises(UserError) as caught:
    files.make_folder(as_path(url, '--workdir'), '--workdir')
  text = str(caught.value)
  assert text.startswith(f'--workdir: {url}: ')
  assert '\n' not in text
  return text


def test_no_such_bucket(bucket_url):
  scheme = bucket_url.partition('://')[0]
  assert 'there is no such bucket' in sentence(f'{scheme}://no-such-bucket/run')


def test_no_credentials(s3_bucket, monkeypatch):
  monkeypatch.delenv('AWS_ACCESS_KEY_ID')
  monkeypatch.delenv('AWS_SECRET_ACCESS_KEY')
  monkeypatch.setenv('AWS_EC2_METADATA_DISABLED', 'true')
  assert re.search('no valid credentials.*set AWS_PROFILE or', sentence(s3_bucket))


def test_a_missing_object_is_no_error_of_a_bucket(bucket_url):
  folder = as_path(bucket_url, '--workdir')
  with pytest.raises(FileNotFoundError) as caught, buckets.reporting_errors(folder, '--workdir'):
    (folder / 'none').read_bytes()
  assert bucket_errors.describe(caught.value) is None


@pytest.mark.parametrize(
  'error',
  [
    ValueError('x'),
    PermissionError(13, 'denied'),
    ConnectionError('Cannot connect'),
    TimeoutError(),
    google.protobuf.message.DecodeError('Error parsing message'),
  ],
)
def test_other_errors_stay(error, tmp_path):
  assert bucket_errors.describe(error) is None
  with pytest.raises(type(error)), buckets.reporting_errors(tmp_path, '--workdir'):
    raise error


@pytest.mark.parametrize(
  ('code', 'words'),
  [
    ('AccessDenied', 'access is denied'),
    ('SlowDown', 'too many'),
    ('ExpiredToken', 'no valid credentials'),
    ('InternalError', 'a request failed'),
  ],
)
def test_errors_of_s3(code, words):
  exceptions = pytest.importorskip('botocore.exceptions')
  errors = pytest.importorskip('s3fs.errors')
  response = {'Error': {'Code': code, 'Message': 'as the server says'}}
  original = exceptions.ClientError(response, 'PutObject')
  for error in (original, errors.translate_boto_error(original)):
    reason, _ = bucket_errors.describe(error)
    assert words in reason


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_reported_in_time(s3_bucket, monkeypatch):
  monkeypatch.setenv('AWS_ENDPOINT_URL', f'http://127.0.0.1:{free_port()}')
  start = time.monotonic()
  process = subprocess.run(
    [sys.executable, '-m', 'zsar_jax.main', '--config=pantomime', f'--workdir={s3_bucket}'],
    capture_output=True,
    text=True,
    check=False,
  )
  assert time.monotonic() - start < 120
  assert process.returncode == 2
  assert re.fullmatch(
    f'error: --workdir: {s3_bucket}: it does not answer .*check the network.*\n', process.stderr
  )


@pytest.mark.parametrize(
  'name', ['runs/401', 'ssv2/403.webm', 'runs/429', 'a/503', 'r/ExpiredToken']
)
def test_the_name_of_an_object_is_no_status(name):
  exceptions = pytest.importorskip('botocore.exceptions')
  error = exceptions.EndpointConnectionError(endpoint_url=f'http://127.0.0.1:9/b/{name}/log.txt')
  reason, _ = bucket_errors.describe(error)
  assert reason.startswith('it does not answer (')
  assert not bucket_errors.is_for_lack_of_rights(error)


def test_a_full_disk_is_no_error_of_a_bucket():
  error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
  assert bucket_errors.describe(error, is_from_bucket=True) is None
