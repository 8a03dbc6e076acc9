"""Credit along a trajectory against sums written from the definitions, in float64, one step and horizon at a time."""

import functools

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np
import pytest

from rlcore import stats
from rlcore.advantages import groups, recurrence, temporal

LENGTHS = (1, 6, 19)


class Oracle:
  """A trajectory without its masked steps; `horizon(t)` lists the steps from t on that t can get credit from."""

  def __init__(self, mask, truncated=None):
    self.shape = np.shape(mask)
    self.steps = [t for t in range(len(mask)) if mask[t] > 0]
    self.cut = np.zeros(self.shape) if truncated is None else truncated

  def horizon(self, t):
    chain = []
    for s in (s for s in self.steps if s >= t):
      chain.append(s)
      if self.cut[s] > 0:
        break
    return chain

  def per_step(self, fn):
    out = np.zeros(self.shape)
    for t in self.steps:
      out[t] = fn(t)
    return out

  def following(self, value, bootstrap):
    """The value at the next counted step."""
    return self.per_step(lambda t: next((value[s] for s in self.steps if s > t), bootstrap))

  def discounted_sum(self, t, terms, factors):
    """Sum over the horizon of terms[s] times the product of the factors of the steps from t to before s."""
    total, weight = 0.0, 1.0
    for s in self.horizon(t):
      total += weight * terms[s]
      weight *= factors[s]
    return total

  def n_step(self, t, n, reward, discount, value_tp1):
    total, weight = 0.0, 1.0
    for s in self.horizon(t)[:n]:
      total += weight * reward[s]
      weight *= discount[s]
      last = s
    return total + weight * value_tp1[last]

  def lambda_return(self, t, reward, discount, value_tp1, lam):
    chain = self.horizon(t)
    total, weight = 0.0, 1.0
    for n, s in enumerate(chain, 1):
      share = weight if n == len(chain) else weight * (1 - lam[s])
      total += share * self.n_step(t, n, reward, discount, value_tp1)
      weight *= lam[s]
    return total


@st.composite
def trajectory(draw, arrays):
  """`arrays` float arrays with NaN in masked places, discounts (some 0), lambdas, a mask with holes, truncations."""
  length = draw(st.sampled_from(LENGTHS))
  rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
  mask = (rng.random(length) < draw(st.sampled_from([0.0, 0.5, 0.8, 1.0]))).astype(np.float32)
  discount = np.where(rng.random(length) < 0.15, 0, rng.uniform(0.5, 1, length))
  lam = rng.uniform(0, 1, length)
  out = [np.where(mask > 0, x, np.nan).astype(np.float32) for x in (*rng.normal(size=(arrays, length)), discount, lam)]
  return out, mask, (rng.random(length) < 0.2).astype(np.float32)


def close(got, want):
  np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


oracle_test = lambda arrays: lambda fn: settings(max_examples=25, deadline=None)(given(trajectory(arrays))(fn))


@oracle_test(3)
def test_gae_is_the_weighted_sum_of_td_errors(case):
  (reward, value, value_tp1, discount, _), mask, truncated = case
  for lam in (0.0, 0.7, 1.0):
    for gamma in (discount, np.full(len(mask), 0.9)):
      for explicit in (False, True):
        path = Oracle(mask, truncated if explicit else None)
        following = value_tp1 if explicit else path.following(value, 1.5)
        error = path.per_step(lambda t: reward[t] + gamma[t] * following[t] - value[t])
        want = path.per_step(lambda t: path.discounted_sum(t, error, gamma * lam))
        settings = dict(value_tp1=value_tp1, truncated=truncated) if explicit else dict(bootstrap_value=1.5)
        scalar = gamma if gamma is discount else np.float32(0.9)
        advantages, returns = temporal.gae(reward, value, mask, scalar, lam, **settings)
        close(advantages, want)
        close(returns, want + np.where(mask > 0, value, 0))


