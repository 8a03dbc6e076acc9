"""Rewards designed for a learner by linear programs: sparse, true to the expert, and informative (EXPRD, ExpAdaRD).

Host code in float64 NumPy: gaps are linear in the rewards, so the most informative reward that keeps an expert's policy
optimal is a linear program, which SciPy's HiGHS solves. `rewards.design` has the measures as functions of arrays. The
expert's knowledge is the same everywhere:

- `transition` `[S, A, S]`; `policy` `[S]`, the expert's action; `discount`, a number or `[S, A]`;
- `optimal` `[S, A]`, True or 1 at ALL optimal actions: one that is missing makes the program infeasible;
- `margin` `[S]`, `tabular.state_margin` under the ORIGINAL reward, used as it is: divide by 1 + 1e-5 to leave the
  solver some room, as the released code does.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize
from scipy import sparse

_TIE = 1e-7  # optima closer than this are equal: the solver's own tolerance
_INFEASIBLE = 2  # status of `optimize.linprog`


def exprd_optimum(
    transition: np.ndarray, policy: np.ndarray, optimal: np.ndarray, margin: np.ndarray, discount: float,
    num_terms: Sequence[int], r_max: float, active: np.ndarray) -> float:
  """Finds the largest informativeness of a reward that keeps the expert's policy optimal with its margins.

  Args:
    transition: `[S, A, S]`.
    policy: `[S]` int.
    optimal: `[S, A]`.
    margin: `[S]`.
    discount: a number, or `[S, A]`.
    num_terms: the horizons as numbers of rewards, at least one.
    r_max: largest size of a reward.
    active: `[S]`, True or 1 in the states that may pay.

  Returns:
    `rewards.informativeness` of `exprd_design`, at most 0; NaN if no such reward exists.

  Raises:
    ValueError: for shapes that do not fit, no horizon, or a negative `r_max`.

  Reference: EXPRD, arXiv:2503.21949, ch. 3 (NeurIPS 2021), without the penalty on the size of rewards.
  """
  return _solve(_gaps(transition, policy, optimal, margin, discount, num_terms), r_max, active)[0]


def exprd_design(
    transition: np.ndarray, policy: np.ndarray, optimal: np.ndarray, margin: np.ndarray, discount: float,
    num_terms: Sequence[int], r_max: float, active: np.ndarray) -> np.ndarray:
  """Designs the most informative reward that keeps the expert's policy optimal with its margins.

  Args:
    transition: `[S, A, S]`.
    policy: `[S]` int.
    optimal: `[S, A]`.
    margin: `[S]`.
    discount: a number, or `[S, A]`.
    num_terms: the horizons as numbers of rewards, at least one.
    r_max: largest size of a reward.
    active: `[S]`, True or 1 in the states that may pay.

  Returns:
    `[S, A]` float64, one of the maximisers (there may be many), 0 in states that are not active; all NaN if no such
    reward exists, for want of active states or of `r_max`.

  Raises:
    ValueError: for shapes that do not fit, no horizon, or a negative `r_max`.

  Reference: EXPRD, arXiv:2503.21949, ch. 3 (NeurIPS 2021), without the penalty on the size of rewards.
  """
  return _solve(_gaps(transition, policy, optimal, margin, discount, num_terms), r_max, active)[1]


def greedy_active_states(
    transition: np.ndarray, policy: np.ndarray, optimal: np.ndarray, margin: np.ndarray, discount: float,
    num_terms: Sequence[int], r_max: float, goal: np.ndarray, budget: int) -> np.ndarray:
  """Chooses where a sparse reward may pay: adds, one by one, the state that raises the optimum most.

  It solves about `budget` times S programs.

  Args:
    transition: `[S, A, S]`.
    policy: `[S]` int.
    optimal: `[S, A]`.
    margin: `[S]`.
    discount: a number, or `[S, A]`.
    num_terms: the horizons as numbers of rewards, at least one.
    r_max: largest size of a reward.
    goal: `[S]`, True or 1 in the states that are active in any case.
    budget: how many states may be active, those of `goal` included; never fewer than these are.

  Returns:
    `[S]` bool. Of equal candidates the lowest is taken; one whose program is infeasible comes last.

  Raises:
    ValueError: for shapes that do not fit, no horizon, or a negative `r_max`.

  Reference: EXPRD, arXiv:2503.21949, ch. 3 (NeurIPS 2021).
  """
  gaps = _gaps(transition, policy, optimal, margin, discount, num_terms)
  active = np.array(goal) > 0
  while active.sum() < min(budget, active.size):
    best, chosen = -np.inf, -1
    for state in np.flatnonzero(~active):
      value = _solve(gaps, r_max, active | (np.arange(active.size) == state))[0]
      value = -np.inf if np.isnan(value) else value
      if chosen < 0 or value > best + _TIE:
        best, chosen = value, state
    active[chosen] = True
  return active


def adaptive_design(
    weights: np.ndarray, transition: np.ndarray, policy: np.ndarray, optimal: np.ndarray, margin: np.ndarray,
    discount: float, r_max: float, active: np.ndarray) -> np.ndarray:
  """Designs the reward that helps the CURRENT learner most and keeps the expert's policy optimal with its margins.

  Args:
    weights: `[S, A]`, `rewards.adaptive_weights` of the learner; only their ratios matter. What is below about 1e-7 of
      the largest means nothing to the solver.
    transition: `[S, A, S]`.
    policy: `[S]` int.
    optimal: `[S, A]`.
    margin: `[S]`.
    discount: a number, or `[S, A]`.
    r_max: largest size of a reward.
    active: `[S]`, True or 1 in the states that may pay.

  Returns:
    `[S, A]` float64, one of the maximisers (there may be many), 0 in states that are not active; all NaN if no such
    reward exists.

  Raises:
    ValueError: for shapes that do not fit, weights that are not finite, or a negative `r_max`.

  Reference: ExpAdaRD, arXiv:2402.07019, without the penalty on the size of rewards.
  """
  gaps = _gaps(transition, policy, optimal, margin, discount, (0,))
  weights = np.asarray(weights, np.float64)
  if weights.shape != gaps.worse.shape or not np.isfinite(weights).all():
    raise ValueError(f"weights must be finite, of shape {gaps.worse.shape}; they have shape {weights.shape}")
  active = _checked(active, r_max, len(weights))
  cost = -weights[active].reshape(-1) / (np.abs(weights).max() or 1.0)
  lasting, worst = _invariance(gaps, active)
  return _solve_program(cost, -lasting, -worst, [(-r_max, r_max)] * cost.size, active, r_max, weights.shape[1])[1]


class _Gaps(NamedTuple):
  """Gaps as linear functions of the rewards, and what they have to reach.

  Attributes:
    lasting: `[S, A, S, A]`, gap of the infinite horizon in (s, a) per reward of (z, b).
    short: `[K, S, A, S, A]`, the same of every horizon.
    worse: `[S, A]` bool, the actions that are not optimal.
    margin: `[S]`.
  """

  lasting: np.ndarray
  short: np.ndarray
  worse: np.ndarray
  margin: np.ndarray


def _gaps(transition, policy, optimal, margin, discount, num_terms) -> _Gaps:
  """Checks the arguments and builds the linear maps."""
  transition, margin = np.asarray(transition, np.float64), np.asarray(margin, np.float64)
  policy, optimal, num_terms = np.asarray(policy), np.asarray(optimal) > 0, [int(n) for n in num_terms]
  size, actions = optimal.shape if optimal.ndim == 2 else (0, 0)
  for name, got, want in (("transition", transition.shape, (size, actions, size)), ("policy", policy.shape, (size,)),
                          ("margin", margin.shape, (size,))):
    if got != want or not size:
      raise ValueError(f"{name} has shape {got}, expected {want} beside optimal {optimal.shape}")
  if not num_terms or min(num_terms) < 0:
    raise ValueError(f"num_terms={num_terms} must name at least one horizon, and none below 0")
  transition = transition * np.broadcast_to(np.asarray(discount, np.float64), optimal.shape)[..., None]
  states = np.arange(size)
  single = np.eye(size * actions).reshape(size, actions, size, actions)
  follow = lambda values: single + np.tensordot(transition, values, 1)  # action values from state values
  chosen = lambda q: q[states, policy]
  values = np.linalg.solve(np.eye(size) - transition[states, policy], chosen(single).reshape(size, -1))
  lasting, q, sums = follow(values.reshape(size, size, actions)), np.zeros_like(single), {}
  for n in range(max(num_terms) + 1):
    if n in num_terms:
      sums[n] = chosen(q)[:, None] - q
    q = follow(chosen(q))
  return _Gaps(chosen(lasting)[:, None] - lasting, np.stack([sums[n] for n in num_terms]), ~optimal, margin)


def _checked(active, r_max: float, size: int) -> np.ndarray:
  active = np.asarray(active) > 0
  if active.shape != (size,):
    raise ValueError(f"active (or goal) has shape {active.shape}, expected {(size,)}")
  if not r_max >= 0:
    raise ValueError(f"r_max={r_max} must not be negative")
  return active


def _invariance(gaps: _Gaps, active: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns a matrix over the rewards of the active states and what its rows have to reach: the invariance set."""
  worst = np.where(gaps.worse, gaps.margin[:, None], 0).reshape(-1)
  return gaps.lasting[:, :, active].reshape(worst.size, -1), worst


