"""Global and episodic bonuses: what each arm pays, what a context is, and the rule of the verdict."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.control import bonuses as config_file
from experiments.control import bonuses
from rlcore import exploration
from rlcore.training import sweep
from rlcore.types import Stream

_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster


def _stream(cells, is_first):
  zero = jnp.zeros(cells.shape)
  return Stream(zero, zero, zero + 1, zero, zero, zero, zero, zero + 1, info={"cell": jnp.asarray(cells)},
                is_first=jnp.asarray(is_first))


def test_the_elliptical_bonus_of_one_hot_features_is_that_of_the_matrix():
  cells = np.random.default_rng(0).integers(0, 5, 40)
  exact, counts = _jit(lambda cells: (
      exploration.elliptical_bonus(jax.nn.one_hot(cells, 5), ridge=0.1), exploration.episodic_count(cells)))(cells)
  np.testing.assert_allclose(bonuses.one_hot_elliptical(counts**-0.5, 0.1), exact, rtol=1e-3)


def test_each_arm_pays_what_its_name_says():
  rng = np.random.default_rng(0)
  cells, is_first = rng.integers(0, 6, (2, 9, 3)), rng.random((2, 9, 3)) < 0.3
  is_first[0, 0] = True
  table, own, told = np.zeros(6), np.zeros((3, 6)), []
  want = {name: np.zeros((2, 9, 3)) for name in config_file.ARMS}
  for r, t, n in np.ndindex(2, 9, 3):
    own[n] = 0 if is_first[r, t, n] else own[n]
    cell = cells[r, t, n]
    table[cell], own[n, cell] = table[cell] + 1, own[n, cell] + 1
    g, e = table[cell]**-0.5, own[n, cell]**-0.5
    told.append(1 / (own[n, cell] - 0.9))
    for name, bonus in (("global", g), ("episodic", e), ("product", g * e), ("elliptical", told[-1])):
      want[name][r, t, n] = bonus
  for r in range(2):
    want["elliptical"][r] /= np.std(told[:27 * (r + 1)])

  @_jit
  def pay(weights, streams):
    config = config_file.get_config().weights
    with config.ignore_type():
      config.update(weights)
    reward = bonuses.bonus_reward(config, 6)
    first, state = reward.apply(reward.init(jax.random.key(0), 3), streams[0])
    return jnp.stack([first, reward.apply(state, streams[1])[0]])

  streams = [_stream(cells[r], is_first[r]) for r in range(2)]
  for name, arm in config_file.ARMS.items():
    config = sweep.apply_overrides(config_file.get_config(), {**arm, "weights.coef": 0.5})
    np.testing.assert_allclose(pay(config.weights.to_dict(), streams), 1 + 0.5 * want[name], rtol=1e-4)


@pytest.mark.parametrize("contexts", [5, 0])
def test_a_run_has_as_many_mazes_as_it_should(contexts):
  draw = functools.partial(bonuses.draw_context, contexts=contexts, cells=5, horizon=80,
                           context_key=jax.random.key(3))
  walls = np.asarray(_jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 60)).walls)
  assert len({x.tobytes() for x in walls}) == (contexts or 60)


@pytest.mark.slow
def test_an_update_is_finite_and_counts_cells():
  config = config_file.get_config("smoke")
  experiment = bonuses.make_experiment(config)
  state, metrics = _jit(lambda key: experiment.update(experiment.init(key)))(jax.random.key(0))
  assert np.all(np.isfinite(list(metrics.values()))) and metrics["bonus"] > 0
  assert int(jnp.sum(state.reward_state[0])) == 120 and metrics["cells_seen"] == np.sum(state.reward_state[0] > 0)


def _result(**settings):
  """A result in which every arm has the same rate on every seed, but for a little noise."""
  noise = np.linspace(-0.01, 0.01, 5)
  variants = {}
  for variant in config_file.VARIANTS:
    rates = dict(none=0.1, episodic=0.5, product=0.5, elliptical=0.5) | {"global": 0.5} | settings.get(variant, {})
    values = {name: list(rate + noise * (name == "global")) for name, rate in rates.items()}
    variants[variant] = {"arms": {name: {"values": {config_file.CLAIM.metric: x}} for name, x in values.items()}}
  return {"claim": dataclasses.asdict(config_file.CLAIM), "variants": variants}


def test_the_rule_of_the_verdict():
  cross = {"corridors": {"global": 0.9, "episodic": 0.2, "product": 0.9},
           "maze_infinite": {"global": 0.2, "episodic": 0.8, "product": 0.75}}
  judge = lambda **changes: config_file.verdict(_result(**{**cross, **changes}))[0]
  assert judge() == "reproduced"
  assert judge(corridors={"global": 0.4, "episodic": 0.5}) == "not reproduced"
  assert judge(maze_infinite={"global": 0.52, "episodic": 0.5}) == "not reproduced"
  assert judge(maze_infinite={"global": 0.5, "episodic": 0.5}) == "inconclusive"  # the interval contains 0
  assert judge(maze_5={"product": 0.3}) == "not reproduced"  # worse than both by more than 0.15
  assert judge(maze_5={"product": 0.38}) == "inconclusive"  # worse than the better one by more than 0.1
  near = {"global": 0.65, "episodic": 0.8, "product": 0.75}
  assert judge(maze_infinite=near) == "inconclusive"  # the gap is below 0.2
