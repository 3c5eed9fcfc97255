"""Class splits of the published vocabularies, and files of class names."""

import csv
import json
import pathlib

import numpy as np
import pytest

from tests.toy import CLASSES, build_toy
from tools import make_split
from zsar_jax.data import splits
from zsar_jax.data.dataset import open_dataset
from zsar_jax.data.subset import select
from zsar_jax.errors import UserError

_SHARED = pathlib.Path(__file__).parents[3] / 'shared' / 'data'

needs_labels = pytest.mark.skipif(
  not (_SHARED / 'labels').exists(), reason='no ../shared/data/labels'
)


def labels(name):
  return tuple((_SHARED / 'labels' / f'{name}.txt').read_text().splitlines())


def test_intersection_and_difference():
  ours, theirs = ('push_up', 'Run', 'BrushHair'), ('push up', 'brush hair', 'walk')
  assert splits.intersection(ours, theirs) == ('push_up', 'BrushHair')
  assert splits.difference(ours, theirs) == ('Run',)


@needs_labels
def test_kinetics_600_has_220_classes_outside_kinetics_400():
  k400, k600 = labels('k400'), labels('k600')
  outside = splits.difference(k600, k400)
  assert len(outside) == 220
  assert set(outside) | set(splits.intersection(k600, k400)) == set(k600)
  # ViFi-CLIP's lists of 160 have classes that were split off, but none that was renamed.
  assert {'hugging baby', 'opening wine bottle', 'fencing (sport)'} < set(outside)
  assert not {'making the bed', 'hugging (not baby)', 'tying necktie'} & set(outside)
  # Every renamed class is in each vocabulary under that vocabulary's name only.
  for new, old in splits._KINETICS_RENAMED.items():
    assert new in k600
    assert new not in k400
    assert old in k400
    assert old not in k600
  for name, count in (('ucf101', 22), ('hmdb51', 2)):
    assert len(splits.intersection(labels(name), k400)) == count


@needs_labels
def test_kinetics_400_without_mimetics():
  k400 = labels('k400')
  parts = splits.mimetics_split(k400)
  assert [len(parts['mimetics']), len(parts['without_mimetics'])] == [50, 350]
  assert sorted(parts['mimetics'] + parts['without_mimetics']) == sorted(k400)
  assert splits.mimetics_split(labels('k600')) == {}
  underscored = [name.replace(' ', '_') for name in k400]
  assert splits.mimetics_split(underscored)['mimetics'][0] == parts['mimetics'][0]
  with (_SHARED / 'mimetics' / 'mimetics_v1.0.csv').open() as file:
    assert set(splits.MIMETICS_CLASSES) == {row['label'] for row in csv.DictReader(file)}


def test_base_to_novel():
  counts = {'a': 1, 'b': 3, 'c': 2, 'd': 3, 'e': 2}
  drawn = np.repeat(np.arange(5), list(counts.values()))
  parts = splits.base_to_novel(tuple(counts), np.random.default_rng(0).permutation(drawn))
  assert parts == {'base': ('b', 'c', 'd'), 'novel': ('a', 'e')}


def test_random_splits_depend_on_the_seed_and_not_on_the_order():
  names = [f'class {n}' for n in range(220)]
  parts = splits.random_split(names, 160, seed=3, repeats=3)
  assert list(parts) == ['1', '2', '3']
  for part in parts.values():
    assert len(set(part)) == 160
    assert sorted(part, key=names.index) == list(part)
  assert len({frozenset(part) for part in parts.values()}) == 3
  assert splits.random_split(names, 160, 4) != splits.random_split(names, 160, 3)
  backwards = splits.random_split(names[::-1], 160, seed=3, repeats=2)
  assert [set(backwards[n]) for n in '12'] == [set(parts[n]) for n in '12']
  # Every class is equally likely: 400 draws of a quarter.
  drawn = splits.random_split(names, 55, seed=0, repeats=400)
  counts = [sum(name in part for part in map(set, drawn.values())) for name in names]
  assert min(counts) > 65
  assert max(counts) < 140
  for count in (0, 221):
    with pytest.raises(UserError, match=f'{count} of 220 classes'):
      splits.random_split(names, count)


