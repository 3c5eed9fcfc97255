"""Numbers in messages."""

_TIME_UNITS = (('d', 86400), ('h', 3600), ('min', 60), ('s', 1))
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


def format_duration(seconds: float) -> str:
  """Returns a time such as '40 s', '5 min', '2 h 10 min' or '3 d 4 h'.

  Args:
    seconds: fractions are rounded.
  """
  rest = max(round(seconds), 0)
  if rest >= 60:  # Shows no seconds beside minutes.
    rest = 60 * round(rest / 60)
  parts = []
  for unit, size in _TIME_UNITS:
    count, rest = divmod(rest, size)
    if count or parts:
      parts.append(f'{count} {unit}' if count else '')
    if len(parts) == 2:
      break
  return ' '.join(filter(None, parts)) or '0 s'
