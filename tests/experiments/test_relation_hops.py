"""What SLATE's and PPR's experiments make of played episodes, against loops over their steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.credit import ppr as ppr_config
from configs.credit import slate as slate_config
from experiments.credit import ppr, slate
from rlcore.training import control
from rlcore.types import Rewards

_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles twice as fast


@functools.cache
def _slate_rows():
  """Four groups of whole trajectories and four of branching ones, by the untrained policy."""
  config = slate_config.get_config("smoke")
  config.questions = 4

  @_jit
  def play(branch):
    with_branch = config.copy_and_resolve_references()
    with with_branch.ignore_type():
      with_branch.branch = branch
    parts = slate._parts(with_branch, jax.random.key(0))
    params = parts.agent.init(jax.random.key(1))
    rows = control.play(parts, params, jax.random.key(2), parts.instances(jax.random.key(3)))
    outcome = jax.vmap(jax.vmap(parts.outcome))(rows)
    return rows, jax.vmap(functools.partial(slate._with_step_rewards, config))(Rewards(outcome), rows)

  return config, jax.device_get(play(0.0)), jax.device_get(play(1.0))


def _normalised(values):
  values = np.asarray(values, np.float64)
  if len(values) < 2 or np.ptp(values) == 0:
    return np.zeros(len(values))
  return (values - values.mean()) / (values.std(ddof=1) + 1e-6)


def _oracle(arm, outcome, reward, active):
  """Credit of each step `[k, S]`, row by row; `reward` and `active` are `[k, S]`."""
  k, steps = reward.shape
  out = np.zeros((k, steps))
  if arm in ("outcome", "total"):
    whole = _normalised(outcome if arm == "outcome" else [reward[j][active[j]].sum() for j in range(k)])
    return np.where(active, whole[:, None], 0)
  for s in range(steps):
    rows = [j for j in range(k) if active[j, s]]
    value = lambda j: reward[j, s] if arm == "step" else sum(reward[j, u] for u in range(s, steps) if active[j, u])
    out[rows, s] = _normalised([value(j) for j in rows])
  return out


@pytest.mark.parametrize("arm", ["outcome", "total", "to_go", "step"])
@pytest.mark.parametrize("branch", [0, 1])
def test_credit_of_the_arms_of_slate(arm, branch):
  config, *played = _slate_rows()
  rows, group = played[branch]
  weights = config.credit.copy_and_resolve_references()
  weights.update({name: float(name == arm) for name in weights})
  got = jax.vmap(functools.partial(slate._advantages, weights))(Rewards(group.outcome, group.process), rows)
  for g in range(4):
    active = rows.mask[g, :, 1::2] > 0
    want = _oracle(arm, group.outcome[g], group.process[g, :, 1::2], active)
    np.testing.assert_allclose(got[g], np.repeat(want, 2, 1), rtol=1e-4, atol=1e-5)


def test_step_rewards_of_slate_and_equal_sampling():
  _, *played = _slate_rows()
  for branch, (rows, group) in enumerate(played):
    assert rows.mask.shape == (4, 5, 10)
    for g, j, s in np.ndindex(4, 5, 5):
      plan, action = rows.info["score"][g, j, 2 * s:2 * s + 2]
      want = plan + action + (0.1 * (5 - s) / 5 if rows.info["is_answer"][g, j, 2 * s + 1] else 0)
      counts = rows.mask[g, j, 2 * s] > 0
      np.testing.assert_allclose(group.process[g, j, 2 * s + 1], want if counts else 0, atol=1e-5)
      assert group.process[g, j, 2 * s] == 0
    seen = rows.observation[:, :, ::2]  # at the start of each step
    assert np.all(seen == seen[:, :1]) == bool(branch)
    if branch:  # siblings share their prefix, so that all of them count or none
      assert np.all(rows.mask == rows.mask[:, :1])


def test_the_questions_of_slate_are_held_out():
  config = slate_config.get_config()
  draw = _jit(functools.partial(slate._draw, config, jax.random.key(5)), static_argnames=("number", "held_out"))
  numbers = lambda q: {tuple(row) for row in np.column_stack([q.start, q.chain]).tolist()}
  train = numbers(draw(jax.random.key(0), number=20000))
  test = numbers(draw(jax.random.key(1), number=5000, held_out=True))
  assert (len(train), len(test)) == (1440 - 256, 256) and not train & test


def test_demonstrations_of_ppr_are_those_of_the_script():
  config = ppr_config.get_config()
  batches = _jit(jax.vmap(functools.partial(ppr._demonstrations, config, jax.random.key(0))))(
      jax.random.split(jax.random.key(1), 40))
  mask, action, seen = (np.asarray(x)[:, :, 0] for x in (batches.mask, batches.action, batches.observation))
  assert mask.shape == (40, 256) and mask.mean() > 0.95
  # the first step: queries of the chain's first relation with probability 0.6 and a 29th of the rest
  first = (seen[..., 63] > 0) & (mask > 0)
  right = action[first] == np.argmax(seen[..., 24:29], -1)[first]
  np.testing.assert_allclose(right.mean(), 0.6 + 0.4 / 29, atol=0.03)


def test_rewards_of_ppr_are_the_mode_that_is_chosen():
  config = ppr_config.get_config("smoke")
  scripted = _jit(jax.vmap(functools.partial(ppr._scripted, config, jnp.zeros((24, 5), jnp.int32), skill=0.6)))
  episodes = jax.device_get(scripted(jax.random.split(jax.random.key(0), 30)))
  outcome = np.asarray(episodes.reward_t).sum(1)
  assert 0 < outcome.mean() < 1
  for mode, weight in (("outcome", 1.0), ("add", 1.0), ("multiply", 1.0), ("renorm", 1.0), ("renorm", 0.3)):
    mix = {name: float(name == mode) for name in config.mix}
    got = np.asarray(ppr._step_rewards(mix, weight, jnp.asarray(outcome), episodes))
    for g in range(30):
      length = int(episodes.mask[g].sum())
      for t in range(8):
        score = episodes.info["principles"][g, t].sum() / 6
        r = outcome[g]
        earned = {"outcome": 0.0, "add": score, "multiply": score * r, "renorm": score + r - 1}[mode]
        want = r if t == length - 1 else weight * earned if t < length else 0.0
        np.testing.assert_allclose(got[g, t], want, atol=1e-5)
