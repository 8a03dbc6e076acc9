"""Rewards designed for a learner by linear programs: sparse, true to the expert, and informative (EXPRD).

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


def _solve(gaps: _Gaps, r_max: float, active) -> tuple[float, np.ndarray]:
  """Solves the program over the rewards of the active states and one slack for every horizon and state."""
  size, actions = gaps.worse.shape
  active, horizons = np.asarray(active) > 0, gaps.short.shape[0]
  if active.shape != (size,):
    raise ValueError(f"active (or goal) has shape {active.shape}, expected {(size,)}")
  if not r_max >= 0:
    raise ValueError(f"r_max={r_max} must not be negative")
  columns = active.sum() * actions
  worst = np.where(gaps.worse, gaps.margin[:, None], 0).reshape(-1)
  lasting = gaps.lasting[:, :, active].reshape(size * actions, columns)
  # A slack is at least the margin minus each of its gaps; it belongs to a horizon and a state.
  k, s, a = np.nonzero(np.broadcast_to(gaps.worse, (horizons, size, actions)))
  short = gaps.short[:, :, :, active].reshape(horizons, size, actions, columns)[k, s, a]
  slack = sparse.csr_array((np.ones(k.size), (np.arange(k.size), k * size + s)), (k.size, horizons * size))
  constraints = sparse.block_array([
      [sparse.csr_array(-lasting), sparse.csr_array((size * actions, horizons * size))],
      [sparse.csr_array(-short), -slack]], format="csr")
  cost = np.concatenate([np.zeros(columns), np.full(horizons * size, 1 / (horizons * size))])
  bounds = [(-r_max, r_max)] * columns + [(0, None)] * (horizons * size)
  result = optimize.linprog(
      cost, A_ub=constraints, b_ub=np.concatenate([-worst, -gaps.margin[s]]), bounds=bounds, method="highs")
  rewards = np.zeros((size, actions))
  if result.status == _INFEASIBLE:
    return np.nan, rewards + np.nan
  if result.status != 0:
    raise RuntimeError(f"the linear program of the reward was not solved: {result.message}")
  rewards[active] = np.clip(result.x[:columns], -r_max, r_max).reshape(-1, actions)
  return 0.0 - result.fun, rewards
