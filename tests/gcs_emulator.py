"""Starts gcp-storage-emulator with what it lacks: generations of objects, and conditions on them.

TensorStore and exclusive creation need both; see
https://cloud.google.com/storage/docs/request-preconditions.
"""

import functools
import http
import sys

from gcp_storage_emulator import __main__, server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects


def with_generations(handler):
  """Returns a handler of requests for objects that knows their generations."""

  @functools.wraps(handler)
  def handle(request, response, storage, *args, **kwargs):
    name = request.params.get('object_id') or request.query.get('name', [''])[0]
    if not name and request.query.get('uploadType') == ['multipart']:
      name = request.data['meta'].get('name')
    try:
      current = storage.get_file_obj(request.params['bucket_name'], name)['generation']
    except NotFound:
      current = '0'
    reads = request.method == server.GET
    if request.query.get('ifGenerationMatch', [current]) != [current]:
      response.status = http.HTTPStatus.PRECONDITION_FAILED
    elif request.query.get('ifGenerationNotMatch') == [current] and not (reads and current == '0'):
      unchanged = http.HTTPStatus.NOT_MODIFIED if reads else http.HTTPStatus.PRECONDITION_FAILED
      response.status = unchanged
    else:
      handler(request, response, storage, *args, **kwargs)
    if reads and current != '0':
      response['x-goog-generation'] = current

  return handle


if __name__ == '__main__':
  for_objects = (
    *(objects.get, objects.download, objects.insert, objects.upload_partial, objects.delete),
  )
  for _, handlers in server.HANDLERS:
    for method, handler in handlers.items():
      if handler in for_objects:
        handlers[method] = with_generations(handler)
  sys.exit(__main__.main(sys.argv[1:]))
