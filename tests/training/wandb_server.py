"""A server that answers the client of Weights & Biases as far as a run needs it.

It keeps the rows of one run, and says of it what the client asks when a run resumes.
"""

import contextlib
import http.server
import json
import re
import threading


class _Handler(http.server.BaseHTTPRequestHandler):
  def log_message(self, *args):
    pass

  def do_PUT(self):  # Files, such as tables.
    self._read()
    self._reply({})

  def do_POST(self):
    body = self._read()
    if 'json' not in self.headers.get('Content-Type', ''):  # Telemetry.
      self._reply({})
    elif self.path.endswith('/file_stream'):
      self._keep_rows(json.loads(body))
      self._reply({'exitcode': None, 'limits': {}})
    else:
      request = json.loads(body)
      name = re.search(r'(?:query|mutation)\s+(\w+)', request['query'])[1]
      self._reply({'data': self._answer(name, request['variables'])})

  def _keep_rows(self, request):
    history = (request.get('files') or {}).get('wandb-history.jsonl')
    if history:
      for number, text in enumerate(history['content'], history['offset']):
        self.server.rows[number] = json.loads(text)

  def _answer(self, name, variables):
    rows = self.server.rows
    project = {'id': 'project', 'name': 'zsar_jax', 'entity': {'id': 'entity', 'name': 'me'}}
    run = {'id': 'run', 'name': variables.get('name'), 'displayName': 'run', 'config': '{}'}
    if name == 'UpsertBucket':
      bucket = run | {'project': project, 'historyLineCount': len(rows)}
      return {'upsertBucket': {'bucket': bucket, 'inserted': not rows}}
    if name == 'RunResumeStatus':
      if not rows:
        return {'model': project | {'bucket': None}}
      last = json.dumps(rows[max(rows)])
      counts = {'historyLineCount': len(rows), 'eventsLineCount': 0, 'logLineCount': 0}
      tails = {'historyTail': json.dumps([last]), 'eventsTail': '[]', 'summaryMetrics': last}
      bucket = run | counts | tails | {'tags': [], 'wandbConfig': '{"t": 1}'}
      return {'model': project | {'bucket': bucket}}
    if name == 'CreateRunFiles':
      host, port = self.server.server_address
      files = [
        {'name': file, 'uploadUrl': f'http://{host}:{port}/{file}'} for file in variables['files']
      ]
      return {'createRunFiles': {'runID': 'run', 'uploadHeaders': [], 'files': files}}
    return {}

  def _read(self):
    return self.rfile.read(int(self.headers.get('Content-Length', 0)))

  def _reply(self, value):
    body = json.dumps(value).encode()
    self.send_response(200)
    self.send_header('Content-Type', 'application/json')
    self.send_header('Content-Length', str(len(body)))
    self.end_headers()
    self.wfile.write(body)


@contextlib.contextmanager
def serve():
  """Yields a running server; `rows` are those of the run, by their number."""
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), _Handler) as server:
    server.rows = {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
