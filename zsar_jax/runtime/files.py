"""Writing files and making folders, with errors that name the user's flag."""

import pathlib
import tempfile

from zsar_jax.errors import UserError, error_reason
from zsar_jax.runtime import file_systems


def write_file(path: pathlib.Path, text: str) -> None:
  """Writes a file atomically: after a crash it has its old content or the new one.

  Args:
    path: a file that may exist.
    text: the content, written in UTF-8.
  """
  partial = path.with_name(f'{path.name}.tmp')
  partial.write_text(text, encoding='utf-8')
  file_systems.replace(partial, path)


def make_folder(folder: pathlib.Path, field: str) -> None:
  """Makes a folder for a program's output and checks that files can be written in it.

  Programs call this before their work starts, so that the work is not lost.

  Args:
    folder: may exist.
    field: the flag or config field that names the folder, for errors.

  Raises:
    UserError: if the folder cannot be made, or no file can be written in it.
  """
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(
      f'{field}: {folder} cannot be a folder ({error_reason(error)}); name another'
    ) from None
  try:
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError as error:
    raise UserError(
      f'{field}: {folder} cannot be written to ({error_reason(error)}); name another folder'
    ) from None
