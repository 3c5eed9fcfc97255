"""Spellings of the same class match, and names of different classes do not."""

import itertools
import unicodedata

import pytest

from zsar_jax.data import splits
from zsar_jax.data.class_names import class_key, match_classes, unique_classes
from zsar_jax.text.tokenizers import make_tokenizer

SAME = [
  ('ApplyEyeMakeup', 'apply_eye_makeup', 'Apply eye make-up', 'apply eye makeup.'),
  ("massaging person's head", 'massaging_persons_head', 'massaging person´s head'),
  ('punching person (boxing)', 'Punching person boxing'),
  ('마시다', unicodedata.normalize('NFD', '마시다')),
  ('café', 'cafe\u0301', 'CAFÉ'),
  ('が', 'か\u3099'),
  ('İçme', 'içme'),
  ('Straße', 'STRASSE'),
  ('ＡＢＣ', 'abc'),
  ('❤\ufe0f', '❤'),
  ('-1', '\u22121', '–1'),
  ('turn -90 degrees', 'turn_-90_degrees'),
  ('Phase_1_2', 'phase 1-2'),
  ('3-point shot', '3 point shot', '3PointShot'),
  ('می\u200cخواهم', 'میخواهم'),
]

DIFFERENT = [
  ('पानी पीना', 'पान पीना'),
  ('ยืน', 'ยัน'),
  ('மலை', 'மாலை'),
  ('が', 'か'),
  ('cafe', 'café'),
  ('+1', '-1', '1'),
  ('C', 'C++', 'C#', 'C*'),
  ('turn ←', 'turn →', 'turn'),
  ('turn 90', 'turn -90'),
  ('1-11', '11-1', '111'),
  ('lift 1.5 kg', 'lift 15 kg', 'lift 1,5 kg'),
  ('class 1 1', 'class 11'),
  ('👍\U0001f3fb', '👍\U0001f3ff'),
]


@pytest.mark.parametrize('names', SAME)
def test_spellings_of_one_class(names):
  assert len(set(map(class_key, names))) == 1
  for name, other in itertools.permutations(names, 2):
    assert match_classes([name], [other, 'something else']) == {name: (other,)}
    assert splits.intersection([name], [other]) == (name,)
    assert splits.difference([name], [other]) == ()


@pytest.mark.parametrize('names', DIFFERENT)
def test_names_of_different_classes(names):
  assert len(set(map(class_key, names))) == len(names)
  assert splits.difference(names, names[:1]) == names[1:]
  assert splits.intersection(names, names[1:]) == names[1:]


def test_words_keep_what_tells_names_apart():
  tokenizer = make_tokenizer('words', 100_000, 16)
  for names in DIFFERENT:
    texts = [name for name in names if ',' not in name]
    assert len({tuple(row) for row in tokenizer(texts).tolist()}) == len(texts)
  # Names without symbols.
  assert (tokenizer(['Clean_and-jerk, 3 times!']) == tokenizer(['clean and jerk 3 times'])).all()


def test_punctuation_counts_if_nothing_else_differs():
  vocabulary = ('stop!', 'stop?', 'go')
  assert match_classes(['Stop !', 'stop', 'go.'], vocabulary) == {
    'Stop !': ('stop!',),
    'stop': ('stop!', 'stop?'),
    'go.': ('go',),
  }
  assert splits.difference(vocabulary, ['STOP!']) == ('stop?', 'go')
  # 'stop' may be either of the two, so neither counts as new.
  assert splits.difference(vocabulary, ['stop']) == ('go',)
  # One of several spellings suffices.
  assert splits.intersection(['stop'], ['Stop.', 's.t.o.p', 'STOP;']) == ('stop',)


def test_names_of_punctuation_alone():
  assert class_key('???') == '???'
  assert splits.difference(('?', '!'), ('!',)) == ('?',)


def test_files_of_names_are_read_in_nfc(tmp_path):
  names = ('마시다', 'पानी पीना')
  path = tmp_path / 'names.txt'
  path.write_text(unicodedata.normalize('NFD', '\n'.join(names)), encoding='utf-8')
  assert splits.read_classes(str(path), 'field') == names


def test_a_vocabulary_has_each_class_once():
  names = ['run', 'arm_wrestling', 'C#', 'arm wrestling', 'C++', 'Run', 'ArmWrestling', 'stop!']
  assert unique_classes([*names, 'stop?']) == ('ArmWrestling', 'C#', 'C++', 'Run', 'stop!', 'stop?')
  # In names of folders, a space or an underscore separates two numbers.
  names = ['1_11', '11_1', '1 11', '111', '1-11']
  assert unique_classes(names) == ('1 11', '1-11', '111', '11_1')
