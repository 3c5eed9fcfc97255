"""The README and the docs: lengths of lines, links, anchors, and files that they name."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md')])
MAX_COLUMNS = 120


def names(path):
  return str(path.relative_to(ROOT))


def anchors(path):
  """The anchors of a page's headings, as code hosts make them."""
  headings = re.findall(r'^#+ (.*)$', path.read_text(encoding='utf-8'), re.MULTILINE)
  plain = (re.sub(r'[^\w\- ]', '', heading).lower() for heading in headings)
  return {heading.strip().replace(' ', '-') for heading in plain}


@pytest.mark.parametrize('page', PAGES, ids=names)
def test_lines_are_short(page):
  lines = page.read_text(encoding='utf-8').splitlines()
  assert [n for n, line in enumerate(lines, 1) if len(line) > MAX_COLUMNS] == []


@pytest.mark.parametrize('page', PAGES, ids=names)
def test_links_lead_to_files_and_headings(page):
  broken = []
  for link in re.findall(r'\]\(([^)\s]+)\)', page.read_text(encoding='utf-8')):
    if re.match(r'\w+:', link):
      continue
    path, _, anchor = link.partition('#')
    target = (page.parent / path).resolve() if path else page
    if not target.exists() or (anchor and anchor not in anchors(target)):
      broken.append(link)
  assert not broken


@pytest.mark.parametrize('page', PAGES, ids=names)
def test_files_of_the_project_that_are_named_exist(page):
  text = page.read_text(encoding='utf-8')
  paths = re.findall(r'(?<![\w/.])((?:zsar_jax|tools|configs|tests|docs)/[\w/]+\.(?:py|md))', text)
  assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_readme_is_short():
  assert len((ROOT / 'README.md').read_text(encoding='utf-8').splitlines()) < 120
