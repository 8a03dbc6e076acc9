"""ONI: what the arms pay, the language model beside the training, and the rule of the verdict."""

import dataclasses
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.control import oni as config_file
from experiments.control import oni
from rlcore import types
from rlcore.assistants import caption_quest as asking
from rlcore.envs import caption_quest
from rlcore.training import judging, loop, sweep
from rlcore.training.errors import RunError
from tests.assistants.server import Answer, serve

_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster
_PICK, _DOOR, _SEE = 0, 20, 120  # captions: the first wordings of three templates


def _config(variant=None, **overrides):
  return sweep.apply_overrides(config_file.get_config(variant), overrides)


def test_the_stand_in_is_the_same_inside_the_program_and_beside_it():
  texts = caption_quest.caption_texts()
  for config in (_config(), _config(flip=0.0, see_key=1.0)):
    truth = oni.annotations(config)
    np.testing.assert_array_equal(truth.labels, [oni.stand_in(config, text) for text in texts])
  assert np.mean(oni.annotations(_config()).labels != (np.arange(320) < 60)) == pytest.approx(0.05, abs=0.02)
  progress = np.asarray(truth.progress)
  for i, j in ((_PICK, _DOOR), (_DOOR, _PICK), (_SEE, 300)):
    want = 0 if progress[i] > progress[j] else 1 if progress[j] > progress[i] else 2
    assert oni.stand_in(config, (texts[i], texts[j])) == want


def test_what_repetitions_of_the_sight_of_the_key_pay():
  """With one wording and "see key" taken for progress, only the count keeps an agent from standing beside the key."""
  @_jit
  def pay(count_exponent):
    config = config_file.get_config("farming")
    with config.ignore_type():
      config.count_exponent, config.all_labels = count_exponent, 1.0
    reward = oni.make_reward(config)
    ids = jnp.array([[_SEE], [_SEE], [_SEE], [_PICK]])
    zero = jnp.zeros(ids.shape)
    stream = types.Stream(zero, zero, zero, zero, zero, zero, zero, zero + 1, info={"caption": ids}, is_first=zero > 1)
    return reward.apply(reward.init(jax.random.key(0), 1), stream)[0][:, 0]

  np.testing.assert_allclose(pay(3.0), [0.3, 0.3 / 8, 0.3 / 27, 0.3], rtol=1e-6)
  np.testing.assert_allclose(pay(0.0), [0.3] * 4, rtol=1e-6)


def _asking(server, tmp_path, **overrides):
  return _config("smoke", **{
      "judge.kind": "chat", "judge.base_url": getattr(server, "base_url", server), "judge.model": "m",
      "judge.cache_dir": "", "judge.tries": 1, "judge.timeout": 5.0, "num_worlds": 8, "steps": 4,
      "log_every": 4, "checkpoint_every": 4, **overrides})


def _until(condition):
  end = time.monotonic() + 20
  while not condition():
    assert time.monotonic() < end, "it never happened"
    time.sleep(0.01)


@pytest.mark.slow
def test_a_language_model_labels_captions_and_pairs_while_the_agent_trains(tmp_path):
  def behave(number, payload):
    asked = payload["messages"][-1]["content"]
    if "<first_message>" in asked:
      tags = ("first_message", "second_message")
      first, second = (asked.partition(f"<{tag}>\n")[2].partition("\n")[0] for tag in tags)
      return Answer(f"<best>{(1, 2, 'none')[asking.prefer_caption((first, second))]}</best>")
    return Answer("FOO" if asking.label_caption(asked.rpartition("<message>\n")[2].partition("\n")[0]) else "BAR")

  weights = {"weights.retrieval": 0.5, "weights.ranking": 0.5}
  with serve(behave) as server:
    experiment = oni.make_experiment(_asking(server, tmp_path, **weights))
    assert not experiment.jittable
    state = experiment.init(jax.random.key(0))
    for _ in range(300):  # what one update asks a later one learns
      state, metrics = experiment.update(state)
      if np.sum(state.reward_state.labels >= 0) > 20 and state.reward_state.num_pairs >= 16:
        break
      time.sleep(0.02)
  known = jax.tree.map(np.asarray, state.reward_state.replace(key=()))
  labelled = known.labels >= 0
  np.testing.assert_array_equal(known.labels[labelled], (np.arange(320) < 60)[labelled])
  assert labelled.sum() > 20 and np.all(known.arrival[labelled] >= 0) and known.num_pairs >= 16
  progress = np.array([asking.progress(text) for text in caption_quest.caption_texts()])
  for (i, j), preference in zip(known.pairs[:known.num_pairs], known.preferences):
    assert preference == (0 if progress[i] > progress[j] else 1 if progress[j] > progress[i] else 2)
  assert metrics["annotator/annotated"] >= labelled.sum() + known.num_pairs and metrics["annotator/failed"] == 0


@pytest.mark.slow
def test_training_goes_on_where_nobody_answers(tmp_path):
  with serve(lambda number, payload: Answer(status=500)) as server:
    config = _asking(server, tmp_path)
    result = loop.run(oni.make_experiment(config), config, tmp_path)
    _until(lambda: any("annotator: " in line and "no label for" in line for line in judging.reports()))
  assert result.step == 4 and result.after is not None
  assert np.all(np.asarray(result.state.reward_state.labels) == -1)
  assert int(jnp.sum(result.state.reward_state.arrival >= 0)) > 0
  report, = [line for line in judging.reports() if server.base_url in line]
  assert "the latest failure" in report and "status 500" in report


def test_a_language_model_cannot_know_all_labels_at_once(tmp_path):
  with pytest.raises(RunError, match="all_labels"):
    oni.make_experiment(_asking("http://127.0.0.1:9/v1", tmp_path, all_labels=1.0))


def _result(**rates):
  """A result in which every arm has the same rate on every seed, but for a little noise, and reaches 0.5 halfway."""
  noise = np.linspace(-0.01, 0.01, 5)
  usual = dict(extrinsic=0.05, farming=0.9) | {"farming, no counts": 0.3}
  rates = {arm: usual.get(arm, 0.8) for arm in config_file.ARMS} | rates
  arms = {arm: {"values": {"tail:success": list(rate + noise * (arm != "extrinsic")), "to0.5:success": [50.0] * 5}}
          for arm, rate in rates.items()}
  return {"claim": dataclasses.asdict(config_file.CLAIM), "variants": {"default": {"arms": arms}}}


@pytest.mark.parametrize("rates, want", [
    ({}, "reproduced"), ({"extrinsic": 0.6}, "not reproduced"), ({"extrinsic": 0.3}, "inconclusive"),
    ({"retrieval": 0.05}, "inconclusive"), ({"ranking": 0.04}, "not reproduced"),
    ({"retrieval": 0.07}, "inconclusive"), ({"classification": 0.65}, "inconclusive"),
    ({"all labels": 0.97}, "inconclusive"), ({"farming": 0.45}, "inconclusive"),
    ({"ranking": float("nan")}, "inconclusive"), ({"all labels": 0.1}, "reproduced")])
def test_the_rule_of_the_verdict(rates, want):
  assert config_file.verdict(_result(**rates))[0] == want
