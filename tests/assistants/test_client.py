"""The client against a real server that is slow, fails and answers rubbish: every request is counted."""

import concurrent.futures
import decimal
import email.utils
import fractions
import json
import logging
import socket
import threading
import time
import warnings

import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.assistants import AssistantError, ChatClient, ChatJudge, Request, stand_in
from rlcore.assistants import cache as cache_lib
from rlcore.assistants import client as client_lib
from rlcore.assistants import prompts
from tests.assistants.server import Answer, completion, serve


def _ask(text):
  return [{"role": "user", "content": text}]


def _client(server, **settings):
  return ChatClient(server.base_url, "m", **(dict(api_key="", backoff=0.001, timeout=5.0) | settings))


def _echo(number, payload):
  del number
  return Answer(payload["messages"][-1]["content"].upper())


def _scripted(*answers):
  """The first requests get these answers, all others "fine"."""
  return lambda number, payload: answers[number] if number < len(answers) else Answer("fine")


def test_a_request_says_what_it_should_and_answers_keep_their_order():
  with serve(_echo) as server:
    client = _client(server, api_key="sk-secret\n", temperature=0.5, max_tokens=7, settings=dict(top_p=0.9, seed=None))
    texts = [f"question {i}" for i in range(20)]
    assert client.complete([_ask(t) for t in texts]) == [t.upper() for t in texts]
    assert client.complete([]) == []
  assert client.totals == dict(calls=20, cached=0, retried=0, failed=0)
  assert sorted(r["messages"][0]["content"] for r in server.requests) == sorted(texts)
  fields = dict(model="m", temperature=0.5, max_tokens=7, top_p=0.9)
  assert all({k: v for k, v in r.items() if k != "messages"} == fields for r in server.requests)
  assert all(h["path"] == "/v1/chat/completions" and h["Authorization"] == "Bearer sk-secret" for h in server.headers)


def test_no_more_requests_at_a_time_than_allowed():
  def slow(number, payload):
    del number, payload
    return Answer("x", delay=0.05)
  with serve(slow) as server:
    client = _client(server, concurrency=3)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:  # four batches at once share the bound
      list(pool.map(lambda i: client.complete([_ask(f"{i} {j}") for j in range(4)]), range(4)))
  assert len(server.requests) == 16 and server.most == 3


@pytest.mark.parametrize("bad", [
    Answer(status=500, body=b"oops"), Answer(status=503, body=b""), Answer(status=429, body=b"{}"), Answer(cut=-1),
    Answer("a long text", cut=10), Answer(body=b"<html>gateway</html>"), Answer(body=b'{"choices": []}'),
    Answer(body=b'{"choices": [{"message": "hm"}]}'), Answer(body=b"[1, 2]"), Answer(body=b"\xff\xfe\x00"),
    Answer(body=b"[" * 100_000), Answer(body=b'{"choices": [{"message": {"content": 3}}]}')],
    ids=lambda a: f"{a.status} {a.cut} {(a.body or b'')[:24]}")
def test_what_may_pass_is_tried_again(bad):
  with serve(_scripted(bad, bad)) as server:
    client = _client(server)
    assert client.complete([_ask("q")]) == ["fine"]
    assert client.totals == dict(calls=1, cached=0, retried=2, failed=0) and len(server.requests) == 3
  with serve(lambda number, payload: bad) as server:
    client = _client(server, tries=3)
    with pytest.raises(AssistantError, match="after 3 tries.*check that the server runs") as error:
      client.complete([_ask("q")])
    assert "\n" not in str(error.value) and len(str(error.value)) < 600
    assert client.totals == dict(calls=1, cached=0, retried=2, failed=1) and len(server.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 422, 301, 302, 307])
def test_what_will_not_pass_is_not(status):
  bad = Answer(status=status, body=b'{"error": "no such\nmodel"}', headers=(("Location", "http://127.0.0.1:9/"),))
  with serve(lambda number, payload: bad) as server:
    client = _client(server)
    with pytest.raises(AssistantError, match=f"refuses.*status {status}.*no such model.*check base_url"):
      client.complete([_ask("q")], tolerant=True)
    assert client.totals == dict(calls=1, cached=0, retried=0, failed=1) and len(server.requests) == 1


