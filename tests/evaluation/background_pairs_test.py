"""Properties of drawn pairs; HAT's files of pairs; hostile and damaged pickles."""

import collections
import json
import os
import pathlib
import pickle
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zsar_jax.errors import UserError
from zsar_jax.evaluation import background_pairs, hat_pairs


def random_clips(seed, count=200, classes=7):
  rng = np.random.default_rng(seed)
  ids = [f'clip_{n}' for n in rng.permutation(count)]
  labels = rng.integers(0, classes, count).astype(np.int32)
  coverage = rng.choice([0.01, 0.05, 0.2, 0.5, 0.51, np.nan], count).astype(np.float32)
  return ids, labels, coverage


@pytest.mark.parametrize('kind', ['rand', 'same'])
@pytest.mark.parametrize('seed', range(5))
def test_pairs_drawn(kind, seed):
  ids, labels, coverage = random_clips(seed)
  partners = background_pairs.draw_pairs(ids, labels, coverage, kind, seed)
  assert partners.dtype == np.int32
  inside = np.isin(coverage, np.float32([0.05, 0.2, 0.5]))
  for n, partner in enumerate(partners):
    alone = kind == 'same' and (inside & (labels == labels[n])).sum() == 1
    assert (partner >= 0) == (inside[n] and not alone)
    if partner >= 0:
      assert inside[partner]
      assert partner != n
      assert (labels[partner] == labels[n]) == (kind == 'same')
  # No background is used twice.
  used = partners[partners >= 0]
  assert len(set(used.tolist())) == len(used)


