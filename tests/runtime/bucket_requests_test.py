"""Requests to buckets that fail; tests/data/bucket_data_test.py has those against servers."""

import asyncio

from zsar_jax.runtime import bucket_requests


def test_waiting_for_other_requests_is_no_failure(monkeypatch):
  monkeypatch.setattr(bucket_requests, 'RETRY_SECONDS', 0.2)
  monkeypatch.setattr(bucket_requests, '_FIRST_PAUSE_SECONDS', 0.0)
  attempts = []

  async def slow():
    await asyncio.sleep(0.3)
    return b''

  async def fail_once():
    attempts.append(None)
    if len(attempts) == 1:
      raise ConnectionError
    return b'x'

  async def both():
    slots = asyncio.Semaphore(1)
    monkeypatch.setattr(bucket_requests, '_slots', lambda: slots)
    return await asyncio.gather(
      bucket_requests._persist(slow, 'memory://first', 0),
      bucket_requests._persist(fail_once, 'memory://second', 1),
    )

  assert asyncio.run(both()) == [b'', b'x']
