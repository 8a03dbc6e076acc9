"""SLATE, TP-GRPO and PPR with their judge in three places: in the program, behind the protocol, behind HTTP.

The server of the tests reads nothing but the text that it is sent; that it then agrees with the functions beside the
worlds says that the prompts hold what a judge must know.
"""

import functools
import importlib
import json
import re
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.credit import ppr
from rlcore import assistants
from rlcore.assistants import stack_writer as asking
from rlcore.envs import stack_writer
from rlcore.training import judging
from tests.assistants.server import Answer, serve
from tests.experiments.test_run import ROOT

# Each of the three builds its prompts by itself, but one of them shows that the way to the judge and back is whole.
EACH = ("ppr", pytest.param("slate", marks=pytest.mark.slow), pytest.param("tp_grpo", marks=pytest.mark.slow))
_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles twice as fast


def _config(name, **judge):
  config = importlib.import_module(f"configs.credit.{name}").get_config("smoke")
  config.judge.update(judge)
  return config


def _program(name, **judge):
  """Two updates of the smoke config for each of two seeds, in one program: `(seeds [2], flip) -> (metrics, params)`."""
  config, module = _config(name, **judge), importlib.import_module(f"experiments.credit.{name}")

  def run(seed, flip):
    traced = config.copy_and_resolve_references().unlock()
    with traced.ignore_type():
      traced.seed, traced.flip = seed, flip
    experiment = module.make_experiment(traced)
    state, metrics = jax.lax.scan(lambda s, _: experiment.update(s), experiment.init(jax.random.key(seed)), None, 2)
    return metrics, state.params

  program = _jit(jax.vmap(run, (0, None)))
  return lambda flip=0.0: jax.device_get(program(jnp.arange(2), jnp.float32(flip)))


@functools.cache
def _stand_in(name):
  return _program(name, kind="stand_in")


def _same(got, want):
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6), got, want)


@pytest.mark.parametrize("name", EACH)
def test_the_stand_in_behind_the_protocol_gives_the_numbers_of_the_program(name):
  jitted, flip = _program(name, kind="jitted"), 0.0 if name == "ppr" else 0.2
  _same(_stand_in(name)(flip), jitted(flip))


def _numbers(pattern, text):
  return [int(x) for x in re.findall(pattern, text)]


def _part(tag, text):
  return re.search(rf"<{tag}>\n(.*?)\n</{tag}>", text, re.DOTALL)[1]


def _judge_token(text):
  """Judges a token of SLATE by what the prompt says."""
  context = _part("context", text)
  chain = _numbers(r"r(\d+)", re.search(r"by the relations (.*?), in this order", context)[1])
  known, hops = map(int, re.search(r"Known is e(\d+), after (\d) of 3 hops", context).groups())
  if "<thinking>" in text:
    plan = (_numbers(r"hop is number (\d)", _part("thinking", text)) or [4])[0] - 1
    assert plan == 3 or f"relation r{chain[plan]}." in _part("thinking", text)
    return 1 if plan == hops else 0 if hops < plan < 3 else -1
  if "<right_answer>" in text:
    answer, gold = (int(_part(tag, text)[1:]) for tag in ("answer", "right_answer"))
    return 1 if answer == gold else 0 if answer == known else -1
  relation, subject = map(int, re.search(r"relation r(\d) of e(\d+)", _part("query", text)).groups())
  assert subject == known
  if relation in _numbers(r"relation r(\d) of e", context):
    return -1
  return 1 if chain[hops:hops + 1] == [relation] else 0 if relation in chain else -1


def _steps(text):
  return re.findall(r"<step>\n\[\d+\] (.*?)\n</step>", text)


