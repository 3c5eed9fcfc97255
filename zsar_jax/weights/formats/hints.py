"""What error messages call the settings of a load, and the remedies that they suggest.

The same code loads weights for a config, a command line and `zsar_jax.load`, which have other names
for the same setting.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Hints:
  """Names of settings, and remedies.

  Attributes:
    source: the setting that names the weights.
    tokens_from: the setting that names the CLIP model of a token embedding.
    tokenizer: the setting that names the tokenizer.
    templates: the setting with the prompt templates.
    preset: the setting that names the model, where the weights do not describe it.
    model: the prefix of the settings of the model.
    allow_missing: the setting with the parameters that may be missing.
    allow_left_over: the setting with the keys that may be left over.
    missing_remedy: what to do if parameters are missing.
    left_over_remedy: what to do if keys are left over.
    other_model_remedy: what to do if the weights are of another model.
  """

  source: str
  tokens_from: str
  tokenizer: str
  templates: str
  preset: str
  model: str
  allow_missing: str
  allow_left_over: str
  missing_remedy: str
  left_over_remedy: str
  other_model_remedy: str


_SAME_MODEL = 'set config.model as in their training'
CONFIG = Hints(
  source='config.model.init_from',
  tokens_from='config.model.tokens_from',
  tokenizer='config.text.tokenizer',
  templates='config.text.templates',
  preset='config.model.preset',
  model='config.model.',
  allow_missing='config.model.allow_missing',
  allow_left_over='config.model.allow_left_over',
  missing_remedy=f'{_SAME_MODEL}, or add a rule to config.model.allow_missing',
  left_over_remedy=f'{_SAME_MODEL}, or add a rule to config.model.allow_left_over',
  other_model_remedy=f'{_SAME_MODEL}, or fetch the file again',
)
CONVERSION = Hints(
  source='SRC',
  tokens_from='--tokens-from',
  tokenizer='--tokenizer',
  templates='--template',
  preset='--preset',
  model='',
  allow_missing='',
  allow_left_over='--allow-left-over',
  missing_remedy='name complete weights',
  left_over_remedy='ignore keys with --allow-left-over=REGEX',
  other_model_remedy='fetch the file again',
)
PREDICTION = dataclasses.replace(
  CONVERSION,
  source='--checkpoint',
  left_over_remedy=(
    'convert the weights first with zsar convert --to=zsar --allow-left-over=REGEX'
  ),
)
# An evaluation with config.model.preset='auto'.
EVALUATION = dataclasses.replace(
  PREDICTION,
  source=CONFIG.source,
  tokens_from=CONFIG.tokens_from,
  tokenizer=CONFIG.tokenizer,
  templates=CONFIG.templates,
  preset=CONFIG.preset,
)
PYTHON = dataclasses.replace(
  PREDICTION,
  source='source',
  tokens_from='tokens_from',
  tokenizer='tokenizer',
  templates='templates',
  preset='preset',
)
