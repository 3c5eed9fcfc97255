"""Words for messages."""


def pluralize(count: int, noun: str) -> str:
  """A number of things: '1 process', '2 processes'."""
  ending = '' if count == 1 else 'es' if noun.endswith('s') else 's'
  return f'{count} {noun}{ending}'