@oracle_test(2)
def test_lambda_returns_mix_all_horizons(case):
  (reward, value_tp1, discount, lam), mask, truncated = case
  for cut in (None, truncated):
    path = Oracle(mask, cut)
    want = path.per_step(lambda t: path.lambda_return(t, reward, discount, value_tp1, lam))
    close(temporal.lambda_returns(reward, discount, value_tp1, lam, mask, truncated=cut), want)
  path, clean = Oracle(np.ones_like(mask), truncated), [np.nan_to_num(x) for x in (reward, discount, value_tp1)]
  want = path.per_step(lambda t: path.lambda_return(t, *clean, np.full(len(mask), 0.8)))
  close(temporal.lambda_returns(*clean, 0.8, truncated=truncated), want)


@oracle_test(2)
def test_n_step_returns(case):
  (reward, value_tp1, discount, _), mask, truncated = case
  for n in (1, 2, 4, 30):
    for cut in (None, truncated):
      path = Oracle(mask, cut)
      want = path.per_step(lambda t: path.n_step(t, n, reward, discount, value_tp1))
      close(temporal.n_step_returns(reward, discount, value_tp1, n, mask, truncated=cut), want)


@oracle_test(1)
def test_reward_to_go(case):
  (reward, discount, _), mask, _ = case
  path = Oracle(mask)
  for gamma in (discount, np.ones(len(mask))):
    terms = np.where(mask > 0, reward, 0)
    want = path.per_step(
        lambda t: path.discounted_sum(t, terms, gamma) + 2.0 * np.prod([gamma[s] for s in path.horizon(t)]))
    scalar = gamma if gamma is discount else 1.0
    close(temporal.reward_to_go(reward, mask, scalar, bootstrap_value=2.0), want)


@oracle_test(4)
def test_vtrace(case):
  (reward, value, value_tp1, log_rho, discount, _), mask, truncated = case
  rho = np.exp(log_rho)
  for lam, bounds in ((1.0, (1.0, 1.0, 1.0)), (0.8, (1.5, 0.7, 2.0))):
    path = Oracle(mask, truncated)
    error = path.per_step(lambda t: min(rho[t], bounds[0]) * (reward[t] + discount[t] * value_tp1[t] - value[t]))
    factors = path.per_step(lambda t: discount[t] * lam * min(rho[t], bounds[1]))
    gain = path.per_step(lambda t: path.discounted_sum(t, error, factors))
    later = path.per_step(lambda t: gain[path.horizon(t)[1]] if len(path.horizon(t)) > 1 else 0.0)
    targets, advantages = temporal.vtrace(
        reward, discount, value, value_tp1, rho, lam, mask, truncated=truncated,
        rho_clip=bounds[0], c_clip=bounds[1], pg_rho_clip=bounds[2])
    close(targets, path.per_step(lambda t: value[t] + gain[t]))
    close(advantages, path.per_step(
        lambda t: min(rho[t], bounds[2]) * (reward[t] + discount[t] * (value_tp1[t] + lam * later[t]) - value[t])))


def test_worked_examples_of_gae():
  advantages, returns = temporal.gae(
      jnp.array([0, -0.3, 0, 0, 0, 1]), jnp.array([0.1, 0.2, 9, 9, 0.3, 0.4]), jnp.array([1, 1, 0, 0, 1, 1]), 1.0, 0.95)
  np.testing.assert_allclose(advantages, [0.514675, 0.4365, 0, 0, 0.67, 0.6], atol=1e-6)
  np.testing.assert_allclose(returns, [0.614675, 0.6365, 0, 0, 0.97, 1], atol=1e-6)
  rewards = np.zeros(11)
  rewards[[1, 6]] = 0.5
  values = np.array([.5, .6, 7, .4, .5, .3, .6, 7, .1, .1, 7])
  advantages, returns = temporal.gae(rewards, values, np.array([1, 1, 0, 1, 1, 1, 1, 0, 1, 1, 0]), 1.0, 0.95)
  np.testing.assert_allclose(
      advantages, [0.478293, 0.398203, 0, 0.103372, 0.003549, 0.214262, -0.09025, 0, -0.095, -0.1, 0], atol=1e-6)
  np.testing.assert_allclose(
      returns, [0.978293, 0.998203, 0, 0.503372, 0.503549, 0.514262, 0.50975, 0, 0.005, 0, 0], atol=1e-6)


