"""Credit on the prefix tree of a group: responses that begin with the same tokens share a node.

A group of G responses IS a tree, found in two stages. `prefix_lcp` compares tokens (`[G, T]` -> `[G, G]`), the only
stage whose cost depends on how it is done; every branching is then read from those G x G numbers. A node is the set of
rows that share a prefix, and its value is their mean reward. A group must live on one device.
"""

import functools
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.advantages.groups import total_rewards
from rlcore.types import Array, Rewards, Rollouts


def prefix_lcp(tokens: Array, valid: Array, *, method: str = "auto") -> Array:
  """Counts, for every pair of rows, the leading positions that are valid in both and hold equal tokens.

  All methods give the same integers; they differ in how their time grows.

  - `refine`: every row is compared with ONE other, the leader of its node, block of tokens by block of tokens; where
    rows leave their leader the node splits and the block is looked at again; ends when every row is alone. Never more
    than `T / block + G - 1` looks at G x block tokens: about one pass over the tokens up to the last shared one.
  - `pairwise`: the first mismatch of every pair in one fused reduction; G^2 T, without a loop.
  - `scan`: `lax.scan` over t carries which pairs still share; G^2 T, its time does not depend on the data.
  - `sort`: `lax.scan` over t carries node ids, refined by sorting (id, token); T G log G, the same for all data.

  Args:
    tokens: `[G, T]` integers; junk where `valid` is not set.
    valid: `[G, T]`, > 0 where a token is real. The first gap ends a row.
    method: static; "refine", "pairwise", "scan", "sort", or "auto": `refine_is_faster` chooses on a CPU, and anything
      else takes `pairwise`.

  Returns:
    `[G, G]` int32, symmetric; the diagonal is each row's own leading valid run.

  Raises:
    ValueError: for an unknown method.

  Reference: TEMPO, arXiv:2509.18314 (its prefix tree; the array forms are ours).
  """
  tokens, valid = jnp.asarray(tokens), jnp.asarray(valid)
  checks.rank(2, tokens=tokens)
  checks.same_shape(tokens=tokens, valid=valid)
  checks.integers(tokens=tokens)
  return _lcp(tokens, _run_lengths(valid), method)


def prefix_tree_values(
    tokens: Array, rewards: Array, mask: Array, valid: Array | None = None, *, method: str = "auto"
) -> tuple[Array, Array, Array, Array]:
  """Gives every token the mean reward, and the number, of the responses that share its prefix without and with it.

  The values are Monte-Carlo estimates of the state before and after the token.

  Args:
    tokens: `[G, T]` integers; junk where `valid` is not set.
    rewards: `[G]`, one per response; a row without a valid token counts in the root.
    mask: `[G, T]`, > 0 where a token counts; has no part once `valid` is given.
    valid: `[G, T]` or None, > 0 where a token is real (observations included); None means `mask`.
    method: static, see `prefix_lcp`.

  Returns:
    `(v_prev, v_next, n_prev, n_next)`, each `[G, T]`, two float32 and two int32; 0 beyond a row's leading valid run.

  Reference: TEMPO, arXiv:2509.18314, the value of a tree node (mean outcome of the responses below it).
  """
  tokens, rewards, mask, valid = _checked(tokens, rewards, mask, valid)
  run, branches = _tree(tokens, valid, method=method)
  centred = stats.centred(rewards)
  mean = jnp.sum((rewards - centred)[:1])  # of one: exactly the reward when all are equal; 0 for a group of nobody
  size, length = tokens.shape
  n_before, n_after = _sizes(branches)
  v_before, v_after = _means(branches, centred, jnp.ones(size, bool))
  n_next = size + jnp.cumsum(_place(branches, n_after - n_before, length), axis=1)
  # A row meets every node size at most once, so the size finds the value: one number per node, wherever it is read.
  root = jnp.sum(v_before[:1, 0])
  by_size = jnp.full((size, size + 1), root)
  rows = jnp.broadcast_to(jnp.arange(size), (size, size))
  by_size = by_size.at[rows, jnp.where(branches.child, n_after, size + 1)].set(v_after, mode="drop")
  v_next = jnp.take_along_axis(by_size, n_next, axis=1) + mean
  inside = jnp.arange(length) < run[:, None]

  def previous(x, first):
    return jnp.where(inside, jnp.concatenate([jnp.full((size, 1), first, x.dtype), x[:, :-1]], axis=1), 0)

  outputs = previous(v_next, root + mean), v_next, previous(n_next, size), n_next
  return tuple(jnp.where(inside, x, 0) for x in outputs)


