"""The jobs of a study, and studies that are refused."""

import pathlib

import pytest
from ml_collections import ConfigDict

from zsar_jax.config import dataset_ref, default_config, validate
from zsar_jax.errors import UserError
from zsar_jax.study.plan import BASELINE, default_study, experiment, finding, model, plan, run

WORKDIR = pathlib.Path('studies/s')


def make_study(**runs):
  base = default_config()
  base.data.train = dataset_ref('toy', 'train')
  base.eval.datasets = ConfigDict({'toy': dataset_ref('toy', 'validation')})
  base.eval.recipes = ('none', 'background=normal')
  study = default_study()
  study.seeds = (4, 7)
  study.experiments.exp = experiment(
    base,
    'plain',
    {'plain': run('unmasked'), **{name: run(*arguments) for name, arguments in runs.items()}},
  )
  return study


def test_baselines_come_first_and_every_job_has_its_folder():
  study = make_study(
    after=('from the baseline', {'model.init_from': BASELINE}),
    color=('painted', {'recipe': 'background=normal', 'optim.still_clip.static': 1.0}),
  )
  jobs = plan(study, WORKDIR)
  assert [job.name for job in jobs] == [
    f'exp/{name}/{seed}' for seed in (4, 7) for name in ('plain', 'after', 'color')
  ]
  by_name = {job.name: job for job in jobs}
  assert by_name['exp/color/7'].folder == WORKDIR / 'runs/exp/color/seed7'
  assert by_name['exp/color/7'].config.seed == 7
  assert by_name['exp/color/7'].config.optim.still_clip.static == 1
  assert by_name['exp/plain/7'].config.recipe == 'none'
  assert by_name['exp/after/7'].depends_on == by_name['exp/plain/7'].folder
  assert by_name['exp/after/4'].config.model.init_from == str(by_name['exp/plain/4'].folder)


def test_models_that_are_only_evaluated(tmp_path):
  study = make_study()
  study.experiments.exp.base.model.init_from = 'weights/clip'
  folder = tmp_path / 'weights:x'
  folder.mkdir()
  runs = study.experiments.exp.runs
  runs.hub = model('from the hub', 'hf://owner/name', {'view.num_frames': 16}, license='MIT')
  runs.code = model("somebody's code", 'my.module:load')
  runs.named = model('a file without a description', 'a.pt', {'model.preset': 'vit_b16_gelu'})
  runs.folder = model('a folder with a colon', str(folder))
  jobs = {job.name: job for job in plan(study, WORKDIR)}
  # Once, whatever the number of seeds.
  assert list(jobs) == [
    *('exp/plain/4', 'exp/code/evaluated', 'exp/folder/evaluated', 'exp/hub/evaluated'),
    *('exp/named/evaluated', 'exp/plain/7'),
  ]
  assert [job.mode for job in jobs.values()] == ['train', *['eval'] * 4, 'train']
  named = jobs['exp/named/evaluated'].config
  assert (named.model.preset, named.model.init_from) == ('vit_b16_gelu', 'a.pt')
  assert named.text.templates == study.experiments.exp.base.text.templates != ()
  hub = jobs['exp/hub/evaluated']
  assert hub.folder == WORKDIR / 'runs/exp/hub/evaluated'
  assert (hub.config.model.preset, hub.config.model.init_from) == ('auto', 'hf://owner/name')
  assert (hub.config.view.num_frames, hub.config.text.templates) == (16, ())
  code = jobs['exp/code/evaluated'].config.model
  assert (code.external, code.init_from) == ('my.module:load', '')
  assert jobs['exp/folder/evaluated'].config.model.init_from == str(folder)


def test_a_seed_of_0_is_a_seed():
  study = make_study()
  study.seeds = (0, 7)
  study.experiments.exp.runs.code = model("somebody's code", 'my.module:load')
  jobs = plan(study, WORKDIR)
  assert [job.trial for job in jobs] == ['0', 'evaluated', '7']
  assert [job.name for job in jobs] == ['exp/plain/0', 'exp/code/evaluated', 'exp/plain/7']


