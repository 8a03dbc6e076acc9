"""Credit on a tree whose depths are denoising steps: values upwards, advantages depth by depth, pruning.

The shape of the tree is static: `nodes_per_depth` holds n_0 .. n_N, and every node of depth d is a block of L / n_d
neighbouring leaves (L = n_N). Row d - 1 of an `[N, L]` array is the edge INTO depth d on the path to each leaf, so an
entry is repeated for all leaves below its edge. n_0 above 1 is a forest: `(16,) * 21` are 16 chains of 20 steps.
"""

from collections.abc import Iterator, Sequence
import itertools

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.types import Array

_LEAST_LOG_PROB = -1e30  # stands for -inf, so that two impossible paths still compare
_MODES = ("none", "parent_top1", "extreme")


def tree_nodes_per_depth(num_steps: int, split_steps: Sequence[int], branch_factor: int = 2) -> tuple[int, ...]:
  """Counts the nodes of every depth of a tree that splits at the given steps.

  Args:
    num_steps: N, static.
    split_steps: steps, counted from 0, at which every node gets `branch_factor` children; static.
    branch_factor: K, static.

  Returns:
    N + 1 ints, n_0 = 1 first.

  Raises:
    ValueError: if a step is no step, or a size is below 1 (`num_steps` below 0).

  Reference: BranchGRPO, arXiv:2509.06040, sec. 3.2.
  """
  if num_steps < 0 or branch_factor < 1:
    raise ValueError(f"num_steps={num_steps} must be at least 0 and branch_factor={branch_factor} at least 1")
  wrong = [step for step in split_steps if not 0 <= step < num_steps]
  if wrong:
    raise ValueError(f"split_steps={tuple(split_steps)}: {wrong} are not among the steps 0 to {num_steps - 1}")
  growth = (branch_factor if step in split_steps else 1 for step in range(num_steps))
  return tuple(itertools.accumulate(growth, lambda count, factor: count * factor, initial=1))