@pytest.mark.parametrize('kind', ['rand', 'same'])
def test_pairs_follow_from_ids_and_seed(kind):
  ids, labels, coverage = random_clips(0)

  def drawn(order, seed):
    partners = background_pairs.draw_pairs(
      [ids[n] for n in order], labels[order], coverage[order], kind, seed
    )
    names = [ids[n] for n in order]
    return {names[n]: names[partner] for n, partner in enumerate(partners) if partner >= 0}

  order = np.arange(len(ids))
  first = drawn(order, 3)
  assert drawn(np.random.default_rng(1).permutation(order), 3) == first
  other = drawn(order, 4)
  assert set(other) == set(first)
  assert sum(other[name] == first[name] for name in first) < len(first) / 4


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=25), st.integers(0, 99))
def test_balance(labels, seed):
  labels = np.array(labels, np.int32)
  ids = [str(n) for n in range(len(labels))]
  partners = background_pairs.draw_pairs(ids, labels, np.full(len(labels), 0.3), 'rand', seed)
  most = np.bincount(labels).max()
  if most == len(labels):
    assert (partners == -1).all()
    return
  assert (partners >= 0).all()
  assert (labels[partners] != labels).all()
  uses = collections.Counter(partners.tolist())
  # The backgrounds of the most frequent class come only from the other classes.
  rounds = 1 if 2 * most <= len(labels) else -(-most // (len(labels) - most)) + 1
  assert max(uses.values()) <= rounds


def test_few_clips():
  unknown = np.full(3, np.nan, np.float32)
  labels = np.array([0, 1, 1], np.int32)
  for kind in ('rand', 'same'):
    assert background_pairs.draw_pairs('abc', labels, unknown, kind, 0).tolist() == [-1, -1, -1]
    assert background_pairs.draw_pairs([], labels[:0], unknown[:0], kind, 0).tolist() == []
  half = np.float32([0.5, 0.5, 0.9])
  assert background_pairs.draw_pairs('abc', labels, half, 'rand', 0).tolist() == [1, 0, -1]
  assert background_pairs.draw_pairs('abc', labels, half, 'same', 0).tolist() == [-1, -1, -1]


# HAT's files.

IDS = ['-a_000001_000011', 'b_000002_000012', 'c_000003_000013', 'd_000004_000014']
CLASSES = ('archery', 'tai chi')
PAIRS = {
  'archery/-a_000001_000011': ['tai_chi/b_000002_000012', 300, 7],
  'tai chi/b_000002_000012.mp4': ['archery/c_000003_000013', 250, 0],
  'archery/c_000003_000013': ['archery/c_000003_000013', 250, 0],  # With itself.
  'archery/d_000004_000014': ['archery/gone_000001_000002', 250, 0],
  'archery/gone_000001_000002': ['archery/d_000004_000014', 250, 0],
  'yoga/d_000004_000014': ['archery/-a_000001_000011', 250, 0],  # No class of the vocabulary.
}


def write(path, table, protocol=4):
  content = json.dumps(table).encode() if protocol is None else pickle.dumps(table, protocol)
  path.write_bytes(content)
  return path


@pytest.mark.parametrize('protocol', [None, 0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize('kind', [list, tuple])
def test_hat_files(tmp_path, protocol, kind):
  table = {name: kind(entry) for name, entry in PAIRS.items()}
  path = write(tmp_path / ('pairs.json' if protocol is None else 'pairs.pickle'), table, protocol)
  partners, counts = hat_pairs.read_hat_pairs(path, IDS, CLASSES)
  assert partners.tolist() == [1, 2, -1, -1]
  assert partners.dtype == np.int32
  assert counts == hat_pairs.HatPairCounts(pairs=6, used=2, unknown=2, partner_unknown=1, own=1)


def test_a_file_of_hats_size(tmp_path):
  ids = [f'clip_{n:06d}_{n + 10:06d}' for n in range(7860)]
  names = [f'archery/{name}' for name in ids]
  shifted = names[1:] + names[:1]
  # As in HAT's files, a repeated text is pickled once and read from the memo.
  table = {name: [other, 300, 12] for name, other in zip(names, shifted, strict=True)}
  partners, counts = hat_pairs.read_hat_pairs(write(tmp_path / 'a.pickle', table), ids, CLASSES)
  assert partners.tolist() == [*range(1, 7860), 0]
  assert counts.used == counts.pairs == 7860


def test_ids_with_folders(tmp_path):
  path = write(tmp_path / 'a.pickle', {'archery/x.avi': ['tai chi/x.avi', 3, 1]})
  ids = ['archery/x', 'tai chi/x', 'tai chi/z']
  assert hat_pairs.read_hat_pairs(path, ids, CLASSES)[0].tolist() == [1, -1, -1]
  # Two clips share the last part, so it refers to neither.
  path = write(tmp_path / 'b.pickle', {'tai chi/z': ['x', 3, 1]})
  assert hat_pairs.read_hat_pairs(path, ids, CLASSES)[1].partner_unknown == 1


def test_a_clip_that_is_there_twice(tmp_path):
  first, second = PAIRS['archery/-a_000001_000011'], ['archery/c_000003_000013', 250, 0]
  table = {'archery/-a_000001_000011': first, 'tai chi/-a_000001_000011': second}
  partners, counts = hat_pairs.read_hat_pairs(write(tmp_path / 'a.pickle', table), IDS, CLASSES)
  assert partners.tolist() == [1, -1, -1, -1]
  assert (counts.used, counts.unknown) == (1, 1)


def refused(path, match):
  """Asserts that reading the file fails with a single sentence."""
  with pytest.raises(UserError, match=match) as caught:
    hat_pairs.read_hat_pairs(path, IDS, CLASSES)
  text = str(caught.value)
  assert str(path) in text
  assert '\n' not in text
  assert len(text) < 600


@pytest.mark.parametrize(
  'table',
  [
    {'archery/x': ['archery/y', 3]},
    {'archery/x': ['archery/y', 3, 'archery']},
    {'archery/x': ['archery/y', True, 0]},
    {'archery/x': ['archery/y', 3.0, 0]},
    {'archery/x': ['archery/y', -3, 0]},
    {'archery/x': ['', 3, 0]},
    {'archery/x': 'abc'},
    {'archery/x': {'a': 1, 'b': 2, 'c': 3}},
    {'archery/x': None},
    {'': ['archery/y', 3, 0]},
  ],
)
@pytest.mark.parametrize('protocol', [None, 2])
def test_wrong_tables(tmp_path, table, protocol):
  path = write(tmp_path / ('a.json' if protocol is None else 'a.pickle'), table, protocol)
  refused(path, 'must have|asks for')


@pytest.mark.parametrize('table', [[], 'text', 3])
def test_no_tables(tmp_path, table):
  refused(write(tmp_path / 'a.pickle', table), 'no dictionary')
  refused(write(tmp_path / 'a.json', table, None), 'no dictionary')


def test_keys_are_texts(tmp_path):
  refused(write(tmp_path / 'a.pickle', {3: ['archery/y', 3, 0]}), 'a key is not a string')
  refused(write(tmp_path / 'b.pickle', {(): ['archery/y', 3, 0]}), 'a key is not a string')


def test_another_data_set(tmp_path):
  refused(write(tmp_path / 'a.pickle', {}), 'none of its 0 clips')
  refused(write(tmp_path / 'a.pickle', {'archery/x': ['archery/y', 3, 0]}), "'archery/x', is in")


class Call:
  """Pickled, a call of a function with arguments."""

  def __init__(self, function, *arguments):
    self.call = (function, arguments)

  def __reduce__(self):
    return self.call


def harm(canary):
  """Objects that create the file `canary` if they are unpickled."""
  return {
    'os.system': Call(os.system, f'touch {canary}'),
    'eval': Call(eval, f"open({str(canary)!r}, 'w').close()"),
    'exec': Call(exec, f"open({str(canary)!r}, 'w').close()"),
    'open': Call(open, str(canary), 'w'),
    'Popen': Call(subprocess.Popen, ['touch', str(canary)]),
    'getattr': Call(getattr, pathlib.Path(canary), 'touch'),
  }


@pytest.mark.parametrize('protocol', [0, 2, 4])
@pytest.mark.parametrize('name', harm('x'))
def test_nothing_is_executed(tmp_path, name, protocol):
  canary = tmp_path / 'canary'
  table = PAIRS | {'archery/e': [harm(canary)[name], 1, 1]}
  path = write(tmp_path / 'a.pickle', table, protocol)
  refused(path, 'asks for (STACK_)?GLOBAL')
  assert not canary.exists()
  # Python's unpickler does execute it.
  if name == 'eval':
    pickle.loads(path.read_bytes())
    assert canary.exists()


@pytest.mark.parametrize(
  ('content', 'match'),
  [
    # Instructions that are harmful without a function from a module.
    (b'(cos\nsystem\n(S"true"\ntR.', 'asks for GLOBAL'),
    (b'(S"true"\nios\nsystem\n.', 'asks for INST'),
    (b'\x80\x02\x82\x01.', 'asks for EXT1'),
    (b'P0\n.', 'asks for PERSID'),
    (b'K\x01Q.', 'asks for BINPERSID'),
    (b'\x80\x05\x97.', 'asks for NEXT_BUFFER'),
    (b'}}b.', 'asks for BUILD'),
    # Damage.
    (b'', 'damaged'),
    (b'.', 'damaged'),
    (b'}}.', 'damaged'),
    (b'}s.', 'ends too early'),
    (b'K\x01K\x01s.', 'damaged'),
    (b'h\x05.', 'damaged'),
    (b'}(K\x01u.', 'damaged'),
    (b'u.', 'damaged'),
    (b'K\x01a.', 'damaged'),
    (b'\x80\x63}.', 'none of its 0'),  # An unknown protocol version is ignored.
    (b'}', 'damaged'),
    (b'not a pickle', 'damaged'),
    (b'\x8e' + b'\xff' * 8 + b'a.', 'damaged'),
    (b'I' + b'9' * 10_000 + b'\n.', 'damaged'),
    # A memo index for which Python's unpickler would allocate 32 GB.
    (b'}r\xff\xff\xff\xff.', 'damaged'),
    # Nested tuples as a key, whose hash overflows the stack of Python's unpickler.
    (b'})' + b'\x85' * 1_000_000 + b'K\x01s.', 'a key is not a string'),
    # 60 nested pairs of the same value: 2^60 values if they were copied.
    (b'}X\x01\x00\x00\x00a)' + b'q\x00h\x00\x86' * 60 + b's.', 'must have'),
    (b'}X\x01\x00\x00\x00a' + b']' * 100_000 + b'a' * 99_999 + b's.', 'must have'),
    # A list and a dictionary that hold themselves.
    (b'}X\x01\x00\x00\x00a]q\x00h\x00as.', 'must have'),
    (b'}q\x00X\x01\x00\x00\x00ah\x00s.', 'must have'),
  ],
)
def test_odd_pickles(tmp_path, content, match):
  path = tmp_path / 'a.pickle'
  path.write_bytes(content)
  refused(path, match)


def test_odd_json(tmp_path):
  path = tmp_path / 'a.json'
  for content in (b'', b'{', b'[' * 100_000, b'\xff', b'{"a": ' + b'9' * 5000 + b'}'):
    path.write_bytes(content)
    refused(path, 'damaged')


def test_unreadable_files(tmp_path, monkeypatch):
  refused(tmp_path, 'cannot be read')
  refused(tmp_path / 'missing', 'cannot be read')
  monkeypatch.setattr(hat_pairs, '_MAX_BYTES', 100)
  refused(write(tmp_path / 'a.pickle', PAIRS), 'more than')


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_pickles(data, tmp_path_factory):
  content = bytearray(pickle.dumps(PAIRS, data.draw(st.integers(0, 5))))
  for _ in range(data.draw(st.integers(1, 3))):
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
  cut = data.draw(st.integers(0, len(content)))
  path = tmp_path_factory.mktemp('pairs') / 'a.pickle'
  for part in (content, content[:cut]):
    path.write_bytes(part)
    try:
      partners, _ = hat_pairs.read_hat_pairs(path, IDS, CLASSES)
    except UserError:
      continue
    assert partners.shape == (4,)
    assert ((partners >= -1) & (partners < 4)).all()


def test_open_pairs(tmp_path, capsys):
  labels, coverage = np.array([0, 1, 0, 1], np.int32), np.full(4, 0.2, np.float32)
  path = write(tmp_path / 'a.pickle', PAIRS)

  def open_pairs(text):
    return background_pairs.load_pairs(text, IDS, labels, CLASSES, coverage, 'config.pairs')

  for kind in ('rand', 'same'):
    expected = background_pairs.draw_pairs(IDS, labels, coverage, kind, 12)
    np.testing.assert_array_equal(open_pairs(f'{kind}:12'), expected)
  assert open_pairs(str(path)).tolist() == [1, 2, -1, -1]
  assert '2 of 6 pairs used' in capsys.readouterr().err
  wrong = ('rand', 'rand:', 'rand:-1', 'rand:1.5', 'far:1', '', 'rand:²', str(tmp_path), 'a\0b')
  for text in wrong:
    with pytest.raises(UserError, match='^config.pairs: .* is neither'):
      open_pairs(text)
  path.write_bytes(b'}.')
  with pytest.raises(UserError, match='^config.pairs: .*none of its 0 clips'):
    open_pairs(str(path))
