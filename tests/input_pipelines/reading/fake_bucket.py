"""A small object store on loopback that serves a local directory as gs://.

Both readers of the production code meet it as they meet Google's: gcsfs, by
way of epath, and the C++ reader of ArrayRecord.
"""

from collections.abc import Iterator, Mapping
import contextlib
import http.server
import itertools
import json
import os
import re
import threading
from unittest import mock
import urllib.parse

# Each is a bucket of its own: epath keeps gcsfs's listings of a name for good.
_NUMBERS = itertools.count()

_METADATA = re.compile(r'/storage/v1/b/([^/]+)(?:/o(?:/(.+))?)?$')
_MEDIA = re.compile(r'/download/storage/v1/b/([^/]+)/o/(.+)$')
_PAGE = 1000


class FakeBucket:
  """Objects that are served, and faults."""

  def __init__(self, root: str):
    self.root = root
    self.name = f'fake-bucket-{next(_NUMBERS)}'
    self.url = f'gs://{self.name}'
    self.requests: list[str] = []  # of objects' bytes, by name
    self._faults: list[tuple[str, str]] = []

  def fail(self, part: str, how: str) -> None:
    """From now on requests for the bytes of some objects fail.

    Args:
      part: of the names of those objects.
      how: 'unavailable' answers 503, 'cut' closes the connection in the middle
        of the answer, 'gone' answers 404.
    """
    if how not in ('unavailable', 'cut', 'gone'):
      raise ValueError(f'Expected a kind of fault, got {how!r}.')
    self._faults.append((part, how))

  def heal(self) -> None:
    """Ends all faults."""
    self._faults.clear()

  def fault(self, name: str) -> str:
    """Fault of requests for an object's bytes; empty: none."""
    return next((how for part, how in self._faults if part in name), '')

  def size(self, name: str) -> int | None:
    """Bytes of an object; None where there is none."""
    path = os.path.join(self.root, name)
    return os.path.getsize(path) if os.path.isfile(path) else None

  def list(self, prefix: str, delimiter: str) -> tuple[list[str], list[str]]:
    """The names of the objects under a prefix, and the folders among them."""
    names, folders = [], set()
    for folder, _, files in os.walk(self.root):
      for file in files:
        path = os.path.relpath(os.path.join(folder, file), self.root)
        name = path.replace(os.sep, '/')
        if not name.startswith(prefix):
          continue
        head, found, _ = name[len(prefix) :].partition(delimiter or '\0')
        if found:
          folders.add(prefix + head + delimiter)
        else:
          names.append(name)
    return sorted(names), sorted(folders)


@contextlib.contextmanager
def serve(root: str) -> Iterator[FakeBucket]:
  """Serves a directory; within the context gs:// leads here."""
  bucket = FakeBucket(root)
  handler = type('Handler', (_Handler,), {'bucket': bucket})
  server = _Server(('127.0.0.1', 0), handler)
  thread = threading.Thread(target=server.serve_forever, args=(0.02,))
  thread.start()
  try:
    with _environment(f'http://127.0.0.1:{server.server_port}'):
      yield bucket
  finally:
    server.shutdown()
    thread.join()
    server.server_close()


@contextlib.contextmanager
def _environment(endpoint: str) -> Iterator[None]:
  """Sends the clients to the endpoint; they keep no connection to another."""
  variables = {
    'STORAGE_EMULATOR_HOST': endpoint,  # gcsfs
    'CLOUD_STORAGE_EMULATOR_ENDPOINT': endpoint,  # the C++ reader
    # No credentials are looked for, and no kind of bucket is asked for, on the
    # network.
    'NO_GCE_CHECK': 'true',
    'GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT': 'false',  # read by the import
    'NO_PROXY': '127.0.0.1',
    'no_proxy': '127.0.0.1',
  }
  with mock.patch.dict(os.environ, variables):
    import gcsfs

    gcsfs.GCSFileSystem.clear_instance_cache()
    yield
  gcsfs.GCSFileSystem.clear_instance_cache()


