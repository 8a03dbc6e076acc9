"""One HTTP POST that ends by a deadline and reads no more than a given number of bytes.

The timeouts of HTTP libraries bound each read, so that a server which sends a byte now and then holds its caller for
ever; here the whole call is bounded.
"""

import http.client
import socket
import threading
import time
from typing import NamedTuple
import urllib.parse


class Reply(NamedTuple):
  """What a server answered.

  Attributes:
    status: of HTTP.
    retry_after: the header of that name, or None.
    body: no more than the bytes asked for.
    whole: False where the body goes on after them.
  """

  status: int
  retry_after: str | None
  body: bytes
  whole: bool


def check_url(url: str) -> str:
  """Returns an http(s) URL without its last slash.

  Raises:
    ValueError: if it is none, or carries credentials (they would show in every error message).
  """
  parts = urllib.parse.urlsplit(url)
  if parts.scheme not in ("http", "https") or not parts.hostname:
    raise ValueError("base_url must look like http://host:port/v1")
  if parts.username is not None or parts.query or parts.fragment:
    raise ValueError("base_url must carry no credentials, query or fragment: give the key as api_key")
  return url.rstrip("/")


def post(url: str, body: bytes, headers: dict[str, str], *, timeout: float, max_bytes: int) -> Reply:
  """Posts `body` and reads the answer; follows no redirect (the key in `headers` would go with it).

  Args:
    url: http or https.
    body: of the request.
    headers: of the request.
    timeout: seconds for the whole call, looking up the host's name apart.
    max_bytes: most bytes of the answer that are read.

  Returns:
    The answer, whatever its status.

  Raises:
    TimeoutError: if the deadline passed.
    OSError, http.client.HTTPException: if the connection failed or the answer was cut off.
  """
  end = time.monotonic() + timeout
  parts = urllib.parse.urlsplit(url)
  kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
  connection, expired = kind(parts.hostname, parts.port, timeout=timeout), threading.Event()
  try:
    connection.connect()
    sock = connection.sock

    def cut():
      expired.set()
      try:
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # below TLS: whoever reads gets the end of the stream
      except OSError:
        return  # closed already: nobody is reading

    timer = threading.Timer(max(end - time.monotonic(), 0), cut)
    timer.daemon = True
    timer.start()
    try:
      connection.request("POST", parts.path, body, headers | {"Connection": "close"})
      response = connection.getresponse()
      data = response.read(max_bytes + 1)
    finally:
      timer.cancel()
  except (OSError, http.client.HTTPException):
    if not expired.is_set():
      raise
  finally:
    connection.close()
  if expired.is_set():
    raise TimeoutError(f"no whole answer within {timeout:g} s")
  whole = len(data) <= max_bytes
  if whole and response.length:
    raise ConnectionResetError(f"the connection was closed {response.length} bytes before the end of the answer")
  return Reply(response.status, response.getheader("Retry-After"), data[:max_bytes], whole)
