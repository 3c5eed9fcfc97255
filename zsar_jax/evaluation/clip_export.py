"""Writes the painted clips of an evaluation as files for other programs.

The frames are those that an external model gets in memory (`prepare.painted_frames`). Each view of
a clip under a recipe is a file: an mp4 of H.264 in RGB, without loss, or a folder of images. A file
has its name only when it is complete, so an interrupted export goes on with the first batch that
lacks files.
"""

import concurrent.futures
import fractions
import importlib.metadata
import os
import pathlib
import re
import shutil

import av
import cv2
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from zsar_jax import config as config_lib
from zsar_jax.data.subset import data_identity
from zsar_jax.data.view import EvaluationViews, View
from zsar_jax.errors import UserError
from zsar_jax.evaluation import protocol
from zsar_jax.evaluation.clip_list import FILES, LIST, ClipList
from zsar_jax.evaluation.eval_set import EvalSet
from zsar_jax.evaluation.evaluator import COLOR_SEED
from zsar_jax.ops.prepare import painted_frames
from zsar_jax.recipes import language
from zsar_jax.runtime import sharding
from zsar_jax.runtime.progress import Progress, log
from zsar_jax.storage import buckets
from zsar_jax.storage.files import make_folder, make_parent, naming, open_atomically
from zsar_jax.storage.folders import open_folders
from zsar_jax.storage.locks import lock_folder
from zsar_jax.text.phrasing import render
from zsar_jax.text.templates import fill_templates

# The kinds of files, with the suffix of the name of each; a folder of images has none.
SUFFIXES = {'mp4': '.mp4', 'png': '', 'jpg': ''}

# H.264 in RGB; with a quantizer of 0 it has no loss.
_CODEC, _CODEC_OPTIONS = 'libx264rgb', {'qp': '0', 'preset': 'veryfast'}

_JPEG_QUALITY = 95

# Frames per second of a clip whose record states none.
_DEFAULT_FPS = 8.0

_NOT_IN_NAMES = re.compile('[^A-Za-z0-9.-]+')


def export_clips(config: ConfigDict, folder: pathlib.Path, kind: str) -> dict[str, int]:
  """Exports the clips of each data set of `config.eval` under each recipe that they count under.

  Args:
    config: a validated config.
    folder: gets a folder for each data set, see `clip_list`.
    kind: one of `SUFFIXES`.

  Returns:
    The number of files of each data set.

  Raises:
    UserError: the config or the data are invalid, the folder holds another export, or PyAV lacks
      the codec.
  """
  if not config.eval.datasets:
    raise UserError('config.eval.datasets: it is empty, so there is nothing to export')
  if kind == 'mp4' and _CODEC not in av.codecs_available:
    raise UserError(
      f'--files: PyAV was built without {_CODEC} here, so mp4 cannot be written; take --files=png'
    )
  mesh = sharding.make_mesh(config.mesh)
  config_lib.check_batch(
    'config.eval.batch_size', config.eval.batch_size, sharding.num_batch_shards(mesh)
  )
  recipes = [language.parse(text) for text in config.eval.recipes]
  eval_sets = [EvalSet.open(config, name, recipes, ()) for name in config.eval.datasets]
  for eval_set in eval_sets:
    if eval_set.subset.open_world:
      raise UserError(
        f'config.eval.datasets.{eval_set.name}.classes: all pairs of a verb and an object are not'
        " scored from files; take 'all'"
      )
  counts = {}
  make_folder(folder, '--workdir')
  with lock_folder(folder):
    for eval_set in eval_sets:
      own_folder = folder / eval_set.name
      make_folder(own_folder, '--workdir')
      counts[eval_set.name] = _Export(config, eval_set, own_folder, kind, mesh).write()
  return counts