def _judge_query(text):
  """Judges a query of PPR by what the prompt says: the grades and their maxima."""
  chain = _numbers(r"r(\d+)", re.search(r"by the relations (.*?), in this order", text)[1])
  asked = lambda step: tuple(map(int, re.search(r"relation r(\d) of e(\d+)", step).groups()))
  query = asked(_part("judged_step", text))
  known = _numbers(r"from e(\d+) by", text)
  for step in _steps(text):
    assert asked(step)[1] == known[-1]
    known += _numbers(r"Result: e(\d+)", step)
  assert query[1] == known[-1]
  return 2 + 2 * (query not in map(asked, _steps(text))) + 2 * (query[0] in chain)


def _judge_stack(text):
  """Judges a response of TP-GRPO by what the prompt says."""
  written, pairs = [], []
  for i, step in enumerate(_steps(text)):
    if re.match(r"I write \d\.", step):
      written.append((i, step[8]))
    elif re.match(r"I take back \d\.", step):
      pairs.append([written.pop()[0], i])
    shown = " ".join(digit for _, digit in written) or "nothing"
    assert step.endswith(f": {shown}.")
  if "<reflections>" in text:
    return f"<reflections>{pairs}</reflections>"
  assert _part("answer", text) == shown
  return f"<matching>{[i for i, _ in written]}</matching>"


def _reply(payload):
  system, user = (message["content"] for message in payload["messages"])
  if "search agent" in system:
    return f"I think so. <score>{_judge_token(user)}</score>"
  if "principles" in system:
    return f"<score>{_judge_query(user)}</score><max_score>6</max_score>"
  return _judge_stack(system + user)


RUBBISH = ("", "no idea", "<score>7</score>", "<matching>[99]</matching>", "<score>1.5</score><max_score>x</max_score>")


@pytest.mark.parametrize("name", EACH)
def test_a_language_model_in_its_place(name):
  rubbish = [lambda number: False]
  behave = lambda number, payload: Answer(
      RUBBISH[number % len(RUBBISH)] if rubbish[0](number) else _reply(payload), delay=0.01)  # so that they overlap
  with serve(behave) as server:
    model = f"judge-of-{name}"
    program = _program(name, kind="chat", base_url=server.base_url, model=model, cache_dir="", tries=1, timeout=20.0)
    _same(program(0.3 if name == "slate" else 0.0), _stand_in(name)(0.0))  # no noise is added to a language model
    assert 1 < server.most <= 8 and {payload["model"] for payload in server.requests} == {model}
    prompts = [payload["messages"] for payload in server.requests]
    if name == "slate":
      answers = [user["content"] for _, user in prompts if "<right_answer>" in user["content"]]
      others = [user["content"] for _, user in prompts if "<right_answer>" not in user["content"]]
      assert answers and all(any(f"<{tag}>" in text for text in others) for tag in ("thinking", "query"))
      assert any("Found: a distractor." in text for text in others) and any("Step 3." in text for text in others)
    if name == "ppr":
      assert all("You do not know how the task ends" in system["content"] for system, _ in prompts)
    report, = [line for line in judging.reports() if model in line]
    assert re.search(rf": {len(server.requests)} calls, \d+ cached, 0 retried, 0 failed; 0 of \d+ answers could not", report)

    asked = len(server.requests)
    rubbish[0] = lambda number: number % 3 == 0
    metrics, _ = program()
    assert all(np.isfinite(x).all() for x in metrics.values())
    unread = int(re.search(r"; (\d+) of \d+ answers could not", [x for x in judging.reports() if model in x][0])[1])
    assert unread >= sum(number % 3 == 0 for number in range(asked, len(server.requests))) > 0

    rubbish[0] = lambda number: True
    metrics, _ = program()
    if name == "slate":
      assert np.all((0 <= metrics["step_reward"]) & (metrics["step_reward"] <= 0.1))  # the bonus alone
    elif name == "ppr":
      np.testing.assert_array_equal(metrics["process_score"], 0)
    else:  # all steps are good, so that the credit is GRPO's, 0 where nobody is right
      np.testing.assert_array_equal(metrics["label_correlation/merged"], 0)
  start = time.monotonic()
  with pytest.raises(assistants.AssistantError, match=r"did not answer after 1 tries .*: check that the server runs"):
    with assistants.own_errors():
      program()
  assert time.monotonic() - start < 20


