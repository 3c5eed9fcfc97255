"""Tests that a report shows foreign names as text, and asks for nothing from the network."""

import json
import pathlib
import re
import shutil
import subprocess

import pytest

from tests.study.report.random_study import HOSTILE, SMALL, make_report, text_of

# All attributes that the page uses; a name that broke out of a value would bring others.
ATTRIBUTES = frozenset((
  'alt', 'aria-label', 'charset', 'checked', 'class', 'colspan', 'content', 'cx', 'cy', 'd',
  'data-clip', 'data-label', 'decoding', 'for', 'height', 'href', 'http-equiv', 'id', 'lang',
  'loading', 'name', 'open', 'r', 'role', 'scope', 'src', 'start', 'tabindex', 'text-anchor',
  'title', 'transform', 'type', 'viewBox', 'width', 'x', 'y',
))  # fmt: skip

CHROMIUM = shutil.which('chromium') or shutil.which('google-chrome')


def test_the_page_asks_for_nothing(random_report):
  tree = random_report.tree
  tags = {element.tag for element in tree.iter()}
  assert not {'script', 'link', 'iframe', 'object', 'embed', 'base', 'form'} & tags
  for element in tree.iter():
    for name, value in element.items():
      if name in ('src', 'href'):
        assert value.startswith(('data:image/', '#', 'paper/', 'cards/'))
      if name not in ('title', 'aria-label', 'alt', 'content'):
        assert 'url(' not in value
  style = tree.findtext('head/style')
  assert len(style) > 1000
  assert 'url(' not in style
  assert '@import' not in style
  policy = tree.find("head/meta[@http-equiv='Content-Security-Policy']")
  assert "default-src 'none'" in policy.get('content')


def test_elements_that_html_does_not_close_are_not_closed_where_they_open(random_report):
  """The other tests parse the page as XML, in which <p/> is an element; in HTML it is open."""
  empty = set(re.findall(r'<(\w+)[^<>]*/>', random_report.html))
  assert empty <= {'br', 'circle', 'img', 'input', 'line', 'meta', 'path', 'rect', 'wbr'}


def test_hostile_names_are_text(random_report):
  elements = list(random_report.tree.iter())
  assert {name for element in elements for name in element.keys()} <= ATTRIBUTES  # noqa: SIM118
  values = '\n'.join(value for element in elements for value in element.attrib.values())
  # The picture's text has the clip's id, which ends in the class.
  assert f'{HOSTILE[0]}\u2069 under' in values
  assert f'{HOSTILE[1]}\u2069 under' in values
  text = text_of(random_report.tree)
  for name in HOSTILE:
    assert name.replace('\x00', '\ufffd').replace('\ud800', '\ufffd').strip() in text


def test_hostile_names_are_text_in_markdown(tmp_path):
  # With so few classes, all of them are listed.
  text = make_report(tmp_path, **SMALL | {'classes': len(HOSTILE)}).markdown
  # `<` may only begin the elements that keep addresses from being links.
  assert set(re.findall(r'<[^>]*>', text.split('```')[0])) <= {'<span>', '</span>'}
  assert '\u202e' not in text
  assert '| a\\|b\\`c\\*d\\_e\\[f\\](g) |' in text
  assert '| https:<span>//</span>example.com/x |' in text
  assert '| nul\ufffd and \ufffd |' in text


def load_in_chromium(folder: pathlib.Path, address: str, *options: str) -> tuple[str, set[str]]:
  """The page after Chromium has loaded it, and the addresses that Chromium requested."""
  log = folder / 'net-log.json'
  command = [
    CHROMIUM, '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-sync', '--disable-background-networking', '--disable-component-update',
    '--host-resolver-rules=MAP * ~NOTFOUND', f'--log-net-log={log}',
    f'--user-data-dir={folder / "profile"}', *options, '--dump-dom', address,
  ]  # fmt: skip
  page = subprocess.run(command, capture_output=True, timeout=60, check=True).stdout.decode()
  events = json.loads(log.read_text())['events']
  addresses = {event.get('params', {}).get('url') for event in events}
  return page, {address for address in addresses if address}


@pytest.mark.skipif(CHROMIUM is None, reason='Chromium is not installed')
def test_chromium_shows_the_page_and_asks_for_nothing(random_report, tmp_path):
  shown, requests = load_in_chromium(tmp_path, (random_report.folder / 'report.html').as_uri())
  for tag in ('<section', '<svg', '<tr', '<script'):
    assert shown.count(tag) == random_report.html.count(tag)
  # Chromium requests a few things of its own.
  own = re.compile(r'https?://[a-z0-9.]*google[a-z]*\.com/')
  assert not [address for address in requests if not own.match(address)]
  # A page that does request something shows that the log has requests.
  other = tmp_path / 'other.html'
  other.write_text('<img src="http://asks.example/x.png">')
  assert 'http://asks.example/x.png' in load_in_chromium(tmp_path, other.as_uri())[1]
