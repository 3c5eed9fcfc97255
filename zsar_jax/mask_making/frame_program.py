"""Runs a program of the user's that turns folders of frames into folders of images."""

import contextlib
import dataclasses
import itertools
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.image_files import EXTENSIONS
from zsar_jax.errors import UserError, error_reason, first_line
from zsar_jax.mask_making import supervisor
from zsar_jax.mask_making.maker import MakerClip

# The end of a program's stderr in which its last line is looked for, in bytes.
_STDERR_TAIL = 4096

# The most file names that an error lists.
_MAX_NAMED = 3


@dataclasses.dataclass(frozen=True)
class FrameProgram:
  """A program and its arguments, with a placeholder in braces for each of its folders.

  No shell interprets the command line: a pipe or a variable needs 'sh -c "..."'.

  Attributes:
    flag: the flag that gives the command, for errors.
    command: the command line, such as 'python segment.py {frames} {masks}'.
    folders: the names of the placeholders, each of which the command must have.
  """

  flag: str
  command: str
  folders: tuple[str, ...]

  def __post_init__(self):
    try:
      words = shlex.split(self.command)
    except ValueError as error:
      raise UserError(
        f'{self.flag}: {self.command!r} is no command line ({error}); check its quotes'
      ) from None
    for name in self.folders:
      if not any(f'{{{name}}}' in word for word in words):
        raise UserError(
          f'{self.flag}: {self.command!r} lacks {{{name}}}, which is replaced by the path of a'
          ' folder; add it'
        )

  @property
  def name(self) -> str:
    """The program and its script, without folders: the words before the first option or folder."""
    words = shlex.split(self.command)
    named = itertools.takewhile(lambda word: not word.startswith(('-', '{')), words[1:])
    return ' '.join(map(os.path.basename, [words[0], *itertools.islice(named, 1)]))

  def check_exists(self) -> None:
    """Raises a `UserError` if there is no such program on this machine."""
    program = shlex.split(self.command)[0]
    if shutil.which(program) is None:
      raise UserError(
        f'{self.flag}: there is no program {program!r}; give its path, and let it be executable'
      )

  @contextlib.contextmanager
  def workspace(self) -> Iterator[str]:
    """A temporary folder with a subfolder for each placeholder.

    A `ClipError` that is raised in the block names a subfolder by its placeholder.
    """
    with tempfile.TemporaryDirectory(prefix='zsar-') as root:
      for name in self.folders:
        os.mkdir(os.path.join(root, name))
      try:
        yield root
      except ClipError as error:
        reason = error.reason
        for name in self.folders:
          reason = reason.replace(os.path.join(root, name), f'{{{name}}}')
        raise ClipError(reason) from None

  def run(self, root: str) -> None:
    """Runs the program on the folders of a workspace.

    It runs in the current folder, without input, and its stdout is dropped. If this process is
    interrupted or killed, the program and its children are killed, and `root` is removed.

    Args:
      root: the workspace.

    Raises:
      ClipError: the program ended with another status than 0.
    """
    words = shlex.split(self.command)
    for name in self.folders:
      words = [word.replace(f'{{{name}}}', os.path.join(root, name)) for word in words]
    log = os.path.join(root, 'stderr')
    with open(log, 'wb') as stderr:
      # A session of its own, so that Ctrl-C reaches this process first.
      process = subprocess.Popen(
        [sys.executable, '-I', supervisor.__file__, root, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,
      )
    assert process.stdin is not None
    try:
      status = process.wait()
    finally:
      process.stdin.close()
      process.wait()
    if status:
      raise ClipError(f'the program of {self.flag} ended with status {status}: {_last_line(log)}')


def _last_line(log: str) -> str:
  """Returns the last line of a program's stderr, without control characters."""
  with open(log, 'rb') as file:
    file.seek(max(0, os.path.getsize(log) - _STDERR_TAIL))
    text = file.read().decode(errors='replace')
  lines = [line for line in text.splitlines() if line.strip()]
  if not lines:
    return 'its stderr is empty'
  return first_line(Exception(''.join(c if c.isprintable() else ' ' for c in lines[-1])))


def frame_names(clip: MakerClip) -> list[str]:
  """Returns the names of the frames' files, without extension: their numbers in the video."""
  return [f'{number:06d}' for number in clip.facts.kept]


def write_images(folder: str, names: Sequence[str], images: Iterable[np.ndarray]) -> None:
  """Writes u8[H, W, 3] RGB or u8[H, W] grey images as PNGs into a folder of a workspace.

  Raises:
    UserError: they cannot be written.
  """
  try:
    for name, image in zip(names, images, strict=True):
      if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
      # Half the time of the default level, and a tenth more bytes.
      _, png = cv2.imencode('.png', image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
      pathlib.Path(folder, f'{name}.png').write_bytes(png.tobytes())
  except OSError as error:
    raise UserError(
      f'{folder} cannot be written ({error_reason(error)}); name a folder with space in TMPDIR'
    ) from None


def find_images(folder: str, names: Sequence[str], flag: str) -> list[str]:
  """Returns the paths of the images that a program wrote, in the order of their names.

  Args:
    folder: the folder that it wrote to; hidden files and other extensions are ignored.
    names: the names of the images that it had to write, without extension.
    flag: the flag that gives the command, for errors.

  Raises:
    ClipError: an image is missing, exists twice, or has no frame.
  """
  try:
    files = sorted(os.listdir(folder))
  except OSError:
    raise ClipError(f'the program of {flag} removed {folder}; let it write there') from None
  paths: dict[str, str] = {}
  twice = set()
  for file in files:
    name, extension = os.path.splitext(file)
    if extension.lower() in EXTENSIONS and not file.startswith('.'):
      if name in paths:
        twice.add(file)
      paths[name] = os.path.join(folder, file)
  output = f'the program of {flag} wrote'
  if extra := paths.keys() - set(names):
    raise ClipError(
      f'{output} {_listed(extra)} to {folder}, which are no names of frames; name images as frames'
    )
  if twice:
    raise ClipError(f'{output} {_listed(twice)} to {folder} in two formats; write one image each')
  if missing := set(names) - paths.keys():
    raise ClipError(
      f'{output} no image for {_listed(missing)} to {folder}; write one for each frame'
    )
  return [paths[name] for name in names]


@dataclasses.dataclass(frozen=True)
class SizeCheck:
  """Checks that images have the size of the frames, before they are decoded.

  Attributes:
    height: of the frames in pixels.
    width: of the frames in pixels.
  """

  height: int
  width: int

  def __call__(self, height: int, width: int, path: str) -> None:
    if (height, width) != (self.height, self.width):
      raise ClipError(
        f'{path} is {width} x {height}, and the frame {self.width} x {self.height}; write images'
        ' of the size of the frames'
      )


def _listed(names: Iterable[str]) -> str:
  names = sorted(names)
  more = f' and {len(names) - _MAX_NAMED} more' if len(names) > _MAX_NAMED else ''
  return ', '.join(names[:_MAX_NAMED]) + more
