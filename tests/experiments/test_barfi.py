"""BARFI's composition: its hypergradient against matrices, what each arm does, and the rule of the verdict."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.control import barfi as config_file
from experiments.control import barfi
from rlcore import losses, stats
from rlcore.envs import decoy_grid
from rlcore.training import bilevel

_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster
SLIP, PROGRESS, DECOY = 0.1, 0.2, 0.3


@pytest.fixture(scope="module")
def config():
  config = config_file.get_config("smoke")
  config.heuristic.update(dict(slip=SLIP, progress=PROGRESS, decoy=DECOY))
  config.episodes = 32
  return config


@pytest.fixture(scope="module")
def played(config):
  """A policy and 32 episodes of it; some reach the goal, some do not."""
  theta = jax.random.normal(jax.random.key(0), (9, 4))
  play = barfi.make_play(decoy_grid.make_decoy_grid(**config.world),
                         decoy_grid.Heuristic(*map(jnp.float32, (SLIP, PROGRESS, DECOY))))
  episodes = _jit(lambda theta, key: play(theta, key, 32))(theta, jax.random.key(1))
  assert 0 < barfi.success_rate(episodes) < 1
  return theta, episodes


@pytest.fixture(scope="module")
def update(config):
  """`(state, **numbers) -> (state, metrics)`, one update of any arm, compiled once."""
  traces = []

  @_jit
  def run(state, numbers):
    traces.append(1)
    own = config.copy_and_resolve_references()
    with own.ignore_type():
      own.update(numbers)
    return barfi.make_experiment(own).update(state)

  numbers = dict(outer=1.0, learn_weights=1.0, learn_discount=1.0, outer_lr=0.05, shaping=0.0)
  yield lambda state, **changed: run(state, numbers | changed)
  assert len(traces) == 1


def test_the_hypergradient_needs_no_matrices(config, played):
  """Matrix-free, by vectors alone, equals the Neumann series of the averaged Jacobians of a table."""
  theta, episodes = played
  mixture = {"weights": jnp.array([0.1, 0.8, 0.5]), "logit": jnp.array(1.5)}
  v = barfi.outer_gradient(theta, episodes)

  @_jit
  def both():
    free = bilevel.bilevel_hypergradient(
        lambda theta, mixture: barfi.inner_update(config, theta, mixture, episodes), v, theta, mixture, 0.1, 5, 0.05)
    one = lambda x: losses.tabular_inner_jacobians(
        theta, mixture["weights"], mixture["logit"], x.info["cell"], x.action, x.mask, x.reward_t, x.info["aux"],
        config.ent_coef)
    h, a, b = jax.tree.map(lambda x: jnp.mean(x, 0), jax.vmap(one)(episodes))
    return free, bilevel.implicit_hypergradient(v.ravel(), h, jnp.concatenate([a, b[:, None]], 1), 0.1, 5, 0.05)

  free, dense = both()
  np.testing.assert_allclose(jnp.append(free["weights"], free["logit"]), dense, rtol=1e-4, atol=1e-6)
  assert np.all(np.abs(dense) > 1e-5)


def test_the_outer_gradient_is_a_policy_gradient_of_the_true_reward(played):
  theta, episodes = jax.device_get(played)
  alive = episodes.mask > 0
  ahead = np.cumsum((episodes.reward_t * alive)[:, ::-1], 1)[:, ::-1]
  mean = [ahead[alive[:, t], t].mean() if alive[:, t].any() else 0 for t in range(alive.shape[1])]
  probs = np.exp(theta) / np.exp(theta).sum(1, keepdims=True)
  want = np.zeros((9, 4))
  for n, t in zip(*np.nonzero(alive)):
    cell = episodes.info["cell"][n, t]
    want[cell] += (np.eye(4)[episodes.action[n, t]] - probs[cell]) * (ahead[n, t] - mean[t]) / len(alive)
  np.testing.assert_allclose(barfi.outer_gradient(theta, episodes), want, atol=1e-6)


def test_shaping_pays_nothing_but_the_potential_of_the_start(config, played):
  """With the learner's own discount, at the goal and when time is up: the first return moves by minus a constant."""
  theta, episodes = played
  shaped = config.copy_and_resolve_references()
  shaped.update(dict(shaping=1.0, ent_coef=0.0))
  mixture = {"weights": jnp.array([0.0, 0.0, 1.0]), "logit": jnp.array(1.0)}
  first = episodes.replace(mask=episodes.mask)
  direction = lambda episode: barfi.inner_update(shaped, theta, mixture, jax.tree.map(lambda x: x[None], episode))
  starts = decoy_grid.potential(decoy_grid.Heuristic(SLIP, PROGRESS, DECOY), jnp.arange(9), 3)
  score = lambda episode: losses.tabular_inner_update(  # every return is minus the potential of where the step began
      theta, episode.info["cell"], episode.action, episode.mask,
      stats.masked(-starts[episode.info["cell"]], episode.mask), 0.0, 0.0)
  got, want = _jit(jax.vmap(lambda x: (direction(x), score(x))))(first)
  np.testing.assert_allclose(got, want, atol=1e-5)


def test_an_arm_without_outer_learner_takes_one_step_more(config, update):
  state = barfi.make_experiment(config).init(jax.random.key(3))
  idle, _ = update(state, outer_lr=0.0)
  alone, metrics = update(state, outer=0.0)
  learner, told = update(state)
  np.testing.assert_array_equal(idle.params["theta"], learner.params["theta"])
  assert np.any(np.abs(alone.params["theta"] - learner.params["theta"]) > 1e-3)
  jax.tree.map(np.testing.assert_array_equal, alone.params["mixture"], state.params["mixture"])
  assert np.all(learner.params["mixture"]["weights"] != state.params["mixture"]["weights"])
  assert metrics["tokens"] == told["tokens"] > 0  # the same episodes


def test_what_is_not_to_be_learned_stays(config, update):
  state = barfi.make_experiment(config).init(jax.random.key(4))
  for name, kept, moved in (("learn_weights", "weights", "logit"), ("learn_discount", "logit", "weights")):
    after, _ = update(state, **{name: 0.0})
    before, after = state.params["mixture"], after.params["mixture"]
    np.testing.assert_array_equal(after[kept], before[kept])
    assert np.any(after[moved] != before[moved])


def _judge(**ends):
  """The verdict of results whose `tail:success` is as told, `bad_barfi=0.9`, say."""
  noise = np.linspace(-0.01, 0.01, 10)
  def value(variant, arm, metric):
    default = 0.0 if (variant, arm) == ("bad", "naive sum") else 0.97
    return list((ends.get(f"{variant}_{arm.split()[0]}", default) if metric == "tail:success" else 0.5) + noise)
  variants = {variant: {"arms": {arm: {"values": {m: value(variant, arm, m) for m in (
      config_file.CLAIM.metric, *config_file.CLAIM.also)}} for arm in config_file.ARMS}} for variant in ("bad", "good")}
  return config_file.verdict({"claim": dataclasses.asdict(config_file.CLAIM), "variants": variants})[0]


def test_the_rule_of_the_verdict():
  assert _judge() == "reproduced"
  assert _judge(good_barfi=0.94) == "not reproduced"
  assert _judge(bad_barfi=0.0) == "not reproduced"
  assert _judge(bad_barfi=0.94) == _judge(bad_naive=0.2) == _judge(good_naive=1.0) == "inconclusive"
