"""Lists that give the clips of a data set other labels."""

import json
import pickle

import numpy as np
import pytest

from tests.toy import build_toy
from zsar_jax.config import dataset_ref
from zsar_jax.data.dataset import open_dataset
from zsar_jax.data.subset import data_identity, open_subset
from zsar_jax.data.verb_objects import pair_text
from zsar_jax.errors import UserError


@pytest.fixture(name='data_dir', scope='module')
def _data_dir(tmp_path_factory):
  return build_toy(tmp_path_factory.mktemp('toy'))


@pytest.fixture(name='opened')
def _opened(data_dir, tmp_path):
  """Writes a list, and opens the clips of the toy data set that it names."""

  def opened(content, name='list.csv', split='train+validation', classes='all'):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    reference = dataset_ref('toy', split, classes, labels=str(path))
    return open_subset(data_dir, reference, 'nearest', 'the field')

  return opened


def clips_of(subset):
  """{clip id: (name of its class, its attributes)}."""
  attributes = map(json.loads, subset.index.attributes)
  return {
    clip: (subset.classes[label], facts)
    for clip, label, facts in zip(subset.index.ids, subset.labels, attributes, strict=True)
  }


def test_splits_that_are_joined_have_the_clips_of_both(data_dir):
  both = open_dataset(data_dir, 'toy', 'validation+train')
  parts = [open_dataset(data_dir, 'toy', split) for split in ('validation', 'train')]
  assert both.index.ids == [clip for part in parts for clip in part.index.ids]
  for position in (0, 10, 11, 47):
    part, there = (parts[0], position) if position < 11 else (parts[1], position - 11)
    assert both[position] == {**part[there], 'annotated': pytest.approx(part[there]['annotated'])}
    clips = pickle.loads(pickle.dumps(both)).frames(position), part.frames(there)
    assert clips[0].frame(3) == clips[1].frame(3)
  with pytest.raises(UserError, match=r"has no split 'test'; it has train, validation"):
    open_dataset(data_dir, 'toy', 'train+test')
  with pytest.raises(UserError, match="37 clips, such as 'train0', are in two of the splits"):
    open_dataset(data_dir, 'toy', 'train+train')


def test_a_list_of_ids_and_labels_chooses_clips_across_splits(opened, data_dir, capsys):
  subset = opened(
    'id,label,kind,caption\n'
    'validation3,Opening [something],a,x1\n'
    'videos/train7.mp4,"Closing [something], slowly",b,x2\n'
    'train30.webm,Opening something,b,x3\n'
    'elsewhere,Opening something,,\n'
    + ''.join(f'other{n},Opening something,a,text {n}\n' for n in range(60))
  )
  assert clips_of(subset) == {
    'validation3': ('Opening something', {'kind': 'a'}),
    'train7': ('Closing something, slowly', {'kind': 'b'}),
    'train30': ('Opening something', {'kind': 'b'}),
  }
  assert subset.texts == ('Closing [something], slowly', 'Opening [something]')
  err = capsys.readouterr().err
  assert "list.csv: 61 of its 64 clips, such as 'elsewhere', are not in toy, split" in err
  # The frames are those of the records.
  records = open_dataset(data_dir, 'toy', 'train')
  position = subset.index.ids.index('train30')
  assert subset.frames(position).frame(5) == records.frames(30).frame(5)
  assert subset.dataset[subset.positions[position]] == {
    **records[30],
    'annotated': pytest.approx(records[30]['annotated']),
  }


@pytest.mark.parametrize(
  ('name', 'content'),
  [
    ('list.json', [{'id': 'train1', 'label': 'a'}, {'id': 'train2', 'label': 'b', 'x': [1]}]),
    ('list.json', [{'vid': 'train1', 'id': 0, 'name': 'a'}, {'vid': 'train2', 'name': 'b'}]),
    ('list.txt', 'train1 a\n\ntrain2 b\n'),
    ('list.csv', '\ufeffname,path\na,x/train1.avi\nb,x/train2.avi\n'),
  ],
)
def test_the_forms_of_a_list(opened, name, content):
  assert {clip: name for clip, (name, _) in clips_of(opened(content, name)).items()} == {
    'train1': 'a',
    'train2': 'b',
  }


def test_numbers_count_the_classes_of_a_file(opened, tmp_path):
  names = tmp_path / 'names.csv'
  names.write_text('id,name\n2,"Falling"\n0,"Letting to roll"\n1,"Bending"\n')
  rows = 'a b/train1.mp4 0\ntrain2.mp4 2\ntrain3.mp4 0\n'
  subset = opened(rows, 'list.txt', classes=str(names))
  assert subset.classes == ('Letting to roll', 'Bending', 'Falling')
  assert subset.labels.tolist() == [0, 2, 0]
  with pytest.raises(UserError, match=r'labels are numbers, such as 0; name the file of id,name'):
    opened(rows, 'list.txt')
  with pytest.raises(UserError, match=r'line 4: the label 3 is beyond the 3 classes of'):
    opened(rows + 'train4 3\n', 'list.txt', classes=str(names))


