"""The bank of still frames, compared with frames that are classified one at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.toy import build_toy
from tests.training.loop_test import toy_config
from zsar_jax.data.clip_loader import ClipLoader
from zsar_jax.data.view import View
from zsar_jax.errors import UserError
from zsar_jax.models.from_config import build_teacher
from zsar_jax.ops.photometric import normalize
from zsar_jax.text.classes import ClassTexts
from zsar_jax.training import loop, still_bank
from zsar_jax.training.setup import open_training_subset
from zsar_jax.weights.formats.load import load_weights


@pytest.fixture(scope='module', name='data_dir')
def _data_dir(tmp_path_factory):
  return build_toy(tmp_path_factory.mktemp('toy'))


@pytest.fixture(scope='module', name='source')
def _source(data_dir, tmp_path_factory):
  run = tmp_path_factory.mktemp('source')
  loop.train(toy_config(data_dir, steps=1), run)
  return run


def test_the_most_confident_frames_are_chosen_once(data_dir, source, tmp_path):
  config = toy_config(data_dir, stills__source=str(source), stills__count=6)
  subset = open_training_subset(config)
  bank = still_bank.open_bank(config, subset, tmp_path)

  model = build_teacher(config)
  params, _ = load_weights(str(source), model, field='', allow_left_over=('.*',))
  texts = ClassTexts.from_config(config, model).tokens(subset.texts, 1)
  classes = np.mean([model.encode_text(params, tokens) for tokens in texts], axis=0)
  view = View.from_config(config)
  loader = ClipLoader(subset, View(**vars(view) | {'num_frames': 1}))
  frames, sureness = [], []
  for n in range(len(subset)):
    frames.append(loader.evaluation_clip(n)['frames'][0])
    video = normalize(jnp.asarray(frames[-1])[None, None] / 255)
    cosines = model.similarity(params, model.encode_video(params, video), classes)
    sureness.append(float(jax.nn.softmax(jnp.exp(params['logit_scale']) * cosines).max()))
  # All clips are candidates, because 4 x 6 exceeds their number.
  order = np.argsort(sureness)[::-1]
  best = [frames[n] for n in order[: len(frames) // 2 + 1]]  # One more, in case of a tie.
  assert bank.shape == (6, 16, 16, 3)
  for still in bank:
    assert any(np.array_equal(still, frame) for frame in best)

  # A resumed run reads the saved bank, even if the weights are gone.
  config.stills.source = '/nowhere'
  np.testing.assert_array_equal(still_bank.open_bank(config, subset, tmp_path), bank)
  (tmp_path / 'stills.npz').write_bytes(b'PK')
  with pytest.raises(UserError, match='stills.npz is damaged.*delete it'):
    still_bank.open_bank(config, subset, tmp_path)


def test_a_bank_needs_weights(data_dir, tmp_path):
  config = toy_config(data_dir, recipe='stillmix_bank@0.5')
  with pytest.raises(UserError, match='config.stills.source: a bank needs weights'):
    loop.train(config, tmp_path)