def test_estimators_agree_where_they_should():
  rng = np.random.default_rng(0)
  reward, value = rng.normal(size=(2, 24)).astype(np.float32)
  discount = np.full(24, 0.9, np.float32)
  value_tp1 = np.append(value[1:], 0.3).astype(np.float32)
  returns = temporal.lambda_returns(reward, discount, value_tp1, 0.8)
  close(temporal.gae(reward, value, None, 0.9, 0.8, bootstrap_value=0.3)[1], returns)
  close(temporal.gae(reward, value, None, discount, 0.8, value_tp1=value_tp1)[1], returns)
  close(temporal.vtrace(reward, discount, value, value_tp1, np.ones(24), 0.8)[0], returns)
  to_go = temporal.reward_to_go(reward, None, 0.9, bootstrap_value=0.3)
  close(temporal.lambda_returns(reward, discount, value_tp1, 1.0), to_go)
  close(temporal.n_step_returns(reward, discount, value_tp1, 24), to_go)


def test_an_episode_ends_in_the_middle():
  """Two episodes in one trajectory are two trajectories, whether the first terminates or is cut off."""
  rng = np.random.default_rng(1)
  reward, value, value_tp1 = rng.normal(size=(3, 10)).astype(np.float32)
  for discount, end in ((0.0, None), (0.9, np.eye(10)[3])):
    gamma = np.full(10, 0.9, np.float32)
    gamma[3] = discount
    whole = temporal.gae(reward, value, None, gamma, 0.8, value_tp1=value_tp1, truncated=end)[0]
    parts = [temporal.gae(reward[s], value[s], None, gamma[s], 0.8, value_tp1=value_tp1[s])[0]
             for s in (slice(4), slice(4, 10))]
    close(whole, np.concatenate(parts))


def test_bad_input_is_refused():
  ones = jnp.ones(4)
  with pytest.raises(ValueError, match="value_tp1"):
    temporal.gae(ones, ones, truncated=ones)
  with pytest.raises(ValueError, match="n=2.0 must be a whole number"):
    temporal.n_step_returns(ones, ones, ones, 2.0)
  with pytest.raises(ValueError, match="n=0"):
    temporal.n_step_returns(ones, ones, ones, 0)
  with pytest.raises(AssertionError):
    temporal.gae(jnp.ones((2, 4)), jnp.ones((2, 4)))
  with pytest.raises(AssertionError):
    temporal.gae(ones, jnp.ones(5))
  with pytest.raises(AssertionError):
    temporal.gae(ones, ones, gamma=jnp.ones(3))
  with pytest.raises(AssertionError):
    temporal.gae(ones, ones, lam=ones)


def _batch(seed, shape):
  rng = np.random.default_rng(seed)
  mask = (rng.random(shape) < 0.8).astype(np.float32)
  return rng.normal(size=shape).astype(np.float32), rng.normal(size=shape).astype(np.float32), mask


