"""A client of chat completions as OpenAI defined them and vLLM, llama.cpp, SGLang and others serve them."""

from collections.abc import Mapping, Sequence
import concurrent.futures
import email.utils
import http.client
import json
import os
import random
import threading
import time
from typing import Any

from rlcore.assistants import cache as cache_lib
from rlcore.assistants import transport

Messages = Sequence[Mapping[str, str]]
"""A conversation: `{"role": "system" | "user" | "assistant", "content": text}`, in order."""

_SHOWN = 200  # characters of a server's answer in an error
_PATIENCE = 3.0  # seconds for the other requests of a batch once one has failed
_SECRET = 8  # characters from which on a key is one, and no word like "EMPTY" that a local server wants


class AssistantError(RuntimeError):
  """A language model that did not answer, in one line that names the cause and what to check."""


class _Refused(AssistantError):
  """The server does not want such requests: asking again is no use."""


class _Abandoned(Exception):
  """Another request of the same batch failed."""


class ChatClient:
  """Completes conversations, several at a time: `POST {base_url}/chat/completions`.

  Tried again, after a wait that doubles and is jittered, or as long as the server asks: connections that fail, calls
  that take longer than `timeout` in all, status 429 and 5xx, and answers that are no chat completion or repeat the API
  key. Any other status is an error at once. Equal requests of a batch are asked once.

  The API key goes into one header of the request and nowhere else: not into an answer, the cache, an error or a repr.

  Attributes:
    base_url: where the server is.
    model: name of the model.
  """

  def __init__(
      self, base_url: str, model: str, *, api_key: str | None = None, api_key_variable: str = "OPENAI_API_KEY",
      temperature: float = 0.0, max_tokens: int | None = 1024, seed: int | None = 0,
      settings: Mapping[str, Any] | None = None, timeout: float = 60.0, tries: int = 6, backoff: float = 0.5,
      max_wait: float = 60.0, concurrency: int = 8, cache_dir: str | os.PathLike | None = None,
      max_reply_bytes: int = 2**20):
    """Makes a client; nothing is sent yet.

    Args:
      base_url: up to and without `/chat/completions`, `http://localhost:8000/v1` say.
      model: name of the model, as the server calls it.
      api_key: sent as a bearer token; None takes the environment variable, and if that is empty none is sent.
      api_key_variable: name of that environment variable.
      temperature: of sampling.
      max_tokens: most tokens of an answer; None leaves it to the server.
      seed: of sampling; None leaves it to the server.
      settings: more fields of the request (`top_p`, `stop`, `response_format` ...); a None removes a field.
      timeout: seconds of one try, all in all.
      tries: most tries of one request.
      backoff: seconds of the first wait, which doubles with every try (each is drawn from half of it to all of it).
      max_wait: most seconds of a wait, also of one that the server asks for.
      concurrency: most requests at a time.
      cache_dir: directory of past answers, keyed by all fields of the request (not by `base_url`); None for none.
      max_reply_bytes: an answer that is longer is taken for an empty one.

    Raises:
      ValueError: for a setting that cannot be.
    """
    for name, value in (("tries", tries), ("concurrency", concurrency), ("max_reply_bytes", max_reply_bytes)):
      if value < 1:
        raise ValueError(f"{name}={value} must be at least 1")
    if not timeout > 0 or backoff < 0 or max_wait < 0:
      raise ValueError(f"timeout={timeout} must be positive, backoff={backoff} and max_wait={max_wait} not negative")
    self.base_url, self.model = transport.check_url(base_url), model
    key = (os.environ.get(api_key_variable, "") if api_key is None else api_key).strip()
    if not (key.isascii() and key.isprintable()):
      raise ValueError("the API key has characters that no header may have (a line break?): check where it comes from")
    self._key = key
    fields = dict(model=model, temperature=temperature, max_tokens=max_tokens, seed=seed) | dict(settings or {})
    self._fields = {name: value for name, value in fields.items() if value is not None}
    self._timeout, self._tries, self._backoff, self._max_wait = timeout, tries, backoff, max_wait
    self._cache = None if cache_dir is None else cache_lib.CallCache(cache_dir)
    self._max_reply_bytes = max_reply_bytes
    self._pool = concurrent.futures.ThreadPoolExecutor(concurrency, thread_name_prefix="chat")
    self._lock, self._totals = threading.Lock(), dict(calls=0, cached=0, retried=0, failed=0)
    self._trouble, self._ongoing = "", set()

  def __repr__(self) -> str:
    return f"ChatClient(base_url={self.base_url!r}, model={self.model!r})"

  @property
  def totals(self) -> dict[str, int]:
    """Counts since the client was made.

    `calls`: requests that were sent; `cached`: those answered from the cache or by an equal one of the same batch;
    `retried`: how often one was sent again (the server saw `calls + retried`); `failed`: those given up.
    """
    with self._lock:
      return dict(self._totals)

  @property
  def trouble(self) -> str:
    """Why the latest request that was given up failed, in one line; "" for none."""
    return self._trouble

  def close(self):
    """Gives up all requests that wait: those on their way are not tried again, and `complete` can ask no more."""
    with self._lock:
      for abandoned in self._ongoing:
        abandoned.set()
    self._pool.shutdown(wait=False, cancel_futures=True)

  def complete(self, conversations: Sequence[Messages], *, tolerant: bool = False) -> list[str | None]:
    """Returns the answer to each conversation, in order.

    Args:
      conversations: the messages of each.
      tolerant: None stands for an answer that could not be had after all tries. (A request that the server refuses, for
        its key or its model say, is an error all the same.)

    Returns:
      The texts; "" where the model said nothing, or too much.

    Raises:
      AssistantError: if an answer could not be had; the other requests of the batch are then given up.
    """
    requests = [self._fields | {"messages": [dict(m) for m in messages]} for messages in conversations]
    keys = [cache_lib.request_key(request) for request in requests]
    abandoned = threading.Event()
    with self._lock:
      self._ongoing.add(abandoned)
    try:
      return self._complete(requests, keys, abandoned, tolerant)
    finally:
      with self._lock:
        self._ongoing.discard(abandoned)

  def _complete(self, requests: list[dict], keys: list[str], abandoned: threading.Event, tolerant: bool
                ) -> list[str | None]:
    tasks = {key: self._pool.submit(self._answer, request, abandoned)
             for key, request in dict(zip(keys, requests)).items()}
    answers, names = {}, {task: key for key, task in tasks.items()}
    try:
      for task in concurrent.futures.as_completed(names):  # a refusal is not kept waiting by slower requests
        key = names[task]
        try:
          answers[key] = task.result()
        except _Refused:
          raise
        except AssistantError:
          if not tolerant:
            raise
          answers[key] = None
    except BaseException as error:
      abandoned.set()
      for task in tasks.values():
        task.cancel()
      if isinstance(error, Exception):  # what is nearly there is not lost: it goes to the cache
        concurrent.futures.wait(tasks.values(), _PATIENCE)
      raise
    self._count(cached=len(keys) - len(tasks))
    return [answers[key] for key in keys]

  def _count(self, **more: int):
    with self._lock:
      for name, value in more.items():
        self._totals[name] += value

  def _answer(self, request: dict, abandoned: threading.Event) -> str:
    """Looks one request up or sends it."""
    known = None if self._cache is None else self._cache.get(request)
    if known is not None and not self._echoes(known):
      self._count(cached=1)
      return known
    if abandoned.is_set():
      raise _Abandoned
    self._count(calls=1)
    try:
      answer, keep = self._send(json.dumps(request).encode(), abandoned)
    except AssistantError as error:
      self._count(failed=1)
      self._trouble = str(error)
      raise
    if keep and self._cache is not None:
      self._cache.put(request, answer)
    return answer

  def _send(self, body: bytes, abandoned: threading.Event) -> tuple[str, bool]:
    """Sends until there is an answer; says whether it is worth keeping."""
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    headers |= {"Authorization": f"Bearer {self._key}"} if self._key else {}
    url = f"{self.base_url}/chat/completions"
    wait, problem = 0.0, ""
    for turn in range(self._tries):
      if turn:
        if abandoned.wait(wait):
          raise _Abandoned
        self._count(retried=1)
      wait = min(self._max_wait, self._backoff * 2**turn) * random.uniform(0.5, 1)
      try:
        reply = transport.post(url, body, headers, timeout=self._timeout, max_bytes=self._max_reply_bytes)
      except (OSError, http.client.HTTPException) as error:
        problem = self._clean(f"{type(error).__name__}: {error}")
        continue
      if not 200 <= reply.status < 300:
        problem = f"status {reply.status}: {self._said(reply.body)}"
        if reply.status != 429 and reply.status < 500:
          raise _Refused(f"{url} refuses the request ({problem}): check base_url, model={self.model!r} and the API key")
        wait = min(self._max_wait, max(wait, _seconds(reply.retry_after)))
        continue
      if not reply.whole:
        return "", False
      text = _text(reply.body)
      if text is not None and not self._echoes(text):
        return text, True
      if text is not None:
        problem = "an answer that repeats the API key, which is not used"
        continue
      problem = f"an answer that is no chat completion: {self._said(reply.body)}"
    raise AssistantError(
        f"{url} did not answer after {self._tries} tries (the last: {problem}): check that the server runs, that "
        f"base_url is right, and whether timeout={self._timeout:g} s and concurrency are what it can bear")

  def _echoes(self, text: str) -> bool:
    return len(self._key) >= _SECRET and self._key in text

  def _said(self, body: bytes) -> str:
    return self._clean(body.decode("utf-8", "replace")) or "nothing"

  def _clean(self, text: str) -> str:
    """Makes one short line of what was said, without the key that a server may have echoed."""
    text = text.replace(self._key, "***") if self._key else text
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."


def _seconds(retry_after: str | None) -> float:
  """Reads a Retry-After header, seconds or a date; 0 for none or rubbish."""
  if not retry_after:
    return 0.0
  if retry_after.strip().isdecimal():
    return float(retry_after)
  try:
    return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
  except (ValueError, TypeError, OverflowError):
    return 0.0


def _text(body: bytes) -> str | None:
  """Returns the text of a chat completion ("" for a null), None if it is none."""
  try:
    content = json.loads(body)["choices"][0]["message"]["content"]
  except (ValueError, LookupError, TypeError, RecursionError):
    return None
  if content is None:
    return ""
  return content if isinstance(content, str) else None
