"""Puts a data set into a bucket: it is built in a folder of this machine, and then uploaded."""

import hashlib
import os
import pathlib
import sys
import tempfile
from typing import Any

from zsar_jax.errors import UserError, error_reason
from zsar_jax.storage import bucket_requests, checksums

# TFDS and this program see a data set in a folder with this file.
_LAST = 'dataset_info.json'


def build_folder(bucket: Any) -> pathlib.Path:
  """Returns the folder of this machine in which data sets for a folder in a bucket are built.

  It is in the system's folder for temporary files, which TMPDIR sets, and has the same name each
  time, so that an interrupted build continues.

  Raises:
    UserError: if it cannot be made, or belongs to somebody else.
  """
  key = hashlib.sha256(str(bucket).encode()).hexdigest()[:16]
  folder = pathlib.Path(tempfile.gettempdir(), f'zsar_jax-build-{os.getuid()}-{key}')
  try:
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid() or folder.is_symlink():
      raise PermissionError(1, 'it belongs to somebody else')
  except OSError as error:
    raise UserError(
      f'--out: {folder}, in which the data set is built before it is uploaded, cannot be used'
      f' ({error_reason(error)}); set TMPDIR to another folder'
    ) from None
  return folder


def upload(directory: pathlib.Path, destination: Any) -> None:
  """Uploads a finished data set; continues an interrupted upload of the same build.

  The checksums of its files come first: they tell whether the files that are there are of this
  build. The file by which a data set is recognized comes last, so that none is seen in part.

  Args:
    directory: the version's folder on this machine.
    destination: the version's folder in a bucket, which is no finished data set.

  Raises:
    UserError: if the bucket cannot be written.
  """
  try:
    present = bucket_requests.list_folder(destination)
    sums = destination / checksums.FILE
    expected = (directory / checksums.FILE).read_bytes()
    if present and (checksums.FILE not in present or sums.read_bytes() != expected):
      for name in present:  # Those of another build.
        (destination / name).unlink()
      present = {}
    bucket_requests.upload([(directory / checksums.FILE, sums)])
    files = {path.name: path.stat().st_size for path in sorted(directory.iterdir())}
    missing = [
      name
      for name, size in files.items()
      if name not in (_LAST, checksums.FILE) and present.get(name, {}).get('size') != size
    ]
    size = sum(files[name] for name in missing)
    print(
      f'uploading {len(missing)} files, {size / 1e6:.3g} MB, to {destination}',
      file=sys.stderr,
      flush=True,
    )
    bucket_requests.upload([(directory / name, destination / name) for name in missing])
    arrived = bucket_requests.list_folder(destination)
    for name, size in files.items():
      if name != _LAST and arrived.get(name, {}).get('size') != size:
        raise UserError(
          f'--out: {destination / name} did not arrive; check whether another program writes'
          ' there, and give the same command again'
        )
    bucket_requests.upload([(directory / _LAST, destination / _LAST)])
  except OSError as error:
    raise UserError(
      f'--out: {destination} cannot be written ({error_reason(error)}); see to the name and the'
      ' rights, and the same command continues'
    ) from None
