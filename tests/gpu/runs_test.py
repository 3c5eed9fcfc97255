"""Training programs on the GPU: numbers, resuming, memory, traces and the wait for data."""

import json
import math
import os
import re
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.survival_test import ROOT, finish, lines, reach
from tools import summarize_profile
from zsar_jax.datasets.build import build
from zsar_jax.evaluation import predictions
from zsar_jax.pantomime.worlds import Pantomime
from zsar_jax.performance import traces
from zsar_jax.runtime import chips

pytestmark = pytest.mark.gpu

# The environment that every program of this file gets.
ENVIRONMENT: dict[str, str] = {}

SHALLOW = ROOT / 'tests' / 'gpu' / 'shallow.py'
WORKERS = f'--config.data.workers={max(1, min(8, len(os.sched_getaffinity(0)) - 2))}'


@pytest.fixture(scope='module')
def folder(gpu, tmp_path_factory):
  """The folder of the runs, with a small world of Pantomime in `data`."""
  del gpu  # It skips these tests where there is none.
  folder = tmp_path_factory.mktemp('runs')
  world = Pantomime(folder / 'data', 'scenes', train_clips=512, validation_clips=96, test_clips=8)
  build(world, workers=0)
  return folder


def start(folder, workdir, config, *flags, module='zsar_jax.main'):
  """Starts a program with a config and the flags; runs in different folders compile anew."""
  environment = os.environ | {
    'JAX_COMPILATION_CACHE_DIR': f'{workdir}-compiled',
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    **ENVIRONMENT,
  }
  where = [f'--workdir={workdir}'] if workdir else []
  return subprocess.Popen(
    [sys.executable, '-m', module, f'--config={config}', f'--config.data.dir={folder / "data"}']
    + [*where, *flags],
    cwd=ROOT,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


# ------------------------------------------------------------------------------------- Resuming

BITS = [
  '--config.data.embedded=False',
  '--config.model.dtype=bfloat16',
  '--config.model.deterministic=True',
  '--config.steps=200',
  '--config.checkpoint.every=50',
  '--config.log.every=1',
  WORKERS,
]
BITS_CONFIG = """
from ml_collections import ConfigDict
from configs import pantomime
def get_config(variant=''):
  config = pantomime.get_config(variant)
  config.eval.datasets = ConfigDict({'novel': config.eval.datasets.scenes_novel})
  return config
"""


@pytest.fixture(scope='module')
def undisturbed(folder):
  """A run of 200 steps in bfloat16."""
  (folder / 'bits.py').write_text(BITS_CONFIG)
  finish(start(folder, folder / 'undisturbed', folder / 'bits.py', *BITS))
  return folder / 'undisturbed'


def test_200_steps_in_bfloat16(undisturbed):
  """Every loss and every gradient is finite, and the loss falls."""
  metrics = lines(undisturbed)
  assert [line['step'] for line in metrics] == list(range(1, 201))
  for name in ('loss', 'gradient_norm', 'logit_scale'):
    assert all(math.isfinite(line[name]) for line in metrics), name
  losses = [line['loss'] for line in metrics]
  assert np.mean(losses[-20:]) < np.mean(losses[:20])
  assert np.isfinite(
    predictions.load(undisturbed / 'predictions' / 'novel.npz').logits['none']
  ).all()


def test_a_killed_run_resumes_bit_for_bit(folder, undisturbed):
  """The losses of all steps, and the logits at the end."""
  workdir = folder / 'killed'
  process = start(folder, workdir, folder / 'bits.py', *BITS)
  reach(110, workdir, process)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert process.returncode == -signal.SIGKILL, 'the run ended before it was killed'
  ((_, err),) = finish(start(folder, workdir, folder / 'bits.py', *BITS))
  assert re.search(r'after step (50|100)\b', err)
  assert lines(workdir) == lines(undisturbed)
  ours, expected = (
    predictions.load(run / 'predictions' / 'novel.npz').logits for run in (workdir, undisturbed)
  )
  for recipe, logits in expected.items():
    np.testing.assert_array_equal(ours[recipe], logits, err_msg=recipe)


# ------------------------------------------------------------------------- Memory and the trace


@pytest.fixture(scope='module')
def traced(folder):
  """A traced run in bfloat16; returns its folder and its stderr."""
  workdir = folder / 'traced'
  flags = [WORKERS, '--config.profile.steps=(20,25)']
  ((_, err),) = finish(start(folder, workdir, SHALLOW, *flags))
  return workdir, err


def test_peak_memory_is_the_plans(gpu, folder, traced):
  """Within 15 %; the plan is made without the GPU."""
  name = next(
    name for name, chip in chips.CHIPS.items() if chip == chips.find_chip(gpu.device_kind)
  )
  classes = len(Pantomime(folder / 'data', 'scenes').class_splits['base'])
  flags = [f'--topology=gpu:1x{name}', f'--classes={classes}', '--largest=skip']
  flags.append(f'--json={folder / "plan.json"}')
  finish(start(folder, None, SHALLOW, *flags, module='tools.plan'))
  plan = json.loads((folder / 'plan.json').read_text())
  assert plan['compiled']
  assert peak_bytes(traced[1]) == pytest.approx(plan['train']['memory']['total'], rel=0.15)


def peak_bytes(err):
  """Returns the peak of the device's memory that a run reports."""
  match = re.search(r'peak memory of a device: ([\d.]+) ([KMG])iB', err)
  return float(match[1]) * 1024 ** ' KMG'.index(match[2])


def test_kernels_in_a_trace_are_told_apart(gpu, traced, capsys):
  workdir, _ = traced
  (path,) = traces.newest_files(workdir / 'profile')
  trace = traces.read_trace(path)
  assert len(trace.steps) == len(trace.waits) == 6
  summary = summarize_profile.summarize(trace, 10)
  shares = summary.categories
  for name in ('matmul', 'attention', 'layer norm', 'elementwise', 'optimizer'):
    assert shares[name] > 0.002, name
  assert shares['other'] < 0.05
  assert shares['collectives'] == 0  # One device sends nothing.
  assert 0 <= summary.waiting <= summary.idle < 1
  # Kernels run one after another; only the next batch arrives meanwhile.
  assert summary.operation_seconds * (1 - shares['infeed and transfers']) < 1.02 * summary.seconds
  check_kernels(path)
  summarize_profile.main([str(workdir)])
  known = chips.find_chip(gpu.device_kind) is not None
  assert bool(re.search(r'MFU \d', capsys.readouterr().out)) == known


def check_kernels(path):
  """Compares the categories with the kernels' own names, which the categories do not depend on."""
  kinds = {'attention': r'sdpa|fmha', 'matmul': r'nvjet|xmma_gemm|cutlass.*gemm|gemm_fusion'}
  found = dict.fromkeys(kinds, 0)
  content = jax.profiler.ProfileData.from_file(str(path))
  trace = traces.read_trace(path)
  categories = {(span.start, span.end): span.category for span in trace.ops['GPU:0']}
  for plane in content.planes:
    for line in plane.lines if plane.name == '/device:GPU:0' else ():
      for event in line.events if line.name.startswith('Stream') else ():
        for kind, pattern in kinds.items():
          if re.search(pattern, event.name):
            found[kind] += 1
            category = categories[event.start_ns, event.start_ns + event.duration_ns]
            # XLA's own products serve attention too, where one query attends.
            assert category in {kind, 'attention'}, event.name
  assert all(found.values()), found


# ------------------------------------------------------------------------------ The wait for data


def test_the_gpu_does_not_wait_for_the_host(folder):
  """Below 2 % of the time, once the first batches have come."""
  workdir = folder / 'fed'
  flags = ['--config.data.batch_size=16', WORKERS]
  finish(start(folder, workdir, f'{SHALLOW}:float32', *flags))
  metrics = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  waited, computed = (
    metrics[-2][f'seconds/{part}'] - metrics[4][f'seconds/{part}'] for part in ('data', 'step')
  )
  assert computed > 0.5  # Otherwise the clock says little.
  assert waited < 0.02 * (waited + computed)
