"""Data sets and evaluations of Kinetics' size: time, memory and open files, without the models.

    data        300,000 tiny clips: opening, the start of workers, reading, resuming
    evaluation  20,000 clips x 8 recipes x 400 classes of models that guess, and the study of them
    texts       1,000 classes in 28 templates: tokens, and the text tower of ViT-B/16

CPU times are of this process and all its threads; a worker's is that of its process until it has
given its first batch. They tell more than seconds where the cores are shared, and how far the start
of many workers is from the start of a single one.
"""

import argparse
import concurrent.futures
import contextlib
import functools
import multiprocessing
import os
import pathlib
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

from zsar_jax.data.clip_loader import ClipLoader
from zsar_jax.data.dataset import open_dataset
from zsar_jax.data.pipeline import training_batches
from zsar_jax.data.subset import select
from zsar_jax.data.view import View
from zsar_jax.errors import UserError

from . import lines, size_study
from .tiny_clips import build_tiny_clips

# The clips of a training batch, and the batches that are read to measure the rate.
_BATCH = 64
_BATCHES = 100

_PARTS = ('data', 'evaluation', 'texts')


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this benchmark."""
  parser.add_argument('--parts', nargs='+', choices=_PARTS, default=_PARTS, help='default: all')
  for flag, default, text in (
    ('clips', 300_000, 'training clips'),
    ('evaluated', 20_000, 'clips of the evaluation'),
    ('models', 3, 'models that are evaluated'),
    ('classes', 1000, 'classes of the texts'),
    ('templates', 28, 'templates of the texts'),
  ):
    parser.add_argument(f'--{flag}', type=int, default=default, help=f'{text} (default: {default})')
  parser.add_argument(
    '--workers', type=int, nargs='+', default=[0, 1, 4, 16], help='(default: 0 1 4 16)'
  )


def run(arguments: argparse.Namespace) -> None:
  """Measures in a temporary folder, and prints the lines."""
  for flag in ('clips', 'evaluated', 'models', 'classes', 'templates'):
    if getattr(arguments, flag) < 2:
      raise UserError(f'--{flag}: {getattr(arguments, flag)} is too small; at least 2')
  machine = lines.machine()
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    if 'data' in arguments.parts:
      for line in measure_data(folder, arguments.clips, arguments.workers):
        lines.show(**line, **machine)
    if 'evaluation' in arguments.parts:
      for line in measure_evaluation(folder, arguments.evaluated, arguments.models):
        lines.show(**line, **machine)
  if 'texts' in arguments.parts:
    for line in measure_texts(arguments.classes, arguments.templates):
      lines.show(**line, **machine)


def measure_data(folder: pathlib.Path, clips: int, workers: list[int]) -> Iterator[dict[str, Any]]:
  """Builds a data set in `folder` and yields the fields of the lines of reading it."""
  began = time.perf_counter()
  # In a process of its own, whose freed memory the data set would otherwise use.
  with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
    pool.submit(_build, folder, clips).result()
  yield {'name': 'building', 'clips': clips, 'seconds': round(time.perf_counter() - began, 2)}
  before = memory()['resident']
  with _clock() as opening:
    dataset = open_dataset(folder, 'tiny_clips', 'train')
    subset = select(dataset, 'all', 'nearest', 'the benchmark')
  yield {'name': 'opening', **opening, 'megabytes': round(memory()['resident'] - before, 1)}
  loader = ClipLoader(subset, View(num_frames=2, size=16))
  for count in workers:
    yield _measure_workers(loader, count)
  with _clock() as resuming:
    batches = training_batches(loader, _BATCH, 0, 3_000_000, 0)
    next(batches)
  batches.close()
  yield {'name': 'resuming at step 3,000,000', **resuming}


def _build(folder: pathlib.Path, clips: int) -> None:
  with contextlib.redirect_stdout(sys.stderr):
    build_tiny_clips(folder, {'train': clips})


def _measure_workers(loader: ClipLoader, workers: int) -> dict[str, Any]:
  """Starts workers, reads a batch of each and then `_BATCHES` more."""
  with _clock() as start:
    batches = training_batches(loader, _BATCH, 0, 0, workers)
    try:
      next(batches)
      first = time.perf_counter()
      for _ in range(workers - 1):
        next(batches)
    except BaseException:
      batches.close()
      raise
  children = [child.pid for child in multiprocessing.active_children() if child.pid]
  line: dict[str, Any] = {'name': f'starting {workers} workers', **start}
  line['seconds_to_first_batch'] = round(first - start.began, 2)
  if children:
    line |= {
      'cpu_seconds_per_worker': round(statistics.median(map(_cpu_seconds, children)), 2),
      'own_megabytes_per_worker': round(
        statistics.median(memory(child)['private'] for child in children), 1
      ),
      'open_files_per_worker': max(map(_open_files, children)),
    }
  began = time.perf_counter()
  for _ in range(_BATCHES):
    next(batches)
  line['clips_per_second'] = round(_BATCHES * _BATCH / (time.perf_counter() - began))
  line['open_files'] = _open_files(os.getpid())
  batches.close()
  return line


def measure_evaluation(folder: pathlib.Path, clips: int, models: int) -> Iterator[dict[str, Any]]:
  """Builds a data set in `folder`, evaluates models that guess, and yields the lines.

  The seconds are without those of the models.
  """
  # Imported here, so that the workers of `measure_data` have less to import.
  from zsar_jax import experiment
  from zsar_jax.study import analysis, plan, report

  with contextlib.redirect_stdout(sys.stderr):
    build_tiny_clips(folder / 'evaluated', {'validation': clips})
  workdir = folder / 'study'
  study = size_study.make_study(str(folder / 'evaluated'), models)
  jobs = plan.plan(study, workdir)
  with _peak_memory() as peak:
    for job in jobs:
      guessing = size_study.seconds_in_models
      with _clock() as evaluating:
        experiment.run(job.config, job.folder, job.mode)
      evaluating['seconds'] = round(
        evaluating['seconds'] - size_study.seconds_in_models + guessing, 2
      )
      size = sum(file.stat().st_size for file in job.folder.rglob('*.npz')) / 1e6
      yield {
        'name': f'evaluation of {job.run}',
        'clips': clips,
        'recipes': len(size_study.RECIPES),
        **evaluating,
        'predictions_megabytes': round(size, 1),
      }
  yield {'name': 'memory of the evaluations', **peak}
  with _peak_memory() as peak, _clock() as analyzing:
    analysis.write_study(study, jobs, workdir, 'zsar benchmark size')
  yield {'name': 'analysis', 'models': models, **analyzing, **peak}
  with _peak_memory() as peak, _clock() as reporting:
    report.write_report(workdir)
  yield {'name': 'report', 'models': models, **reporting, **peak}


def measure_texts(classes: int, templates: int) -> Iterator[dict[str, Any]]:
  """Yields the lines of tokenizing and encoding class texts."""
  import jax

  from zsar_jax.config import default_config
  from zsar_jax.models.from_config import build_model
  from zsar_jax.runtime import sharding
  from zsar_jax.text.classes import ClassTexts, encode_classes

  names = [f'performing action number {n} of the list' for n in range(classes)]
  mesh = sharding.make_mesh(default_config().mesh, jax.devices()[:1])
  for preset in ('tiny', 'vit_b16'):
    config = default_config()
    config.model.preset, config.text.tokenizer = preset, 'words'
    config.view.size = 32
    config.text.templates = tuple(f'a video of {{}}, number {n}.' for n in range(templates))
    model = build_model(config)
    with _clock() as tokenizing:
      tokens = ClassTexts.from_config(config, model).tokens(names, 1)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    shape = jax.ShapeDtypeStruct(tokens.shape, tokens.dtype)
    encode = functools.partial(encode_classes, model, mesh=mesh)
    compiled = jax.jit(encode).lower(shapes, shape).compile()

    # As in a training step, which takes the texts of one of the templates.
    def loss(params: Any, tokens: Any, encode: Any = encode) -> Any:
      return encode(params, tokens[:1]).sum()

    gradient = jax.jit(jax.grad(loss)).lower(shapes, shape).compile()
    line = {
      'name': f'texts, {preset}',
      'tokens': list(tokens.shape),
      'tokenizing_seconds': tokenizing['seconds'],
      'evaluation_megabytes': _temporary_megabytes(compiled),
      'training_megabytes': _temporary_megabytes(gradient),
    }
    if preset == 'tiny':
      params = model.init(jax.random.key(0))
      with _clock() as encoding:
        jax.block_until_ready(compiled(params, tokens))
      line |= {'encoding_' + name: value for name, value in encoding.items()}
    yield line


def _temporary_megabytes(compiled: Any) -> float:
  """Returns the memory of a compiled program, without its arguments and results."""
  return round(compiled.memory_analysis().temp_size_in_bytes / 1e6, 1)


class _Times(dict[str, float]):
  """The seconds of a block, and when it began."""

  began = 0.0


@contextlib.contextmanager
def _clock() -> Iterator[_Times]:
  """Fills in the seconds of the block, and the CPU seconds of this process."""
  times = _Times()
  times.began, cpu = time.perf_counter(), time.process_time()
  yield times
  times['seconds'] = round(time.perf_counter() - times.began, 2)
  times['cpu_seconds'] = round(time.process_time() - cpu, 2)


@contextlib.contextmanager
def _peak_memory() -> Iterator[dict[str, float]]:
  """Fills in the peaks of the process's memory in the block, measured 20 times a second."""
  peak: dict[str, float] = {}
  ended = threading.Event()

  def watch() -> None:
    while True:
      for name, value in memory().items():
        key = f'peak_{name}_megabytes'
        peak[key] = max(peak.get(key, 0), round(value, 1))
      if ended.wait(0.05):
        return

  thread = threading.Thread(target=watch)
  thread.start()
  try:
    yield peak
  finally:
    ended.set()
    thread.join()


def memory(pid: int | None = None) -> dict[str, float]:
  """Returns the megabytes of a process: 'resident', and of these 'private', which are no files'."""
  status = pathlib.Path('/proc', str(pid or os.getpid()), 'status').read_text()
  fields = dict(line.split(':', 1) for line in status.splitlines())
  names = {'resident': 'VmRSS', 'private': 'RssAnon'}
  return {name: int(fields[field].split()[0]) * 1024 / 1e6 for name, field in names.items()}


def _cpu_seconds(pid: int) -> float:
  """Returns the CPU time of a process until now, in seconds."""
  fields = pathlib.Path('/proc', str(pid), 'stat').read_text().rpartition(')')[2].split()
  return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def _open_files(pid: int) -> int:
  """Returns the number of open files of a process."""
  return len(os.listdir(f'/proc/{pid}/fd'))
