"""Hypergradients against float64 NumPy, against each other, and against the fixed point that they differentiate."""

from hypothesis import given, settings, strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import losses, rewards
from rlcore.training import bilevel

_P, _Q = 5, 2
systems = st.integers(0, 2**31).map(np.random.default_rng)


def _system(rng):
  """v, H, A; -H is well away from 0, and H is not symmetric."""
  root = rng.normal(size=(_P, _P))
  return (rng.normal(size=_P), -np.eye(_P) - 0.1 * root @ root.T + 0.2 * rng.normal(size=(_P, _P)),
          rng.normal(size=(_P, _Q)))


def _close(got, want, tol=1e-4):
  np.testing.assert_allclose(got, want, rtol=tol, atol=tol)


@settings(max_examples=12, deadline=None)
@given(systems)
def test_matrix_forms(rng):
  v, jac_theta, jac_phi = _system(rng)
  step_size, damping = rng.uniform(0.01, 0.2), rng.uniform(0.01, 1)
  matrix = damping * np.eye(_P) - jac_theta.T
  series = step_size * sum(np.linalg.matrix_power(np.eye(_P) - step_size * matrix, k) @ v for k in range(4))
  _close(bilevel.neumann_inverse_vector_product(matrix, v, step_size, 3), series)
  _close(bilevel.implicit_hypergradient(v, jac_theta, jac_phi, step_size, 3, damping), jac_phi.T @ series)
  exact = jac_phi.T @ np.linalg.inv(matrix) @ v
  _close(bilevel.exact_hypergradient(v, jac_theta, jac_phi, damping), exact, 1e-3)


def test_a_long_series_is_the_exact_solution():
  v, jac_theta, jac_phi = _system(np.random.default_rng(1))
  long = bilevel.implicit_hypergradient(v, jac_theta, jac_phi, 0.2, 300, 0.1)
  _close(long, bilevel.exact_hypergradient(v, jac_theta, jac_phi, 0.1), 1e-4)
  _close(bilevel.implicit_hypergradient(v, jac_theta, jac_phi, 0.2, 0, 0.1), 0.2 * jac_phi.T @ v)


def _episode(rng, states=3, actions=2, length=8):
  mask = (rng.random(length) < 0.8).astype(np.float32)
  mask[0] = 1
  return (rng.normal(size=(states, actions)).astype(np.float32), rng.integers(0, states, length),
          rng.integers(0, actions, length), mask, *rng.normal(size=(2, length)).astype(np.float32))


@settings(max_examples=5, deadline=None)
@given(systems)
def test_the_matrix_free_form_is_the_tabular_one(rng):
  theta, states, actions, mask, primary, aux = _episode(rng)
  phi, logit = {"weights": jnp.array([0.1, 1.0, 0.5]), "logit": jnp.float32(1.0)}, 1.0
  outer = losses.outer_objective_gradient(theta, states, actions, mask, primary, 0.95)

  def update(theta, phi):
    paid = rewards.alignment_reward(*phi["weights"], primary, aux, mask)
    discount = rewards.learned_discount(phi["logit"])
    table = jnp.stack([theta["first"], *theta["rest"]])
    delta = losses.tabular_inner_update(table, states, actions, mask, paid, discount, 0.1)
    return {"first": delta[0], "rest": delta[1:]}

  split = lambda table: {"first": jnp.asarray(table[0]), "rest": jnp.asarray(table[1:])}
  got = bilevel.bilevel_hypergradient(update, split(outer), split(theta), phi, 0.1, 6, 0.5)
  jacobians = losses.tabular_inner_jacobians(theta, phi["weights"], logit, states, actions, mask, primary, aux, 0.1)
  jac_theta, jac_phi = jacobians[0], jnp.concatenate([jacobians[1], jacobians[2][:, None]], 1)
  want = bilevel.implicit_hypergradient(outer.ravel(), jac_theta, jac_phi, 0.1, 6, 0.5)
  _close(jnp.append(got["weights"], got["logit"]), want, 1e-5)
  long = bilevel.bilevel_hypergradient(update, split(outer), split(theta), phi, 0.05, 2000, 2.0)
  exact = bilevel.exact_hypergradient(outer.ravel(), jac_theta, jac_phi, 2.0)
  if np.linalg.norm(np.eye(6) - 0.05 * (2 * np.eye(6) - np.asarray(jac_theta).T), 2) < 0.99:  # the series converges
    _close(jnp.append(long["weights"], long["logit"]), exact, 1e-3)


def test_it_is_the_derivative_of_the_fixed_point():
  """The inner learner climbs to theta = K phi + sin(phi); J is then a function of phi whose derivative is known."""
  slope = jnp.array([[1.0, 0.5], [0.0, 2.0]])
  goal = jnp.array([0.3, -0.7])
  target = lambda phi: slope @ phi + jnp.sin(phi)
  update = lambda theta, phi: -jnp.array([[2.0, 0.4], [0.0, 1.0]]) @ (theta - target(phi))
  outer = lambda theta: -jnp.sum((theta - goal) ** 2)
  phi = jnp.array([0.2, -0.1])
  theta = target(phi)
  got = bilevel.bilevel_hypergradient(update, jax.grad(outer)(theta), theta, phi, 0.5, 100, 0.0)
  _close(got, jax.grad(lambda phi: outer(target(phi)))(phi))


def test_worked_example():
  theta, states, actions, mask = [[0, 0], [0.5, -0.5]], [0, 1, 1], [0, 1, 0], [1, 1, 1]
  primary, aux = [0, 0, 1], [1, 0, 0]
  jac_theta, jac_phi, _ = losses.tabular_inner_jacobians(
      theta, [0, 1, 0.5], 2, states, actions, mask, primary, aux, 0.1)
  v = losses.outer_objective_gradient(theta, states, actions, mask, primary, 1.0).ravel()
  _close(bilevel.implicit_hypergradient(v, jac_theta, jac_phi, 0.1, 5, 1), [0.89614, 0.279634, 0.193672], 1e-5)
  _close(bilevel.exact_hypergradient(v, jac_theta, jac_phi, 1), [1.264591, 0.393903, 0.278933], 1e-5)


def test_low_precision_parameters():
  """Products in bfloat16 (a language model's, say) are summed in float32."""
  update = lambda theta, phi: {"w": phi["b"] - theta["w"]}
  low = {"w": jnp.ones(3, jnp.bfloat16)}, {"b": jnp.ones(3, jnp.bfloat16)}
  got = bilevel.bilevel_hypergradient(update, {"w": jnp.array([1.0, 2.0, 3.0])}, *low, 0.5, 20, 0.0)["b"]
  assert got.dtype == jnp.float32
  _close(got, [1, 2, 3], 1e-2)


def test_bad_input_is_named():
  eye, ones = np.eye(2), np.ones(2)
  with pytest.raises(AssertionError, match="jac_theta has shape"):
    bilevel.exact_hypergradient(ones, np.ones((2, 3)), eye)
  with pytest.raises(AssertionError, match="outer_grad has rank 2"):
    bilevel.implicit_hypergradient(eye, eye, eye)
  with pytest.raises(ValueError, match="num_terms=-1"):
    bilevel.neumann_inverse_vector_product(eye, ones, 0.1, -1)
  with pytest.raises(ValueError, match="update must be a pytree of the shapes of theta"):
    bilevel.bilevel_hypergradient(lambda theta, phi: theta[0], ones, ones, ones)
  with pytest.raises(ValueError, match="outer_grad must be a pytree of the shapes of theta"):
    bilevel.bilevel_hypergradient(lambda theta, phi: theta, np.ones(3), ones, ones)
