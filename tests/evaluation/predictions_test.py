"""Files of predictions: written and read again, and refused in one sentence if damaged."""

import dataclasses
import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bucket_copies import memory_bucket  # noqa: F401  A fixture.
from tests.evaluation.examples import random_predictions
from zsar_jax.errors import UserError
from zsar_jax.evaluation import predictions, untrusted_npz
from zsar_jax.evaluation.predictions import Predictions
from zsar_jax.storage.paths import as_path


def example(**changes):
  """Three clips of two classes under two recipes."""
  fields = {
    'dataset': 'mimes',
    'recipes': ('none', 'background=swap'),
    'classes': ('archery', 'tai chi'),
    'ids': ('a', 'b', 'c'),
    'labels': np.array([0, 1, 1], np.int32),
    'logits': {
      'none': np.array([[2, 1], [0, 3], [5, 4]], np.float32),
      'background=swap': np.array([[2, 1], [np.nan, np.nan], [5, 4]], np.float32),
    },
    'regions': ('person', 'object'),
    'coverage': np.array([[0.1, 0], [0.2, np.nan], [np.nan, 1]], np.float32),
    'attributes': ({'scene': 'no'}, {}, {'scene': 'yes', 'mime': 'no'}),
    'partners': ('b', '', 'elsewhere'),
    'partner_labels': np.array([1, -1, -1], np.int32),
    'saliency': np.array([[0.5, 0.25, 0.25]] * 3, np.float32),
    'saliency_area': np.full((3, 3), np.nan, np.float32),
  }
  return Predictions(**(fields | changes))


def assert_same(actual, expected):
  for field in dataclasses.fields(Predictions):
    value, other = getattr(actual, field.name), getattr(expected, field.name)
    if field.name == 'logits':
      assert list(value) == list(other)
      for recipe in value:
        np.testing.assert_array_equal(value[recipe], other[recipe], strict=True)
    elif isinstance(value, np.ndarray):
      np.testing.assert_array_equal(value, other, strict=True)
    else:
      assert value == other
      assert type(value) is type(other)


def test_round_trip(tmp_path):
  path = tmp_path / 'predictions' / 'mimes.npz'
  example().save(path)
  assert_same(predictions.load(path), example())
  assert [file.name for file in path.parent.iterdir()] == ['mimes.npz']
  with np.load(path, allow_pickle=False) as file:
    assert {name: (file[name].dtype.kind, file[name].shape) for name in file.files} == {
      'dataset': ('U', ()),
      'recipes': ('U', (2,)),
      'classes': ('U', (2,)),
      'ids': ('U', (3,)),
      'labels': ('i', (3,)),
      'logits': ('f', (2, 3, 2)),
      'regions': ('U', (2,)),
      'coverage': ('f', (3, 2)),
      'attributes': ('U', (3,)),
      'partners': ('U', (3,)),
      'partner_labels': ('i', (3,)),
      'saliency': ('f', (3, 3)),
      'saliency_area': ('f', (3, 3)),
    }


def test_inpainted_backgrounds(tmp_path):
  inpainted = example(inpainted_scenes=True)
  inpainted.save(tmp_path / 'a.npz')
  assert_same(predictions.load(tmp_path / 'a.npz'), inpainted)
  assert [inpainted.shows_inpainted_scenes(recipe) for recipe in inpainted.recipes] == [False, True]
  with pytest.raises(
    UserError, match=r"under 'background=swap', one of two runs saw the inpainted"
  ):
    predictions.check_same_clips(inpainted, example())
  unpainted = {'recipes': ('none',), 'logits': {'none': example().logits['none']}}
  predictions.check_same_clips(inpainted, example(**unpainted))
  with np.load(tmp_path / 'a.npz') as file:
    arrays = dict(file)
  for wrong in (np.ones(3, bool), np.int32(1)):
    np.savez(tmp_path / 'b.npz', **arrays | {'inpainted_scenes': wrong})
    with pytest.raises(UserError, match='inpainted_scenes: .* but it must be bool with 0'):
      predictions.load(tmp_path / 'b.npz')


