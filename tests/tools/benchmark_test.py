"""Small runs of the benchmarks, and the figures that they compute from measurements."""

import argparse
import json
import os
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from tools import benchmark
from tools.benchmarks import candidates, models, pipeline, step, turns, workload
from zsar_jax.models import flops
from zsar_jax.models.from_config import build_model
from zsar_jax.runtime import chips


def test_the_pipeline_benchmark(capfd):
  """A run as users start one, on two videos of 20 frames."""
  flags = ['--videos=2', '--length=20', '--clips=5', '--repeats=1', '--frames=4', '--size=64']
  benchmark.main(['pipeline', *flags])
  lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
  by_name = {line['name']: line for line in lines}
  assert list(by_name)[:5] == ['ours_planes', 'ours', 'bare', 'peer_pyav', 'peer_decord']
  for name in ('ours_planes', 'ours', 'bare'):
    line = by_name[name]
    # Full batches; the run itself compares the frames bit for bit.
    assert (line['T'], line['size'], line['clips'], line['repeats']) == (4, 64, 8, 1)
    assert line['difference_from_bare'] == 0
    assert line['clips_per_second_per_core'] == pytest.approx(1e3 / line['ms_per_clip'], rel=0.01)
    assert line['cpu']
    assert line['versions']['grain']
  for name in ('peer_pyav', 'peer_decord'):
    line = by_name[name]
    # The error of JPEG; another frame or crop of these textures differs by 20 or more.
    assert 'not installed' in line.get('skipped', '') or 0 < line['difference_from_bare'] < 6
  assert by_name['clips per second of ours / bare']['ratio'] > 0


def test_the_ratios_of_the_pipeline():
  times = {'ours_planes': 5.5, 'ours': 5.0, 'bare': 4.5, 'peer_pyav': 22.0}
  measured = [{'name': name, 'ms_per_clip': time} for name, time in times.items()]
  measured.append({'name': 'peer_decord', 'skipped': 'decord is not installed'})
  assert pipeline.compare(measured) == [
    {'name': 'clips per second of ours / bare', 'ratio': 0.9, 'at_least': 0.85, 'met': True},
    {
      'name': 'clips per second of ours_planes / peer_pyav',
      'ratio': 4.0,
      'at_least': 5.0,
      'met': False,
    },
    {'name': 'time of ours_planes / ours', 'ratio': 1.1, 'at_most': 1.15, 'met': True},
  ]


def test_loops_that_read_other_frames_are_an_error():
  frames = {name: np.zeros((1, 2, 2, 3), np.uint8) for name in ('ours_planes', 'ours', 'bare')}
  pipeline.check_same_frames(frames)
  frames['ours'][0, 1, 1, 2] = 1
  with pytest.raises(RuntimeError, match='ours and bare'):
    pipeline.check_same_frames(frames)


def test_the_soak_reports_resident_memory(capfd):
  flags = ['--videos=1', '--length=8', '--frames=2', '--size=32', '--soak=40']
  benchmark.main(['pipeline', *flags])
  (line,) = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
  assert line['clips'] == 40
  assert set(line['resident_megabytes']) == {f'{share} %' for share in range(0, 101, 10)}


@pytest.mark.parametrize('flag', ['--videos=0', '--repeats=0', '--soak=0'])
def test_refusals(capsys, flag):
  with pytest.raises(SystemExit) as exit_:
    benchmark.main(['pipeline', flag])
  assert exit_.value.code == 2
  assert flag.split('=')[0] in capsys.readouterr().err


_TINY = ['--preset=tiny', '--frames=2', '--batch=4', '--micro-batches=2', '--classes=6']