def test_waits_double_and_are_jittered():
  with serve(_scripted(*[Answer(status=500)] * 4)) as server:
    assert _client(server, backoff=0.05, max_wait=0.2).complete([_ask("q")]) == ["fine"]
  waits = [b - a for a, b in zip(server.times, server.times[1:])]
  assert all(w >= least for w, least in zip(waits, (0.025, 0.05, 0.1, 0.1)))
  assert waits[0] < 0.1 + waits[2]  # they grow, whatever the machine adds


@pytest.mark.parametrize("value, least", [
    ("1", 0.3), (lambda: email.utils.formatdate(time.time() + 30, usegmt=True), 0.3), ("soon", 0.0), ("-4", 0.0)])
def test_a_server_may_say_how_long_to_wait(value, least):
  """Up to `max_wait`, which is 0.3 s here."""
  def busy(number, payload):
    del payload
    header = value() if callable(value) else value
    return Answer("fine") if number else Answer(status=429, headers=(("Retry-After", header),))
  with serve(busy) as server:
    assert _client(server, max_wait=0.3).complete([_ask("q")]) == ["fine"]
  assert server.times[1] - server.times[0] >= least


@pytest.mark.parametrize("slow", [Answer("x", delay=3.0), Answer("x", drip=0.05)])
def test_a_call_ends_in_time_however_the_server_dawdles(slow):
  """A byte every 0.05 s keeps any single read alive: the whole call has to be bounded."""
  with serve(_scripted(slow)) as server:
    client, start = _client(server, timeout=0.3), time.monotonic()
    assert client.complete([_ask("q")]) == ["fine"]
    assert 0.3 <= time.monotonic() - start < 2.5
    assert client.totals["retried"] == 1
  with serve(lambda number, payload: slow) as server:
    client, start = _client(server, timeout=0.2, tries=2), time.monotonic()
    with pytest.raises(AssistantError, match="2 tries.*Timeout.*timeout=0.2 s"):
      client.complete([_ask("q")])
    assert time.monotonic() - start < 2.5


def test_nobody_there():
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
  client = ChatClient(url, "m", api_key="", tries=3, backoff=0.001)
  with pytest.raises(AssistantError, match="3 tries.*refused.*check that the server runs"):
    client.complete([_ask("q")])
  assert client.totals == dict(calls=1, cached=0, retried=2, failed=1)
  assert client.complete([_ask("q"), _ask("r")], tolerant=True) == [None, None]


def test_a_failure_ends_the_batch_and_keeps_what_was_answered(tmp_path):
  """The bad question is refused while others are on their way; those go to the cache, the rest is not asked."""
  def behave(number, payload):
    del number
    bad = payload["messages"][0]["content"] == "bad"
    return Answer(status=400) if bad else Answer("good", delay=0.2)
  with serve(behave) as server:
    client = _client(server, concurrency=4, cache_dir=tmp_path)
    with pytest.raises(AssistantError, match="400"):
      client.complete([_ask(t) for t in ("bad", *map(str, range(40)))])
    asked = len(server.requests)
    assert asked < 20 and len(list(tmp_path.rglob("*.json"))) == asked - 1
    assert client.complete([_ask("0")]) == ["good"] and client.totals["cached"] == 1


def test_a_reply_without_end_is_an_empty_one_and_is_not_kept(tmp_path):
  with serve(_scripted(Answer("x" * 5000), Answer("y" * 5000))) as server:
    client = _client(server, max_reply_bytes=1000, cache_dir=tmp_path)
    assert client.complete([_ask("q")]) == [""] and client.complete([_ask("q")]) == [""]
    assert client.complete([_ask("q")]) == ["fine"] and client.totals == dict(calls=3, cached=0, retried=0, failed=0)