NAMES = st.text(st.characters(exclude_characters='\0', exclude_categories=['Cs']), max_size=8)
FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)
SHARES = st.one_of(st.just(np.nan), st.floats(0, 1, width=32))


@st.composite
def any_predictions(draw):
  def words(count, minimum=1):
    return tuple(draw(st.lists(NAMES.filter(len), min_size=minimum, max_size=count, unique=True)))

  def numbers(kind, *shape):
    count = int(np.prod(shape))
    values = draw(st.lists(kind, min_size=count, max_size=count))
    return np.array(values, np.float32).reshape(shape)

  ids, classes, regions = words(4), words(3), words(2, minimum=0)
  texts = ('none', 'background=swap', 'person=mean,object=mean', 'freeze')
  recipes = tuple(draw(st.lists(st.sampled_from(texts), min_size=1, unique=True)))
  clips = len(ids)
  labels = st.lists(st.integers(0, len(classes) - 1), min_size=clips, max_size=clips)
  partners = tuple(draw(st.lists(st.sampled_from(('', *ids)), min_size=clips, max_size=clips)))
  partner_labels = [
    label if partner else -1 for label, partner in zip(draw(labels), partners, strict=True)
  ]
  attribute = st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2)
  return Predictions(
    dataset=draw(NAMES),
    recipes=recipes,
    classes=classes,
    ids=ids,
    labels=np.array(draw(labels), np.int32),
    logits={recipe: numbers(FLOATS, clips, len(classes)) for recipe in recipes},
    regions=regions,
    coverage=numbers(SHARES, clips, len(regions)),
    attributes=tuple(draw(st.lists(attribute, min_size=clips, max_size=clips))),
    partners=partners,
    partner_labels=np.array(partner_labels, np.int32),
    saliency=numbers(SHARES, clips, 3),
    saliency_area=numbers(SHARES, clips, 3),
  )


@settings(max_examples=100, deadline=None)
@given(any_predictions())
def test_any_round_trip(tmp_path_factory, original):
  path = tmp_path_factory.mktemp('predictions') / 'a.npz'
  original.save(path)
  assert_same(predictions.load(path), original)


def test_counted():
  p = example()
  assert p.counted('none').tolist() == [True, True, True]
  # The background is known where every region is that any clip has.
  assert p.counted('background=stripes').tolist() == [True, False, False]
  # The object of the second clip and the person of the third are unknown.
  assert p.counted('object=normal').tolist() == [True, False, True]
  assert p.counted('person=mean').tolist() == [True, True, False]
  assert p.counted('person=mean,object=mean').tolist() == [True, False, False]
  p = example(coverage=np.array([[0.1, 0], [0.2, 0], [0, 1]], np.float32))
  assert p.counted('background=swap').tolist() == [True, False, True]
  assert p.counted('background=swap@0.5').tolist() == [True, False, True]
  assert p.counted('background=stripes').tolist() == [True, True, True]
  unmasked = example(coverage=np.full((3, 2), np.nan, np.float32))
  assert unmasked.counted('background=stripes').tolist() == [False, False, False]


