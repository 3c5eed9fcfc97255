"""The files in configs/: which there are, what each of them resolves to, and that it is valid.

The resolved configs are kept in tests/golden/, so that a review shows what a change of a default or
of a shared function does to every experiment. After such a change, rewrite them:

    python -m tests.configs_test
"""

import importlib
import json
import pathlib

import pytest
from ml_collections import ConfigDict

from configs import debiasing
from zsar_jax.config import to_json, validate
from zsar_jax.errors import UserError
from zsar_jax.study.plan import plan

ROOT = pathlib.Path(__file__).parents[1]
GOLDEN = ROOT / 'tests' / 'golden'

# {config: its variants}
TRAININGS = {
  'debiasing': list(debiasing.VARIANTS),
  'k400_bgmask': ['', 'smoke'],
  'open_vclip_k400': ['', 'froster', 'smoke'],
  'pantomime': ['', 'none', 'tabletop', 'tabletop_none'],
  'ssv2_objmask': ['', 'smoke'],
  'sth_com': ['', 'torc', 'smoke'],
  'vifi_clip_k400': ['', 'prompts', 'smoke'],
  'xclip_k400': ['', 'smoke'],
  'zeroshot_eval': ['', 'unseen', 'smoke'],
}
STUDIES = {
  'compare_models': ['', 'torch', 'kinetics', 'ssv2'],
  'own_data_study': ['', 'small'],
  'pantomime_study': ['', 'baselines', 'smoke'],
  'paper_k400_mimetics': ['', 'smoke'],
  'paper_ssv2': ['', 'smoke'],
}
# Functions that configs share; they are no config themselves.
HELPERS = {'full_size'}

VARIANTS = [
  (name, variant) for name, variants in {**TRAININGS, **STUDIES}.items() for variant in variants
]


def get_config(name: str, variant: str) -> ConfigDict:
  return importlib.import_module(f'configs.{name}').get_config(variant)


def flat(node, path=''):
  """A nested dictionary as {dotted field: value}."""
  if not isinstance(node, dict) or not node:
    return {path: node}
  fields = {}
  for key, value in node.items():
    fields |= flat(value, f'{path}.{key}' if path else key)
  return fields


def resolve(config: ConfigDict) -> dict:
  return flat(json.loads(to_json(config)))


def resolve_training(name: str, variant: str) -> dict:
  config = get_config(name, variant)
  validate(config)
  return resolve(config)


def resolve_study(name: str, variant: str) -> dict:
  """A study, with every run as its differences from the base config of its experiment."""
  study = get_config(name, variant)
  jobs = plan(study, pathlib.Path('study'))
  experiments = {}
  for key, experiment in study.experiments.items():
    base = resolve(experiment.base)
    differences = {}
    for job in jobs:
      if job.experiment == key:
        config = resolve(job.config)
        assert config.keys() == base.keys()
        changed = [field for field in base if config[field] != base[field]]
        differences[job.name] = {field: config[field] for field in changed}
    experiments[key] = {
      'about': experiment.about,
      'baseline': experiment.baseline,
      'runs': {run: entry.about for run, entry in experiment.runs.items()},
      'base': base,
      'differences from base': differences,
    }
  return json.loads(to_json(study)) | {'experiments': experiments}


def pretty(node, indent='') -> str:
  """JSON with one line for each key, whatever its value is."""
  if not isinstance(node, dict) or not node:
    return json.dumps(node, ensure_ascii=False)
  inner = f'{indent}  '
  lines = [f'{inner}{json.dumps(key)}: {pretty(value, inner)}' for key, value in node.items()]
  return '{\n' + ',\n'.join(lines) + f'\n{indent}}}'


def golden_text(name: str, variant: str) -> str:
  resolve_config = resolve_study if name in STUDIES else resolve_training
  return pretty(resolve_config(name, variant)) + '\n'


def golden_file(name: str, variant: str) -> pathlib.Path:
  return GOLDEN / name / f'{variant or "default"}.json'


def test_every_config_file_is_listed():
  files = {path.stem for path in (ROOT / 'configs').glob('*.py')} - {'__init__'}
  assert files == TRAININGS.keys() | STUDIES.keys() | HELPERS


def test_golden_files_are_those_of_the_listed_variants():
  expected = {golden_file(name, variant) for name, variant in VARIANTS}
  assert set(GOLDEN.rglob('*.json')) == expected, 'run python -m tests.configs_test'


@pytest.mark.parametrize(('name', 'variant'), VARIANTS)
def test_configs_resolve_to_their_golden_files(name, variant):
  file = golden_file(name, variant)
  assert golden_text(name, variant) == file.read_text(encoding='utf-8'), (
    f'configs/{name}.py:{variant} does not resolve to {file.relative_to(ROOT)}; if the change is'
    ' intended, rewrite the file with python -m tests.configs_test'
  )


@pytest.mark.parametrize('name', [*TRAININGS, *STUDIES])
def test_variants_of_a_config(name):
  """The listed variants are all that the file has, and others are refused."""
  module = importlib.import_module(f'configs.{name}')
  assert list(module.VARIANTS) == {**TRAININGS, **STUDIES}[name]
  with pytest.raises(UserError, match='no (variant|method)'):
    module.get_config('nonsense')


@pytest.mark.parametrize('variant', STUDIES['own_data_study'])
def test_the_study_of_own_videos_evaluates_classes_that_it_does_not_train(variant):
  study = get_config('own_data_study', variant)
  jobs = plan(study, pathlib.Path('study'))
  assert len(jobs) == 2 * len(study.seeds)
  for job in jobs:
    assert job.config.data.train.classes == 'splits/own.json:base'
    assert job.config.eval.datasets.novel.classes == 'splits/own.json:novel'
    assert not job.config.eval.allow_seen_classes


def write_golden_files() -> None:
  """Writes the golden file of every variant, and removes those of variants that are gone."""
  for path in GOLDEN.rglob('*.json'):
    path.unlink()
  for name, variant in VARIANTS:
    file = golden_file(name, variant)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(golden_text(name, variant), encoding='utf-8')
  print(f'{len(VARIANTS)} files written to {GOLDEN}')


if __name__ == '__main__':
  write_golden_files()