def test_the_baseline_may_be_a_model_that_is_only_evaluated():
  study = make_study(after=('trained', {}))
  study.experiments.exp.runs.plain = model('published', 'hf://owner/name')
  assert [job.name for job in plan(study, WORKDIR)] == [
    *('exp/plain/evaluated', 'exp/after/4', 'exp/after/7')
  ]
  study.experiments.exp.runs.after = run('from the baseline', {'model.init_from': BASELINE})
  with pytest.raises(UserError, match='exp.runs.after: {baseline} is the run plain, .* only eval'):
    plan(study, WORKDIR)


def _with_finding(**changes):
  study = make_study()
  study.experiments.exp.base.eval.datasets.other = dataset_ref('toy', 'train')
  side = ('exp', 'plain', 'toy', 'none')
  fields = {'better': side, 'worse': side, 'threshold': 0.1} | changes
  study.findings = (finding('f', 's', **fields),)
  return study


def test_sides_of_a_finding_may_differ_in_their_pairs():
  study = _with_finding(worse=('exp', 'plain', 'other', 'none'))
  study.experiments.exp.base.eval.datasets.other = dataset_ref('toy', 'validation', pairs='same:0')
  assert plan(study, WORKDIR)


def test_the_data_folder_of_all_experiments():
  study = make_study(moved=('other data', {'data.dir': 'moved'}))
  study.experiments.two = study.experiments.exp
  dirs = {job.name: job.config.data.dir for job in plan(study, WORKDIR)}
  assert (dirs['exp/plain/4'], dirs['exp/moved/4']) == ('data', 'moved')
  study.data.dir = 'elsewhere'
  dirs = {job.name: job.config.data.dir for job in plan(study, WORKDIR)}
  assert {dirs[f'{name}/plain/{seed}'] for name in ('exp', 'two') for seed in (4, 7)} == {
    'elsewhere'
  }
  # The change of a run has precedence.
  assert dirs['two/moved/7'] == 'moved'


def test_the_config_of_a_study_is_refused_as_that_of_a_training():
  with pytest.raises(UserError, match='the config of a study, not of one training'):
    validate(make_study())


@pytest.mark.parametrize(
  ('study', 'words'),
  [
    (lambda: default_study(), 'config.experiments: it is empty'),
    (lambda: _changed(seeds=()), 'config.seeds'),
    (lambda: _changed(seeds=(1, 1)), 'config.seeds'),
    (lambda: make_study(bad=('x', {'optim.lrr': 1.0})), 'config.optim.lrr cannot be 1.0'),
    (lambda: make_study(bad=('x', {'steps': 'many'})), "config.steps cannot be 'many'"),
    (lambda: make_study(bad=('x', {'recipe': 'backgruond=normal'})), 'regions are'),
    (lambda: make_study(**{'a/b': ('x', {})}), "'a/b' becomes a folder"),
    (lambda: _changed(baseline='none'), "'none' is none of plain"),
    (lambda: _changed(recipes=('none',)), "'none' alone measures no bias"),
    (lambda: _changed(datasets=False), 'nothing to measure'),
    (lambda: _changed(clips='mp4'), "config.clips: 'mp4'"),
    (
      lambda: _with_finding(better=('exp', 'plain', 'toy', 'person=black')),
      "'person=black' is none of",
    ),
    (lambda: _with_finding(threshold=10.0), '10 points are written 0.1'),
    (lambda: _with_finding(worse=('exp', 'plain', 'other', 'none')), 'compares different clips'),
    (lambda: default_config(), 'the config of one training, not of a study'),
    (lambda: ConfigDict({'seeds': (1,), 'experiments': {}}), "it has no field 'about'"),
    (lambda: _with_finding(worse=('two', 'plain', 'toy', 'none')), "'two' is none of exp"),
  ],
)
def test_refusals(study, words):
  with pytest.raises(UserError) as error:
    plan(study(), WORKDIR)
  assert words in str(error.value)


def _changed(seeds=(1,), baseline='plain', recipes=None, datasets=True, clips='inside'):
  study = make_study()
  study.seeds, study.clips = seeds, clips
  experiment_config = study.experiments.exp
  experiment_config.baseline = baseline
  if recipes:
    experiment_config.base.eval.recipes = recipes
  if not datasets:
    experiment_config.base.eval.datasets = ConfigDict()
  return study