def branch_mask(
    tokens: Array, mask: Array, valid: Array | None = None, *, method: str = "auto") -> Array:
  """Marks the counted tokens at which a row parts from others of its node.

  Args:
    tokens: `[G, T]` integers; junk where `valid` is not set.
    mask: `[G, T]`, > 0 where a token counts.
    valid: `[G, T]` or None, > 0 where a token is real; None means `mask`.
    method: static, see `prefix_lcp`.

  Returns:
    `[G, T]` bool: mask > 0, inside the leading valid run, and fewer rows share the prefix with the token than without.

  Reference: TEMPO, arXiv:2509.18314 (outside these tokens its advantage is GRPO's).
  """
  tokens, _, mask, valid = _checked(tokens, None, mask, valid)
  _, branches = _tree(tokens, valid, method=method)
  return _place(branches, branches.child, tokens.shape[1]) & (mask > 0)


def prefix_tree(tokens: Array, mask: Array, valid: Array | None = None, *, method: str = "auto") -> Array:
  """Names the node that every token leads to, for drawing the tree.

  Tokens at one position belong to one node where their ids are equal; a node at depth t + 1 has as its parent the
  node named one position earlier in the same row.

  Args:
    tokens: `[G, T]` integers; junk where `valid` is not set.
    mask: `[G, T]`, > 0 where a token counts; has no part once `valid` is given.
    valid: `[G, T]` or None, > 0 where a token is real; None means `mask`.
    method: static, see `prefix_lcp`.

  Returns:
    `[G, T]` int32: the smallest row that shares tokens 0..t, -1 beyond the row's leading valid run.

  Reference: TEMPO, arXiv:2509.18314 (its prefix tree).
  """
  tokens, _, mask, valid = _checked(tokens, None, mask, valid)
  run, branches = _tree(tokens, valid, method=method)
  rows = jnp.arange(tokens.shape[0], dtype=jnp.int32)
  first = _choose(branches, branches.leader, rows)
  ids = lax.cummax(_place(branches, first, tokens.shape[1]), axis=1)  # along a row the smallest member only grows
  return jnp.where(jnp.arange(tokens.shape[1]) < run[:, None], ids, -1)


def tempo_advantage(
    tokens: Array, rewards: Array, mask: Array, valid: Array | None = None, normalize_std: bool = True, ddof: int = 1,
    eps: float = 1e-6, td_coef: float = 1.0, *, members: Array | None = None, method: str = "auto") -> Array:
  """Adds to GRPO's outcome advantage, at tokens where the group branches, the change of the prefix tree's value.

  `A = (r - mean(r) + td_coef * (v_next - v_prev)) / (std(r) + eps)`. `td_coef=0` is GRPO; with `normalize_std=False` it
  is Dr. GRPO. Equal rewards, or a group of one, give exactly 0. Follows the released code in dividing both terms by the
  one std(r), and departs from it where padding equals a real token id: only valid tokens are compared.

  Args:
    tokens: `[G, T]` integers; junk where `valid` is not set.
    rewards: `[G]`, one per response; a row without a valid token still counts in the mean, the std and the root.
    mask: `[G, T]`, > 0 where a token was drawn by the policy and earns credit.
    valid: `[G, T]` or None, > 0 where a token is real (observations identify the state); None means `mask`. After a
      gap a row has left the tree: its later tokens get GRPO's advantage.
    normalize_std: static, whether to divide by the std of the rewards.
    ddof: static, the std's divisor is `G - ddof`; 1 as in torch.
    eps: added to the std.
    td_coef: weight of the tree's term.
    members: `[G]` or None, > 0 where a response has a reward; the others get 0 and are in no mean, std or node.
    method: static, see `prefix_lcp`.

  Returns:
    `[G, T]` float32, 0 where mask is not set; no gradient flows.

  Reference: TEMPO, arXiv:2509.18314 (advantage of P2T; official code github.com/fatebreaker/tempo).
  """
  tokens, rewards, mask, valid = _checked(tokens, rewards, mask, valid)
  _, branches = _tree(tokens, valid, method=method)
  checks.same_shape(rewards=rewards, members=members)
  centred = stats.centred(rewards, members)
  before, after = _means(branches, centred, stats.as_mask(members, rewards))
  credit = centred[:, None] + td_coef * _place(branches, after - before, tokens.shape[1])
  if normalize_std:
    scale = stats.masked_std(rewards, members, ddof=ddof) + eps
    credit = credit / jnp.where(scale > 0, scale, 1)  # eps = 0 and equal rewards
  if members is not None:
    mask = (mask > 0) & stats.as_mask(members, rewards)[:, None]
  return lax.stop_gradient(stats.masked(credit, mask))