def test_classes_restrict_a_list_like_a_data_set(opened):
  rows = 'id,label\ntrain1,a\ntrain2,b\ntrain3,c\n'
  assert opened(rows, classes=('c', 'A')).classes == ('a', 'c')
  with pytest.raises(UserError, match=r"the field.classes: 'd' is not in the vocabulary"):
    opened(rows, classes=('d',))


def test_chiral_clips_know_the_class_of_the_other_direction(opened):
  by_clip = opened(
    'id,template,chiral_triplet_id,chiral_label\n'
    'train1,Opening [something],g1,1\ntrain1,Opening [something],g1,1\n'
    'train2,Closing [something],g1,0.0\ntrain3,Moving [something] up,g2,1\n'
    'train4,Moving [something] down,g2,0\n'
  )
  by_pair = opened(
    'verb_forward,verb_reverse,noun_abstract,triplet_id,id_forward,id_reverse,split\n'
    'Opening [something],Closing [something],something,g1,train1,train2,train\n'
    'Moving up,Moving down,na,g2,train3;,,train\n'.replace(',train3;,,', ',train3,train4,')
  )

  def facts(group, pair, direction):
    return {'chiral_group': group, 'chiral_pair': pair, 'chiral_direction': direction}

  expected = {
    'train1': ('Opening something', facts('g1', 'Closing something', 'forward')),
    'train2': ('Closing something', facts('g1', 'Opening something', 'reverse')),
    'train3': ('Moving something up', facts('g2', 'Moving something down', 'forward')),
    'train4': ('Moving something down', facts('g2', 'Moving something up', 'reverse')),
  }
  assert clips_of(by_clip) == expected
  assert clips_of(by_pair) == {
    clip: (name.replace('Moving something', 'Moving'), facts | {
      'chiral_pair': facts['chiral_pair'].replace('Moving something', 'Moving')
    })
    for clip, (name, facts) in expected.items()
  }  # fmt: skip


PAIRS = [
  {'id': 'train1', 'action': 'opening a book', 'verb': 'Opening [something]', 'object': 'book'},
  {'id': 'train2', 'verb': 'Opening [something]', 'object': 'box'},
  {'id': 'train3', 'verb': 'Pushing [something] so it spins', 'object': 'box'},
  {'id': 'train4', 'verb': 'Opening [something]', 'object': 'book'},
]
TEST_PAIRS = [
  {'id': 'train5', 'verb': 'Pushing [something] so it spins', 'object': 'book'},
  {'id': 'validation1', 'verb': 'Opening [something]', 'object': 'book'},
]


@pytest.mark.parametrize('numbered', [True, False])
def test_verbs_and_objects(opened, tmp_path, numbered):
  (tmp_path / 'train_pairs.json').write_text(json.dumps(PAIRS))
  verbs = ['Pushing [something] so it spins', 'Opening [something]', 'Closing [something]']
  objects = ['book', 'box', 'cup']
  if numbered:
    for name, names in (('verb', verbs), ('object', objects)):
      numbered_names = {str(n): text for n, text in reversed(list(enumerate(names)))}
      (tmp_path / f'{name}_label_dict.json').write_text(json.dumps(numbered_names))
  else:
    verbs, objects = sorted(verbs[:2]), objects[:2]
  subset = opened(TEST_PAIRS, 'test_pairs.json')
  names = {
    (verb, thing): pair_text(verb, thing)
    for verb, thing in {(row['verb'], row['object']) for row in PAIRS + TEST_PAIRS}
  }
  order = sorted(names, key=lambda pair: (verbs.index(pair[0]), objects.index(pair[1])))
  assert subset.classes == subset.texts == tuple(names[pair] for pair in order)
  assert clips_of(subset) == {
    'train5': ('Pushing book so it spins', {'pair': 'unseen'}),
    'validation1': ('Opening book', {'pair': 'seen'}),
  }
  pairs = subset.pairs
  assert (pairs.verbs, pairs.objects) == (tuple(verbs), tuple(objects))
  assert [(verbs[v], objects[o]) for v, o in pairs.classes] == order
  for v, o in np.ndindex(len(verbs), len(objects)):
    same = [row for row in PAIRS if (row['verb'], row['object']) == (verbs[v], objects[o])]
    assert pairs.counts[v, o] == len(same)
    assert pairs.open_texts()[v * len(objects) + o] == pair_text(verbs[v], objects[o])
  assert not subset.open_world
  unseen = opened(TEST_PAIRS, 'test_pairs.json', classes='unseen')
  assert unseen.classes == ('Pushing book so it spins',)
  assert unseen.pairs.classes.tolist() == [
    [verbs.index('Pushing [something] so it spins'), objects.index('book')]
  ]
  both = opened(TEST_PAIRS, 'test_pairs.json', classes='open')
  assert (both.open_world, both.classes) == (True, subset.classes)
  # Other counts are other data, even if they belong to clips that are not evaluated.
  identity = data_identity(subset)
  (tmp_path / 'train_pairs.json').write_text(json.dumps(PAIRS + PAIRS[:1]))
  assert data_identity(opened(TEST_PAIRS, 'test_pairs.json')) != identity