def test_cached_answers_make_no_request(tmp_path):
  with serve(_echo) as server:
    first = _client(server, cache_dir=tmp_path)
    assert first.complete([_ask("a"), _ask("b"), _ask("a")]) == ["A", "B", "A"]
    assert first.totals == dict(calls=2, cached=1, retried=0, failed=0)
    again = _client(server, cache_dir=tmp_path)
    assert again.complete([_ask("b"), _ask("a")]) == ["B", "A"]
    assert again.totals == dict(calls=0, cached=2, retried=0, failed=0) and len(server.requests) == 2
    for change in (dict(temperature=0.1), dict(seed=1), dict(max_tokens=5), dict(settings=dict(top_p=0.5))):
      other = _client(server, cache_dir=tmp_path, **change)
      other.complete([_ask("a")])
      assert other.totals["calls"] == 1
    assert ChatClient(server.base_url, "n", api_key="", cache_dir=tmp_path).complete([_ask("a")]) == ["A"]
    assert len(server.requests) == 7
  gone = ChatClient("http://127.0.0.1:9/v1", "m", api_key="", cache_dir=tmp_path)
  assert gone.complete([_ask("a")]) == ["A"]


@pytest.mark.parametrize("damage", [
    lambda text: "", lambda text: text[:-20], lambda text: text.replace("FINE", "fine").replace("fine", "f1ne"),
    lambda text: "[]", lambda text: "[" * 200_000,
    lambda text: '{"answer": 3, "sha256": "", "request": {}}', lambda text: "\x00\xff" * 9,
    lambda text: json.dumps(json.loads(text) | {"request": {}})])
def test_a_damaged_entry_is_asked_for_again(tmp_path, damage, caplog):
  with serve(_scripted()) as server:
    _client(server, cache_dir=tmp_path).complete([_ask("q")])
    (path,) = tmp_path.rglob("*.json")
    whole = path.read_text()
    path.write_text(damage(whole), encoding="utf-8")
    client = _client(server, cache_dir=tmp_path)
    with caplog.at_level(logging.WARNING):
      assert client.complete([_ask("q")]) == ["fine"]
    assert "damaged" in caplog.text and client.totals["calls"] == 1
    assert path.read_text() == whole and _client(server, cache_dir=tmp_path).complete([_ask("q")]) == ["fine"]
  assert len(server.requests) == 2


def test_a_cache_that_cannot_be_written_costs_no_answer(tmp_path, caplog):
  (tmp_path / "file").write_text("")
  with serve(_scripted()) as server:
    client = _client(server, cache_dir=tmp_path / "file")
    assert client.complete([_ask("q")]) == ["fine"]
  assert "could not be cached" in caplog.text


def test_many_may_write_one_cache(tmp_path):
  """Readers see a whole answer or none while eight threads write the same entries over and over."""
  caches, stop = [cache_lib.CallCache(tmp_path) for _ in range(8)], threading.Event()
  requests = [dict(model="m", messages=_ask(str(i))) for i in range(3)]
  texts = [str(i) * 50_000 + "\ud800é" for i in range(3)]
  def write(cache):
    for _ in range(15):
      for request, text in zip(requests, texts):
        cache.put(request, text)
  def read():
    seen = set()
    while not stop.is_set():
      seen |= {caches[0].get(r) == t if caches[0].path(r).exists() else None for r, t in zip(requests, texts)}
    return seen
  with concurrent.futures.ThreadPoolExecutor(9) as pool:
    reader = pool.submit(read)
    list(pool.map(write, caches))
    stop.set()
    assert False not in reader.result()
  files = {path for path in tmp_path.rglob("*") if path.is_file()}
  assert files == {caches[0].path(r) for r in requests}  # nothing half written is left


