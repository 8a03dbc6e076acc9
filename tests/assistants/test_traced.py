"""A judge inside jitted programs: whole batches in one call, masks, several requests a unit, and how it fails."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import assistants
from rlcore.assistants import AssistantError, Judgement, Request, traced_judge


class _Judge:
  """Notes its calls; a request's facts are a number, which is the score."""

  def __init__(self, short=0):
    self.calls, self._short = [], short

  def __call__(self, requests):
    self.calls.append([request.facts for request in requests])
    return [Judgement(float(request.facts), True) for request in requests][self._short:]


def _ask(facts):
  assert isinstance(facts["x"], np.ndarray) and facts["x"].shape == (2,) and facts["n"].shape == ()
  return Request((), float(facts["x"].sum() * facts["n"]))


def _facts(*lead):
  x = np.arange(np.prod(lead) * 2, dtype=np.float32).reshape(*lead, 2)
  return {"x": x, "n": np.arange(np.prod(lead), dtype=np.int32).reshape(lead) - 3}


def test_a_batch_of_any_axes_is_one_call():
  judge = _Judge()
  ask = traced_judge(judge, _ask)
  facts = _facts(3, 2, 4)
  want = facts["x"].sum(-1) * facts["n"]
  got = jax.jit(jax.vmap(jax.vmap(jax.vmap(ask))))(facts)
  assert got.dtype == jnp.float32 and len(judge.calls) == 1 and len(judge.calls[0]) == 24
  np.testing.assert_array_equal(got, want)
  # axes that are mapped elsewhere than in front, an unbatched part, and no batch at all
  moved = {"x": np.moveaxis(facts["x"][0], 0, 1), "n": facts["n"][0, :, 0]}
  got = jax.jit(jax.vmap(jax.vmap(ask, ({"x": 0, "n": None},)), ({"x": 1, "n": 0},)))(moved)
  np.testing.assert_array_equal(got, facts["x"][0].sum(-1) * facts["n"][0, :, :1])
  one = jax.tree.map(lambda x: x[1, 1, 2], facts)
  np.testing.assert_array_equal(jax.jit(ask)(one), want[1, 1, 2])
  np.testing.assert_array_equal(ask(one), want[1, 1, 2])
  assert [len(call) for call in judge.calls] == [24, 8, 1, 1]


def test_inside_a_scan_it_is_asked_once_a_step():
  judge = _Judge()
  ask = traced_judge(judge, _ask)

  def step(total, n):
    score = jax.vmap(lambda x: ask({"x": x, "n": n}))(jnp.ones((3, 2)) + total)
    return total + jnp.sum(score), score

  total, scores = jax.jit(jax.vmap(lambda start: jax.lax.scan(step, start, jnp.arange(1, 5))))(jnp.array([0.0, 1.0]))
  assert len(judge.calls) == 4 and all(len(call) == 6 for call in judge.calls)
  want = np.array([0.0, 1.0])
  for i in range(4):
    each = 2 * (1 + want) * (i + 1)
    np.testing.assert_allclose(scores[:, i], each[:, None] + np.zeros(3))
    want = want + 3 * each
  np.testing.assert_allclose(total, want)


def test_masked_units_are_not_asked_and_junk_there_is_harmless():
  judge = _Judge()
  facts, mask = _facts(2, 3), np.array([[1, 0, 1], [0, 0, 1.0]])
  facts["x"][mask == 0] = np.nan
  ask = jax.jit(jax.vmap(jax.vmap(traced_judge(judge, _ask, neutral=-5.0))))
  got = ask(facts, mask)
  want = np.where(mask > 0, np.where(mask[..., None] > 0, facts["x"], 0).sum(-1) * facts["n"], -5)
  np.testing.assert_array_equal(got, want)
  np.testing.assert_array_equal(ask(facts, 0 * mask), np.full((2, 3), -5))
  assert len(judge.calls) == 1 and len(judge.calls[0]) == 3


def test_no_unit_no_call():
  judge = _Judge()
  got = jax.jit(jax.vmap(traced_judge(judge, _ask)))(_facts(0))
  assert got.shape == (0,) and not judge.calls