def fuse_rewards(
    leaf_rewards: Array, edge_log_probs: Array, nodes_per_depth: Sequence[int], beta: float | Array = 0.0) -> Array:
  """Averages the rewards of the leaves below every node.

  Leaf l weighs softmax(beta * s_l), s_l being the sum of the log-probabilities of the edges strictly below the node on
  the path to l. `beta=0` is the plain mean, whatever the log-probabilities are; `beta=1` weighs by path probability,
  which favours what the policy already likes.

  Args:
    leaf_rewards: `[L]`.
    edge_log_probs: `[N, L]`, row d - 1 the edge into depth d, the same in all leaves below it. -inf is allowed.
    nodes_per_depth: n_0 .. n_N, static.
    beta: inverse temperature; may be traced.

  Returns:
    `[N + 1, L]` float32, the value of each leaf's ancestor at depths 0 .. N, exactly the leaf's own reward where all
    below a node are equal; no gradient flows.

  Raises:
    ValueError: if `nodes_per_depth` is no tree of N steps with L leaves.

  Reference: BranchGRPO, arXiv:2509.06040, eq. 3 and 4. The released code's weighted variant goes up edge by edge.
  """
  leaf_rewards, edge_log_probs = (
      jax.lax.stop_gradient(jnp.asarray(x).astype(jnp.float32)) for x in (leaf_rewards, edge_log_probs))
  checks.rank(1, leaf_rewards=leaf_rewards)
  checks.rank(2, edge_log_probs=edge_log_probs)
  num_leaves = leaf_rewards.shape[0]
  checks.shape((len(nodes_per_depth) - 1, num_leaves), edge_log_probs=edge_log_probs)
  _check_nodes(nodes_per_depth, num_leaves)
  below = jnp.flip(jnp.cumsum(jnp.flip(jnp.maximum(edge_log_probs, _LEAST_LOG_PROB), 0), 0), 0)
  below = jnp.concatenate([below, jnp.zeros((1, num_leaves), jnp.float32)])
  beta = jnp.asarray(beta, jnp.float32)
  scores = jax.lax.stop_gradient(jnp.where(beta == 0, 0, beta * below))

  def fuse(scores, count):
    blocks = scores.reshape(-1, count, num_leaves // count)
    rewards = jnp.broadcast_to(leaf_rewards.reshape(count, -1), blocks.shape)
    # From a leaf of the block, so that equal rewards have exactly their own mean.
    first = rewards[..., :1]
    return first + jnp.sum(jax.nn.softmax(blocks, -1) * (rewards - first), -1, keepdims=True)

  return jnp.concatenate([_repeat(fuse(scores[rows], count), num_leaves) for rows, count in _levels(nodes_per_depth)])


def depthwise_advantage(
    node_values: Array, nodes_per_depth: Sequence[int], eps: float | Array = 1e-8, std_floor: float | Array = 1e-6,
    clip: float | Array = 5.0, ddof: int = 1) -> tuple[Array, Array]:
  """Compares every node with the other nodes of its depth; the edge into the node carries the advantage.

  Mean and standard deviation run over the n_d distinct nodes, not over their L repetitions. A tree of chains (all n_d
  equal) gives every step the advantage of its leaf, which is GRPO.

  Args:
    node_values: `[N + 1, L]`, from `fuse_rewards`; the first entry of a block stands for its node.
    nodes_per_depth: n_0 .. n_N, static.
    eps: added to the standard deviation.
    std_floor: a depth whose standard deviation lies below it teaches nothing.
    clip: largest absolute advantage.
    ddof: static, the divisor is n_d - ddof.

  Returns:
    `(advantages [N, L], weight [N, L])`, float32 without gradient. Row d - 1 belongs to depth d; a depth of at most
    `ddof` nodes or without spread is exactly 0. The weight n_d / L makes each edge count once in a sum over leaves.

  Raises:
    ValueError: if `nodes_per_depth` is no tree of N steps with L leaves.

  Reference: BranchGRPO, arXiv:2509.06040, eq. 5; ddof, floor and clip as in its code.
  """
  node_values = jax.lax.stop_gradient(jnp.asarray(node_values).astype(jnp.float32))
  checks.rank(2, node_values=node_values)
  depths, num_leaves = node_values.shape
  checks.shape((len(nodes_per_depth), num_leaves), node_values=node_values)
  _check_nodes(nodes_per_depth, num_leaves)

  def compare(values, count):
    nodes = values.reshape(-1, count, num_leaves // count)[..., 0]
    std = stats.masked_std(nodes, axis=1, ddof=ddof)[:, None]
    flat = ((std <= 0) | (std < std_floor)) & ~jnp.any(jnp.isnan(nodes), 1, keepdims=True)
    advantage = jnp.clip(stats.centred(nodes, axis=1) / jnp.where(flat, 1, std + eps), -clip, clip)
    return _repeat(jnp.where(flat, 0, advantage)[..., None], num_leaves)

  advantages = [compare(node_values[rows], count) for rows, count in _levels(nodes_per_depth)]
  weight = jnp.asarray(nodes_per_depth, jnp.float32)[1:, None] / num_leaves
  return jnp.concatenate(advantages)[1:], jnp.broadcast_to(weight, (depths - 1, num_leaves))


def depth_prune_mask(
    num_steps: int, window: Sequence[int], train_step: Array, interval: int = 30, stop_depth: int = 9,
    slide: bool = True) -> Array:
  """Marks the depths that are trained: all but a window that slides towards the root.

  The window moves by one depth every `interval` training steps until its shallowest depth is `stop_depth`. Only the
  backward pass is pruned; compute values and advantages before.

  Args:
    num_steps: N, static.
    window: every depth (1 .. N) that is pruned at first; empty prunes nothing. Static.
    train_step: int scalar, may be traced.
    interval: static.
    stop_depth: static; where the window already starts above it, it stays.
    slide: static; False leaves the window where it is.

  Returns:
    `[N]` float32, 1 where the edge into depth d (row d - 1) is trained, 0 where it is pruned. Depths that do not exist
    prune nothing.

  Reference: BranchGRPO, arXiv:2509.06040, sec. 3.3 (depth pruning, sliding window).
  """
  train_step = jnp.asarray(train_step)
  checks.rank(0, train_step=train_step)
  if not window:
    return jnp.ones(num_steps, jnp.float32)
  shift = jnp.minimum(train_step // interval, max(0, min(window) - stop_depth)) if slide else 0
  pruned = jnp.asarray(window, jnp.int32) - shift
  return 1 - jnp.any(jnp.arange(1, num_steps + 1)[:, None] == pruned, axis=1).astype(jnp.float32)


def width_prune_mask(
    leaf_rewards: Array, nodes_per_depth: Sequence[int], split_steps: Sequence[int], mode: str = "none",
    keep: int = 1) -> Array:
  """Marks the leaves whose last stretch is trained: the edges below those that the last split makes.

  Only the backward pass is pruned; compute values and advantages before. Equal rewards go by the lower index.

  Args:
    leaf_rewards: `[L]`.
    nodes_per_depth: n_0 .. n_N, static.
    split_steps: as in `tree_nodes_per_depth`, static; without a split nothing is pruned.
    mode: static. "none"; "parent_top1", the best leaf below each node that splits last; "extreme", the `keep` best and
      the `keep` worst of all leaves.
    keep: static, for "extreme".

  Returns:
    `[N, L]` float32, 1 where the edge is trained. Rows up to the edges of the last split are 1.

  Raises:
    ValueError: if `mode` is unknown, `keep` negative, or `nodes_per_depth` no tree of N steps with L leaves.

  Reference: BranchGRPO, arXiv:2509.06040, sec. 3.3 (width pruning). The released code groups by the children of the
    last split instead and keeps half of what has equal advantages.
  """
  leaf_rewards = jax.lax.stop_gradient(jnp.asarray(leaf_rewards).astype(jnp.float32))
  checks.rank(1, leaf_rewards=leaf_rewards)
  num_leaves, num_steps = leaf_rewards.shape[0], len(nodes_per_depth) - 1
  _check_nodes(nodes_per_depth, num_leaves)
  if mode not in _MODES or keep < 0:
    raise ValueError(f"mode={mode!r} must be one of {_MODES} and keep={keep} at least 0")
  if mode == "none" or not split_steps:
    return jnp.ones((num_steps, num_leaves), jnp.float32)
  last = max(split_steps)
  if mode == "parent_top1":
    blocks = leaf_rewards.reshape(nodes_per_depth[last], -1)
    chosen = (jnp.argmax(blocks, 1, keepdims=True) == jnp.arange(blocks.shape[1])).reshape(-1)
  else:
    rank = lambda x: jnp.argsort(jnp.argsort(x, stable=True))
    chosen = (rank(-leaf_rewards) < keep) | (rank(leaf_rewards) < keep)
  deep = jnp.arange(num_steps)[:, None] > last
  return jnp.where(deep, chosen, True).astype(jnp.float32)


def _levels(nodes_per_depth: Sequence[int]) -> Iterator[tuple[slice, int]]:
  """Yields the stretches of depths with equally many nodes, `(slice of depths, nodes)`, the root's first."""
  start = 0
  for count, run in itertools.groupby(nodes_per_depth):
    stop = start + len(list(run))
    yield slice(start, stop), count
    start = stop


def _repeat(nodes: Array, num_leaves: int) -> Array:
  """Gives every leaf `[D, L]` the entry of its ancestor in `[D, n, 1]`."""
  return jnp.repeat(nodes[..., 0], num_leaves // nodes.shape[1], axis=1)


def _check_nodes(nodes_per_depth: Sequence[int], num_leaves: int):
  whole = all(a >= 1 and b % a == 0 for a, b in itertools.pairwise(nodes_per_depth))
  if not whole or nodes_per_depth[-1] != num_leaves:
    raise ValueError(f"nodes_per_depth={tuple(nodes_per_depth)} is no tree with {num_leaves} leaves: every count must "
                     "divide the next one, and the last be the number of leaves")