_EAGER = ['ours/step', 'ours/forward', 'peer/step', 'peer/forward']


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'flags', 'ours', 'peers'),
  [
    ('step', ['--loops', *_EAGER], ('step', 'forward'), ('step', 'forward')),
    ('eval', ['--num-recipes=5'], ('eval',), ('eval',)),
    ('masking', [], ('step', 'step_masked', 'normalize', 'mask'), ('normalize', 'mask')),
  ],
)
def test_the_benchmarks_of_models(capfd, monkeypatch, name, flags, ours, peers):
  """Both sides on a tiny model; if torch is installed, the run itself compares their results."""
  # Each process has one device.
  monkeypatch.setenv('XLA_FLAGS', '--xla_backend_optimization_level=0')
  benchmark.main([name, *_TINY, '--repeats=1', *flags])
  lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
  by_name = {line['name']: line for line in lines}
  for loop in ours:
    line = by_name[f'ours/{loop}']
    assert line['per_second'] == pytest.approx(4 / line['seconds'], rel=0.01)
    assert (line['preset'], line['classes'], line['repeats']) == ('tiny', 6, 1)
  for loop in peers:
    line = by_name[f'peer/{loop}']
    assert 'not installed' in line.get('skipped', '') or line['seconds'] > 0
  assert any('ratio' in line or 'skipped' in line for line in lines if ' / ' in line['name'])


def test_candidates_are_measured_alone(capfd, monkeypatch):
  """Each in its own environment; the step as it is has the ratio 1, and no time skips the rest."""
  seen = []

  def measured(command, env, **_):
    flags = dict(flag.split('=') for flag in command if flag.startswith('--') and '=' in flag)
    seen.append((flags, env.get('XLA_FLAGS'), env.get('JAX_OPTIMIZATION_LEVEL')))
    if flags['--batch'] == '8':
      return SimpleNamespace(stdout='', stderr='RESOURCE_EXHAUSTED: no memory', returncode=1)
    rate = 3.0 if env.get('JAX_OPTIMIZATION_LEVEL') else 2.0
    lines = [{'name': 'ours/step', 'per_second': rate, 'peak_bytes': 3 * 2**30}, {'name': 'x'}]
    return SimpleNamespace(stdout='\n'.join(map(json.dumps, lines)), stderr='', returncode=0)

  monkeypatch.setattr(candidates.subprocess, 'run', measured)
  monkeypatch.setenv('XLA_FLAGS', '--xla_mine')
  benchmark.main(['candidates', *_TINY, '--attention=auto'])
  out = capfd.readouterr().out
  table = {line[:26].strip(): line[26:].split() for line in out.split('\n\n')[1].splitlines()[1:]}
  assert list(table) == list(candidates.CANDIDATES)
  assert table['as it is'] == table['as it is, again'] == ['2.0', '1.000', '-', '3.00', 'GiB']
  assert table['optimization level O1'][:2] == ['3.0', '1.500']
  assert table['batch doubled'][0] == 'RESOURCE_EXHAUSTED:'
  flags = [flags for flags, _, _ in seen]
  assert [entry['--batch'] for entry in flags] == ['4', '4', '8', '2', *['4'] * 6]
  assert [entry['--attention'] for entry in flags[:3]] == ['auto', 'xla', 'auto']
  assert {variables[0] for _, *variables in seen} == {
    '--xla_mine',
    '--xla_mine --xla_gpu_triton_gemm_any=true',
    '--xla_mine --xla_gpu_enable_command_buffer=',
  }
  seen.clear()
  benchmark.main(['candidates', *_TINY, '--seconds=-1'])
  assert not seen
  assert capfd.readouterr().out.count('no time was left') == 2 * len(candidates.CANDIDATES)


def test_ratios_of_the_wall_clock_and_of_processor_time():
  results = {
    'peer/step': dict(seconds=6.0, cpu_seconds=9.0, seconds_each=[5, 6, 9]),
    'ours/step': dict(seconds=2.0, cpu_seconds=4.0, seconds_each=[1, 2, 3]),
    'peer/compiled_step': {'skipped': 'no compiler'},
  }
  comparison = models.Comparison('a', 'peer/step', 'ours/step', at_least=2.0)
  assert models.compare(comparison, results) == {
    'name': 'a',
    'ratio': 3.0,
    'ratio_fastest': 5.0,
    'ratio_cpu': 2.25,
    'at_least': 2.0,
    'met': True,
  }
  missing = models.Comparison('b', 'peer/compiled_step', 'ours/step')
  assert 'skipped' in models.compare(missing, results)


