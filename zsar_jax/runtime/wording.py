"""Numbers in messages."""

_BYTE_UNITS = (('GiB', 2**30, 2), ('MiB', 2**20, 2), ('KiB', 2**10, 1))


def pluralize(count: int, noun: str) -> str:
  """Returns a count with its noun: '1 process', '2 processes'."""
  ending = '' if count == 1 else 'es' if noun.endswith('s') else 's'
  return f'{count} {noun}{ending}'


def format_bytes(size: float) -> str:
  """Returns a number of bytes in the largest unit that fits: '1.50 GiB', '12.0 KiB', '7 B'."""
  for unit, scale, digits in _BYTE_UNITS:
    if size >= scale:
      return f'{size / scale:.{digits}f} {unit}'
  return f'{size:.0f} B'
