"""Plain requests to S3 go through the proxy that the environment names, as those of s3fs do."""

import pytest

from zsar_jax.storage import s3_reads


@pytest.fixture(autouse=True)
def _forget():
  s3_reads._proxy.cache_clear()
  yield
  s3_reads._proxy.cache_clear()


@pytest.mark.parametrize(
  ('scheme', 'authority', 'proxy'),
  [
    ('https', 'bucket.s3.amazonaws.com', 'http://proxy:3128'),
    ('http', 'bucket.s3.amazonaws.com', None),
    ('https', 'minio.internal', None),
    ('https', 'minio:9000', None),
    ('https', 'minio:9001', 'http://proxy:3128'),
  ],
)
def test_the_proxy_of_the_environment(monkeypatch, scheme, authority, proxy):
  for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY', 'HTTPS_PROXY', 'NO_PROXY'):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv('https_proxy', 'http://proxy:3128')
  monkeypatch.setenv('no_proxy', 'localhost,.internal,minio:9000')
  assert s3_reads._proxy(scheme, authority) == proxy
