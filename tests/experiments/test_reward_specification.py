"""Rewards by constraints: what each arm pays, how its weights move, the study, and the rule of the verdict."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.control import reward_specification as config_file
from experiments.control import reward_specification
from rlcore.training import constrained
from rlcore.types import Stream

_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster
_LIMITS = np.array([0.01, 0.2, 0.9, 0.05, 0.2])


def _streams():
  """Three rollouts `[7, 4]` with ends; in the last none ends."""
  rng = np.random.default_rng(0)
  for r in range(3):
    ends = rng.integers(0, 3, (7, 4)) * (r < 2)  # 1: reached the goal, 2: out of time
    zero = jnp.zeros((7, 4))
    won, costs = (jnp.asarray(x, jnp.float32) for x in (ends == 1, rng.random((7, 4, 4)) < 0.4))
    yield Stream(zero, zero, won, 0.99 * (1 - won), zero, zero, zero, zero + 1, info={"costs": costs},
                 is_first=zero > 0, truncated=jnp.asarray(ends == 2))


def _by_hand(switches, streams):
  """The arms in plain numbers, with the optimiser's Adam written out; yields what is paid and the weights after it."""
  logits, mean, square, plain = np.zeros(5), np.zeros(5), np.zeros(5), np.append(switches.start, 0.0)
  live = np.array([1, 1, 1, 1, switches.bootstrap])

  def weigh():
    powers = np.exp(logits) * live
    shares = powers / (1 + powers.sum())
    main = max(1 / (1 + powers.sum()), shares[4])
    return (main, shares) if switches.normalised else (1.0, plain)

  for t, stream in enumerate(streams, 1):
    costs = np.asarray(stream.info["costs"])
    main, multipliers = weigh()
    paid = main * np.asarray(stream.reward_t) - costs @ multipliers[:4]
    won, late = np.sum(np.asarray(stream.discount_t) == 0), np.sum(np.asarray(stream.truncated))
    excess = np.append(costs.mean((0, 1)), late / (won + late) if won + late else 0.2) - _LIMITS
    shares = np.exp(logits) * live / (1 + (np.exp(logits) * live).sum())
    gradient = -shares * (excess - shares @ excess)
    mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
    logits = logits - switches.lr * (mean / (1 - 0.9**t)) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
    plain = np.maximum(plain + switches.step_size * excess, 0) * (1, 1, 1, 1, 0)
    yield paid, weigh()


def test_each_arm_pays_and_moves_as_its_name_says():
  streams = list(_streams())

  @_jit
  def pay(switches, streams):
    reward = constrained.lagrangian(switches, jnp.asarray(_LIMITS, jnp.float32), 2)
    state, told = reward.init(jax.random.key(0), 4), []
    for stream in streams:
      paid, state = reward.apply(state, stream)
      told.append((paid, constrained.weights(state, switches)))
    return told

  fixed = np.array([0.1, 1.0, 10.0, 1.0])
  for normalised, bootstrap, step, start in (
      (1.0, 1.0, 0.0, 0 * fixed), (1.0, 0.0, 0.0, 0 * fixed), (0.0, 0.0, 0.5, 0 * fixed), (0.0, 0.0, 0.0, fixed)):
    switches = constrained.Switches(normalised, bootstrap, 0.5, step, start)
    want = list(_by_hand(switches, streams))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), pay(switches, streams), want)


def test_the_window_looks_back_on_whole_rollouts():
  switches = constrained.Switches(0.0, 0.0, 0.0, 0.0, jnp.zeros(4))
  limits = jnp.asarray(_LIMITS, jnp.float32)
  state = constrained.lagrangian(switches, limits, 3).init(jax.random.key(0), 4)
  describe = _jit(lambda state: reward_specification.describe(
      state, None, None, None, switches=switches, limits=limits, slack=0.02))
  tell = lambda rows: describe(state | {"recent": jnp.array(rows)})
  row = [0.02, 0.1, 0.8, 0.0, 1.0, 10.0]
  none = [0.0] * 6
  told = tell([row, none, none])  # two rollouts are still to come
  assert told["feasible"] == 1 and told["window/rules"] == 1 and told["window/success"] == np.float32(0.9)
  told = tell([[0.06, 0.1, 1.0, 0.0, 9.0, 10.0], row, none])  # means: lava 0.04, marker 0.9, half of the episodes fail
  assert told["feasible"] == 0 and told["window/rules"] == 0.75 and told["window/success"] == 0.5
  np.testing.assert_allclose(told["rate/lava"], 0.04, rtol=1e-5)
  assert tell([[0.02, 0.1, 0.8, 0.0, 3.0, 10.0]] * 3)["feasible"] == 0  # the rules alone are not enough
  assert tell([none] * 3)["feasible"] == 0


@pytest.mark.slow
def test_an_update_and_the_study_are_finite():
  config = config_file.get_config("smoke")
  experiment = reward_specification.make_experiment(config)
  state, metrics = _jit(lambda key: experiment.update(experiment.init(key)))(jax.random.key(0))
  assert np.all(np.isfinite(list(metrics.values())))
  assert metrics["nonfinite_reward"] == 0 and int(state.reward_state["adam"][0].count) == 1
  assert np.any(np.asarray(state.reward_state["logits"]) != 0)
  found = _jit(reward_specification.make_study(config))(jax.random.key(0))
  settings = np.stack([found[f"penalty/{name}"] for name in config_file.RULES], 1)
  assert settings.shape == (2, 4) and len(np.unique(settings, axis=0)) == 2
  assert set(settings.reshape(-1)) <= {np.float32(x) for x in reward_specification.PENALTIES}
  assert all(np.all(np.isfinite(x)) for x in found.values())


def _result(ours=8, fixed=0):
  count = lambda n, total: [1.0] * n + [0.0] * (total - n)
  metrics = (config_file.CLAIM.metric, *config_file.CLAIM.also)
  arms = {name: {"values": {metric: count(ours if name == config_file.CLAIM.method else 0, 8) for metric in metrics}}
          for name in config_file.ARMS}
  return {"claim": dataclasses.asdict(config_file.CLAIM), "variants": {"default": {"arms": arms}},
          "study": {"seeds": [0], "metrics": {"feasible": [count(fixed, 27)]}}}


def test_the_rule_of_the_verdict():
  judge = lambda **found: config_file.verdict(_result(**found))[0]
  assert judge() == "reproduced"
  assert judge(ours=7) == judge(fixed=2) == judge(ours=1) == judge(ours=4, fixed=13) == "inconclusive"
  assert judge(ours=0) == judge(fixed=22) == "not reproduced"
  assert "infeasible fixed settings +0.926" in config_file.verdict(_result(fixed=2))[1]
