"""Branching rollouts beside plain ones, at equal numbers of drawn tokens: what a step-level choice costs.

`python -m experiments.bench.branching` writes `results/branching.json` beside this file (about three minutes).

All numbers are CPU time of one pinned thread. Model: 4 layers, width 256, 4 heads of 64, feed-forward 1024, 4096 tied
tokens, float32; 4 prompts, k rows each, no stop token, temperature 1. Every contestant draws 4 x k x S x M tokens:

- plain: k whole responses of S x M tokens (`policies.sample`).
- branch: S steps of k candidates of M tokens, one of them chosen (`policies.branch`).
- again: the same by what one would write first: at every step the prompt and the chosen steps are read again by the
  plain sampler, in as many places as they have by then.

`branch_over_plain` is the ratio of tokens per second. "plain" and "branch" read no token twice; `reread` says how many
prefix tokens "again" reads once more. Before anything is timed the log-probabilities that branching
reports are compared with those of scoring the assembled sequences.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import timing
from rlcore import advantages
from rlcore.models import decoder
from rlcore.policies import branching
from rlcore.policies import log_probs
from rlcore.policies import sampling
from rlcore.training import results

RESULT = pathlib.Path(__file__).parent / "results" / "branching.json"
PROMPTS, VOCAB = 4, 4096
SIZES = ((32, 8, 4, 16), (256, 8, 4, 16), (256, 5, 8, 8))  # P, k, S, M


def score(problem, candidates):
  """A verifier that costs next to nothing: the share of even tokens."""
  del problem
  return jnp.mean(candidates.mask * (candidates.tokens % 2 == 0), -1)


def contestants(model, prompts, size: int, steps: int, length: int) -> dict:
  """Returns name -> `(params, key) -> ...`, jitted."""
  ones = jnp.ones_like(prompts)

  def plain(params, key):
    return sampling.sample(model, params, key, prompts, ones, group_size=size, max_new_tokens=steps * length)

  def branch(params, key):
    return branching.branch(model, params, key, prompts, ones, score, candidates=size, max_steps=steps,
                            max_step_tokens=length)

  def again(params, key):
    prefix, drawn = prompts, []
    for step in range(steps):
      key, sample_key, choice_key = jax.random.split(key, 3)
      r = sampling.sample(model, params, sample_key, prefix, jnp.ones_like(prefix), group_size=size,
                          max_new_tokens=length)
      rewards = jnp.mean(r.tokens % 2 == 0, -1)
      probs = jax.vmap(lambda x: advantages.reward_weighted_probs(advantages.group_advantage(x)))(rewards)
      chosen = jax.random.categorical(choice_key, jnp.log(probs))
      prefix = jnp.concatenate([prefix, jnp.take_along_axis(r.tokens, chosen[:, None, None], 1)[:, 0]], 1)
      drawn.append(r)
    return drawn

  return {name: jax.jit(fn) for name, fn in (("plain", plain), ("branch", branch), ("again", again))}


def check(model, params, branches) -> float:
  """Returns the greatest difference between the log-probabilities of branching and of scoring."""
  rollouts = jax.vmap(branching.as_rollouts)(branches)
  flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rollouts)
  scored = jax.jit(functools.partial(log_probs.token_log_probs, model))(
      params, flat.prompt, flat.prompt_mask, flat.tokens, flat.mask)
  difference = float(jnp.max(jnp.abs(scored - flat.log_probs)))
  np.testing.assert_allclose(difference, 0, atol=1e-4)
  return difference


def measure(places: int, size: int, steps: int, length: int) -> dict:
  """Times one size."""
  model = decoder.make_decoder(decoder.DecoderConfig(
      vocab_size=VOCAB, context=places + steps * length, layers=4, dim=256, heads=4, head_dim=64, ff_dim=1024))
  params = jax.jit(model.init)(jax.random.key(0))
  prompts = jax.random.randint(jax.random.key(1), (PROMPTS, places), 0, VOCAB)
  functions = contestants(model, prompts, size, steps, length)
  difference = check(model, params, functions["branch"](params, jax.random.key(2)))
  times = timing.cpu_ms(functions, params, jax.random.key(2), rounds=5)
  tokens = PROMPTS * size * steps * length
  rate = {name: {"median": round(1e3 * tokens / t["median"]), "q25": round(1e3 * tokens / t["q75"]),
                 "q75": round(1e3 * tokens / t["q25"])} for name, t in times.items()}
  row = {"P": places, "k": size, "S": steps, "M": length, "tokens": tokens,
         "reread": PROMPTS * sum(places + step * length for step in range(1, steps)), "ms": times,
         "tokens_per_s": rate,
         "branch_over_plain": round(times["plain"]["median"] / times["branch"]["median"], 3),
         "branch_over_again": round(times["again"]["median"] / times["branch"]["median"], 3),
         "log_prob_difference": difference}
  print(*(f"{name} {value}" for name, value in row.items() if name not in ("ms",)), flush=True)
  return row


def main():
  """Measures and writes."""
  timing.one_thread()
  result = {"unit": "tokens per CPU second of one thread", "environment": results.environment(),
            "sizes": [measure(*size) for size in SIZES]}
  RESULT.parent.mkdir(exist_ok=True)
  results.write_result(RESULT, result)


if __name__ == "__main__":
  main()
