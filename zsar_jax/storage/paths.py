"""Paths as users write them: ~ is the home folder, and a URL names a folder or file in a bucket.

Whatever takes a path from a user, on the command line, in a config or in Python, passes it through
`as_path` before it opens or creates anything; through `local_path` where a URL is not possible.
"""

import os
import pathlib
import re

from zsar_jax.errors import UserError
from zsar_jax.storage import buckets

_HOME = re.compile(r'~[\w.-]*(/|$)')
_FLAG = re.compile(r'--?([\w.-]+)=')

# The prefix of weights on the Hugging Face hub.
HUB_PREFIX = 'hf://'


def as_path(text: str | os.PathLike[str], field: str) -> pathlib.Path:
  """Returns a path on this machine or in a bucket.

  A path in a bucket is a `upath.UPath`: it has the methods of `pathlib.Path` except `replace`, but
  the functions `open`, `os.fspath` and those of `os` and `shutil` refuse it. What differs between
  the two is done by `storage.files`, `storage.locks` and `storage.buckets`.

  Args:
    text: what the user wrote, or a path that this function returned.
    field: the flag or config field that it comes from, for errors.

  Raises:
    UserError: if there is no such user, or the package for this kind of URL is missing.
  """
  if buckets.is_remote(text):
    return text
  if buckets.is_url(os.fspath(text)):
    return buckets.open_url(os.fspath(text), field)
  return pathlib.Path(local_path(text, field))


def path_text(text: str, field: str) -> str:
  """Returns a path as text, for `as_path`: a URL that can be opened, or what `local_path` returns.

  Args:
    text: what the user wrote.
    field: the flag or config field that it comes from, for errors.

  Raises:
    UserError: as `as_path` does.
  """
  if buckets.is_url(text):
    return str(as_path(text, field))
  return local_path(text, field)


def local_path(text: str | os.PathLike[str], field: str) -> str:
  """Returns a path on this machine, with a leading ~ or ~USER replaced by the home folder.

  Args:
    text: what the user wrote.
    field: the flag or config field that it comes from, for errors.

  Raises:
    UserError: if it is a URL, or there is no such user.
  """
  text = os.fspath(text)
  if buckets.is_url(text):
    raise UserError(
      f'{field}: {text} is a URL, which is not supported here; name a folder or file of this'
      ' machine, such as a mounted copy'
    )
  if not _HOME.match(text):
    return text
  path = os.path.expanduser(text)
  if path == text and not os.path.lexists(text):
    raise UserError(f'{field}: {text}: there is no such user; write ./{text} for a file here')
  return path


def cache_folder() -> pathlib.Path:
  """Returns the folder for what programs keep to be faster the next time; it may not exist."""
  caches = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache')
  return caches / 'zsar_jax'


def local_argument(argument: str) -> str:
  """Returns a command-line argument whose value, if it starts with ~, starts with the home folder.

  Args:
    argument: '--FLAG=VALUE' or 'VALUE'.

  Raises:
    UserError: if there is no such user.
  """
  flag = _FLAG.match(argument)
  value = argument[flag.end() :] if flag else argument
  if not _HOME.match(value):
    return argument
  return (flag[0] if flag else '') + local_path(value, flag[0][:-1] if flag else 'the command line')