def test_labels_of_correct_responses_too():
  rng = np.random.default_rng(0)
  lengths = rng.integers(0, 15, 40)
  mask = (np.arange(14) < lengths[:, None]).astype(np.float32)
  action = rng.choice(6, (40, 14), p=[0.16, 0.16, 0.16, 0.16, 0.34, 0.02]).astype(np.int32)
  correct = (np.arange(40) % 2).astype(np.float32)
  want = _jit(jax.vmap(stack_writer.stack_labels))(action, mask, correct)
  assert 0.1 < np.mean(want[correct > 0][mask[correct > 0] > 0]) < 0.9
  with serve(lambda number, payload: Answer(_reply(payload))) as server:
    judge = assistants.ChatJudge(assistants.ChatClient(server.base_url, "m", api_key=""))
    for who in (judge, assistants.stand_in(asking.judge_response)):
      np.testing.assert_array_equal(_jit(jax.vmap(asking.make_labels(who, 14)))(action, mask, correct), want)
  assert judge.totals["unparsable"] == 0 and judge.totals["calls"] + judge.totals["cached"] == np.sum(lengths > 0)
  nothing = assistants.stand_in(lambda facts: None)
  np.testing.assert_array_equal(_jit(jax.vmap(asking.make_labels(nothing, 14)))(action, mask, correct), mask)


def test_the_study_of_ppr_asks_its_judge():
  study = lambda kind: jax.device_get(_jit(ppr.make_study(_config("ppr", kind=kind)))(jax.random.key(0)))
  _same(study("stand_in"), study("jitted"))


def _run(name, tmp_path, *arguments):
  command = [sys.executable, "-m", "experiments.run", f"--config=configs/credit/{name}.py:smoke",
             f"--workdir={tmp_path}/run", *arguments]
  return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.parametrize("name, arguments, message", [
    ("slate", ["--config.judge.kind=oracle"], "judge.kind='oracle' is none of jitted, stand_in, chat"),
    ("tp_grpo", ["--config.judge.kind=chat", "--config.judge.model=m"],
     "judge.kind=chat needs judge.base_url: give --config.judge.base_url=http://localhost:8000/v1, say"),
])
def test_what_the_user_sees_of_settings_that_do_not_fit(tmp_path, name, arguments, message):
  done = _run(name, tmp_path, *arguments)
  assert done.returncode == 2 and done.stderr == f"error: {message}\n" and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_what_the_user_sees_of_a_judge(tmp_path):
  """A run whose judge answers says how often; when the server is gone, the next one says so in a line."""
  with serve(lambda number, payload: Answer("?" if number % 5 == 0 else _reply(payload))) as server:
    arguments = ["--config.judge.kind=chat", f"--config.judge.base_url={server.base_url}", "--config.judge.model=m",
                 f"--config.judge.cache_dir={tmp_path}/answers", "--config.judge.tries=2"]
    done = _run("ppr", tmp_path, *arguments)
    assert done.returncode == 0 and not done.stderr, done.stderr
    count = len(server.requests)
    assert f"judge m at {server.base_url}: {count} calls" in done.stdout and " answers could not be read" in done.stdout
  kept = [json.loads(path.read_text())["answer"] for path in (tmp_path / "answers").rglob("*.json")]
  assert len(kept) == count and kept.count("?") == -(-count // 5)
  gone = _run("ppr", tmp_path, *arguments, "--config.steps=4", "--config.seed=1", f"--workdir={tmp_path}/other")
  assert gone.returncode == 2 and len(gone.stderr.splitlines()) == 1, gone.stderr
  assert gone.stderr.startswith(f"error: {server.base_url}/chat/completions did not answer after 2 tries")
  assert "check that the server runs" in gone.stderr and "Traceback" not in gone.stdout