def test_the_key_shows_nowhere(tmp_path, monkeypatch, caplog):
  key = "sk-very-secret-0123456789"
  monkeypatch.setenv("SOME_KEY", key)
  said = " " * 150 + f"bad key {key} and {key}"
  with serve(lambda number, payload: Answer(status=(500, 401)[number % 2], body=said.encode())) as server:
    client = _client(server, api_key=None, api_key_variable="SOME_KEY", cache_dir=tmp_path, tries=2)
    with pytest.raises(AssistantError) as refused:
      client.complete([_ask("q")])
    client = _client(server, api_key=key, tries=1)
    with pytest.raises(AssistantError) as failed:
      client.complete([_ask("q")])
  assert all(h["Authorization"] == f"Bearer {key}" for h in server.headers)
  with serve(_echo) as server:
    _client(server, api_key=key, cache_dir=tmp_path).complete([_ask("q")])
  written = "".join(p.read_text() for p in tmp_path.rglob("*.json"))
  for text in (str(refused.value), str(failed.value), repr(client), caplog.text, written):
    assert "sk-very" not in text
  assert "bad key ***" in str(refused.value) and "bad key ***" in str(failed.value)
  with pytest.raises(ValueError, match="API key has characters") as error:
    _client(server, api_key="sk-a\nsk-b")
  assert "sk-" not in str(error.value)


@pytest.mark.parametrize("settings, message", [
    (dict(base_url="localhost:8000"), "http://host"), (dict(base_url="ftp://x/v1"), "http://host"),
    (dict(base_url="http://h:99999/v1"), "http://host"), (dict(base_url="http://h:8o/v1"), "http://host"),
    (dict(base_url="http://me:pw@host/v1"), "no credentials"), (dict(base_url="http://h/v1?key=s3"), "no credentials"),
    (dict(tries=0), "tries=0"), (dict(concurrency=0), "concurrency=0"), (dict(timeout=0), "timeout=0"),
    (dict(timeout=float("nan")), "timeout=nan"), (dict(backoff=-1), "backoff=-1"), (dict(max_reply_bytes=0), "max_r")])
def test_settings_that_cannot_be_are_refused(settings, message):
  with pytest.raises(ValueError, match=message) as error:
    ChatClient(**(dict(base_url="http://h/v1", model="m") | settings))
  assert "pw" not in str(error.value) and "s3" not in str(error.value)


def test_a_judge_that_no_answer_can_be_read_of_is_told_once():
  with serve(lambda number, payload: Answer(f"the {'very ' * 50} end")) as server:
    judge = ChatJudge(_client(server), prompts.parse_sign)
    with warnings.catch_warnings(record=True) as told:
      warnings.simplefilter("always")
      for batch in range(4):
        judge([Request(_ask(f"{batch} {i}")) for i in range(8)])
  assert [str(w.message)[:39] for w in told] == ["none of the first 24 answers of m could"]
  assert judge.answered == 32 and judge.unreadable.startswith("the very") and judge.unreadable.endswith("very end")
  with serve(lambda number, payload: Answer("<score>1</score>" if number == 0 else "hm")) as server:
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      ChatJudge(_client(server), prompts.parse_sign)([Request(_ask(str(i))) for i in range(40)])


def test_a_judge_counts_what_it_cannot_read():
  answers = {"a": "<score>1</score>", "b": "I like it", "c": None, "d": "<score>7</score>", "e": "<score>-1</score>"}
  def behave(number, payload):
    del number
    return Answer(body=completion(answers[payload["messages"][0]["content"]]))
  with serve(behave) as server:
    judge = ChatJudge(_client(server), prompts.parse_sign, neutral=0.25)
    got = judge([Request(_ask(q)) for q in answers])
    assert [j.score for j in got] == [1, 0.25, 0.25, 0.25, -1]
    assert [j.parsed for j in got] == [True, False, False, False, True]
    assert [j.text for j in got] == [text or "" for text in answers.values()]
    assert judge.totals == dict(calls=5, cached=0, retried=0, failed=0, unparsable=3)
    intervals = ChatJudge(_client(server), lambda text: [(1, 2)] if "like" in text else None)
    assert [(j.score, j.value) for j in intervals([Request(_ask(q)) for q in "ab"])] == [(0, None), (0, [(1, 2)])]
  with pytest.raises(AssistantError, match="check that the server runs"):
    ChatJudge(_client(server, tries=2), prompts.parse_sign)([Request(_ask("a"))])
  absent = ChatJudge(_client(server, tries=2), prompts.parse_sign, neutral=0.5, tolerant=True)
  assert absent([Request(_ask("a"))])[0][:2] == (0.5, False)
  assert absent.totals == dict(calls=1, cached=0, retried=1, failed=1, unparsable=0)


