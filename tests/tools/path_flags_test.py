"""Every argument of a program that names a file or folder takes a URL, or is refused as one."""

import argparse
import functools
import importlib
import pathlib
import re

import pytest

from zsar_jax.errors import UserError
from zsar_jax.storage import buckets
from zsar_jax.storage.paths import as_path
from zsar_jax.tools.zsar import COMMANDS

# The metavars of arguments that name no file.
_OTHERS = re.compile(
  'NAMES?|N|T|TEXT|FRAMES|PIXELS|Q|RATE|SHARE|SCORE|MODEL|RUNNER|REGEX|I/N|COMMAND|NAME=VALUE,...|'
  'TEXT:REGION/...|telea.COMMAND|recipes|split|shell'
)

# Arguments whose text says more than a path, or that a function takes as text: (program, argument).
# The tests of these functions give them URLs.
_TEXTS = {
  ('predict', 'video'),
  ('predict', '--checkpoint'),
  ('predict', '--tokens-from'),
  ('convert', 'source'),
  ('convert', '--tokens-from'),
  ('split', '--dataset-dir'),
  ('split', '--classes'),
  ('split', '--others'),
  ('compare-masks', 'masks'),
  ('compare-masks', 'reference'),
  ('compare-masks', '--videos'),
  ('make-masks', '--videos'),
  ('make-masks', '--boxes'),
  ('make-masks', '--annotations'),
  ('build-dataset', '--out'),
  ('status', 'workdirs'),
  *(
    ('build-dataset', f'--{flag}')
    for flag in ('videos', 'annotations', 'lists', 'labels', 'masks', 'boxes')
  ),
}

# Programs whose flags are those of absl, with the flags that are read as text and name a path.
_ABSL = {
  'train': {'workdir'},
  'eval': {'workdir'},
  'study': {'workdir'},
  'export-clips': {'workdir'},
  'plan': {'json'},
}


def _parsers(name, monkeypatch):
  """Returns the parsers of a program with an argparse parser."""
  parsers = []

  def capture(parser, *_):
    parsers.append(parser)
    raise KeyboardInterrupt

  monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', capture)
  monkeypatch.setattr('sys.argv', ['program'])
  module = importlib.import_module(COMMANDS[name].module)
  with pytest.raises(KeyboardInterrupt):
    module.main()
  for action in parsers[0]._actions:
    if isinstance(action, argparse._SubParsersAction):
      parsers += action.choices.values()
  return parsers


@pytest.mark.parametrize('name', sorted(set(COMMANDS) - set(_ABSL)))
def test_arguments_that_name_files_take_urls(name, monkeypatch):
  for parser in _parsers(name, monkeypatch):
    for action in parser._actions:
      argument = action.option_strings[-1] if action.option_strings else action.dest
      assert action.type is not pathlib.Path, argument
      if isinstance(action.type, functools.partial):
        assert action.type.func is as_path
        field = action.metavar if not action.option_strings else argument
        assert action.type.keywords['field'] in (field, action.dest.upper())
        assert buckets.is_remote(action.type('memory://bucket/x'))
        with pytest.raises(UserError, match=f'^{action.type.keywords["field"]}: nothing://x '):
          action.type('nothing://x')
      elif (name, argument) not in _TEXTS and not isinstance(action, argparse._SubParsersAction):
        is_text = action.type is None and action.nargs != 0 and not action.choices
        assert not is_text or _OTHERS.fullmatch(str(action.metavar or action.dest)), argument


@pytest.mark.parametrize('name', sorted(_ABSL))
def test_flags_of_programs_with_a_config(name):
  source = pathlib.Path(importlib.util.find_spec(COMMANDS[name].module).origin).read_text()
  flags = set(re.findall(r"DEFINE_string\(\s*'(\w+)'", source))
  assert flags - {'topology', 'only', 'model', 'coordinator_address'} == _ABSL[name]
