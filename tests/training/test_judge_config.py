"""The judge of a config: what it builds, what it refuses, and what may change when a run is resumed."""

import ml_collections
import pytest

from rlcore import assistants
from rlcore.training import judging
from rlcore.training.errors import RunError
from rlcore.training.workdir import CHECKPOINTS, prepare_workdir

URL = "http://127.0.0.1:9/v1"


def _make(**settings):
  config = judging.judge_config()
  config.update(settings)
  return judging.make_judge(config.lock(), lambda facts: 2 * facts)


def test_the_kinds():
  assert _make() is None
  judgement, = _make(kind="stand_in")([assistants.Request((), 3)])
  assert judgement.score == 6 and judgement.parsed
  chat = _make(kind="chat", base_url=URL, model="m", cache_dir="")
  assert isinstance(chat, assistants.ChatJudge) and chat.client.model == "m"
  assert _make(kind="chat", base_url=URL, model="m", cache_dir="") is chat  # one judge, one bound, one count
  assert _make(kind="chat", base_url=URL, model="m", cache_dir="", tries=2) is not chat
  assert not [line for line in judging.reports() if URL in line]  # it was not asked


@pytest.mark.parametrize("settings, message", [
    (dict(kind="llm"), "judge.kind='llm' is none of jitted, stand_in, chat"),
    (dict(kind="chat", model="m"), "judge.kind=chat needs judge.base_url"),
    (dict(kind="chat", base_url=URL), "judge.kind=chat needs judge.model"),
    (dict(kind="chat", base_url="localhost:8000", model="m"), "judge: base_url must look like http://host:port/v1"),
    (dict(kind="chat", base_url=URL, model="m", tries=0), "judge: tries=0 must be at least 1"),
    (dict(kind="chat", base_url=URL, model="m", timeout=0.0), "judge: timeout=0.0 must be positive"),
    (dict(base_url=URL), "judge.kind=jitted asks no language model: set --config.judge.kind=chat"),
    (dict(kind="stand_in", model="m"), "judge.kind=stand_in asks no language model"),
])
def test_settings_that_cannot_be(settings, message):
  with pytest.raises(RunError) as caught:
    _make(**settings)
  assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_resumed_run_may_reach_its_judge_elsewhere_but_not_ask_another(tmp_path):
  config = ml_collections.ConfigDict(dict(judge=judging.judge_config()))
  prepare_workdir(tmp_path, config)
  (tmp_path / CHECKPOINTS / "1").mkdir(parents=True)
  config.judge.update(dict(base_url=URL, timeout=5.0, tries=1, concurrency=2, cache_dir="elsewhere"))
  prepare_workdir(tmp_path, config)
  config.judge.model = "another"
  with pytest.raises(RunError, match="differs in judge.model"):
    prepare_workdir(tmp_path, config)
