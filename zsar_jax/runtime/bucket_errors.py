"""Errors of buckets as sentences: no credentials, no such bucket, no right, no answer."""

import errno
import re
import types
from collections.abc import Iterator

from zsar_jax.errors import UserError, first_line

# The packages through which all access to buckets goes, and those whose errors they pass on.
_PACKAGES = frozenset(
  ('fsspec', 's3fs', 'gcsfs', 'adlfs', 'botocore', 'aiobotocore', 'aiohttp', 'upath')
)
# Not all of google, which protobuf belongs to.
_GOOGLE = ('google.api_core', 'google.auth', 'google.cloud', 'google.oauth2')

_AGAIN = 'try again when the bucket answers'

_NO_CREDENTIALS = 'there are no valid credentials for it'
_DENIED = 'access is denied'
_NO_BUCKET = 'there is no such bucket'

# Patterns of the errors' types and texts, the words for them, and the remedy.
_KINDS = tuple(
  (re.compile(pattern), reason, remedy)
  for pattern, reason, remedy in (
    (
      r'Credentials?(Error|NotFound)|locate credentials|Anonymous caller|InvalidAccessKeyId'
      r'|ExpiredToken|token has expired|Invalid Credentials|\b401\b',
      _NO_CREDENTIALS,
      'set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for s3://, and'
      ' GOOGLE_APPLICATION_CREDENTIALS for gs:// (or run gcloud auth application-default login)',
    ),
    (
      r'NoSuchBucket|bucket does not exist|FileNotFoundError.*\bb/[^/]+/o\b/?$',
      _NO_BUCKET,
      'make it, or correct its name',
    ),
    (
      r'PermissionError|Forbidden|AccessDenied|Access Denied|\b403\b',
      _DENIED,
      'give this account the right to list, read, write and delete objects there',
    ),
    (
      r'SlowDown|TooManyRequests|RequestLimitExceeded|Throttling|reduce your request rate|\b429\b'
      r'|\b503\b',
      'it has refused requests for too long because there are too many',
      'start fewer hosts at once, or ask for a larger quota',
    ),
    (
      r'Connect(ion|or)?\w*Error|Cannot connect|Could not connect|Timeout|Name or service'
      r'|ServerDisconnected',
      'it does not answer',
      'check the network, and AWS_ENDPOINT_URL or STORAGE_EMULATOR_HOST if they are set',
    ),
  )
)


def describe(error: BaseException, is_from_bucket: bool = False) -> tuple[str, str] | None:
  """Returns the reason and the remedy of a bucket's error; None for any other error.

  A missing object is no error of a bucket.

  Args:
    error: any error.
    is_from_bucket: whether it is known to be of a bucket.
  """
  if isinstance(error, UserError) or not (is_from_bucket or _is_from_bucket(error)):
    return None
  if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
    return None  # Of the disk to which an object is copied.
  text = ' '.join(
    f'{type(link).__name__} {link}'.replace('\n', ' ').strip() for link in _chain(error)
  )
  # The names of objects may have any numbers and words.
  without_paths = re.sub(r'\S*/\S*', ' ', text)
  for pattern, reason, remedy in _KINDS:
    is_missing = isinstance(error, FileNotFoundError) and reason != _NO_BUCKET
    if pattern.search(text if reason == _NO_BUCKET else without_paths) and not is_missing:
      return f'{reason} ({first_line(error)})', remedy
  if isinstance(error, FileNotFoundError | FileExistsError | ValueError | TypeError):
    return None
  return f'a request failed ({first_line(error)})', _AGAIN


def is_for_lack_of_rights(error: BaseException) -> bool:
  """Returns whether a bucket got no valid credentials, or those of an account without the right."""
  described = describe(error)
  return described is not None and described[0].startswith((_NO_CREDENTIALS, _DENIED))


def _is_from_bucket(error: BaseException) -> bool:
  """Returns whether an error is one of a bucket's packages, or was raised in one of them."""
  return any(
    _is_of_package(type(link).__module__) or _passed_through(link.__traceback__)
    for link in _chain(error)
  )


def _is_of_package(module: str) -> bool:
  return module.partition('.')[0] in _PACKAGES or module.startswith(_GOOGLE)


def _passed_through(trace: types.TracebackType | None) -> bool:
  while trace is not None:
    if _is_of_package(str(trace.tb_frame.f_globals.get('__name__'))):
      return True
    trace = trace.tb_next
  return False


def _chain(error: BaseException | None) -> Iterator[BaseException]:
  while error is not None:
    yield error
    error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