def test_several_requests_and_a_tree_of_results():
  judge = _Judge()
  ask = lambda facts: [Request((), float(i)) for i in range(int(facts["n"]))]

  def settle(judgements, facts):
    if len(judgements) == 4:
      return None  # it cannot be understood
    scores = [j.score for j in judgements]
    return {"most": max(scores), "first": np.pad(scores, (0, 5 - len(scores))) + facts["offset"]}

  neutral = {"most": np.int32(-1), "first": np.full(5, 9.0)}
  program = jax.jit(jax.vmap(traced_judge(judge, ask, neutral, settle)))
  got = program({"n": np.array([2, 0, 3, 4]), "offset": np.array([0.5, 0.5, 1, 1])})
  assert got["most"].dtype == jnp.int32 and got["first"].dtype == jnp.float32
  np.testing.assert_array_equal(got["most"], [1, -1, 2, -1])
  np.testing.assert_array_equal(got["first"][::2], [[0.5, 1.5, 0.5, 0.5, 0.5], [1, 2, 3, 1, 1]])
  np.testing.assert_array_equal(got["first"][1::2], np.full((2, 5), 9))
  assert judge.calls == [[0, 1, 0, 1, 2, 0, 1, 2, 3]]
  total = jax.jit(jax.vmap(traced_judge(judge, ask, neutral=7.0)))({"n": np.array([3, 0])})
  np.testing.assert_array_equal(total, [3, 7])


def test_no_gradient_flows_and_none_is_asked_for():
  ask = traced_judge(_Judge(), _ask)
  loss = lambda x: jnp.sum(x) * ask({"x": x, "n": 2})
  np.testing.assert_array_equal(jax.jit(jax.grad(loss))(jnp.ones(2)), [4, 4])


def test_a_mask_that_has_axes_is_told():
  with pytest.raises(AssertionError, match="(?i)rank"):
    traced_judge(_Judge(), _ask)(_facts(3), np.ones(3))


def test_large_facts_do_not_lock():
  ask = traced_judge(_Judge(), lambda facts: Request((), float(facts.sum())))
  got = jax.jit(lambda x: jax.lax.fori_loop(0, 3, lambda i, total: total + jax.vmap(ask)(x + i), jnp.zeros(4)))(
      jnp.zeros((4, 1 << 20)))
  np.testing.assert_allclose(got, np.full(4, 3 * 2**20))


def _fails(error):
  def judge(requests):
    del requests
    raise error

  return judge


def _long_program(judge):
  ask = jax.vmap(traced_judge(judge, _ask))
  return jax.jit(lambda facts: jax.lax.scan(lambda c, _: (c + jnp.sum(ask(facts)), None), 0.0, None, 3)[0])


@pytest.mark.parametrize("read", [jax.block_until_ready, jax.device_get, np.asarray])
@pytest.mark.parametrize("error", [AssistantError("nobody answers: check this"), KeyError("a bug")])
def test_the_error_is_the_judges_own(error, read, caplog):
  with pytest.raises(type(error)) as caught:
    with assistants.own_errors():
      read(_long_program(_fails(error))(_facts(4)))
  assert caught.value is error and caught.value.__cause__ is None and not caplog.records
  # without the block JAX's report says the same at length
  with pytest.raises(jax.errors.JaxRuntimeError, match=str(error.args[0])):
    _long_program(_fails(error))(_facts(4)).block_until_ready()
  assert caplog.records


def test_other_errors_pass():
  with pytest.raises(ValueError, match="mine"):
    with assistants.own_errors():
      with pytest.raises(Exception, match="theirs"):
        _long_program(_fails(AssistantError("theirs")))(_facts(4)).block_until_ready()
      raise ValueError("mine")
  with pytest.raises(jax.errors.JaxRuntimeError):  # a callback that is none of ours
    with assistants.own_errors():
      jax.pure_callback(_fails(OSError("x")), jax.ShapeDtypeStruct((), jnp.float32), 1.0).block_until_ready()
  with assistants.own_errors():
    assert float(_long_program(_Judge())(_facts(1))) == -9  # and a later program is not blamed for an earlier one


@pytest.mark.parametrize("short", [1, -1])
def test_too_few_judgements_are_told(short):
  with pytest.raises(ValueError, match=r"asked 4 questions and gave (3|1) judgements"):
    with assistants.own_errors():
      _long_program(_Judge(short))(_facts(4)).block_until_ready()


def test_a_request_knows_how_its_answer_is_read(tmp_path):
  from tests.assistants.server import Answer, serve
  with serve(lambda number, payload: Answer(payload["messages"][0]["content"])) as server:
    judge = assistants.ChatJudge(
        assistants.ChatClient(server.base_url, "m", api_key="", cache_dir=tmp_path), float, neutral=0.5)
    request = lambda text, parse=None: Request(({"role": "user", "content": text},), parse=parse)
    read = judge([request("2"), request("a-b", lambda text: text.split("-")), request("x", lambda text: None),
                  request("3", functools.partial(int, base=4))])
  assert [j.value for j in read] == [2.0, ["a", "b"], None, 3] and [j.score for j in read] == [2, 0.5, 0.5, 3]
  assert judge.totals["unparsable"] == 1
