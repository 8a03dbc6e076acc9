"""A chat completions server on loopback that does what a test tells it to."""

from collections.abc import Callable
import contextlib
import dataclasses
import http.server
import json
import threading
import time


@dataclasses.dataclass(frozen=True)
class Answer:
  """What the server does with one request.

  Attributes:
    text: wrapped in a chat completion, if `body` is None.
    body: sent as it is.
    status: of HTTP.
    headers: beside the usual ones.
    delay: seconds before anything is sent.
    drip: seconds between single bytes of the body; 0 sends it at once.
    cut: bytes of the body after which the connection is closed; -1 closes it before the status line.
  """

  text: str = ""
  body: bytes | None = None
  status: int = 200
  headers: tuple = ()
  delay: float = 0.0
  drip: float = 0.0
  cut: int | None = None


class ChatServer:
  """Keeps what it was asked and how many requests it had at a time.

  Attributes:
    base_url: where it is.
    requests: the payloads, in order of arrival.
    headers: of each request.
    times: of each arrival, monotonic seconds.
    most: greatest number of requests at a time.
  """

  def __init__(self, base_url: str):
    self.base_url, self.requests, self.headers, self.times, self.most = base_url, [], [], [], 0


@contextlib.contextmanager
def serve(behave: Callable[[int, dict], Answer]):
  """Yields a running `ChatServer`; `behave(number of the request from 0, payload)` says what it does."""
  lock, active = threading.Lock(), [0]

  class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
      del args

    def do_POST(self):
      payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
      with lock:
        number = len(server.requests)
        server.requests.append(payload)
        server.headers.append(dict(self.headers) | {"path": self.path})
        server.times.append(time.monotonic())
        active[0] += 1
        server.most = max(server.most, active[0])
      try:
        answer = behave(number, payload)
        time.sleep(answer.delay)
      finally:
        with lock:  # before the first byte goes out: a client that has its answer may ask again at once
          active[0] -= 1
      try:
        self._answer(answer)
      except ConnectionError:
        self.close_connection = True  # the client has hung up

    def _answer(self, answer: Answer):
      body = completion(answer.text) if answer.body is None else answer.body
      self.close_connection = True
      if answer.cut == -1:
        return
      self.send_response(answer.status)
      for name, value in (("Content-Length", str(len(body))), *answer.headers):
        self.send_header(name, value)
      self.end_headers()
      body = body[:answer.cut]
      for piece in ([body] if not answer.drip else [body[i:i + 1] for i in range(len(body))]):
        self.wfile.write(piece)
        self.wfile.flush()
        time.sleep(answer.drip)

  class Server(http.server.ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 64

    def handle_error(self, request, client_address):
      del request, client_address

  httpd = Server(("127.0.0.1", 0), Handler)
  server = ChatServer(f"http://127.0.0.1:{httpd.server_port}/v1")
  thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
  thread.start()
  try:
    yield server
  finally:
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def completion(text) -> bytes:
  """The body of a chat completion."""
  return json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}).encode()
