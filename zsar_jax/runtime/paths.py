"""Paths as users write them: ~ is the home folder, and a URL is refused.

Everything that takes a path from a user, on the command line, in a config or in Python, passes
it through `local_path` before it opens or makes anything.
"""

import os
import re

from zsar_jax.errors import UserError

_URL = re.compile(r'[A-Za-z][A-Za-z0-9+.-]*://')
_HOME = re.compile(r'~[\w.-]*(/|$)')
_FLAG = re.compile(r'--?([\w.-]+)=')

# Weights on the Hugging Face hub, and the flags and fields that take their names.
HUB_PREFIX = 'hf://'
_TAKES_HUB = re.compile(r'checkpoint|tokens[-_]from|config\..*(init_from|tokens_from|source)')


def local_path(text: str | os.PathLike[str], field: str) -> str:
  """A path on this machine, with the home folder in place of a leading ~ or ~USER.

  Args:
    text: what the user wrote.
    field: where it comes from, for errors.

  Raises:
    UserError: it is a URL, or there is no such user.
  """
  text = os.fspath(text)
  if scheme := _URL.match(text):
    raise UserError(
      f'{field}: {text} is a URL, and {scheme[0]} is not supported here; name a folder or file of'
      ' this machine, such as a mounted copy'
    )
  if not _HOME.match(text):
    return text
  path = os.path.expanduser(text)
  if path == text and not os.path.lexists(text):
    raise UserError(f'{field}: {text}: there is no such user; write ./{text} for a file here')
  return path


def local_argument(argument: str) -> str:
  """An argument of a command line; its value is as from `local_path` where it begins like a path.

  Args:
    argument: '--FLAG=VALUE' or 'VALUE'.

  Raises:
    UserError: see `local_path`.
  """
  flag = _FLAG.match(argument)
  value = argument[flag.end() :] if flag else argument
  if value.startswith(HUB_PREFIX) and (not flag or _TAKES_HUB.fullmatch(flag[1])):
    return argument
  if not (_HOME.match(value) or _URL.match(value)):
    return argument
  return (flag[0] if flag else '') + local_path(value, flag[0][:-1] if flag else 'the command line')
