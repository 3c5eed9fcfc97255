import pytest

from zsar_jax.errors import UserError
from zsar_jax.text import templates


def test_every_template_is_filled_with_every_class():
  texts = templates.fill_templates(['archery', 'hugging'], ['a video of {}.', '{}'])
  assert texts == [['a video of archery.', 'a video of hugging.'], ['archery', 'hugging']]


def test_braces_in_a_class_name_are_text():
  assert templates.fill_templates(['moving {} up', '{0}'], ['a {}.']) == [
    ['a moving {} up.', 'a {0}.']
  ]


@pytest.mark.parametrize('sentences', [[], ['a video'], ['{} and {}'], ['{}', 'a {0}']])
def test_a_template_without_exactly_one_slot_is_refused(sentences):
  with pytest.raises(UserError, match='^templates: '):
    templates.fill_templates(['archery'], sentences)
