"""A run goes on only with the config that it began with."""

import json

import pytest

from tests.config_test import config_with
from zsar_jax.config import to_json
from zsar_jax.errors import UserError
from zsar_jax.weights.run_config import check_same_run


def test_only_settings_that_do_not_affect_the_result_may_change(tmp_path):
  saved = tmp_path / 'config.json'
  saved.write_text(to_json(config_with()))
  check_same_run(config_with(log__every=3, data__workers=2, mesh__fsdp=2), saved)
  with pytest.raises(UserError, match=r'config.optim.lr was 8e-06 .* is 0.1 now'):
    check_same_run(config_with(optim__lr=0.1), saved)
  with pytest.raises(UserError, match='config.view.crop_scale'):
    check_same_run(config_with(view__crop_scale=(0.5, 0.6)), saved)
  # A run that was begun before a setting existed.
  older = json.loads(to_json(config_with()))
  del older['model']['normalization']
  saved.write_text(json.dumps(older))
  check_same_run(config_with(), saved)
  with pytest.raises(UserError, match='config.model.normalization'):
    check_same_run(config_with(model__normalization='imagenet'), saved)
  saved.write_text('{')
  with pytest.raises(UserError, match='not readable as JSON'):
    check_same_run(config_with(), saved)