@pytest.mark.parametrize(
  ('text', 'names'),
  [
    ('archery\n\nbowling\n', ('archery', 'bowling')),
    ('\ufeffid,name\n0,archery\n1,bowling\n', ('archery', 'bowling')),
    ('3,archery\n1,"Moving it, then stopping"\n', ('archery', 'Moving it, then stopping')),
    ('0,Moving it, then stopping\n', ('Moving it, then stopping',)),
    ('Moving it, then stopping\n2, 3\n', ('Moving it, then stopping', '2, 3')),
    ('0,"say ""hi"""\n', ('say "hi"',)),
    ("id,name\n0,massaging person's head\n", ("massaging person's head",)),
    (
      '1 ApplyEyeMakeup\n2 Moving it, then stopping\n',
      ('ApplyEyeMakeup', 'Moving it, then stopping'),
    ),
    ('0\tarchery\r\n1\tbrushing hair\r\n', ('archery', 'brushing hair')),
    ('3 point shot\n100 m run\n', ('3 point shot', '100 m run')),
    ('1 archery\n3 bowling\n', ('1 archery', '3 bowling')),
    ('1 archery\nbowling\n', ('1 archery', 'bowling')),
    ('1\n2 archery\n', ('1', '2 archery')),
  ],
)
def test_files_of_classes(tmp_path, text, names):
  path = tmp_path / 'names.csv'
  path.write_text(text, encoding='utf-8')
  assert splits.is_class_file(str(path))
  assert splits.read_classes(str(path), 'field') == names


def test_ids_are_labels_if_ordered(tmp_path):
  path = tmp_path / 'names.csv'
  for text in ('id,name\n2,c\n0,"a, b"\n1,b\n', '1,b\n2,c\n0,a, b\n', 'a, b\nb\nc\n'):
    path.write_text(text)
    assert splits.read_classes(str(path), 'field', ordered=True) == ('a, b', 'b', 'c')
  for text in ('2 c\n0 a, b\n1 b\n', '2\tc\n0\ta, b\n1\tb\n'):
    path.write_text(text)
    assert splits.read_classes(str(path), 'field', ordered=True) == ('a, b', 'b', 'c')
    assert splits.read_classes(str(path), 'field') == ('c', 'a, b', 'b')
  path.write_text('3,archery\n1,bowling\n')
  assert splits.read_classes(str(path), 'field') == ('archery', 'bowling')
  path.write_text('0 archery\n1 bowling\n')
  assert splits.read_classes(str(path), 'field', ordered=True) == ('archery', 'bowling')
  for text in ('3,archery\n1,bowling\n', '1 archery\n2 bowling\n', '1\tarchery\n2\tbowling\n'):
    path.write_text(text)
    with pytest.raises(UserError, match='names.csv: the ids of 2 classes must be 0 to 1'):
      splits.read_classes(str(path), 'field', ordered=True)


@pytest.mark.parametrize(
  ('file', 'text', 'words'),
  [
    ('a.txt', '\n', 'names no class'),
    ('a.txt', 'id,name\n', 'names no class'),
    ('a.txt', 'archery\nbowling\narchery\n', "'archery' twice"),
    ('a.csv', '0,archery\n1,\n', "has '' for a class"),
    ('a.json:x', '{"parts": {"x": ["a\\nb"]}}', r"has 'a\\nb' for a class"),
    ('a.json:x', '{"parts": {"y": ["a"]}}', "no part 'x'; write one of y"),
    ('a.json', '{"parts": {"y": ["a"]}}', 'named parts; write one of y'),
    ('a.json:x', '["a"]', 'has no "parts"'),
    ('a.json:x', '{"parts": ["x"]}', 'has no "parts"'),
    ('a.json:x', '{"parts": "x"}', 'has no "parts"'),
    ('a.json:x', '{"parts": {"x": "a"}}', 'no list of names'),
    ('a.json:x', '{', 'has no "parts"'),
    ('missing.txt', None, 'cannot be read .No such file'),
  ],
)
def test_unusable_files_are_named(tmp_path, file, text, words):
  path = tmp_path / file.partition(':')[0]
  if text is not None:
    path.write_text(text)
  with pytest.raises(UserError, match=f'the field: .*{path.name}.*{words}'):
    splits.read_classes(str(tmp_path / file), 'the field')