def tempo(
    rewards: Rewards, batch: Rollouts, *, td_coef: float = 1.0, normalize_std: bool = True, ddof: int = 1,
    eps: float = 1e-6, method: str = "auto") -> Array:
  """Applies `tempo_advantage` to the records of one group; a `functools.partial` of it is an `AdvantageEstimator`.

  Args:
    rewards: as `total_rewards` adds them up: credit is for the whole, wherever in a response it was paid. What is not
      `valid` gets 0 and has no part in it.
    batch: `tokens`, `mask` and `valid` are used.
    td_coef: weight of the tree's term; 0 is GRPO.
    normalize_std: static, whether to divide by the std of the rewards.
    ddof: static, the std's divisor is `G - ddof`.
    eps: added to the std.
    method: static, see `prefix_lcp`.

  Returns:
    `[G, T]` float32, 0 where `batch.mask` is not set; no gradient flows.

  Reference: TEMPO, arXiv:2509.18314.
  """
  return tempo_advantage(
      batch.tokens, total_rewards(rewards, batch.mask), batch.mask, batch.valid, normalize_std, ddof, eps, td_coef,
      members=rewards.valid, method=method)


def _checked(tokens, rewards, mask, valid):
  """Checks the shapes of one group and returns its arrays, rewards in float32 and stopped, valid never None."""
  tokens, mask = jnp.asarray(tokens), jnp.asarray(mask)
  valid = mask if valid is None else jnp.asarray(valid)
  checks.rank(2, tokens=tokens)
  checks.same_shape(tokens=tokens, mask=mask, valid=valid)
  checks.integers(tokens=tokens)
  if rewards is not None:
    rewards = lax.stop_gradient(jnp.asarray(rewards).astype(jnp.float32))
    checks.rank(1, rewards=rewards)
    checks.same_prefix(1, tokens=tokens, rewards=rewards)
  return tokens, rewards, mask, valid


def _run_lengths(valid: Array) -> Array:
  """Length `[G]` of each row's leading run of valid positions."""
  length = valid.shape[1]
  return jnp.min(jnp.where(valid > 0, length, jnp.arange(length)), axis=1, initial=length).astype(jnp.int32)


class _Branches(NamedTuple):
  """Where the tree branches. Row k (axis 0) leaves the tree of the rows before it at position `depth[k]`.

  Every branching is met this way: a child is the leader's own, or it is first entered by the row that founds it. So
  the children of the node at `depth[k]` are `left[k]` and, over all k of that node, `right[k]`. Row 0 founds nothing.
  """

  depth: Array  # [K] int32
  leader: Array  # [K] int32, smallest row of the node
  node: Array  # [K, G] bool, the rows that share `depth[k]` tokens with row k
  left: Array  # [K, G] bool, those of them that share one more with the leader
  right: Array  # [K, G] bool, those of them that share one more with row k

  @property
  def child(self) -> Array:
    return self.left | self.right


@functools.partial(jax.jit, static_argnames="method")  # outside of `jit`, op by op, it would take a second to compile
def _tree(tokens: Array, valid: Array, *, method: str) -> tuple[Array, _Branches]:
  """Finds the leading valid run `[G]` of every row and all branchings."""
  run = _run_lengths(valid)
  lcp = _lcp(tokens, run, method)
  rows = jnp.arange(lcp.shape[0], dtype=jnp.int32)
  depth = jnp.max(jnp.where(rows[:, None] > rows, lcp, 0), axis=1, initial=0)
  node = lcp >= depth[:, None]
  leader = jnp.min(jnp.where(node, rows, rows.size), axis=1, initial=rows.size)  # an argmax refuses a group of nobody
  founds = (rows > 0)[:, None]
  left, right = (founds & (x > depth[:, None]) for x in (lcp[leader], lcp))
  return run, _Branches(depth, leader, node, left, right)


