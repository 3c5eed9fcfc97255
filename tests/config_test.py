"""The errors that `validate` raises, and the values that it reads."""

import pytest
from ml_collections import ConfigDict

from zsar_jax import config as config_lib
from zsar_jax.errors import UserError
from zsar_jax.models.from_config import build_model


def config_with(**changes):
  config = config_lib.default_config()
  with config.unlocked():
    config.update_from_flattened_dict({k.replace('__', '.'): v for k, v in changes.items()})
  return config


def test_a_misspelled_key_is_an_error_in_the_config_file():
  with pytest.raises(AttributeError, match='Did you mean'):
    config_lib.default_config().optim.lrr = 1


@pytest.mark.parametrize(
  ('changes', 'phrases'),
  [
    ({'optim__lrr': 1.0}, ["config.optim: no key 'lrr'", "'lr'"]),
    ({'recipe': 'backgruond=normal'}, ['config.recipe', 'character 1']),
    ({'eval__recipes': ('none', 'object')}, ['config.eval.recipes', "'object'"]),
    ({'eval__recipes': ()}, ['config.eval.recipes']),
    ({'eval__recipes': ('be,reverse',)}, ["'be,reverse'", 'reverse, shuffle, freeze']),
    ({'eval__recipes': ('reverse,shuffle',)}, ['keep one of reverse, shuffle']),
    ({'view__unannotated': 'skip'}, ['config.view.unannotated', 'nearest']),
    ({'view__interpolation': 'lanczos'}, ['config.view.interpolation', 'bicubic']),
    (
      {'model__preset': 'vit_b15'},
      ["config.model.preset: 'vit_b15' is none of auto, tiny, vit_b32"],
    ),
    ({'model__temporal': 'lstm'}, ["config.model.temporal: 'lstm' is none of mean"]),
    ({'model__attention': 'flash'}, ['config.model.attention', 'xla, cudnn']),
    ({'model__remat': 'some'}, ['config.model.remat', 'none, dots, full']),
    ({'model__dtype': 'float16'}, ['config.model.dtype', 'bfloat16']),
    ({'data__batch_size': 0}, ['config.data.batch_size: 0 is less than 1']),
    ({'view__centre_crop': 1.5}, ['config.view.centre_crop', 'between']),
    ({'view__crop_scale': (0.5, 2.0)}, ['config.view.crop_scale', '2.0']),
    ({'data__workers': -1}, ['config.data.workers', 'between 0']),
    ({'eval__clips': 0}, ['config.eval.clips', 'between 1']),
    ({'view__resize': 'longest'}, ['config.view.resize', 'shortest, squash']),
    ({'view__sampling': 'middle'}, ['config.view.sampling', 'segments, starts, ends']),
    ({'view__sampling': 'ends', 'eval__clips': 2}, ['config.eval.clips', 'one view in time']),
    ({'view__resize': 'squash', 'eval__crops': 3}, ['config.eval.crops', 'one crop']),
    ({'eval__crops': 2}, ['config.eval.crops', '2 is none of 1, 3']),
    ({'text__placeholders': 'remove'}, ['config.text.placeholders', 'keep, drop']),
    ({'text__templates': (3,)}, ['config.text.templates: 3 is not a text']),
    ({'eval__recipes': (3,)}, ['config.eval.recipes: 3 is not a text']),
    ({'eval__view_mean': 'sum'}, ['config.eval.view_mean', 'probabilities, logits']),
    ({'model__allow_missing': (3,)}, ['config.model.allow_missing: 3 is not a text']),
    ({'optim__cosine_from': 'end'}, ['config.optim.cosine_from', 'warmup, start']),
    ({'optim__lr': -1.0}, ['config.optim.lr', 'between 0']),
    ({'optim__lr': float('nan')}, ['config.optim.lr', 'between 0']),
    ({'optim__b2': 1.0}, ['config.optim.b2', 'between 0']),
    ({'optim__final_lr': 2.0}, ['config.optim.final_lr', 'between 0 and 1']),
    ({'optim__lr_rules': ('text/.*', 0.0)}, ["lr_rules: 'text/.*' is not a pair", 'such as ((']),
    ({'optim__lr_rules': ('ab',)}, ["config.optim.lr_rules: 'ab' is not a pair"]),
    ({'optim__decay_rules': (('a', -1.0),)}, ['config.optim.decay_rules', 'at least 0']),
    ({'optim__decay_rules': (('a', 'b'),)}, ['config.optim.decay_rules', 'at least 0']),
    ({'view__crop_scale': (0.5,)}, ['config.view.crop_scale', 'two numbers']),
    ({'view__crop_scale': (0.9, 0.5)}, ['config.view.crop_scale', 'the smallest']),
    ({'view__crop_ratio': ('a', 'b')}, ['config.view.crop_ratio', 'two numbers']),
    ({'augment__still_share': (1.0,)}, ['config.augment.still_share', 'two numbers']),
    ({'optim__torc': 1.0}, ["config.optim.torc: the head of temporal='mean' does not see"]),
    ({'optim__torc_ramp': (9, 5)}, ['config.optim.torc_ramp', 'the smallest']),
    ({'profile__steps': (1.5, 5)}, ['config.profile.steps', '1.5 is no step']),
    ({'seed': -1}, ['config.seed', 'between 0']),
    ({'mesh__data': -2}, ['config.mesh.data', 'between -1']),
  ],
)
def test_errors_name_the_field(changes, phrases):
  with pytest.raises(UserError) as error:
    config_lib.validate(config_with(**changes))
  for phrase in phrases:
    assert phrase in str(error.value)


