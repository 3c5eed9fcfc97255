"""Paths as users write them: ~ is the home folder, and URLs are refused.

Whatever takes a path from a user, on the command line, in a config or in Python, passes it through
`local_path` before it opens or creates anything.
"""

import os
import re

from zsar_jax.errors import UserError

_URL = re.compile(r'[A-Za-z][A-Za-z0-9+.-]*://')
_HOME = re.compile(r'~[\w.-]*(/|$)')
_FLAG = re.compile(r'--?([\w.-]+)=')

# The prefix of weights on the Hugging Face hub, and the flags and fields that accept it.
HUB_PREFIX = 'hf://'
_HUB_FLAGS = re.compile(r'checkpoint|tokens[-_]from|config\..*(init_from|tokens_from|source)')


def local_path(text: str | os.PathLike[str], field: str) -> str:
  """Returns a path on this machine, with a leading ~ or ~USER replaced by the home folder.

  Args:
    text: what the user wrote.
    field: the flag or config field that it comes from, for errors.

  Raises:
    UserError: if it is a URL, or there is no such user.
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
  """Returns a command-line argument with `local_path` applied if its value starts like a path.

  Args:
    argument: '--FLAG=VALUE' or 'VALUE'.

  Raises:
    UserError: see `local_path`.
  """
  flag = _FLAG.match(argument)
  value = argument[flag.end() :] if flag else argument
  if value.startswith(HUB_PREFIX) and (not flag or _HUB_FLAGS.fullmatch(flag[1])):
    return argument
  if not (_HOME.match(value) or _URL.match(value)):
    return argument
  return (flag[0] if flag else '') + local_path(value, flag[0][:-1] if flag else 'the command line')
