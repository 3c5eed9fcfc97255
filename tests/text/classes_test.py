"""Tokens of class texts."""

import types

import numpy as np
import pytest

from zsar_jax.config import default_config
from zsar_jax.errors import UserError
from zsar_jax.models.presets import VideoSpec, preset
from zsar_jax.text.classes import ClassTexts
from zsar_jax.text.tokenizers import make_tokenizer


def test_tokens_are_those_of_the_rendered_text():
  tokenizer = make_tokenizer('words', 1000, 16)
  texts = ClassTexts(tokenizer, ('{}', 'a video of {}.'), True, 'drop')
  tokens = texts.tokens(('BrushHair', 'Lifting [something] up', 'waving while squatting'), 4)
  # As long as the longest prompt, 'a video of waving while squatting.' with start and end.
  assert tokens.shape == (2, 4, 8)
  prompts = [
    f'a video of {words}.' for words in ('brush hair', 'lifting up', 'waving while squatting')
  ]
  np.testing.assert_array_equal(tokens[1, :3], tokenizer(prompts)[:, :8])
  assert not tokens[:, 3].any()


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    ('tokenizer', '/nowhere', "^config.text.tokenizer: '/nowhere' is neither"),
    ('templates', ('no slot',), "^config.text.templates: 'no slot' must contain"),
    ('split_words', True, "^config.text: the classes 'wave_arm' and 'waveArm' both read"),
  ],
)
def test_errors_name_the_setting_of_the_config(field, value, message):
  config = default_config()
  config.text.tokenizer, config.text.split_words = 'words', False
  config.text[field] = value
  model = types.SimpleNamespace(spec=preset('tiny'), video=VideoSpec(2))
  with pytest.raises(UserError, match=message):
    ClassTexts.from_config(config, model).tokens(['wave_arm', 'waveArm'], 1)
