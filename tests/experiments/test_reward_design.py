"""Reward design: one update of ExploRS against a NumPy loop of the algorithm, the study's parts, and the rule."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.control import reward_design as config_file
from experiments.control import reward_design, reward_design_line
from rlcore.training import sweep

_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster


def _softmax(x):
  return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


@pytest.fixture(scope="module")
def updated():
  """States and metrics `[arms]` after each of two updates, all arms in one program, and the experiment's config."""
  config = config_file.get_config("smoke")
  config.distractor = 0.5  # something to learn from in so few steps
  config.max_bonus = 2.0
  def run(values):
    own = config.copy_and_resolve_references()
    with own.ignore_type():
      own.phi_coef, own.bonus = values
    experiment = reward_design.make_experiment(own)
    def step(state, _):
      state, metrics = experiment.update(state)
      return state, (state, metrics, experiment.evaluate(state))
    return jax.lax.scan(step, experiment.init(jax.random.key(1)), None, 2)[1]
  arms = jnp.array([(arm["phi_coef"], arm["bonus"]) for arm in config_file.ARMS.values()])
  return jax.device_get(_jit(jax.vmap(run))(arms)), config


def _follow(episodes, config, phi_coef, bonus, before):
  """Runs the algorithm's book-keeping over ten recorded episodes; returns policy, phi, critic, visits and payments."""
  theta, phi, value, counts = (np.array(x, np.float64) for x in before)
  paid_all, returns_all, probs_all = [], [], []
  steps = [[(int(episodes.states[i, t]), int(episodes.actions[i, t])) for t in np.flatnonzero(episodes.mask[i])]
           for i in range(10)]
  for i, episode in enumerate(steps):
    probs_all.append(_softmax(theta).copy())
    paid, original = [], []
    for t, (s, a) in enumerate(episode):
      last = t + 1 == len(episode)
      after = int(episodes.next_states[i, t])
      r = (s == config.places - 1 and a == 1) + config.distractor * (s == config.distractor_at and a == 0)
      arrived = 0.0 if bonus == 0 or (last and after == config.places) else (
          bonus / np.sqrt((bonus / config.max_bonus) ** 2 + counts[after]))
      original.append(r)
      paid.append(r + phi_coef * phi[s, a] + arrived)
      counts[s] += 1
    returns = [sum(config.discount**k * x for k, x in enumerate(original[t:])) for t in range(len(episode))]
    paid_all.append(paid)
    returns_all.append(returns)
    if i % 5 == 4:
      lately = range(max(i - 9, 0), i + 1)
      grad, error, total = np.zeros_like(phi), np.zeros_like(value), 0
      for j in lately:
        for t, (s, a) in enumerate(steps[j]):
          d, p = returns_all[j][t] - value[s], probs_all[j][s]
          grad[s] += p[a] * d * (np.eye(2)[a] - p)
          error[s] += d
          total += 1
      phi, value = phi + 0.01 * grad, value + 0.01 * error / total
    if i % 2 == 1:
      grad, total = np.zeros_like(theta), 0
      for j in range(max(i - 4, 0), i + 1):
        for t, (s, a) in enumerate(steps[j]):
          ahead = sum(config.discount**k * x for k, x in enumerate(paid_all[j][t:]))
          grad[s] += ahead * (np.eye(2)[a] - _softmax(theta)[s])
          total += 1
      theta = theta + 0.1 * grad / total
  return theta, phi, value, counts, paid_all, returns_all


@pytest.mark.parametrize("arm", range(4), ids=list(config_file.ARMS))
def test_ten_episodes_are_the_algorithm(updated, arm):
  (states, metrics, said), config = updated
  after = jax.tree.map(lambda x: x[arm, 0], states)
  zero = np.zeros((config.places + 1, 2))
  own = list(config_file.ARMS.values())[arm]
  theta, phi, value, counts, paid, returns = _follow(
      after.recent, config, own["phi_coef"], own["bonus"], (zero, zero, zero[:, 0], zero[:, 0]))
  for got, want in zip((after.theta, after.phi, after.value, after.counts), (theta, phi, value, counts)):
    np.testing.assert_allclose(got, want, atol=1e-5)
  assert np.abs(phi).max() > 0 and after.counts.sum() == after.recent.mask.sum() == metrics["tokens"][arm, 0]
  np.testing.assert_allclose(metrics["return"][arm, 0], np.mean([r[0] for r in returns]), atol=1e-5)
  np.testing.assert_allclose(metrics["paid"][arm, 0], np.mean([sum(p) for p in paid]), atol=1e-4)
  np.testing.assert_allclose(said["midway"][arm], np.repeat(metrics["return"][arm, 0], 2), atol=1e-6)
  np.testing.assert_allclose(said["end"][arm], [0, metrics["return"][arm, 1]], atol=1e-6)  # a window is one update here


