"""Every credit estimator on one group, as a multiple of the time to read its inputs once.

`python -m experiments.bench.estimators` writes `results/estimators.json` beside this file (about a minute).

All numbers are CPU milliseconds of one pinned thread, dispatch included: a group of G = 16 responses of T = 4096 tokens
(or steps, or the transitions of 16 trajectories), float32. "touch" adds up all inputs of the estimator, each read once,
and writes one float per token: no estimator can do much better, and a GRPO broadcast is little else. The inputs of an
estimator are listed with it, for those with more have more to read.
"""

import functools
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import timing
from experiments.bench import trees
from rlcore import advantages
from rlcore import rewards
from rlcore.training import results

RESULT = pathlib.Path(__file__).parent / "results" / "estimators.json"
GROUP, LENGTH = 16, 4096


class Group(NamedTuple):
  """One group; all but `outcome [G]` and `edges [T, G]` are `[G, T]`."""

  tokens: jax.Array
  outcome: jax.Array
  mask: jax.Array  # ragged ends
  process: jax.Array
  value: jax.Array
  value_tp1: jax.Array
  discount: jax.Array  # 0 at one step in 50
  rho: jax.Array
  flags: jax.Array  # 0 or 1: whether a step is good, or was executed
  edges: jax.Array  # log-probabilities on the paths of a tree to its G leaves


def group() -> Group:
  """Makes rows that part early and Gaussian rewards and values."""
  tokens, outcome, mask = trees.group("tree", GROUP, LENGTH)
  rng = np.random.default_rng(0)
  normal = lambda: rng.normal(size=(GROUP, LENGTH)).astype(np.float32)
  discount = np.where(rng.random((GROUP, LENGTH)) < 0.02, 0, 0.99).astype(np.float32)
  flags = (rng.random((GROUP, LENGTH)) < 0.8).astype(np.float32)
  return jax.tree.map(jnp.asarray, Group(tokens, outcome, mask, normal(), normal(), normal(), discount,
                                         np.exp(0.3 * normal()), flags, np.ascontiguousarray(normal().T)))


def _compared(**settings):
  return lambda b: advantages.broadcast_to_tokens(advantages.group_advantage(b.outcome, **settings), b.mask)


def _each(estimator, *names, **settings):
  """An estimator of one trajectory, on all rows."""
  def run(b):
    return jax.vmap(functools.partial(estimator, **settings))(*(getattr(b, name) for name in names))
  return run


def _branch(b):
  """A binary tree over the length, with an edge a token."""
  nodes = advantages.tree_nodes_per_depth(LENGTH, range(0, LENGTH, LENGTH // 4))
  return advantages.depthwise_advantage(advantages.fuse_rewards(b.outcome, b.edges, nodes), nodes)[0]


CASES = {  # name -> (what it reads, the estimator)
    "GRPO": ("outcome mask", _compared()),
    "Dr. GRPO": ("outcome mask", _compared(scale="none")),
    "RLOO": ("outcome mask", _compared(center="leave_one_out", scale="none")),
    "MAD": ("outcome mask", _compared(center="median", scale="mad")),
    "RLOO of returns": ("process mask", lambda b: advantages.trajectory_rloo(b.process, b.mask)),
    "TEMPO": ("tokens outcome mask", lambda b: advantages.tempo_advantage(b.tokens, b.outcome, b.mask)),
    "BranchGRPO": ("outcome edges", _branch),
    "TP-GRPO": ("flags mask outcome", lambda b: advantages.thought_advantage(b.flags, b.mask, b.outcome)),
    "TP-GRPO, unmerged": ("flags mask outcome", lambda b: advantages.step_level_advantage(b.flags, b.mask, b.outcome)),
    "OPRL, RLOO": ("outcome process mask", lambda b: advantages.oprl_advantage(b.outcome, b.process, b.mask)),
    "GAE": ("process value mask", _each(
        lambda *x: advantages.gae(*x, 0.99, 0.95)[0], "process", "value", "mask")),
    "lambda returns": ("process discount value_tp1", _each(
        functools.partial(advantages.lambda_returns, lam=0.95), "process", "discount", "value_tp1")),
    "reward to go": ("process mask", _each(advantages.reward_to_go, "process", "mask")),
    "REINFORCE++ returns": ("process mask", _each(advantages.reinforce_pp_returns, "process", "mask")),
    "n-step returns, n = 5": ("process discount value_tp1", _each(
        functools.partial(advantages.n_step_returns, n=5), "process", "discount", "value_tp1")),
    "V-trace": ("process discount value value_tp1 rho", _each(
        lambda *x: advantages.vtrace(*x)[1], "process", "discount", "value", "value_tp1", "rho")),
    "ReNorm": ("process outcome mask", _each(rewards.ppr_step_rewards, "process", "outcome", "mask")),
    "Clip-Delta": ("process mask outcome", _each(rewards.shaped_step_rewards, "process", "mask", "outcome")),
    "SPA redistribution": ("process flags mask", _each(rewards.spa_step_rewards, "process", "flags", "mask")),
}


def touch(b: Group, names: list[str]) -> jax.Array:
  """Reads each input once and writes one float per token."""
  wide = lambda x: (x if x.ndim == 2 else jnp.broadcast_to(x[:, None], (GROUP, LENGTH))).reshape(-1).astype(jnp.float32)
  return functools.reduce(jnp.add, (wide(getattr(b, name)) for name in names))


def measure(name: str, needs: str, estimator) -> dict:
  """Times one estimator in turns with reading its inputs."""
  arrays, names = group(), needs.split()
  functions = {"estimator": jax.jit(estimator), "touch": jax.jit(functools.partial(touch, names=names))}
  for leaf in jax.tree.leaves(functions["estimator"](arrays)):
    assert leaf.size == GROUP * LENGTH and np.isfinite(leaf).all(), name
  times = timing.cpu_ms(functions, arrays, slice_s=0.02)
  row = {"estimator": name, "reads": names, "ms": times,
         "times_reading": round(times["estimator"]["median"] / times["touch"]["median"], 2)}
  print(f"{name:24}", *(f"{key} {x['median']:.3g} [{x['q25']:.3g}-{x['q75']:.3g}]" for key, x in times.items()),
        f"ratio {row['times_reading']}", flush=True)
  return row


def main():
  """Measures and writes."""
  timing.one_thread()
  rows = [measure(name, *case) for name, case in CASES.items()]
  result = {"unit": "CPU ms of one thread per group", "environment": results.environment(),
            "shape": {"G": GROUP, "T": LENGTH}, "estimators": rows}
  RESULT.parent.mkdir(exist_ok=True)
  results.write_result(RESULT, result)


if __name__ == "__main__":
  main()