@pytest.mark.parametrize(
  ('verb', 'text'),
  [
    ('open', 'open book'),
    ('Opening [something]', 'Opening book'),
    ('Putting [something] onto [something]', 'Putting book onto [something]'),
    ('Stacking [number of] [something]', 'Stacking [number of] book'),
    ('[Something] falling like a rock', 'book falling like a rock'),
    ('Poking a hole into [something soft]', 'Poking a hole into book'),
    ('Taking [one of many things]', 'Taking book'),
  ],
)
def test_the_text_of_a_pair(verb, text):
  assert pair_text(verb, 'book') == text


@pytest.mark.parametrize(
  ('name', 'content', 'problem'),
  [
    ('list.csv', 'id,label\ntrain1,a\ntrain1,b\n', r"line 3: the clip 'train1' has .*'b'.*'a'"),
    ('list.csv', 'id,label\ntrain1,a\nx/train1.mp4,a\n', r'is a second name of the clip'),
    ('list.csv', 'id,label\ntrain1\n', r'line 2: it must have 2 fields, as the header'),
    ('list.csv', 'id,label\ntrain1,\n', r"line 2: it has no 'label'; add it"),
    ('list.csv', 'id,label\n"train1,a\n', r'line 2: it must have 2 fields'),
    ('list.csv', 'clip,kind\ntrain1,a\n', r'has the columns clip, kind; it needs an id'),
    ('list.csv', 'id,label\n', r'lists no clip'),
    ('list.csv', 'id,label\nnowhere,a\n', r"none of its 1 clips, such as 'nowhere'.*'train0'"),
    ('list.txt', 'train1\n', r"line 1: 'train1' is no id with a label"),
    ('list.json', '{"a": 1}', r'is no list of clips'),
    ('list.json', '[1]', r"entry 0: '1' is no object"),
    ('list.json', '[' * 100000, r'is not JSON'),
    ('list.json', '[{"id": "train1", "verb": "a", "object": "b"}]', r'no train_pairs.json, so'),
    (
      'train_pairs.json',
      '[{"id": "train1", "verb": "a", "object": "b"}, {"id": "train2", "verb": "a"}]',
      r"entry 1: it has no 'object'",
    ),
    (
      'train_pairs.json',
      '[{"id": "1", "verb": "a [something]", "object": "b"},'
      ' {"id": "2", "verb": "a", "object": "b"}]',
      r"two pairs of a verb and an object read 'a b'",
    ),
    (
      'list.csv',
      'id,template,chiral_triplet_id,chiral_label\ntrain1,a,g,1\n',
      r"line 2: the list has no reverse clip of 'g'",
    ),
    (
      'list.csv',
      'id,template,chiral_triplet_id,chiral_label\ntrain1,a,g,2\n',
      r"line 2: chiral_label is '2', but must be 1 for forward or 0 for reverse",
    ),
  ],
)
def test_unusable_lists_are_refused(opened, name, content, problem):
  with pytest.raises(UserError, match=rf'the field\.labels: .*{problem}'):
    opened(content, name)


def test_a_name_that_is_not_in_the_vocabulary_is_refused(opened, tmp_path):
  (tmp_path / 'object_label_dict.json').write_text('{"0": "book"}')
  with pytest.raises(UserError, match=r"entry 1: the object 'box' is not in object_label_dict"):
    opened(PAIRS, 'train_pairs.json')
  for content in ('[]', '{"1": "book"}', '{"0": 1}', '{"x": "book"}', '{"0": "a", "1": "a"}'):
    (tmp_path / 'object_label_dict.json').write_text(content)
    with pytest.raises(UserError, match=r'object_label_dict.json (is not of the form|must number)'):
      opened(PAIRS, 'train_pairs.json')