def _choose(branches: _Branches, left: Array, right: Array) -> Array:
  """Gives every member `[K, G]` the number `[K]` of the child it is in."""
  return jnp.where(branches.right, right[:, None], left[:, None])


def _sizes(branches: _Branches) -> tuple[Array, Array]:
  """Number of rows in the node, `[K, 1]`, and in the child that a member is in, `[K, G]`."""
  node, left, right = (jnp.sum(x, axis=1, dtype=jnp.int32) for x in (branches.node, branches.left, branches.right))
  return node[:, None], _choose(branches, left, right)


def _means(branches: _Branches, rewards: Array, members: Array) -> tuple[Array, Array]:
  """Mean reward of the node, `[K, 1]`, and of the child that a member is in, `[K, G]`, over `members` `[G]` bool."""
  node, left, right = (stats.masked_mean(jnp.broadcast_to(rewards, x.shape), x & members, axis=1)
                       for x in (branches.node, branches.left, branches.right))
  return node[:, None], _choose(branches, left, right)


def _place(branches: _Branches, values: Array, length: int) -> Array:
  """Writes `values` `[K, G]` to the tokens `[G, T]` that lead into the children; 0 elsewhere."""
  shape = branches.node.shape
  rows = jnp.broadcast_to(jnp.arange(shape[0]), shape)
  columns = jnp.where(branches.child, branches.depth[:, None], length)
  return jnp.zeros((shape[0], length), values.dtype).at[rows, columns].set(values, mode="drop")


@functools.partial(jax.jit, static_argnames="method")
def _lcp(tokens: Array, run: Array, method: str) -> Array:
  methods = {"auto": _fastest, "refine": _refine, "pairwise": _pairwise, "scan": _scan, "sort": _sort}
  if method not in methods:
    raise ValueError(f"no method {method!r} to find a prefix tree, only {', '.join(methods)}")
  if not tokens.size:
    return jnp.zeros((tokens.shape[0],) * 2, jnp.int32)
  return methods[method](tokens, run)


def refine_is_faster(size: int, length: int) -> bool:
  """Says which method `auto` takes on a CPU for `size` rows of `length` tokens: `refine`, else `pairwise`.

  Measured time of pairwise / refine, one thread, 16 groups under `vmap`, the worse of two kinds of tree
  (`experiments/bench/trees.py`); stars mark what this function answers:

      G \\ T     32     64    128    256    512   1024
        64    0.61   1.2*   2.7*   4.7*    22*    23*
        32    0.66   1.0*   1.6*   3.0*   7.5*   8.3*
        16    0.73   0.97   1.3*   2.1*   2.8*   4.3*
         8    0.69   0.80   1.0    1.3*   1.6*   2.2*
         4    0.72   0.78   0.76   0.95   1.1*   1.3*
         2    0.82   0.84   0.82   0.83   0.91   1.0*

  `scan` and `sort` never win there; their time does not depend on the data.
  """
  return length >= 64 and size * length >= 2048


def _fastest(tokens: Array, run: Array) -> Array:
  # On an accelerator a loop is a chain of small kernels, and all pairs are one; that half of the rule is not measured.
  on_cpu = _refine if refine_is_faster(*tokens.shape) else _pairwise
  return lax.platform_dependent(tokens, run, cpu=on_cpu, default=_pairwise)


def _pairwise(tokens: Array, run: Array) -> Array:
  length = tokens.shape[1]
  first = jnp.min(jnp.where(tokens[:, None] != tokens, jnp.arange(length, dtype=jnp.int32), length), axis=-1)
  return jnp.minimum(first, jnp.minimum(run[:, None], run))


