"""The second part of reward design: rewards from a teacher, for tabular Q-learning on a line (arXiv:2503.21949).

EXPRD's sparse reward, found once by a linear program, and ExpAdaRD's, found anew for the current learner, against the
original reward and potential-based shaping with the same knowledge. `experiments.control.reward_design` has the first.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from rlcore import reward_models, rewards, tabular
from rlcore.envs import chain
from rlcore.training import tabular_q
from rlcore.types import Array, Metrics


class Expert:
  """What a teacher of the line knows: its tables, best values, best policy, and the margins of that."""

  def __init__(self, config: ml_collections.ConfigDict):
    """Solves the line of `config.study`."""
    study = config.study
    self.shape = dict(places=study.places, start=0, has_exit=False, distractor_at=0)
    self.params, self.discount, self.horizon = chain.ChainParams(0.0, 1.0, 0.0), study.discount, study.horizon
    self.tables = chain.chain_tables(self.params, **self.shape)
    paid, transition = self.tables.rewards, self.tables.transition
    solve = lambda count: np.asarray(tabular.value_iteration(paid, transition, self.discount, count), float)
    q = solve(1000)
    self.policy, self.values = np.argmax(q, 1), np.max(q, 1)
    self.optimal = q > self.values[:, None] - 1e-4
    self.best = float(self.tables.initial @ np.max(solve(self.horizon), 1))
    gap = tabular.optimality_gap(paid, transition, self.policy, self.discount)
    self.margin = np.asarray(tabular.state_margin(gap, self.optimal), float) / (1 + 1e-5)
    self.knowledge = transition, self.policy, self.optimal, self.margin, self.discount
    self.advantage = -np.asarray(gap)
    self.occupancy = self.occupied(jax.nn.one_hot(self.policy, 2))

  def occupied(self, probs: Array) -> Array:
    """Discounted time `[S]` that a policy `[S, A]` spends in each state."""
    return tabular.discounted_occupancy(
        self.tables.transition, probs, self.tables.initial, self.discount, self.tables.terminal)

  def true_return(self, probs: Array) -> Array:
    """Evaluates a policy in the true task, exactly, over the horizon."""
    follow = jnp.einsum("sa,saz->sz", probs, self.tables.transition, precision="highest")
    def back(value, _):
      return jnp.sum(probs * self.tables.rewards, 1) + self.discount * jnp.dot(follow, value, precision="highest"), None
    return jnp.dot(self.tables.initial, jax.lax.scan(back, jnp.zeros(len(follow)), None, self.horizon)[0])


def designs(expert: Expert, config: ml_collections.ConfigDict) -> tuple[dict[str, np.ndarray], dict[str, float]]:
  """Designs the rewards `[S, A]` that stay as they are, by arm, and measures them."""
  study, paid, transition = config.study, expert.tables.rewards, expert.tables.transition
  shaped = paid + expert.discount * transition @ expert.values - expert.values[:, None]
  found, told = {"original": paid, "potential": shaped}, {}
  goal = paid.max(1) > 0
  for r_max, name in zip(study.r_max, ("exprd", "exprd, R_max 10"), strict=True):
    for budget in range(1, study.budget + 1):
      active = reward_models.greedy_active_states(*expert.knowledge, study.num_terms, r_max, goal, budget)
      told[f"informativeness/{name}, {budget} states"] = reward_models.exprd_optimum(
          *expert.knowledge, study.num_terms, r_max, active)
    found[name] = reward_models.exprd_design(*expert.knowledge, study.num_terms, r_max, active)
  for name, table in found.items():
    told[f"violation/{name}"] = float(rewards.invariance_violation(table, *expert.knowledge))
    told[f"nonzero_states/{name}"] = float(np.sum(np.abs(table).max(1) > 1e-6))
  return found, told


def make_study(config: ml_collections.ConfigDict) -> Callable[[Array], Metrics]:
  """Builds the study: Q-learning on the line under each reward.

  Args:
    config: reads `study`.

  Returns:
    `study(key) -> metrics`: `episodes/...` of each arm, the first after which the greedy policy is within 1 % of the
    best (their number where none is); and measures of the rewards, which no key moves.
  """
  study, expert = config.study, Expert(config)
  fixed, told = designs(expert, config)
  adaptive = ("adaptive", "adaptive, R_max 10")
  names, table = (*fixed, *adaptive), jnp.asarray(np.stack(list(fixed.values())), jnp.float32)
  world = chain.make_chain(horizon=expert.horizon, **expert.shape)

  def solve(weights, r_max):  # on the host, for a whole batch
    flat, sizes = np.asarray(weights).reshape(-1, *expert.optimal.shape), np.asarray(r_max).reshape(-1)
    one = lambda w, r: reward_models.adaptive_design(w, *expert.knowledge, float(r), np.ones(len(w)))
    return np.stack([one(w, r) for w, r in zip(flat, sizes, strict=True)]).reshape(weights.shape).astype(np.float32)

  def design(q, r_max):
    probs = tabular_q.greedy_probs(q, study.epsilon)
    weights = rewards.adaptive_weights(
        probs, expert.advantage, expert.occupancy, expert.occupied(probs)[:, None] * probs)
    return jax.pure_callback(
        solve, jax.ShapeDtypeStruct(q.shape, jnp.float32), weights, r_max, vmap_method="broadcast_all")

  def one_episode(q, key, paid):
    q, _ = tabular_q.q_learning_episode(
        world, chain.place, q, key, expert.params, learning_rate=study.lr, epsilon=study.epsilon,
        discount=study.discount, pay=lambda reward, state, action, after: paid[state, action])
    return q, expert.true_return(tabular_q.greedy_probs(q)) >= 0.99 * expert.best

  def block(carry, keys):
    q, first, count = carry
    paid = jnp.concatenate([table, jax.vmap(design)(q[len(table):], jnp.asarray(study.r_max, jnp.float32))])
    def follow(carry, key):
      q, first, count = carry
      q, good = jax.vmap(one_episode, (0, None, 0))(q, key, paid)
      return (q, jnp.where(good & (first > count), count + 1, first), count + 1), None
    return jax.lax.scan(follow, (q, first, count), keys)[0], None

  def run(key):
    blocks = study.episodes // study.every
    keys = jax.random.split(key, (blocks, study.every))
    start = jnp.zeros((len(names), *expert.optimal.shape)), jnp.full(len(names), blocks * study.every, jnp.int32), 0
    first = jax.lax.scan(block, start, keys)[0][1]
    return {f"episodes/{name}": first[i].astype(jnp.float32) for i, name in enumerate(names)} | {
        name: jnp.asarray(value, jnp.float32) for name, value in told.items()}

  return run
