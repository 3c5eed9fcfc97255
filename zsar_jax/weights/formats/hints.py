"""What the settings of a load are called where the user sets them, for errors and notes."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Hints:
  """Names, and what to do.

  Attributes:
    source: the setting that names the weights.
    tokens_from: the setting that names the CLIP model of a token embedding.
    tokenizer: the setting that names the tokenizer.
    templates: the setting with the sentences for class names.
    missing: what to do where arrays are missing.
    left_over: what to do where arrays are left over.
  """

  source: str
  tokens_from: str
  tokenizer: str
  templates: str
  missing: str
  left_over: str


CONFIG = Hints(
  source='config.model.init_from',
  tokens_from='config.model.tokens_from',
  tokenizer='config.text.tokenizer',
  templates='config.text.templates',
  missing='set config.model as it was there, or add a rule to config.model.allow_missing',
  left_over='set config.model as it was there, or add a rule to config.model.allow_left_over',
)
CONVERSION = Hints(
  source='SRC',
  tokens_from='--tokens-from',
  tokenizer='--tokenizer',
  templates='--template',
  missing='name weights that are whole',
  left_over='ignore keys with --allow-left-over=REGEX',
)
_CONVERT = 'convert the weights first with zsar convert --to=zsar --allow-left-over=REGEX'
PREDICTION = dataclasses.replace(CONVERSION, source='--checkpoint', left_over=_CONVERT)
PYTHON = dataclasses.replace(
  PREDICTION,
  source='source',
  tokens_from='tokens_from',
  tokenizer='tokenizer',
  templates='templates',
)
