"""Multiple choice: the choices, the accuracy against a slow loop, and where it is shown."""

import dataclasses

import numpy as np
import pytest

from tests.evaluation.examples import order, predictions
from zsar_jax.errors import UserError
from zsar_jax.evaluation import multiple_choice, run_results
from zsar_jax.evaluation import predictions as predictions_file
from zsar_jax.study.dataset_figures import measure_dataset
from zsar_jax.training import loop


def random_predictions(count=60, classes=7, **changes):
  rng = np.random.default_rng(0)
  labels = rng.integers(0, classes, count)
  logits = {
    recipe: rng.integers(0, 3, (count, classes)).astype(np.float32)
    for recipe in ('none', 'background=mean')
  }
  logits['none'][rng.random(count) < 0.1, 3] = np.nan
  coverage = rng.choice([0.3, np.nan], (count, 1)).astype(np.float32)
  return predictions(labels, logits, coverage=coverage, **changes)


def test_the_choices_are_the_class_and_others_drawn_evenly():
  p = random_predictions(3000)
  drawn = multiple_choice.draw_choices(p, 3)
  assert drawn.shape == (3000, 3)
  assert (np.diff(drawn, axis=1) > 0).all()
  assert (drawn == p.labels[:, None]).any(axis=1).all()
  for label in range(7):
    others = drawn[p.labels == label]
    counts = np.bincount(others.ravel(), minlength=7)
    assert counts[label] == len(others)
    share = np.delete(counts, label) / len(others)
    np.testing.assert_allclose(share, 1 / 3, atol=4 * np.sqrt(2 / 9 / len(others)))
  np.testing.assert_array_equal(
    multiple_choice.draw_choices(p, 7), np.tile(np.arange(7), (3000, 1))
  )


def test_the_choices_depend_on_the_clip_alone():
  p = random_predictions()
  drawn = multiple_choice.draw_choices(p, 4)
  # Another model, recipe and order of the clips.
  other = predictions(p.labels[::-1], {'reverse': np.zeros((60, 7))}, ids=p.ids[::-1])
  np.testing.assert_array_equal(multiple_choice.draw_choices(other, 4), drawn[::-1])
  renamed = dataclasses.replace(p, ids=tuple(f'{name}!' for name in p.ids))
  assert (multiple_choice.draw_choices(renamed, 4) != drawn).any(axis=1).mean() > 0.5


@pytest.mark.parametrize('recipe', ['none', 'background=mean'])
@pytest.mark.parametrize('choices', [2, 5, 7])
def test_accuracy_against_a_loop(recipe, choices):
  p = random_predictions()
  drawn = multiple_choice.draw_choices(p, choices)
  right = []
  for n, label in enumerate(p.labels):
    if recipe == 'none' or np.isfinite(p.coverage[n, 0]):
      ranked = order(p, recipe, n)
      answers = ranked and [c for c in ranked if c in drawn[n].tolist()]
      right.append(bool(answers) and answers[0] == label)
  ratio = multiple_choice.multiple_choice(p, recipe, choices)
  assert ratio.value == pytest.approx(np.mean(right))
  assert ratio.counted_clips.sum() == len(right)
  assert ratio.chance_level == pytest.approx(1 / choices)


def test_results_table_and_figures(tmp_path):
  parts = [random_predictions(dataset=name, choices=4) for name in ('a', 'b')]
  results = run_results.compute_results(parts, {'both': ('a', 'b')})
  value = multiple_choice.multiple_choice(parts[0], 'none', 4).value
  figures = results['a']['none']
  assert (figures['multiple_choice'], figures['choices']) == (value, 4)
  assert results['both']['none']['multiple_choice'] == value
  assert results['both']['none']['multiple_choice_std'] == 0
  flat = loop.flatten(results)
  assert flat['a/none/multiple_choice'] == value
  assert 'a/none/choices' not in flat
  title, row = run_results.format_table(results).splitlines()[:2]
  assert title.endswith('1 of 4')
  assert row.split()[-1] == f'{100 * value:.1f}'
  assert len(title) == len(row)

  parts[0].save(tmp_path / 'a.npz')
  loaded = predictions_file.load(tmp_path / 'a.npz')
  assert loaded.choices == 4
  measured = measure_dataset({'run': [loaded]}, 'run', draws=20)
  estimate = measured['matrix']['run']['none']['multiple_choice']
  assert (estimate['value'], estimate['chance']) == (pytest.approx(value), pytest.approx(0.25))


def test_without_choices_nothing_changes(tmp_path):
  p = random_predictions()
  results = run_results.compute_results([p], {})
  assert set(results['made up']['none']) == {'top1', 'top5', 'mean_class', 'count'}
  measured = measure_dataset({'run': [p]}, 'run', draws=20)
  assert set(measured['matrix']['run']['none']) == {'top1', 'top5', 'mean_class'}
  p.save(tmp_path / 'a.npz')
  with np.load(tmp_path / 'a.npz') as file:
    assert 'choices' not in file.files
  assert predictions_file.load(tmp_path / 'a.npz').choices == 0


def test_refusals(tmp_path):
  p = random_predictions()
  for choices in (0, 1, 8):
    with pytest.raises(UserError, match=rf'{choices} choices .* from the 7 classes of made up'):
      multiple_choice.multiple_choice(p, 'none', choices)
  with pytest.raises(ValueError, match='choices: 8 of 7 classes'):
    random_predictions(choices=8)
  with pytest.raises(UserError, match='evaluated with 0 and 3 choices'):
    predictions_file.check_same_clips(p, random_predictions(choices=3))
  p.save(tmp_path / 'a.npz')
  with np.load(tmp_path / 'a.npz') as file:
    arrays = dict(file)
  np.savez(tmp_path / 'b.npz', **arrays, choices=np.int32(-1))
  with pytest.raises(UserError, match='choices: -1 of 7 classes'):
    predictions_file.load(tmp_path / 'b.npz')
