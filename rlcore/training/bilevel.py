"""Gradients through the fixed point of an inner learner, by the implicit function theorem.

An inner learner moves its parameters theta along `Delta(theta, phi)` until it is 0; the outer objective J sees phi only
through the theta where that happens. With `H = dDelta/dtheta`, `A = dDelta/dphi` and `v = dJ/dtheta` the hypergradient
is `-A^T H^{-T} v`. The inner learner ASCENDS, so that -H is the positive matrix: here `M = damping I - H^T`, and the
hypergradient is `A^T M^{-1} v`. Everything is a pure function of arrays; `losses.tabular` has Delta, H, A and v of a
tabular policy.
"""

from collections.abc import Callable

import jax
from jax import lax
import jax.numpy as jnp

from rlcore import checks
from rlcore.types import Array, PyTree


def neumann_inverse_vector_product_fn(
    matvec: Callable[[PyTree], PyTree], vector: PyTree, step_size: Array | float = 0.1,
    num_terms: int = 5) -> PyTree:
  """Approximates `M^{-1} v` by a truncated Neumann series, given only products with M.

  `x = step_size sum_{k=0}^{num_terms} (I - step_size M)^k v`. `num_terms=0` gives `step_size v`, a one-step
  meta-gradient. The series diverges where `step_size` times the largest eigenvalue of M exceeds 2.

  Args:
    matvec: `(u) -> M u`, pytrees like `vector`.
    vector: v, a pytree of arrays.
    step_size: `[]`, at most one over the norm of M.
    num_terms: static, terms after v; at least 0.

  Returns:
    A float32 pytree like `vector`.

  Raises:
    ValueError: for a negative `num_terms`.

  Reference: BARFI, arXiv:2310.19007; Lorraine et al., arXiv:1911.02590, sec. 4.
  """
  if num_terms < 0:
    raise ValueError(f"num_terms={num_terms} must not be negative")
  vector, step_size = _float32(vector), jnp.asarray(step_size).astype(jnp.float32)

  def extend(carry, _):
    term, total = carry
    term = jax.tree.map(lambda u, product: u - step_size * product, term, _float32(matvec(term)))
    return (term, jax.tree.map(jnp.add, total, term)), None

  total = lax.scan(extend, (vector, vector), None, length=num_terms)[0][1]
  return jax.tree.map(lambda x: step_size * x, total)


def neumann_inverse_vector_product(
    matrix: Array, vector: Array, step_size: Array | float = 0.1, num_terms: int = 5) -> Array:
  """Approximates `M^{-1} v` by a truncated Neumann series, see `neumann_inverse_vector_product_fn`.

  Args:
    matrix: `[P, P]`, M itself.
    vector: `[P]`.
    step_size: `[]`.
    num_terms: static, terms after v.

  Returns:
    `[P]` float32.

  Raises:
    ValueError: for a negative `num_terms`.

  Reference: BARFI, arXiv:2310.19007.
  """
  matrix, vector = (jnp.asarray(x).astype(jnp.float32) for x in (matrix, vector))
  checks.rank(1, vector=vector)
  checks.shape(vector.shape * 2, matrix=matrix)
  return neumann_inverse_vector_product_fn(lambda u: _product(matrix, u), vector, step_size, num_terms)


def implicit_hypergradient(
    outer_grad: Array, jac_theta: Array, jac_phi: Array, step_size: Array | float = 0.1, num_terms: int = 5,
    damping: Array | float = 1e-2) -> Array:
  """Approximates the hypergradient `A^T M^{-1} v`, `M = damping I - H^T`, by a truncated Neumann series.

  Args:
    outer_grad: `[P]`, v, gradient of the outer objective in the inner parameters.
    jac_theta: `[P, P]`, H, row = element of the update; neither transposed nor damped.
    jac_phi: `[P, Q]`, A.
    step_size: `[]`.
    num_terms: static, terms after v.
    damping: `[]`.

  Returns:
    `[Q]` float32, a direction of ascent of the outer objective.

  Raises:
    ValueError: for a negative `num_terms`.

  Reference: BARFI, arXiv:2310.19007.
  """
  outer_grad, matrix, jac_phi = _system(outer_grad, jac_theta, jac_phi, damping)
  return _product(jac_phi.T, neumann_inverse_vector_product(matrix, outer_grad, step_size, num_terms))


