"""Reads what the card of a model, its README.md on the Hugging Face hub, states about it."""

import re
from typing import Any

import yaml

# Characters of a card that are searched for its YAML head.
CARD_HEAD = 20_000


def card_license(card: str) -> str | None:
  """Returns the license that the YAML head of a model card states, or None."""
  head = re.match(r'---\s*\n(.*?)\n---\s*(\n|$)', card[:CARD_HEAD], re.DOTALL)
  if not head:
    return None
  try:
    facts: Any = yaml.safe_load(head[1])
  except (yaml.YAMLError, ValueError, RecursionError):
    return None
  if not isinstance(facts, dict):
    return None
  license = facts.get('license')
  if license == 'other':
    license = facts.get('license_name') or license
  if isinstance(license, list):
    # No other values: nested ones can be exponentially longer as text than as YAML.
    license = ', '.join(item for item in license if isinstance(item, str))
  if not isinstance(license, str) or not license.strip() or license == 'unknown':
    return None
  return ' '.join(license.split())[:100]