@pytest.mark.parametrize(
  ('text', 'classes'),
  [
    ("('A class',)", ('A class',)),
    ("('A class')", ('A class',)),
    (' ["a", "b, (c)"]', ('a', 'b, (c)')),
    ('novel', 'novel'),
    ('labels/novel.txt', 'labels/novel.txt'),
  ],
)
def test_class_names_on_the_command_line(text, classes):
  config = config_with(data__train__classes=text)
  config.eval.datasets = ConfigDict({'x': config_lib.dataset_ref('toy', 'validation', text)})
  config_lib.validate(config)
  assert config.data.train.classes == config.eval.datasets.x.classes == classes


@pytest.mark.parametrize('text', ["('a'", '(a, b)', '()', '(1, 2)', '[[]]', '(' * 5000])
def test_texts_that_look_like_class_names_but_are_not(text):
  config = config_with(data__train__classes=text)
  with pytest.raises(UserError, match=r"^config.data.train.classes: .*\('archery', 'bowling'\)$"):
    config_lib.validate(config)


@pytest.mark.parametrize(('size', 'remedy'), [(50, 'take 48 or 64'), (7, 'take 16')])
def test_frames_must_divide_into_patches(size, remedy):
  with pytest.raises(UserError, match=f"^config.view.size: {size} .* of 16.*'vit_b16'.*{remedy}$"):
    build_model(config_with(view__size=size))


def test_a_config_without_a_key_is_refused():
  config = config_lib.default_config().copy_and_resolve_references()
  config.unlock()
  del config.optim.lr
  with pytest.raises(UserError, match="config.optim: the key 'lr' is missing"):
    config_lib.validate(config)
  with pytest.raises(UserError, match='config.eval.datasets.x'):
    config_lib.validate(config_with(eval__datasets=ConfigDict({'x': {'dataset': 'a'}})))


def test_only_references_with_a_list_of_labels_name_one():
  config = config_with()
  config.eval.datasets = ConfigDict(
    {
      'x': config_lib.dataset_ref('toy', 'validation'),
      'y': config_lib.dataset_ref('toy', 'validation', labels='list.csv'),
    }
  )
  config.data.train = config_lib.dataset_ref('toy', 'train', labels='list.csv')
  config_lib.validate(config)
  assert 'labels' not in config.eval.datasets.x
  config.eval.datasets.y.label = 'list.csv'
  with pytest.raises(UserError, match=r"datasets.y: no key 'label'; did you mean 'labels'"):
    config_lib.validate(config)


@pytest.mark.parametrize(
  ('groups', 'phrases'),
  [
    ({'both': ('a', 'c')}, ['config.eval.groups.both', "'c' is none of a, b"]),
    ({'a': ('a', 'b')}, ['config.eval.groups.a', 'take another']),
    ({'both': ('a',)}, ['config.eval.groups.both', 'two or more']),
    ({'both': ('a', 'a')}, ['config.eval.groups.both', 'two or more']),
  ],
)
def test_groups_are_of_data_sets(groups, phrases):
  config = config_lib.default_config()
  config.eval.datasets = ConfigDict({name: config_lib.dataset_ref('toy', name) for name in 'ab'})
  config.eval.groups = ConfigDict({'both': ('a', 'b')})
  config_lib.validate(config)
  config.eval.groups = ConfigDict(groups)
  with pytest.raises(UserError) as error:
    config_lib.validate(config)
  for phrase in phrases:
    assert phrase in str(error.value)


def test_batches_must_divide():
  config_lib.check_batch('config.data.batch_size', 64, 8, 4)
  with pytest.raises(UserError, match='multiple of 32'):
    config_lib.check_batch('config.data.batch_size', 48, 8, 4)


def test_errors_of_a_model_name_the_field_of_the_config():
  for changes, message in (
    ({'model__preset': 'vit_b15'}, "^config.model.preset: 'vit_b15' is none of"),
    ({'model__temporal': 'lstm'}, "^config.model.temporal: 'lstm' is none of"),
    ({'model__attention': 'cudnn'}, '^config.model.attention: cudnn computes .* bfloat16 only'),
  ):
    with pytest.raises(UserError, match=message):
      build_model(config_with(**changes))