def test_episodes_that_do_not_fit_the_rhythm_are_refused():
  config = config_file.get_config("smoke")
  config.episodes = 15
  with pytest.raises(ValueError, match="episodes=15 must be a multiple of 10"):
    reward_design.make_experiment(config)


def test_the_study_of_the_line():
  """Its rewards keep the expert's margins, and the seeds of a small one count episodes for every arm."""
  config = config_file.get_config("smoke")
  expert = reward_design_line.Expert(config)
  assert expert.policy.tolist() == [1] * 5 and (expert.optimal == [0, 1]).all()
  np.testing.assert_allclose(expert.best, np.sum(0.95 ** np.arange(4, 10)), rtol=1e-5)
  policies = np.array([np.tile([0.0, 1], (5, 1)), np.full((5, 2), 0.5)])
  right, random = _jit(jax.vmap(expert.true_return))(policies)
  np.testing.assert_allclose(right, expert.best, rtol=1e-5)
  start, value = expert.tables.initial, np.zeros(5)
  for _ in range(10):
    value = (0.5 * (expert.tables.rewards + 0.95 * expert.tables.transition @ value)).sum(1)
  np.testing.assert_allclose(random, start @ value, rtol=1e-4)
  told = jax.device_get(_jit(jax.vmap(reward_design.make_study(config)))(jax.vmap(jax.random.key)(jnp.arange(2))))
  episodes = {name: x for name, x in told.items() if name.startswith("episodes/")}
  assert len(episodes) == 6 and all(((1 <= x) & (x <= 4)).all() for x in episodes.values())
  assert told["episodes/original"].max() == 4 and told["episodes/adaptive"].min() < 4
  assert all(x.max() <= 1e-4 for name, x in told.items() if name.startswith("violation/"))
  for name in ("exprd", "exprd, R_max 10"):
    assert told[f"informativeness/{name}, 1 states"][0] < told[f"informativeness/{name}, 2 states"][0] <= 0
    assert told[f"nonzero_states/{name}"][0] <= 2


GOOD = {"original": (0.0, 0.0), "explob": (0.0, 2.0), "selfrs": (0.1, 13.0), "explors": (11.0, 13.6)}


@pytest.mark.parametrize("changed, exprd, want", [
    ({}, 200, "reproduced"), ({}, 600, "inconclusive"), ({}, 1000, "inconclusive"), ({}, 2000, "not reproduced"),
    ({"explors": (7.9, 13.6)}, 200, "inconclusive"), ({"explob": (2.1, 3.0)}, 200, "inconclusive"),
    ({"explors": (11.0, 12.8)}, 200, "inconclusive"), ({"original": (0.0, 0.2)}, 200, "inconclusive"),
    ({"selfrs": (11.0, 13.0)}, 200, "not reproduced"), ({"explob": (11.5, 13.0)}, 200, "inconclusive")])
def test_the_rule_of_the_verdict(changed, exprd, want):
  def variant(means):
    noise = np.linspace(-0.01, 0.01, 10)
    return {"arms": {arm: {"values": {config_file.MIDWAY: list(a + noise), config_file.END: list(b + noise)}}
                     for arm, (a, b) in means.items()}}
  study = {"metrics": {"episodes/original": [1000.0] * 9 + [1.0], "episodes/exprd": [exprd] * 10}}
  for first, second in ((GOOD, GOOD | changed), (GOOD | changed, GOOD)):  # both variants count
    result = {"claim": dataclasses.asdict(config_file.CLAIM), "study": study,
              "variants": {"plain": variant(first), "distractor": variant(second)}}
    assert config_file.verdict(result)[0] == want


def test_the_arms_are_one_program():
  config = config_file.get_config()
  assert len({sweep.program_name(sweep.split_overrides(config, arm)[0]) for arm in config_file.ARMS.values()}) == 1
