import pytest

from zsar_jax.errors import UserError
from zsar_jax.text import templates


def test_every_template_is_filled_with_every_class():
  texts = templates.class_texts(['archery', 'hugging'], ['a video of {}.', '{}'])
  assert texts == [['a video of archery.', 'a video of hugging.'], ['archery', 'hugging']]


def test_braces_in_a_class_name_are_text():
  assert templates.class_texts(['moving {} up', '{0}'], ['a {}.']) == [
    ['a moving {} up.', 'a {0}.']
  ]


@pytest.mark.parametrize('templates', [[], ['a video'], ['{} and {}'], ['{}', 'a {0}']])
def test_template_without_one_place_for_the_name_is_refused(templates):
  with pytest.raises(UserError, match='text.templates'):
    templates.class_texts(['archery'], templates)