class _Export:
  """The export of one data set."""

  def __init__(
    self, config: ConfigDict, eval_set: EvalSet, folder: pathlib.Path, kind: str, mesh: Mesh
  ):
    """Makes the list of clips; see `export_clips` for the arguments."""
    self._config, self._eval_set, self._mesh = config, eval_set, mesh
    self._folder, self._kind = folder, kind
    self._views = EvaluationViews(config.eval.clips, config.eval.crops)
    self._list = _make_list(config, eval_set, kind)
    blank = self._list.blank
    positions = {clip: n for n, clip in enumerate(blank.ids)}
    folders = {
      recipe: f'{number:02d}_{_file_name(recipe)}' for number, recipe in enumerate(blank.recipes)
    }
    # {(position, recipe, view): path of the file in the folder}
    self._files = {}
    for clip, recipe, view in self._list.rows():
      suffix = f'_view{view}' if len(self._views) > 1 else ''
      name = f'{positions[clip]:06d}_{_file_name(clip)}{suffix}{SUFFIXES[kind]}'
      self._files[positions[clip], recipe, view] = f'{folders[recipe]}/{name}'

  def write(self) -> int:
    """Writes the files that are missing, and the lists; returns the number of files."""
    self._check_folder()
    self._list.save(self._folder)
    folders = open_folders(str(self._folder), '--workdir')
    # A folder of images in a bucket is complete if its first image is there.
    in_bucket = self._kind != 'mp4' and buckets.is_remote(self._folder)
    marker = f'/{_image_name(0, self._kind)}' if in_bucket else ''
    missing = {
      key
      for key, path in self._files.items()
      if not folders.exists(f'{folders.root}/{path}{marker}')
    }
    if done := len(self._files) - len(missing):
      log(f'{self._eval_set.name}: {done} of {len(self._files)} files are there already')
    if missing:
      for folder in {path.partition('/')[0] for path in self._files.values()}:
        make_parent(self._folder / folder / 'file')
      self._write_missing(missing)
    self._list.save_files(self._folder, list(self._files.values()), self._config.view.num_frames)
    return len(self._files)

  def _check_folder(self) -> None:
    """Raises a `UserError` if the folder holds clips that were made in another way."""
    path = self._folder / LIST
    if path.exists() and path.read_text(encoding='utf-8', errors='replace') != self._list.to_json():
      raise UserError(
        f'--workdir: {path} lists an export of other clips, recipes or settings; name another'
        ' folder, or delete this one'
      )
    (self._folder / FILES).unlink(missing_ok=True)

  def _write_missing(self, missing: set[tuple[int, str, int]]) -> None:
    """Paints and writes files, beginning with the first batch that lacks any."""
    views, batch_size = len(self._views), self._config.eval.batch_size
    first = min(position * views + view for position, _, view in missing) // batch_size
    steps = -(-len(self._eval_set.subset) * views // batch_size)
    key = sharding.random_key(COLOR_SEED, self._mesh)
    progress = Progress(steps, first, 'clips' if views == 1 else 'views', batch_size, 10)
    batches = self._eval_set.batches(self._config, self._mesh, first)
    try:
      with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for step, host_batch in enumerate(batches, start=first):
          batch = sharding.shard_batch(host_batch, self._mesh)
          # The views of a clip are consecutive.
          numbers = range(step * batch_size, (step + 1) * batch_size)
          positions = [divmod(number, views) for number in numbers]
          for recipe in self._eval_set.recipes:
            keys = [(position, str(recipe), view) for position, view in positions]
            if missing.isdisjoint(keys):
              continue
            painted = np.asarray(painted_frames(key, batch, recipe))
            jobs = [
              pool.submit(self._write_clip, key, frames)
              for key, frames in zip(keys, painted, strict=True)
              if key in missing
            ]
            for job in jobs:
              job.result()
          if step == first:
            progress.restart(step + 1)  # Excludes compilation from the rate.
          progress.show(step + 1, f'exporting {self._eval_set.name}')
    finally:
      progress.close()
      batches.close()

  def _write_clip(self, key: tuple[int, str, int], frames: np.ndarray) -> None:
    """Writes the frames u8[T, H, W, 3] of a (position, recipe, view)."""
    path = self._folder / self._files[key]
    if self._kind == 'mp4':
      _write_mp4(path, frames, self._list.fps[key[0]])
    else:
      _write_images(path, frames, self._kind)


def _make_list(config: ConfigDict, eval_set: EvalSet, kind: str) -> ClipList:
  """Describes the clips of a data set and how they are exported."""
  subset = eval_set.subset
  names = render(subset.texts, config.text.split_words, config.text.placeholders, 'config.text')
  text = config.text
  use = protocol.describe_use(
    config, View.from_config(config), text.templates, text.split_words, text.placeholders
  )
  made = {
    'zsar_jax': _version(),
    'color_seed': COLOR_SEED,
    'files': kind,
    'clips': data_identity(subset),
  }
  return ClipList(
    eval_set.blank(),
    fill_templates(names, config.text.templates, 'config.text.templates'),
    _frame_rates(eval_set, config.view.num_frames),
    len(EvaluationViews(config.eval.clips, config.eval.crops)),
    config.eval.view_mean,
    {name: list(members) for name, members in config.eval.groups.items()},
    use,
    made,
  )


def _frame_rates(eval_set: EvalSet, num_frames: int) -> list[float]:
  """Returns for each clip the rate at which its T frames take as long as the clip itself."""
  subset = eval_set.subset
  lengths = subset.index.num_frames.tolist()
  rates = []
  for position, length in enumerate(lengths):
    stored = float(subset.dataset[int(subset.positions[position])]['fps'])
    rate = stored * num_frames / length if np.isfinite(stored) and stored > 0 else _DEFAULT_FPS
    rates.append(round(min(max(rate, 0.01), 1000.0), 3))
  return rates


def _version() -> str:
  try:
    return importlib.metadata.version('zsar_jax')
  except importlib.metadata.PackageNotFoundError:  # The program runs from a source folder.
    return 'not installed'


def _file_name(text: str) -> str:
  """Returns a part of a file's name that resembles a text; different texts may give the same."""
  return _NOT_IN_NAMES.sub('_', text)[:60].strip('._') or 'clip'


def _write_mp4(path: pathlib.Path, frames: np.ndarray, fps: float) -> None:
  """Writes frames u8[T, H, W, 3] without loss; the same frames give the same bytes."""
  with (
    open_atomically(path) as file,
    av.open(file, 'w', format='mp4', container_options={'fflags': '+bitexact'}) as container,
  ):
    rate = fractions.Fraction(fps).limit_denominator(1000)
    stream = container.add_stream(_CODEC, rate=rate, options=_CODEC_OPTIONS)
    assert isinstance(stream, av.VideoStream)
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = 'rgb24'
    # What several threads write depends on their number.
    stream.codec_context.thread_count = 1
    for frame in frames:
      container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, 'rgb24')))
    container.mux(stream.encode())


def _write_images(path: pathlib.Path, frames: np.ndarray, kind: str) -> None:
  """Writes frames u8[T, H, W, 3] as numbered images of a folder: 'png' or 'jpg'.

  In a bucket, the first image is written last.
  """
  options = (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY) if kind == 'jpg' else ()
  images = {}
  for number, frame in enumerate(frames):
    image = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    images[_image_name(number, kind)] = cv2.imencode(f'.{kind}', image, options)[1].tobytes()
  if buckets.is_remote(path):
    for name, content in reversed(images.items()):
      (path / name).write_bytes(content)
    return
  partial = path.with_name(f'{path.name}.tmp')
  shutil.rmtree(partial, ignore_errors=True)  # Of an export that was killed.
  partial.mkdir()
  for name, content in images.items():
    with naming(partial / name):
      (partial / name).write_bytes(content)
  partial.rename(path)


def _image_name(number: int, kind: str) -> str:
  return f'{number:04d}.{kind}'