@pytest.mark.parametrize("length", [3, 16, 21])
def test_every_layout_gives_the_same(length):
  reward, value, mask = _batch(2, (4, length))
  gammas, lasts = np.linspace(0.8, 1, 4, dtype=np.float32), np.arange(4, dtype=np.float32)
  one = lambda r, v, m, gamma, last: temporal.gae(r, v, m, gamma, 0.9, bootstrap_value=last)
  want = np.stack([one(*x)[0] for x in zip(reward, value, mask, gammas, lasts)])
  args = reward, value, mask, gammas, lasts
  squares = tuple(x.reshape(2, 2, *x.shape[1:]) for x in args)

  @jax.jit
  def layouts(reward, value, mask, gammas, lasts, squares):
    turned = tuple(x.T for x in (reward, value, mask))
    return (jax.vmap(one)(reward, value, mask, gammas, lasts)[0],
            jax.vmap(one, (1, 1, 1, 0, 0), 1)(*turned, gammas, lasts)[0].T,
            jax.vmap(one, (1, 0, 1, 0, 0))(turned[0], value, turned[2], gammas, lasts)[0],
            jax.vmap(jax.vmap(one))(*squares)[0],
            jax.vmap(jax.vmap(one, (1, 1, 1, 0, 0)), 0)(*(jnp.moveaxis(x, 1, -1) for x in squares))[0],
            jax.vmap(one, (None, 0, None, None, 0))(reward[0], value, mask[0], 0.9, lasts)[0])

  *same, shared = layouts(*args, squares)
  for got in same:
    close(got.reshape(want.shape), want)
  close(shared, np.stack([one(reward[0], v, mask[0], 0.9, last)[0] for v, last in zip(value, lasts)]))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("fn", [
    lambda r, v, m: temporal.gae(r, v, m, 0.9, 0.8), lambda r, v, m: temporal.gae(r, v, None, m, 0.8, value_tp1=v),
    lambda r, v, m: temporal.lambda_returns(r, 0.9, v, 0.8, m, truncated=m), temporal.reward_to_go,
    lambda r, v, m: temporal.vtrace(r, 0.9, v, v, r, 0.8, m, truncated=m)])
def test_vmap_moves_no_trajectory(fn, axis):
  """A transposed copy of the batch would cost more than the estimate."""
  reward, value, mask = _batch(0, (16, 16))
  args = (reward, mask) if fn is temporal.reward_to_go else (reward, value, mask)
  assert "transpose" not in str(jax.make_jaxpr(jax.vmap(fn, axis, axis))(*args))


