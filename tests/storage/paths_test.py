"""Paths that users write: ~ is the home folder, URLs are refused."""

import pathlib

import pytest

from zsar_jax import config as config_lib
from zsar_jax.data import catalog, dataset, splits
from zsar_jax.datasets.masks.spec import open_masks
from zsar_jax.errors import UserError
from zsar_jax.evaluation import background_pairs
from zsar_jax.storage.paths import as_path, local_argument, local_path
from zsar_jax.text.tokenizers import make_tokenizer
from zsar_jax.weights.formats.weight_files import open_source

URLS = ('gs://bucket/run', 's3://bucket/run', 'hf://owner/name', 'file:///data', 'HTTPS://x.y/z')


@pytest.fixture(autouse=True)
def _home(monkeypatch):
  monkeypatch.setenv('HOME', '/home/somebody')


@pytest.mark.parametrize(
  ('text', 'path'),
  [
    ('~/v', '/home/somebody/v'),
    ('~', '/home/somebody'),
    ('a/~/v', 'a/~/v'),
    ('~v.mp4~', '~v.mp4~'),
    ('runs/a:b//c', 'runs/a:b//c'),
    ('', ''),
  ],
)
def test_local_paths(text, path):
  assert local_path(text, '--out') == path


@pytest.mark.parametrize('url', URLS)
def test_urls_are_refused_with_what_was_typed(url):
  with pytest.raises(UserError, match=f'^--out: {url} is a URL'):
    local_path(url, '--out')


@pytest.mark.parametrize('text', ['~/v', 'a/b', '/a/b', 'file:///a/b'])
def test_paths_of_this_machine(text):
  path = as_path(text, '--out')
  assert isinstance(path, pathlib.Path)
  assert str(path) == text.replace('~', '/home/somebody').removeprefix('file://')


def test_an_unknown_user():
  with pytest.raises(UserError, match='there is no such user'):
    local_path('~nobody_of_this_name/x', '--out')


@pytest.mark.parametrize(
  ('argument', 'expected'),
  [
    ('--videos=~/v', '--videos=/home/somebody/v'),
    ('-config.data.dir=~', '-config.data.dir=/home/somebody'),
    ('~/clip.mp4', '/home/somebody/clip.mp4'),
    ('--checkpoint=hf://a/b', '--checkpoint=hf://a/b'),
    ('--config.model.init_from=hf://a/b', '--config.model.init_from=hf://a/b'),
    ('--config.experiments.x.base.model.init_from=hf://a', None),
    ('hf://a/b', 'hf://a/b'),
    ('--beam_options=temp=gs://b/t', '--beam_options=temp=gs://b/t'),
    ('--workdir=s3://b/r', '--workdir=s3://b/r'),
    ("--config.recipe='~'", "--config.recipe='~'"),
    ('--recipes=none;a', '--recipes=none;a'),
  ],
)
def test_arguments(argument, expected):
  assert local_argument(argument) == (argument if expected is None else expected)


# By name, functions that open a path of the user's, on this machine or in a bucket.
OPENERS = {
  'data sets': lambda path: catalog.list_datasets(path),
  'a data set': lambda path: dataset.open_dataset(path, 'ssv2', 'train'),
  'masks': lambda path: open_masks(f'grey:{path}'),
  'weights': lambda path: open_source(path, 'SRC'),
  'classes': lambda path: splits.read_classes(f'{path}.txt', '--classes'),
  'pairs': lambda path: background_pairs.load_pairs(path, [], [], [], [], 'config.pairs'),
  'tokenizer': lambda path: make_tokenizer(path, 100, 8),
}


@pytest.mark.parametrize('name', OPENERS)
def test_all_openers_check_their_path(name):
  with pytest.raises(UserError, match='nothing://bucket.* cannot be opened'):
    OPENERS[name]('nothing://bucket')
  missing = 'does not exist|cannot be read|neither|is not a folder|not found'
  with pytest.raises(UserError, match=f'memory://bucket/none.*({missing})'):
    OPENERS[name]('memory://bucket/none')
  with pytest.raises(UserError, match='/home/somebody/x|neither|is not a folder'):
    OPENERS[name]('~/x')


def test_a_path_among_the_options_of_masks():
  with pytest.raises(UserError, match='^--masks: nothing://bucket cannot be opened'):
    open_masks('coco:x,images=nothing://bucket')


def test_paths_of_a_config():
  config = config_lib.default_config()
  config.data.dir, config.model.init_from, config.text.tokenizer = '~/data', '~/w', '~/t'
  config.stills.source = 'hf://owner/name'
  config_lib.validate(config)
  assert config.data.dir == '/home/somebody/data'
  assert config.model.init_from == '/home/somebody/w'
  assert config.text.tokenizer == '/home/somebody/t'
  assert config.stills.source == 'hf://owner/name'
  config.data.dir = 'memory://bucket/data/'
  config_lib.validate(config)
  assert config.data.dir == 'memory://bucket/data'
  config.model.tokens_from = 'nothing://bucket/w'
  with pytest.raises(
    UserError, match='^config.model.tokens_from: nothing://bucket/w cannot be opened'
  ):
    config_lib.validate(config)