def exact_hypergradient(
    outer_grad: Array, jac_theta: Array, jac_phi: Array, damping: Array | float = 1e-2) -> Array:
  """Solves for the hypergradient `A^T M^{-1} v`, `M = damping I - H^T`.

  Args:
    outer_grad: `[P]`, v.
    jac_theta: `[P, P]`, H, row = element of the update; neither transposed nor damped.
    jac_phi: `[P, Q]`, A.
    damping: `[]`, above 0 where H may be singular: rows of a table that were not visited are 0, and a softmax does not
      change if a constant is added to its logits.

  Returns:
    `[Q]` float32.

  Reference: BARFI, arXiv:2310.19007, implicit gradient.
  """
  outer_grad, matrix, jac_phi = _system(outer_grad, jac_theta, jac_phi, damping)
  with jax.default_matmul_precision("highest"):
    return _product(jac_phi.T, jnp.linalg.solve(matrix, outer_grad))


def bilevel_hypergradient(
    update_fn: Callable[[PyTree, PyTree], PyTree], outer_grad: PyTree, theta: PyTree, phi: PyTree,
    step_size: Array | float = 0.1, num_terms: int = 5, damping: Array | float = 1e-2) -> PyTree:
  """Computes `implicit_hypergradient` of any update without a matrix, from its vector-Jacobian products alone.

  Memory is that of one differentiated update; time that of `num_terms` + 1 of them.

  Args:
    update_fn: `(theta, phi) -> Delta`, differentiable, a pytree like `theta`.
    outer_grad: v, a pytree like `theta`.
    theta: parameters of the inner learner, where its update is close to 0.
    phi: outer parameters.
    step_size: `[]`.
    num_terms: static, terms after v.
    damping: `[]`.

  Returns:
    A float32 pytree like `phi`, a direction of ascent of the outer objective.

  Raises:
    ValueError: for a negative `num_terms`, or an update or gradient that is no pytree like `theta`.

  Reference: BARFI, arXiv:2310.19007.
  """
  theta, phi = jax.tree.map(jnp.asarray, (theta, phi))
  update, vjp_theta = jax.vjp(lambda theta: update_fn(theta, phi), theta)
  _assert_alike(theta, update=update, outer_grad=outer_grad)
  like_update = lambda u: jax.tree.map(lambda x, y: x.astype(y.dtype), u, update)
  damping = jnp.asarray(damping).astype(jnp.float32)

  def matvec(u):
    pulled, = vjp_theta(like_update(u))
    return jax.tree.map(lambda x, y: damping * x - y, u, _float32(pulled))

  solution = neumann_inverse_vector_product_fn(matvec, outer_grad, step_size, num_terms)
  _, vjp_phi = jax.vjp(lambda phi: update_fn(theta, phi), phi)
  return _float32(vjp_phi(like_update(solution))[0])


def _float32(tree: PyTree) -> PyTree:
  return jax.tree.map(lambda x: jnp.asarray(x).astype(jnp.float32), tree)


def _product(matrix: Array, vector: Array) -> Array:
  return jnp.matmul(matrix, vector, precision="highest")


def _system(outer_grad, jac_theta, jac_phi, damping):
  """Checks the shapes and returns v, M and A in float32."""
  outer_grad, jac_theta, jac_phi, damping = (
      jnp.asarray(x).astype(jnp.float32) for x in (outer_grad, jac_theta, jac_phi, damping))
  checks.rank(1, outer_grad=outer_grad)
  checks.shape(outer_grad.shape * 2, jac_theta=jac_theta)
  checks.rank(2, jac_phi=jac_phi)
  checks.same_prefix(1, outer_grad=outer_grad, jac_phi=jac_phi)
  return outer_grad, damping * jnp.eye(outer_grad.shape[0], dtype=jnp.float32) - jac_theta.T, jac_phi


def _assert_alike(theta: PyTree, **trees: PyTree):
  shapes = lambda tree: (jax.tree.structure(tree), [jnp.shape(x) for x in jax.tree.leaves(tree)])
  for name, tree in trees.items():
    if shapes(tree) != shapes(theta):
      raise ValueError(f"{name} must be a pytree of the shapes of theta: {jax.tree.map(jnp.shape, tree)} against "
                       f"{jax.tree.map(jnp.shape, theta)}")
