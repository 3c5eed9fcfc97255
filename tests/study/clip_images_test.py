"""The gallery: the choice of clips, and the reasons for clips that do not count."""

import dataclasses

import numpy as np
import PIL.Image
import pytest

from tests.evaluation.examples import predictions
from tests.toy import CLASSES, Toy, ToyTask
from tests.training.loop_test import toy_config
from zsar_jax.config import dataset_ref
from zsar_jax.datasets.build import build
from zsar_jax.study import clip_images

# Positions among 12 clips: those without masks, and the clip with masks on every other frame.
UNMASKED, PARTLY = (1, 4, 7), 2


def _logits(correct):
  """One-hot logits of predictions that are correct where `correct` is True."""
  labels = np.arange(len(correct)) % 2
  return np.eye(2, dtype=np.float32)[np.where(correct, labels, 1 - labels)]


def _predictions(unpainted, painted, masks):
  coverage = np.where(masks[:, None], np.float32(0.2), np.float32(np.nan))
  logits = {
    'none': _logits(unpainted),
    'background=normal': np.where(masks[:, None], _logits(painted), np.float32(np.nan)),
  }
  return predictions(np.arange(len(masks)) % 2, logits, coverage=coverage)


def test_clips_that_do_not_count_are_not_wrong():
  masks = np.ones(12, bool)
  masks[list(UNMASKED)] = False
  yes, no = np.ones(12, bool), np.zeros(12, bool)
  # No clip is wrong under painting, but some have no masks.
  chosen = clip_images.choose_clips({'plain': _predictions(yes, yes, masks)}, 'plain', 6)
  assert {choice.why for choice in chosen} == {'Chosen at an even distance among all clips.'}
  # Every clip that counts under painting is wrong.
  chosen = clip_images.choose_clips({'plain': _predictions(yes, no, masks)}, 'plain', 12)
  wrong = {choice.position for choice in chosen if 'wrong under background=normal' in choice.why}
  assert wrong
  assert not wrong & set(UNMASKED)


class Partly(Toy):
  """A data set with clips without masks, and a clip with masks on every other frame."""

  name = 'partly'

  def tasks(self):
    """Twelve validation clips, one training clip."""
    masks = {n: (False,) for n in UNMASKED} | {PARTLY: (True, False)}
    return {
      'validation': [ToyTask(f'v{n}', n % 2, 8, masks.get(n, (True,))) for n in range(12)],
      'train': [ToyTask('t', 0, 8, (True,))],
    }


@pytest.fixture(scope='module', name='drawn')
def _drawn(tmp_path_factory):
  folder = tmp_path_factory.mktemp('study')
  build(Partly(folder / 'data'), workers=0)
  config = toy_config(str(folder / 'data'), recipe='none', view__unannotated='leave')
  config.view.num_frames = 8
  config.eval.datasets = {'here': dataset_ref('partly', 'validation', CLASSES[:2])}
  masks = np.ones(12, bool)
  masks[list(UNMASKED)] = False
  p = _predictions(masks, masks, masks)
  swapped = np.where(np.arange(12)[:, None] == 3, _logits(masks), np.float32(np.nan))
  p.logits['none'][5] = np.nan  # The clip counts, and is wrong.
  p = dataclasses.replace(
    p,
    ids=tuple(f'v{n}' for n in range(12)),
    recipes=(*p.recipes, 'background=swap'),
    logits=p.logits | {'background=swap': swapped},
    partners=tuple('v0' if n == 3 else '' for n in range(12)),
    partner_labels=np.where(np.arange(12) == 3, 0, -1).astype(np.int32),
  )
  choices = [clip_images.Choice(position, 'why') for position in (1, 2, 3, 5)]
  return folder, clip_images.draw_clips(config, 'here', {'run': p}, choices, folder, 'e-d')


def test_why_a_clip_does_not_count(drawn):
  folder, (unmasked, partly, paired, not_finite) = drawn
  painting = {'background=normal', 'background=swap'}
  assert unmasked['not_counted'] == dict.fromkeys(painting, 'no masks')
  assert partly['not_counted'] == not_finite['not_counted'] == {'background=swap': 'no partner'}
  assert paired['not_counted'] == {}
  for entry in (unmasked, partly, paired, not_finite):
    # For each recipe there is a picture or a reason.
    assert set(entry['pictures']) == {'none', *painting} - set(entry['not_counted'])
    assert all((folder / path).exists() for path in entry['pictures'].values())
  assert set(not_finite['predictions']['run']) == {'background=normal'}


def test_animations_show_the_frames_of_the_strip(drawn):
  folder, entries = drawn
  for entry in entries:
    assert set(entry['clips']) == set(entry['pictures'])
    for recipe, path in entry['clips'].items():
      strip = np.asarray(PIL.Image.open(folder / entry['pictures'][recipe]), float)
      frames, times = [], []
      with PIL.Image.open(folder / path) as animation:
        assert animation.info['loop'] == 0
        for number in range(animation.n_frames):
          animation.seek(number)
          frames.append(np.asarray(animation.convert('RGB').resize((96, 96)), float))
          times.append(animation.info['timestamp'])
      # Frames that repeat may be stored as one that is shown for longer.
      assert len(frames) > 1
      assert np.diff(times).min() >= 180
      last = strip[:, -96:]
      assert np.abs(frames[0] - strip[:, :96]).mean() < 12
      assert np.abs(frames[-1] - last).mean() < 12


def test_frames_that_stay_unpainted_are_counted(drawn):
  _, (_, partly, paired, _) = drawn
  assert partly['frames'] == 8
  assert partly['unpainted'] == {'background=normal': 4, 'background=swap': 4}
  assert paired['unpainted'] == {}
