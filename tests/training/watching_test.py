"""What a run says about itself while it trains: MFU, goodput, the next events, status.json."""

import dataclasses
import json
import re

import jax
import pytest

from tests.toy import build_toy
from tests.training.loop_test import toy_config
from zsar_jax.runtime import chips, run_status
from zsar_jax.training import loop
from zsar_jax.training.context import upcoming

PEAK = 1e9


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return build_toy(tmp_path_factory.mktemp('toy'))


def read_lines(workdir):
  return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def test_a_run_reports_its_use_of_the_devices_and_its_state(
  tmp_path, data_dir, monkeypatch, capsys
):
  chip = dataclasses.replace(chips.CHIPS['v5e'], name='test', kinds=('cpu',), flops=PEAK)
  monkeypatch.setattr(chips, 'CHIPS', {'test': chip})
  states = []
  monkeypatch.setattr(
    loop, 'compute_results', lambda *args: states.append('results') or RESULTS[len(states) - 1]
  )
  config = toy_config(data_dir, steps=4, eval__every=2, optim__lr=1e-3)
  predictions = loop.train(config, tmp_path)
  assert len(predictions) == 1
  lines = read_lines(tmp_path)

  # The operations by the traced program, which also counts those of the step's small products.
  traced = re.search(r'([\d,.]+) GFLOPs in matrix products', capsys.readouterr().err)
  operations = float(traced[1].replace(',', '')) * 1e9
  assert [('mfu' in line) for line in lines] == [False, True, True, True]
  for line in lines[1:]:
    steps_per_second = line['clips_per_second'] / config.data.batch_size
    expected = operations * steps_per_second / (PEAK * jax.device_count())
    assert line['mfu'] == pytest.approx(expected, rel=0.3)
    seconds = {name: value for name, value in line.items() if name.startswith('seconds/')}
    share = seconds['seconds/step'] / sum(seconds.values())
    assert line['goodput'] == pytest.approx(share, abs=2e-3)

  # The line of the last step has the last evaluation, too.
  assert [line.get('toy/none/top1') for line in lines] == [None, 0.25, None, 0.75]
  status = run_status.read_status(tmp_path)
  assert (status['state'], status['step'], status['steps']) == ('finished', 4, 4)
  assert status['evaluation'] == {'step': 4, 'top1': {'toy': {'none': 0.75}}}


RESULTS = [{'toy': {'none': {'top1': value}}} for value in (0.25, 0.75)]


@pytest.mark.parametrize(
  ('every', 'evaluations', 'step', 'expected'),
  [
    (20, 50, 0, {'checkpoint': 20, 'evaluation': 50}),
    (20, 50, 20, {'checkpoint': 40, 'evaluation': 50}),
    (20, 50, 40, {'checkpoint': 50, 'evaluation': 50}),
    (20, 50, 99, {'checkpoint': 100, 'evaluation': 100}),
    (500, 0, 99, {'checkpoint': 130, 'evaluation': 130}),
    (20, 50, 130, {}),
  ],
)
def test_the_steps_of_the_next_checkpoint_and_evaluation(every, evaluations, step, expected):
  config = toy_config('data', steps=130, checkpoint__every=every, eval__every=evaluations)
  assert upcoming(config, step) == expected
