"""Traces of training steps, and their summary."""

import jax
import jax.numpy as jnp
import pytest

from tests.toy import build_toy
from tests.training.loop_test import toy_config
from tools import summarize_profile
from zsar_jax import config as config_lib
from zsar_jax.errors import UserError
from zsar_jax.models.compute import compiler_options
from zsar_jax.models.presets import VideoSpec, preset
from zsar_jax.models.video_model import VideoModel
from zsar_jax.performance import traces
from zsar_jax.training import loop, profiling


@pytest.mark.slow
def test_a_training_run_is_traced(tmp_path, capsys):
  """Two of four steps are traced, and the tool summarizes them."""
  config = toy_config(build_toy(tmp_path / 'data'), steps=4, profile__steps=(2, 3))
  config.checkpoint.every = 4
  config.eval.datasets = config_lib.ConfigDict()
  workdir = tmp_path / 'run'
  loop.train(config, workdir)
  (path,) = traces.newest_files(workdir / 'profile')
  trace = traces.read_trace(path)
  assert len(trace.steps) == len(trace.waits) == 2
  categories = {span.category for spans in trace.ops.values() for span in spans}
  assert {'matmul', 'attention', 'layer norm'} <= categories
  capsys.readouterr()
  summarize_profile.main([str(workdir)])
  out = capsys.readouterr().out
  assert '2 steps' in out
  assert 'What limits the step: ' in out
  assert 'MFU unknown' in out
  facts = summarize_profile.read_facts(workdir / 'profile' / profiling.FACTS)
  assert facts['clips_per_step'] == 16


@pytest.mark.parametrize('steps', [(3,), (0, 2), (4, 3), (5, 7)])
def test_invalid_steps_are_refused(tmp_path, steps):
  config = toy_config(tmp_path, steps=6, profile__steps=steps)
  with pytest.raises(UserError, match='config.profile.steps'):
    config_lib.validate(config)


def test_fusions_do_not_cross_blocks_on_a_cpu():
  """Otherwise each block would recompute the residual stream from all earlier blocks."""
  spec = preset('tiny', image_layers=12)
  model = VideoModel(spec, VideoSpec(2))

  def loss(params, video):
    return model.encode_video(params, video)['embedding'].sum()

  video = jax.ShapeDtypeStruct((1, 2, 48, 48, 3), jnp.float32)
  compiled = jax.jit(jax.grad(loss)).lower(model.abstract_params, video).compile(compiler_options())
  fusions = [line for line in compiled.as_text().splitlines() if ' fusion(' in line]
  assert fusions
  assert max(line.partition(' fusion(')[2].count('%') for line in fusions) < 40
