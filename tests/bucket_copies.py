"""Folders of tests in fsspec's bucket in memory."""

import pathlib
import uuid

import fsspec
import pytest


@pytest.fixture(name='bucket')
def memory_bucket():
  """Returns the URL of a bucket of its own in memory; it is deleted at the end."""
  name = uuid.uuid4().hex
  yield f'memory://{name}'
  fs = fsspec.filesystem('memory')
  if fs.exists(name):
    fs.rm(name, recursive=True)


def upload(source: pathlib.Path, url: str) -> str:
  """Copies a file, or a folder with everything below it, to a URL; returns the URL."""
  fs, path = fsspec.core.url_to_fs(url)
  for file in [source] if source.is_file() else sorted(source.rglob('*')):
    if file.is_file():
      name = file.relative_to(source).as_posix()
      fs.pipe_file(path if file == source else f'{path}/{name}', file.read_bytes())
  return url


def download(url: str) -> dict[str, bytes]:
  """Returns {path of each object below a URL: its content}."""
  fs, path = fsspec.core.url_to_fs(url)
  return {name[len(path) + 1 :]: fs.cat_file(name) for name in fs.find(path)}