def test_utilization_is_the_share_of_the_peak():
  """Compared with the operations of a traced step of B/32 on 8 frames and 400 texts."""
  parser = argparse.ArgumentParser()
  step.add_flags(parser)
  work = workload.from_flags(parser.parse_args(['--precision=bfloat16', '--micro-batches=1']))
  chip = chips.find_chip('NVIDIA H100 80GB HBM3, 570.86')
  line = step.utilization(work, chip, seconds=1.0)
  model = build_model(workload.config(work))
  params = jax.eval_shape(model.init, jax.random.key(0))
  clips = jax.ShapeDtypeStruct((work.batch, work.frames, 224, 224, 3), np.float32)
  texts = jax.ShapeDtypeStruct(workload.tokens(work).shape[1:], np.int32)

  def loss(params, clips, texts):
    embeddings = model.encode_video(params, clips), model.encode_text(params, texts)
    return sum(leaf.sum() for leaf in jax.tree.leaves(embeddings))

  traced = flops.of_jaxpr(jax.make_jaxpr(jax.grad(loss))(params, clips, texts))
  assert line['flops'] == pytest.approx(traced, rel=0.02)
  assert line['mfu'] == pytest.approx(traced / 989.5e12, rel=0.02)
  assert line['met'] is False
  assert step.utilization(work, chip, seconds=traced / 600e12)['met'] is True


def _make_loops():
  return {'constant': lambda: 1.0, 'broken': lambda: 1 / 0}


def test_loops_take_turns_and_a_broken_one_is_skipped():
  cores = sorted(os.sched_getaffinity(0))[:1]
  results = turns.measure({'a': (_make_loops,)}, ['a/constant', 'a/broken'], 2, cores)
  assert results['a/constant']['value'] == 1.0
  assert len(results['a/constant']['seconds_each']) == 2
  assert 'ZeroDivisionError' in results['a/broken']['skipped']


@pytest.mark.parametrize('flag', ['--batch=3', '--classes=0', '--classes=401', '--repeats=0'])
def test_refusals_of_sizes(capsys, flag):
  with pytest.raises(SystemExit) as exit_:
    benchmark.main(['step', flag])
  assert exit_.value.code == 2
  assert flag.split('=')[0] in capsys.readouterr().err


def test_the_masks_benchmark(capfd):
  benchmark.main(['masks', '--videos=2', '--length=12', '--frames=4', '--repeats=1'])
  lines = {line['name']: line for line in map(json.loads, capfd.readouterr().out.splitlines())}
  assert list(lines)[:5] == ['read', 'finish', 'ours', 'inpaint', 'peer']
  for name in ('read', 'finish', 'ours', 'inpaint', 'peer'):
    line = lines[name]
    assert (line['frames'], line['clips'], line['repeats']) == (4, 2, 1)
    assert line['ms_per_mask'] == pytest.approx(line['ms_per_clip'] / 4, rel=0.01)
  assert lines['ours']['ms_per_clip'] > lines['finish']['ms_per_clip']
  assert lines['ours']['bytes_per_mask'] > 50
  assert lines['clips per second of ours / peer']['ratio'] > 0


@pytest.mark.slow
def test_the_benchmark_of_buckets(capfd):
  pytest.importorskip('s3fs')
  flags = ['--clips=70', '--batches=1', '--workers=0', '--hosts=3', '--latency=0.001']
  benchmark.main(['buckets', *flags])
  lines = [json.loads(line) for line in capfd.readouterr().out.splitlines() if line[0] == '{']
  disk, bucket, cache, ratio, hosts, throttled = lines[1:]
  assert disk['requests'] == 0
  assert bucket['requests'] > 64 > cache['requests'] > 0
  assert ratio['ratio'] > 0
  assert hosts['faults'] == throttled['faults'] == 0
  # What each of three hosts reads: the listing and small files.
  assert 20 < hosts['requests'] < 70