@pytest.mark.parametrize(
  ('changes', 'match'),
  [
    ({'recipes': ('none',)}, '^logits: for'),
    ({'recipes': (), 'logits': {}}, '^recipes: it is empty'),
    ({'recipes': ('red',), 'logits': {'red': np.zeros((3, 2), np.float32)}}, '^recipes: cannot'),
    ({'classes': ('archery', 'archery')}, "^classes: 'archery' occurs twice"),
    ({'classes': ('archery',)}, '^logits: float32'),
    ({'ids': ('a', 'b', 'a')}, "^ids: 'a' occurs twice"),
    ({'ids': ('a', 'b', 'c\0')}, r"^ids: 'c\\x00' contains"),
    ({'labels': np.array([0, 1, 2], np.int32)}, '^labels: not all in 0 to 1'),
    ({'labels': np.array([0, 1, -1], np.int32)}, '^labels: not all in 0 to 1'),
    ({'labels': np.zeros(3, np.int64)}, r'^labels: int64\[3\], but it must be int32\[3\]'),
    ({'labels': np.zeros(2, np.int32)}, r'^labels: int32\[2\]'),
    ({'regions': ('person',)}, r'^coverage: float32\[3, 2\], but it must be float32\[3, 1\]'),
    ({'coverage': np.full((3, 2), 1.5, np.float32)}, '^coverage: not all in 0 to 1'),
    ({'coverage': np.full((3, 2), np.inf, np.float32)}, '^coverage: not all in 0 to 1'),
    ({'saliency': np.full((3, 3), -0.5, np.float32)}, '^saliency: not all in 0 to 1'),
    ({'saliency_area': np.zeros((3, 2), np.float32)}, '^saliency_area: float32'),
    ({'attributes': ({}, {})}, '^attributes: 2 for 3 clips'),
    ({'attributes': ({}, {}, {'a': 1})}, "^attributes: those of 'c' are no strings"),
    ({'attributes': ({}, [], {})}, "^attributes: those of 'b' are no strings"),
    ({'partners': ('', '')}, '^partners: 2'),
    ({'partners': ('', '', '')}, "^partner_labels: 'a' has a label"),
    ({'partner_labels': np.array([2, -1, -1], np.int32)}, '^partner_labels: not all in -1'),
    ({'partner_labels': np.array([-2, -1, -1], np.int32)}, '^partner_labels: not all in -1'),
  ],
)
def test_contradictions(changes, match):
  # A recipe that cannot be parsed is a UserError.
  with pytest.raises((ValueError, UserError), match=match):
    example(**changes)


def refused(path, match):
  with pytest.raises(UserError, match=match) as caught:
    predictions.load(path)
  text = str(caught.value)
  assert str(path) in text
  assert '\n' not in text
  assert text.endswith('evaluate the run again')


@pytest.mark.parametrize(
  ('name', 'array', 'match'),
  [
    ('labels', None, 'labels: missing'),
    ('dataset', None, 'dataset: missing'),
    ('labels', np.array([0, 1, 5], np.int32), 'labels: not all'),
    ('labels', np.zeros(3, '>i4'), 'labels: >i4 with 1 axes, but it must be int32 with 1'),
    ('labels', np.zeros((3, 1), np.int32), 'labels: int32 with 2 axes'),
    ('logits', np.zeros((2, 3, 2)), 'logits: float64'),
    ('logits', np.zeros((3, 3, 2), np.float32), 'logits: 3 recipes instead of 2'),
    ('logits', np.zeros((2, 3, 5), np.float32), 'logits: 5 classes instead of 2'),
    ('recipes', np.array(['none', 'none']), 'logits: for 2 recipes'),
    ('recipes', np.array(['none', 'red']), "recipes: cannot read the recipe 'red'"),
    ('recipes', np.array([], str), 'logits: 2 recipes instead of 0'),
    ('ids', np.array([b'a', b'b', b'c']), 'ids: |S1 with'),
    ('ids', np.array(['a', 'a', 'b']), "ids: 'a' occurs twice"),
    ('ids', np.array(['a', 'b', None], object), 'ids: it holds Python objects'),
    ('attributes', np.array(['{}', '{}', '{']), 'attributes: not JSON'),
    ('attributes', np.array(['{}', '{}', '[' * 10_000]), 'attributes: not JSON'),
    ('attributes', np.array(['{}', '{}', '["a"]']), "attributes: those of 'c'"),
    ('attributes', np.array(['{}', '{}', '{"a": null}']), "attributes: those of 'c'"),
    ('coverage', np.full((3, 2), 2, np.float32), 'coverage: not all'),
    ('saliency', np.zeros(3, [('a', 'f4')]), 'saliency: '),
  ],
)
def test_wrong_arrays(tmp_path, name, array, match):
  path = tmp_path / 'mimes.npz'
  example().save(path)
  with np.load(path) as file:
    arrays = dict(file)
  arrays[name] = array
  np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
  refused(path, match)