def run(*flags):
  make_split.main([f'--{flag}' for flag in flags])


@needs_labels
def test_the_tool_makes_the_three_splits_of_kinetics_600(tmp_path, capsys):
  folder = _SHARED / 'labels'
  new, drawn = tmp_path / 'splits' / 'new.json', tmp_path / 'three.json'
  both = (f'classes={folder}/k600.txt', f'others={folder}/k400.txt')
  run('kind=difference', *both, f'out={new}')
  for _ in range(2):
    run('kind=random', f'classes={new}:difference', 'count=160', 'repeats=3', f'out={drawn}')
  assert f'{new}:difference  220 classes' in capsys.readouterr().out
  content = json.loads(drawn.read_text())
  assert {name: len(part) for name, part in content['parts'].items()} == dict.fromkeys('123', 160)
  assert content['made_by']['seed'] == 0
  names = splits.read_classes(f'{drawn}:2', '')
  assert set(names) < set(labels('k600'))
  assert not splits.intersection(names, labels('k400'))


def test_the_tool_and_a_built_data_set(tmp_path, capsys):
  data_dir = build_toy(tmp_path / 'data')
  out, only = tmp_path / 'split.json', tmp_path / 'only.json'
  run('kind=base-to-novel', f'dataset-dir={data_dir}', 'dataset=toy', f'out={out}')
  (tmp_path / 'seen.txt').write_text('Moving_Left\nresting\nsleeping\n')
  others = f'others={tmp_path / "seen.txt"}'
  run('kind=intersection', f'classes={data_dir}:toy', others, f'out={only}')
  assert splits.read_classes(f'{only}:intersection', '') == ('moving left', 'resting')

  dataset = open_dataset(data_dir, 'toy', 'validation')

  def chosen(classes):
    return select(dataset, classes, 'nearest', 'the field').classes

  counts = np.bincount(open_dataset(data_dir, 'toy', 'train').index.labels)
  base = sorted(range(5), key=lambda label: (-counts[label], label))[:3]
  assert chosen(f'{out}:base') == tuple(CLASSES[label] for label in sorted(base))
  assert chosen(('Turning', 'moving_right')) == ('moving right', 'turning')
  assert chosen('novel') == CLASSES[3:]
  for classes, words in (
    (str(tmp_path / 'seen.txt'), "seen.txt: 'sleeping' is not in the vocabulary of toy"),
    (f'{out}:bass', "no part 'bass'; write one of base, novel"),
    ('bass', "no class split 'bass'; it has all, base, novel"),
  ):
    with pytest.raises(UserError, match=f'the field: .*{words}'):
      chosen(classes)

  capsys.readouterr()
  for flags, words in (
    (('kind=random', f'classes={data_dir}:toy', 'count=2', f'out={out}'), 'exists with other'),
    (('kind=random', f'classes={data_dir}:toy', f'out={out}'), '--kind=random needs --count'),
    (('kind=random', f'classes={data_dir}:toy', 'count=9', f'out={out}'), '9 of 5 classes'),
    (('kind=random', 'classes=toy', 'count=9', f'out={out}'), "'toy' is neither a file"),
    (('kind=random', f'classes={data_dir}:toi', 'count=9', f'out={out}'), 'which has toy'),
    (('kind=random', 'count=9', 'others=x', f'out={out}'), '--others is not a flag of'),
    (('kind=difference', f'classes={out}:base', f'others={out}:base', f'out={out}'), 'no class'),
    (('kind=random', 'classes=toy', 'count=9', 'out=x.txt'), 'does not end in .json'),
  ):
    with pytest.raises(SystemExit, match='2'):
      run(*flags)
    sentence = capsys.readouterr().err
    assert sentence.startswith('error: ')
    assert words in sentence
    assert sentence.count('\n') == 1