def _refine(tokens: Array, run: Array) -> Array:
  size, length = tokens.shape
  block = min(max(128, size), length)
  rows = jnp.arange(size, dtype=jnp.int32)

  def compare(begin, leader):
    """Returns where every row parts from its leader, or ends, up to this block's end.

    Where the leader ends does not matter: any one string of tokens tells the rows of a node apart.
    """
    start = jnp.minimum(begin, length - block)  # the last block may overlap the one before it, whose tokens agree
    here = lax.dynamic_slice_in_dim(tokens, start, block, axis=1)
    agrees = here == here.at[leader].get(mode="promise_in_bounds")
    parts = start + jnp.min(jnp.where(agrees, block, jnp.arange(block, dtype=jnp.int32)), axis=1)
    return jnp.minimum(parts, run)

  def undivided(carry):
    begin, _, parts = carry
    return jnp.all(parts >= begin + block) & (begin + block < length)

  def advance(carry):
    begin, leader, _ = carry
    return begin + block, leader, compare(begin + block, leader)

  def split(carry):
    _, begin, leader, lcp = carry
    begin, leader, parts = lax.while_loop(undivided, advance, (begin, leader, compare(begin, leader)))
    goes_on = parts >= jnp.minimum(begin + block, length)
    token = jnp.take_along_axis(tokens, jnp.minimum(parts, length - 1)[:, None], axis=1)[:, 0]
    ended = ~goes_on & (parts >= run)
    node = leader[:, None] == leader
    stays = (goes_on[:, None] & goes_on) | ((token[:, None] == token) & ~ended[:, None] & ~ended)
    stays = node & (parts[:, None] == parts) & stays | (rows[:, None] == rows)
    lcp = jnp.where(node & ~stays, jnp.minimum(parts[:, None], parts), lcp)
    leader = jnp.argmax(stays, axis=1).astype(jnp.int32)
    shared = jnp.sum(stays, axis=1) > 1
    begin = jnp.where(jnp.any(shared & ~goes_on), begin, begin + block)  # new nodes look at this block once more
    return jnp.any(shared) & (begin < length), begin, leader, lcp

  # Zeros made of `run`, so that under `shard_map` the carry varies over devices from the start.
  leader = run * 0
  carry = leader[0] == 0, leader[0], leader, jnp.minimum(run[:, None], run)
  return lax.while_loop(lambda carry: carry[0], split, carry)[-1]


def _scan(tokens: Array, run: Array) -> Array:
  def step(carry, inputs):
    share, lcp = carry
    token, t = inputs
    alive = t < run
    share = share & (token[:, None] == token) & alive[:, None] & alive
    return (share, lcp + share), None

  lcp = 0 * (run[:, None] + run)
  times = jnp.arange(tokens.shape[1], dtype=jnp.int32)
  return lax.scan(step, (lcp == 0, lcp), (tokens.T, times))[0][1]


def _sort(tokens: Array, run: Array) -> Array:
  size, length = tokens.shape
  rows = jnp.arange(size, dtype=jnp.int32)

  def step(node, inputs):
    token, t = inputs
    ended = (t >= run).astype(jnp.int32)
    node_of, ended, token, order = lax.sort((node, ended, token, rows + 0 * node), num_keys=3)
    differs = (node_of[1:] != node_of[:-1]) | (token[1:] != token[:-1]) | (ended[1:] > 0)  # the ended stand alone
    rank = jnp.concatenate([0 * node[:1], jnp.cumsum(differs, dtype=jnp.int32)])
    node = jnp.zeros_like(node).at[order].set(rank)
    return node, node

  last, nodes = lax.scan(step, 0 * run, (tokens.T, jnp.arange(length, dtype=jnp.int32)))
  # Rows of one node are neighbours in the last order at every t, so a pair shares what all neighbours between share.
  order = jnp.argsort(last)
  nodes = nodes[:, order]
  neighbours = jnp.sum(nodes[:, 1:] == nodes[:, :-1], axis=0, dtype=jnp.int32)
  between = jnp.where(rows[:, None] < rows, jnp.concatenate([run[:1], neighbours]), length)
  shared = jnp.where(rows[:, None] < rows, lax.cummin(between, axis=1), 0)
  shared = jnp.maximum(shared, shared.T)
  shared = jnp.where(rows[:, None] == rows, run[order], shared)
  inverse = jnp.argsort(order)
  return shared[inverse[:, None], inverse]
