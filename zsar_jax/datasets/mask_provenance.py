"""Describes where the masks of a data set come from: their maker, its settings, the licenses.

build_report.json has a summary of each source of masks:

    {"format": "made", "path": "masks", "made": the content of made.json}

The format and the last part of the path are those of --masks; `made` is there for masks that were
made here. Texts in it may come from strangers. Folders of this machine are removed from it.
"""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

# Licenses that allow any use.
_PERMISSIVE = re.compile(
  r'(apache([- ]license)?[- ]2(\.0)?|mit|bsd-[23]-clause|isc|cc0-1\.0)( license)?'
  r'( \(not verified\))?',
  re.IGNORECASE,
)

# The folders of an absolute path, or of a URL in a bucket. Web pages, as of licenses, stay.
_FOLDERS = re.compile(
  r'(?<![^\s=:,\'"])(?:~?/(?!/)|(?!https?:)[A-Za-z][A-Za-z0-9+.-]*://)(?:[^\s\'"]*/)?'
)

# A checksum, and the part of it that is shown.
_CHECKSUM = re.compile(r'\b(sha256:[0-9a-f]{12})[0-9a-f]{52}\b')

# Characters of a value, and of a description.
_MAX_VALUE = 80
_MAX_DESCRIPTION = 600

# The fields of made.json that are described elsewhere, or tell a reader nothing.
_OTHER_FIELDS = ('maker', 'about', 'licenses', 'weak', 'regions', 'notes')


def summarize(parameters: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a summary of a source of masks.

  Args:
    parameters: those of the source, see `masks.source.MaskSource`.
  """
  if 'boxes' in parameters:
    names = ', '.join(os.path.basename(path) for path in parameters['boxes'])
    return {'format': 'boxes', 'path': names}
  summary = {'format': parameters['format'], 'path': os.path.basename(parameters['path'])}
  if 'made' in parameters:
    summary['made'] = without_folders(parameters['made'])
  return summary


def without_folders(value: Any) -> Any:
  """Returns a JSON value in which absolute paths and URLs of buckets are their last parts."""
  if isinstance(value, str):
    return _FOLDERS.sub('', value)
  if isinstance(value, Mapping):
    return {key: without_folders(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [without_folders(item) for item in value]
  return value


def describe(summary: Mapping[str, Any]) -> str:
  """Returns a summary as a phrase on one line.

  Args:
    summary: the result of `summarize`, as JSON.
  """
  text = f'{_one_line(summary["format"])}:{_one_line(summary["path"])}'
  made = summary.get('made')
  if not made:
    return text
  about = _one_line(made.get('about') or '')
  settings = [
    f'{name}={value}'
    for field, content in made.items()
    if field not in _OTHER_FIELDS
    for name, value in _flatten(_one_line(field), content)
    if value and not (field == 'model' and value in about)
  ]
  licenses = [f'{part} {license}' for part, license in _licenses(made)]
  parts = [
    ', '.join(filter(None, [about, f'maker {_one_line(made.get("maker"))}'])),
    f'licenses: {", ".join(licenses) or "none stated"}',
    ', '.join(settings),  # At the end, where a long text is cut.
  ]
  text = f'{text}: {"; ".join(filter(None, parts))}'
  return text if len(text) <= _MAX_DESCRIPTION else f'{text[: _MAX_DESCRIPTION - 1]}\u2026'


def warnings(summary: Mapping[str, Any]) -> list[str]:
  """Returns what a user of the masks must know: that they are weak, and licenses with conditions.

  Args:
    summary: the result of `summarize`, as JSON.
  """
  made = summary.get('made') or {}
  texts = []
  if made.get('weak'):
    texts.append('weak masks: made without a model of people or objects')
  for part, license in _licenses(made):
    if not all(map(_PERMISSIVE.fullmatch, license.split(' and '))):
      texts.append(f'the license of the {part} may restrict the use: {license}')
  return texts


def _licenses(made: Mapping[str, Any]) -> list[tuple[str, str]]:
  """Returns (part, its license) for the parts of the maker."""
  licenses = made.get('licenses')
  if not isinstance(licenses, Mapping):
    return []
  return [
    (name, value or 'unknown')
    for part, license in licenses.items()
    for name, value in _flatten(_one_line(part), license)
  ]


def _flatten(name: str, value: Any) -> Iterator[tuple[str, str]]:
  """Yields (name, text) for the values that are no objects; the text of null is empty."""
  if isinstance(value, Mapping):
    for key, item in value.items():
      yield from _flatten(f'{name}.{_one_line(key)}', item)
  elif isinstance(value, list | tuple):
    yield name, '+'.join(map(_one_line, value))
  else:
    yield name, '' if value is None else _one_line(value)


def _one_line(value: Any) -> str:
  text = f'{value:.4g}' if isinstance(value, float) else str(value)
  text = _CHECKSUM.sub(r'\1', ' '.join(text.split()))
  return text if len(text) <= _MAX_VALUE else f'{text[: _MAX_VALUE - 1]}\u2026'