@pytest.mark.parametrize("length", [1, 4096, 4099])
def test_a_large_batch_with_the_trajectories_in_rows(length):
  """Large enough for `_blocks`, also where T is no multiple of a block or shorter than one."""
  shape = (8, 1 + 2**16 // length // 8, length)
  args = _batch(5, shape)
  one = functools.partial(temporal.gae, gamma=0.99, lam=0.95, bootstrap_value=0.5)
  operands = *args[:2], np.full((1, 1, 1), 0.99), np.full((1, 1, 1), 0.95), np.full((1, 1, 1), 0.5), args[2] > 0
  want = jax.jit(functools.partial(recurrence._scan, rule=temporal._GAE, has_mask=True, axis=2))(*operands)
  batched = jax.vmap(one)
  close(jax.pmap(batched)(*args)[0], want)
  mesh = Mesh(np.array(jax.devices()[:8]), ("d",))
  spread = jax.shard_map(jax.vmap(batched), mesh=mesh, in_specs=PartitionSpec("d"), out_specs=PartitionSpec("d"))
  close(jax.jit(spread)(*args)[0], want)
  rows = tuple(jax.device_put(x.reshape(-1, length), NamedSharding(mesh, PartitionSpec("d"))) for x in args)
  close(jax.jit(batched)(*rows)[0], want.reshape(-1, length))


@pytest.mark.parametrize("form", ["_scan", "_blocks", "_associative"])
@pytest.mark.parametrize("has_mask", [False, True])
def test_every_form_gives_the_same(form, has_mask):
  reward, value, mask = _batch(3, (3, 24))
  init = np.array([[0.5], [-1.0], [2.0]], np.float32)
  operands = [reward, value, np.full((1, 1), 0.9), np.full((1, 1), 0.8), init] + [mask > 0] * has_mask
  run = functools.partial(getattr(recurrence, form), rule=temporal._GAE, has_mask=has_mask)
  want = np.stack([
      temporal.gae(r, v, m if has_mask else None, 0.9, 0.8, bootstrap_value=i[0])[0]
      for r, v, m, i in zip(reward, value, mask, init)])
  close(jax.jit(functools.partial(run, axis=1))(*operands), want)
  if form != "_blocks":
    close(jax.jit(functools.partial(run, axis=0))(*(x.T for x in operands)).T, want)


@pytest.mark.parametrize("platform, loops", [("cpu", True), ("cuda", False), ("tpu", False)])
def test_accelerators_do_not_loop(platform, loops):
  """A loop would launch its kernels once per step."""
  batched = jax.jit(jax.vmap(lambda r, v: temporal.gae(r, v, None, 0.9, 0.8)))
  lowered = batched.trace(jnp.ones((4, 32)), jnp.ones((4, 32))).lower(lowering_platforms=(platform,))
  assert ("while" in lowered.as_text()) is loops


def test_returns_are_differentiable_in_both_modes():
  rng = np.random.default_rng(4)
  mask = np.array([0, 1, 1, 0, 1, 1, 1, 0], np.float32)
  arrays = *rng.normal(size=(2, 8)), rng.uniform(0.5, 1, 8), rng.uniform(0, 1, 8)
  reward, value_tp1, discount, lam = (np.where(mask > 0, x, np.nan).astype(np.float32) for x in arrays)
  fn = lambda *x: temporal.lambda_returns(*x, mask)
  args = reward, discount, value_tp1, lam
  for i, arg in enumerate(args):
    numeric = np.zeros((len(arg), len(arg)))
    for s in np.flatnonzero(mask):
      up, down = ([x.astype(np.float64) for x in args] for _ in range(2))
      up[i][s] += 1e-4
      down[i][s] -= 1e-4
      path = Oracle(mask)
      evaluate = lambda x: path.per_step(lambda t: path.lambda_return(t, x[0], x[1], x[2], x[3]))
      numeric[:, s] = (evaluate(up) - evaluate(down)) / 2e-4
    np.testing.assert_allclose(jax.jacrev(fn, i)(*args), numeric, atol=1e-4)
    np.testing.assert_allclose(jax.jacfwd(fn, i)(*args), numeric, atol=1e-4)


def test_the_derivative_has_a_derivative():
  rewards = jnp.array([1.0, 2.0, 4.0])
  value = lambda gamma: temporal.reward_to_go(rewards, None, gamma)[0]
  np.testing.assert_allclose(jax.grad(jax.grad(value))(0.5), 2 * 4.0, rtol=1e-6)
  np.testing.assert_allclose(jax.vmap(jax.hessian(value))(jnp.array([0.1, 0.9])), [8, 8], rtol=1e-6)


def test_both_recipes_of_reinforce_pp():
  """Paper and verl whiten tokens, so that a long response weighs more; over responses each counts once."""
  mask = np.array([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]])
  outcome, penalty = np.array([1.0, 0.0, 2.0]), 0.1 * np.arange(12.0).reshape(3, 4)
  last = np.array([3, 0, 1])
  token_rewards = -penalty * mask
  token_rewards[np.arange(3), last] += outcome
  returns = np.array([[np.sum(token_rewards[i, t:]) * mask[i, t] for t in range(4)] for i in range(3)])
  counted = returns[mask > 0]
  want = (returns - counted.mean()) / np.sqrt(counted.var() + 1e-8) * mask
  whitened = jax.jit(
      lambda rewards: stats.whiten(jax.vmap(temporal.reinforce_pp_returns)(rewards, mask), mask))(token_rewards)
  np.testing.assert_allclose(whitened, want, rtol=1e-5, atol=1e-6)
  alone = jax.jit(jax.vmap(lambda r: groups.group_advantage(r[None], axis_name="batch", ddof=0, eps=0.0)[0],
                           axis_name="batch"))(jnp.asarray(outcome))
  np.testing.assert_allclose(alone, (outcome - 1) / outcome.std(), rtol=1e-5)
  assert np.abs(whitened[:, 0] - alone).max() > 0.1