class _Server(http.server.ThreadingHTTPServer):
  daemon_threads = True

  def handle_error(self, request, client_address):
    """Keeps quiet: clients that give up hang up."""


class _Handler(http.server.BaseHTTPRequestHandler):
  """The few requests of the JSON interface that readers make."""

  protocol_version = 'HTTP/1.1'
  bucket: FakeBucket

  def do_GET(self):
    path, _, query = self.path.partition('?')
    asked = dict(urllib.parse.parse_qsl(query))
    if media := _MEDIA.match(path):
      return self._bytes(urllib.parse.unquote(media[2]))
    found = _METADATA.match(path)
    if found is None:
      return self._bytes(
        urllib.parse.unquote(path.lstrip('/').partition('/')[2])
      )
    if found[2] is None:
      return self._list(asked) if path.endswith('/o') else self._json({})
    name = urllib.parse.unquote(found[2])
    if asked.get('alt') == 'media':
      return self._bytes(name)
    return self._object(name)

  def log_message(self, *args):
    """Keeps the output of tests clean."""

  def _list(self, asked: Mapping[str, str]) -> None:
    names, folders = self.bucket.list(
      asked.get('prefix', ''), asked.get('delimiter', '')
    )
    first = int(asked.get('pageToken', 0))
    page = names[first : first + _PAGE]
    answer = {'kind': 'storage#objects', 'items': [*map(self._item, page)]}
    if not first:
      answer['prefixes'] = folders
    if first + _PAGE < len(names):
      answer['nextPageToken'] = str(first + _PAGE)
    self._json(answer)

  def _item(self, name: str) -> dict:
    return {
      'kind': 'storage#object',
      'bucket': self.bucket.name,
      'name': name,
      'size': str(self.bucket.size(name)),
      'generation': '1',
      'updated': '2026-01-01T00:00:00.000Z',
      'timeCreated': '2026-01-01T00:00:00.000Z',
    }

  def _object(self, name: str) -> None:
    if self.bucket.size(name) is None:
      return self._missing(name)
    self._json(self._item(name))

  def _bytes(self, name: str) -> None:
    fault = self.bucket.fault(name)
    size = self.bucket.size(name)
    self.bucket.requests.append(name)
    if fault == 'unavailable':
      return self._json({'error': {'code': 503, 'message': 'later'}}, 503)
    if fault == 'gone' or size is None:
      return self._missing(name)
    first, end = self._range(size)
    if first >= end and size:
      return self._json({'error': {'code': 416, 'message': 'beyond'}}, 416)
    with open(os.path.join(self.bucket.root, name), 'rb') as file:
      file.seek(first)
      body = file.read(end - first)
    self.send_response(206 if 'Range' in self.headers else 200)
    self.send_header('Content-Length', str(len(body)))
    self.send_header('Content-Range', f'bytes {first}-{end - 1}/{size}')
    self.send_header('x-goog-generation', '1')
    self.end_headers()
    if fault == 'cut':
      body = body[: len(body) // 2]
      self.close_connection = True
    self.wfile.write(body)

  def _range(self, size: int) -> tuple[int, int]:
    asked = re.match(r'bytes=(\d*)-(\d*)', self.headers.get('Range', ''))
    if not asked:
      return 0, size
    if not asked[1]:
      return max(0, size - int(asked[2])), size
    end = int(asked[2]) + 1 if asked[2] else size
    return int(asked[1]), min(end, size)

  def _missing(self, name: str) -> None:
    text = f'No such object: {self.bucket.name}/{name}'
    self._json({'error': {'code': 404, 'message': text}}, 404)

  def _json(self, answer: Mapping, status: int = 200) -> None:
    body = json.dumps(answer).encode()
    self.send_response(status)
    self.send_header('Content-Type', 'application/json; charset=UTF-8')
    self.send_header('Content-Length', str(len(body)))
    self.end_headers()
    self.wfile.write(body)