def test_other_files(tmp_path):
  path = tmp_path / 'mimes.npz'
  refused(path, 'cannot be read')
  refused(tmp_path, 'cannot be read')
  for content in (b'', b'PK\x03\x04', b'text', b'\x80\x04}.'):
    path.write_bytes(content)
    refused(path, 'damaged')
  np.save(tmp_path / 'a.npy', np.zeros(3))
  refused(tmp_path / 'a.npy', 'damaged')
  # Members that are no array, and a header of more bytes than any memory has.
  example().save(path)
  content = path.read_bytes()
  for member in (b'no array', b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, "):
    with zipfile.ZipFile(path, 'w') as file:
      file.writestr('labels.npy', member)
    refused(path, 'damaged|missing')
  huge = io.BytesIO()
  header = {'descr': '<i4', 'fortran_order': False, 'shape': (2**60,)}
  np.lib.format.write_array_header_1_0(huge, header)
  with zipfile.ZipFile(path, 'w') as file:
    file.writestr('labels.npy', huge.getvalue())
  refused(path, 'damaged')
  for end in (1, 10, len(content) // 2, len(content) - 1):
    path.write_bytes(content[:end])
    refused(path, 'damaged')


def test_a_bucket_that_fails_is_no_damage(bucket, monkeypatch):
  path = as_path(f'{bucket}/toy.npz', '')
  example().save(path)
  assert predictions.load(path).ids == example().ids

  def fail(*_, **__):
    raise ConnectionError('Cannot connect to host')

  monkeypatch.setattr(type(path.fs), 'get', fail)
  with pytest.raises(UserError, match=f'^{path}: it does not answer .*; check the network'):
    predictions.load(path)


def test_logits_are_mapped_from_the_file(tmp_path, monkeypatch):
  """NumPy reads the same file, and what it compressed is read as before."""
  path = tmp_path / 'mimes.npz'
  original = random_predictions(0)
  original.save(path)
  content = path.read_bytes()
  monkeypatch.setattr(untrusted_npz, '_MAPPED_BYTES', 1)
  mapped = predictions.load(path)
  assert_same(mapped, original)
  for logits in mapped.logits.values():
    assert isinstance(logits.base.base, np.memmap)
    assert logits.flags.aligned
    logits[:] = 0
  assert path.read_bytes() == content
  with monkeypatch.context() as patch:
    patch.setattr(untrusted_npz.resource, 'getrlimit', lambda _: (8, 8))
    in_memory = predictions.load(path)
  assert_same(in_memory, original)
  assert not any(isinstance(logits.base.base, np.memmap) for logits in in_memory.logits.values())
  with np.load(path) as file:
    arrays = dict(file)
  np.testing.assert_array_equal(arrays['logits'], np.stack(list(original.logits.values())))
  damaged = bytearray(content)
  damaged[content.index(arrays['logits'].tobytes()) + 5] ^= 1
  path.write_bytes(damaged)
  refused(path, 'damaged')
  np.savez_compressed(path, **arrays)
  assert_same(predictions.load(path), original)


def test_files_that_inflate_too_far_are_refused(tmp_path, monkeypatch):
  path = tmp_path / 'mimes.npz'
  example().save(path)
  with np.load(path) as file:
    arrays = dict(file)
  monkeypatch.setattr(untrusted_npz, '_FREE_BYTES', 100_000)
  assert_same(predictions.load(path), example())
  # Reading an array would fail from here on.
  monkeypatch.setattr(untrusted_npz.NpzReader, 'array', None)
  for changes, match in (
    # The sizes agree with each other.
    ({'attributes': np.array(['{}', '{}', '{}' + ' ' * 100_000])}, 'inflate to 0.0 GiB'),
    ({'dataset': np.array('x' * 1_000_000)}, 'inflate to 0.0 GiB'),
    # The sizes do not agree.
    ({'logits': np.zeros((2, 3, 40_000), np.float32)}, 'inflate to 0.0 GiB'),
    ({'logits': np.zeros((2, 3, 40), np.float32)}, 'logits: 40 classes'),
  ):
    np.savez_compressed(path, **(arrays | changes))
    assert path.stat().st_size < 10_000
    refused(path, match)


def test_headers_that_lie(tmp_path, monkeypatch):
  path = tmp_path / 'mimes.npz'
  example().save(path)
  with zipfile.ZipFile(path) as file:
    members = {name: file.read(name) for name in file.namelist()}
  monkeypatch.setattr(untrusted_npz.NpzReader, 'array', None)
  labels = members['labels.npy']
  version_2 = b'\x93NUMPY\x02\x00' + labels[8:10] + b'\x00\x00' + labels[10:]
  for changed, match in (
    (labels.replace(b'(3,)', b'(9,)'), r'labels: its 140 bytes are no int32\[9\]'),
    (labels.replace(b'(3,)', b'(-3,)'), 'labels: '),
    (version_2, 'another version than 1.0'),
  ):
    with zipfile.ZipFile(path, 'w') as file:
      for name, member in (members | {'labels.npy': changed}).items():
        file.writestr(name, member)
    refused(path, match)
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_LZMA) as file:
    for name, member in members.items():
      file.writestr(name, member)
  refused(path, 'compressed in a way')
  with zipfile.ZipFile(path, 'w') as file:
    for name, member in members.items():
      file.writestr(name, member)
    with pytest.warns(UserWarning, match='Duplicate'):
      file.writestr('labels.npy', labels)
  refused(path, 'labels: it occurs twice')
  with zipfile.ZipFile(path, 'w') as file:
    for name, member in (members | {'labels.npy': labels.replace(b'(3,)', b'(9,)')}).items():
      file.writestr(name, member)
    file.getinfo('labels.npy').file_size += 24
  refused(path, 'labels: it has two sizes')


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damaged_files(data, tmp_path_factory):
  path = tmp_path_factory.mktemp('predictions') / 'a.npz'
  example().save(path)
  content = bytearray(path.read_bytes())
  for _ in range(data.draw(st.integers(1, 3))):
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
  path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
  try:
    loaded = predictions.load(path)
  except UserError:
    return
  # The damage is in a part that is not read, such as a date.
  assert_same(loaded, example())


def test_same_clips():
  predictions.check_same_clips(example(), example(dataset='other'))
  for changes, match in (
    ({'classes': ('tai chi', 'archery')}, "same classes: number 1 is 'archery' in one and 'tai"),
    ({'ids': ('a', 'b', 'd')}, "mimes: .* same clips: number 3 is 'c' in one and 'd' in the other"),
    ({'labels': np.array([0, 1, 0], np.int32)}, 'same labels: number 3 is 1 in one and 0'),
  ):
    with pytest.raises(UserError, match=match):
      predictions.check_same_clips(example(), example(**changes))
  shorter = example(
    ids=('a', 'b'),
    labels=np.array([0, 1], np.int32),
    logits={recipe: logits[:2] for recipe, logits in example().logits.items()},
    coverage=example().coverage[:2],
    attributes=({}, {}),
    partners=('', ''),
    partner_labels=np.full(2, -1, np.int32),
    saliency=example().saliency[:2],
    saliency_area=example().saliency_area[:2],
  )
  with pytest.raises(UserError, match="number 3 is 'c' in one and missing in"):
    predictions.check_same_clips(example(), shorter)
