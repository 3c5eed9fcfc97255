"""Checks that a folder is the same one on all hosts of a run."""

import contextlib
import pathlib
import time
import uuid

from zsar_jax.errors import UserError
from zsar_jax.runtime import distributed
from zsar_jax.storage.files import make_folder, write_file

# Seconds in which a file that process 0 writes must become visible on the other hosts.
_VISIBILITY_TIMEOUT = 15.0


def check_workdir(workdir: pathlib.Path) -> None:
  """Checks that the workdir is the same folder for all processes, where there are several.

  Args:
    workdir: is made if it does not exist.

  Raises:
    UserError: in all processes, if one does not find the file that process 0 writes there.
  """
  if not distributed.is_multiprocess():
    return
  token = None
  if distributed.is_main():
    make_folder(workdir, '--workdir')
    token = workdir / f'.seen_by_all_hosts-{uuid.uuid4().hex}'
    write_file(token, '')
  try:
    name, main_workdir = distributed.broadcast_from_main(
      lambda: (token.name if token else '', str(workdir))
    )
    # A network file system may show a new file a little later.
    deadline = time.monotonic() + _VISIBILITY_TIMEOUT
    while not (exists := (workdir / name).exists()) and time.monotonic() < deadline:
      time.sleep(0.5)
    answers = distributed.exchange('the workdir', None if exists else str(workdir))
  finally:
    if token:
      with contextlib.suppress(OSError):
        token.unlink()
  other_workdirs = {n: answer for n, answer in enumerate(answers) if answer is not None}
  if other_workdirs:
    process, folder = next(iter(other_workdirs.items()))
    others = f' ({len(other_workdirs)} processes do not)' if len(other_workdirs) > 1 else ''
    raise UserError(
      f'--workdir: {distributed.process_name(process)} does not find in {folder} what process 0'
      f' wrote to {main_workdir}{others}; name a folder that all hosts share'
    )