def _solve(gaps: _Gaps, r_max: float, active) -> tuple[float, np.ndarray]:
  """Solves the program over the rewards of the active states and one slack for every horizon and state."""
  size, actions = gaps.worse.shape
  active, horizons = _checked(active, r_max, size), gaps.short.shape[0]
  lasting, worst = _invariance(gaps, active)
  columns = lasting.shape[1]
  # A slack is at least the margin minus each of its gaps; it belongs to a horizon and a state.
  k, s, a = np.nonzero(np.broadcast_to(gaps.worse, (horizons, size, actions)))
  short = gaps.short[:, :, :, active].reshape(horizons, size, actions, columns)[k, s, a]
  slack = sparse.csr_array((np.ones(k.size), (np.arange(k.size), k * size + s)), (k.size, horizons * size))
  constraints = sparse.block_array([
      [sparse.csr_array(-lasting), sparse.csr_array((size * actions, horizons * size))],
      [sparse.csr_array(-short), -slack]], format="csr")
  cost = np.concatenate([np.zeros(columns), np.full(horizons * size, 1 / (horizons * size))])
  bounds = [(-r_max, r_max)] * columns + [(0, None)] * (horizons * size)
  return _solve_program(
      cost, constraints, np.concatenate([-worst, -gaps.margin[s]]), bounds, active, r_max, actions)


def _solve_program(cost, constraints, limits, bounds, active: np.ndarray, r_max: float, actions: int):
  """Minimises the cost; the first variables are the rewards of the active states. Returns its negative, and rewards."""
  rewards = np.zeros((active.size, actions))
  if not cost.size:  # nothing may pay: feasible if no row asks for more
    return (0.0, rewards) if np.all(limits >= 0) else (np.nan, rewards + np.nan)
  result = optimize.linprog(cost, A_ub=constraints, b_ub=limits, bounds=bounds, method="highs")
  if result.status == _INFEASIBLE:
    return np.nan, rewards + np.nan
  if result.status != 0:
    raise RuntimeError(f"the linear program of the reward was not solved: {result.message}")
  columns = active.sum() * actions
  rewards[active] = np.clip(result.x[:columns], -r_max, r_max).reshape(-1, actions)
  return 0.0 - result.fun, rewards