def test_a_plain_function_stands_in():
  judge = stand_in(lambda facts: {"good": 1, "odd": float("nan"), "none": None, "list": [3]}[facts], neutral=-0.5)
  with pytest.warns(UserWarning, match="returned nan, which is no finite real number"):
    got = judge([Request((), facts) for facts in ("good", "odd", "none", "list")])
  assert [j.score for j in got] == [1, -0.5, -0.5, -0.5] and [j.parsed for j in got] == [True, False, False, True]
  assert got[3].value == [3] and judge([]) == []


@pytest.mark.parametrize("value, score", [
    (np.float32(0.5), 0.5), (np.float16(-2), -2.0), (np.int64(3), 3.0), (np.bool_(True), 1.0), (False, 0.0),
    (np.array(0.25), 0.25), (np.array(7, np.uint8), 7.0), (jnp.float32(0.5), 0.5), (jnp.bfloat16(1.5), 1.5),
    (fractions.Fraction(1, 4), 0.25), (decimal.Decimal("0.5"), 0.5)])
def test_every_real_number_is_a_score(value, score):
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    got, = stand_in(lambda facts: value, neutral=-9)([Request(())])
    with serve(_scripted()) as server:
      asked, = ChatJudge(_client(server), lambda text: value)([Request(_ask("q"))])
  assert got[:2] == asked[:2] == (score, True) and type(got.score) is float


@pytest.mark.parametrize("value", [
    np.float32(np.nan), np.array(np.inf), 10**400, 10**5000, 1j, np.complex64(1), "0.7", np.str_("1"), b"1",
    np.array("a"), decimal.Decimal("NaN")], ids=lambda value: type(value).__name__)
def test_what_is_no_real_number_is_named_and_not_read(value):
  with pytest.warns(UserWarning, match="a judge returned .*, which is no finite real number") as told:
    got, = stand_in(lambda facts: value, neutral=-9)([Request(())])
  assert got == (-9, False, "", None) and "\n" not in str(told[0].message)


def test_a_text_is_the_value_where_nothing_is_parsed():
  with serve(_scripted()) as server:
    assert ChatJudge(_client(server))([Request(_ask("q"))]) == [(0.0, True, "fine", "fine")]


def test_an_answer_that_repeats_the_key_is_not_one(tmp_path):
  key = "sk-very-secret-0123456789"
  with serve(_scripted(Answer(f"your key is {key}"), Answer("fine"), Answer(key), Answer(key))) as server:
    client = _client(server, api_key=key, cache_dir=tmp_path, tries=2)
    assert client.complete([_ask("q")]) == ["fine"] and client.totals["retried"] == 1
    with pytest.raises(AssistantError, match="an answer that repeats the API key, which is not used") as failed:
      client.complete([_ask("r")])
    assert key not in str(failed.value) and client.totals == dict(calls=2, cached=0, retried=2, failed=1)
    kept = [path.read_text() for path in tmp_path.rglob("*.json")]
    assert len(kept) == 1 and key not in kept[0]
    of_old = client._fields | {"messages": list(_ask("s"))}
    cache_lib.CallCache(tmp_path).put(of_old, f"{key}!")  # as an earlier version kept it
    assert client.complete([_ask("s")]) == ["fine"]
  with serve(_scripted(Answer("it is EMPTY"))) as server:  # what a local server takes for a key is no secret
    assert _client(server, api_key="EMPTY").complete([_ask("q")]) == ["it is EMPTY"]


def test_a_refusal_is_told_at_once_though_others_are_slow(monkeypatch):
  monkeypatch.setattr(client_lib, "_PATIENCE", 0.1)
  def behave(number, payload):
    del number
    return Answer(status=401) if payload["messages"][0]["content"] == "bad" else Answer(delay=20)

  with serve(behave) as server:
    client = _client(server, timeout=60.0)
    begun = time.monotonic()
    with pytest.raises(AssistantError, match="refuses"):
      client.complete([_ask("slow"), _ask("bad")])
    client.close()
    assert time.monotonic() - begun < 10
