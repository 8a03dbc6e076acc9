"""Prints the tables of docs/losses.md; every expectation is an exact enumeration, nothing is sampled.

  python -m experiments.tables.losses
"""

from collections.abc import Callable
import itertools
from typing import NamedTuple

import jax
from jax.flatten_util import ravel_pytree
import jax.numpy as jnp

from rlcore import losses
from rlcore.types import Array, Rollouts

Table = tuple[list[str], list[list[str]]]
NUMBER = "{:.3f}"


class World(NamedTuple):
  """A softmax policy small enough to enumerate, with its reference and the policy that drew the samples.

  Each is a tuple of logits: `[V]` for the first token and, for two tokens, `[V, V]` for the second given the first.
  """

  policy: tuple[Array, ...]
  reference: tuple[Array, ...]
  behaviour: tuple[Array, ...]


def _log(*probabilities):
  return tuple(jnp.log(jnp.asarray(p)) for p in probabilities)


ONE_TOKEN = World(
    policy=_log([0.5, 0.3, 0.15, 0.05]), reference=_log([0.3, 0.3, 0.2, 0.2]), behaviour=_log([0.4, 0.3, 0.2, 0.1]))
TWO_TOKENS = World(
    policy=_log([0.6, 0.3, 0.1], [[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]]),
    reference=_log([0.4, 0.3, 0.3], [[0.4, 0.3, 0.3], [0.3, 0.4, 0.3], [0.3, 0.3, 0.4]]),
    behaviour=_log([0.5, 0.3, 0.2], [[0.6, 0.2, 0.2], [0.2, 0.4, 0.4], [0.2, 0.1, 0.7]]))


def responses(world: World) -> Array:
  """Lists every response, `[V^T, T]`."""
  return jnp.asarray(list(itertools.product(range(world.policy[0].size), repeat=len(world.policy))))


def token_log_probs(logits: tuple[Array, ...], tokens: Array) -> Array:
  """Log-probability of each token of one response, `[T]`."""
  picked = [jax.nn.log_softmax(level)[tuple(tokens[:t + 1])] for t, level in enumerate(logits)]
  return jnp.stack(picked)


class Placement(NamedTuple):
  """Where the divergence of a row enters, and what one sample then contributes to the gradient.

  Attributes:
    where: first column.
    estimator: second column.
    expectation: what the gradient is on average, on policy, in words.
    term: `(log_probs, ref, old [1, T], weights [1, T]) -> scalar`, whose gradient is the sample's.
    regimes: the columns that make sense for it.
  """

  where: str
  estimator: str
  expectation: str
  term: Callable[[Array, Array, Array, Array], Array]
  regimes: tuple[str, ...]


def _total(values: Array) -> Array:
  return losses.aggregate(values, jnp.ones_like(values), mode="constant", length=1)


def in_loss(estimator: str, whole_response: bool = False):
  def term(log_probs, ref, old, weights):
    if whole_response:
      log_probs, ref, weights = log_probs.sum(1, keepdims=True), ref.sum(1, keepdims=True), weights[:, :1]
    return _total(weights * losses.kl_estimate(log_probs, ref, estimator=estimator))
  return term


def in_loss_times_ratio(estimator: str):
  def term(log_probs, ref, old, weights):
    batch = Rollouts(tokens=None, mask=jnp.ones_like(old), log_probs=old, prompt=None, prompt_mask=None,
                     ref_log_probs=ref)
    return losses.clip_policy_loss(log_probs, batch, jnp.zeros_like(old), kl_coef=1.0, kl=estimator, kl_weighted=True,
                                   aggregation="constant", length=1)[0]
  return term


def in_reward(estimator: str, credit: Callable[[Array], Array], baseline: float = 0.0):
  def term(log_probs, ref, old, weights):
    penalty = credit(losses.kl_estimate(log_probs, ref, estimator=estimator)) - baseline
    return losses.reinforce_loss(log_probs, -penalty, jnp.ones_like(old), weights=weights, aggregation="constant",
                                 length=1)[0]
  return term


own = lambda kl: kl
to_go = lambda kl: jnp.cumsum(kl[:, ::-1], 1)[:, ::-1]
whole = lambda kl: jnp.broadcast_to(kl.sum(1, keepdims=True), kl.shape)


def exact_kl(world: World, logits: tuple[Array, ...]) -> Array:
  """KL(policy || reference) of whole responses, by enumeration."""
  tokens = responses(world)
  log_p = jax.vmap(lambda x: token_log_probs(logits, x).sum())(tokens)
  log_q = jax.vmap(lambda x: token_log_probs(world.reference, x).sum())(tokens)
  return jnp.sum(jnp.exp(log_p) * (log_p - log_q))


class Enumeration(NamedTuple):
  """Every response of a world.

  Attributes:
    log_probs: `[S, T]` under the policy.
    ref: `[S, T]` under the reference.
    behaviour: `[S, T]` under the behaviour policy.
    scores: `[S, T, P]`, gradients of `log_probs` with respect to the policy's logits.
    exact: `[P]`, gradient of `exact_kl`.
  """

  log_probs: Array
  ref: Array
  behaviour: Array
  scores: Array
  exact: Array


def enumerate_world(world: World) -> Enumeration:
  """Lists every response with its log-probabilities and their gradients."""
  tokens = responses(world)
  theta, unravel = ravel_pytree(world.policy)
  def of(logits):
    return jax.vmap(lambda x: token_log_probs(logits, x))(tokens)
  return Enumeration(
      log_probs=of(world.policy), ref=of(world.reference), behaviour=of(world.behaviour),
      scores=jax.jacobian(lambda x: of(unravel(x)))(theta),
      exact=jax.grad(lambda x: exact_kl(world, unravel(x)))(theta))


def bias_and_deviation(every: Enumeration, term: Callable, regime: str) -> tuple[Array, Array]:
  """Measures a gradient against that of `exact_kl`.

  Args:
    every: the responses.
    term: of a `Placement`.
    regime: "on" (samples of the policy), "off" (of the behaviour policy, not corrected), "token" (the same, each
      token's term weighted by its own ratio) or "product" (by the ratio of the whole response).

  Returns:
    Distance of the expected gradient from the exact one, and standard deviation of one sample's gradient (root of the
    trace of the covariance), both over the norm of the exact gradient.
  """
  old = every.log_probs if regime == "on" else every.behaviour
  weights = jnp.ones_like(old)
  if regime in ("token", "product"):
    weights = losses.truncated_importance_weights(every.log_probs, old, weights, cap=jnp.inf, ratio=regime)
  pull = jax.vmap(jax.grad(lambda *args: term(*(x[None] for x in args))))(every.log_probs, every.ref, old, weights)
  grads = jnp.einsum("st,stp->sp", pull, every.scores)
  chance = jnp.exp(old.sum(1, keepdims=True))
  mean = jnp.sum(chance * grads, 0)
  variance = jnp.sum(chance * jnp.square(grads - mean))
  scale = jnp.linalg.norm(every.exact)
  return jnp.linalg.norm(mean - every.exact) / scale, jnp.sqrt(variance) / scale


ALL = ("on", "off", "token")
ALL_TWO = ALL + ("product",)
ONE_TOKEN_ROWS = (
    Placement("loss", "k1", "0", in_loss("k1"), ALL),
    Placement("loss", "k2, k1+, k3+", "∇KL(π‖ref)", in_loss("k2"), ALL),
    Placement("loss", "k3", "∇KL(ref‖π)", in_loss("k3"), ALL),
    Placement("loss × ratio", "k1", "∇KL(π‖ref)", in_loss_times_ratio("k1"), ("on", "token")),
    Placement("loss × ratio", "k2", "∇E[k2]", in_loss_times_ratio("k2"), ("on", "token")),
    Placement("loss × ratio", "k3", "∇KL(π‖ref)", in_loss_times_ratio("k3"), ("on", "token")),
    Placement("reward", "k1", "∇KL(π‖ref)", in_reward("k1", own), ALL),
    Placement("reward − mean", "k1", "∇KL(π‖ref)", in_reward("k1", own, float(exact_kl(ONE_TOKEN, ONE_TOKEN.policy))),
              ALL),
    Placement("reward", "k2", "∇E[k2] − ∇KL(π‖ref)", in_reward("k2", own), ALL),
    Placement("reward", "k3", "∇KL(π‖ref) − ∇KL(ref‖π)", in_reward("k3", own), ALL),
)
TWO_TOKEN_ROWS = (
    Placement("loss", "k2 of each token", "later tokens missing", in_loss("k2"), ALL_TWO),
    Placement("loss", "k2 of the response", "∇KL(π‖ref)", in_loss("k2", whole_response=True), ("on", "off", "product")),
    Placement("loss", "k3 of each token", "later tokens missing, and forward", in_loss("k3"), ALL_TWO),
    Placement("loss × ratio", "k3 of each token", "later tokens missing", in_loss_times_ratio("k3"), ("on", "token")),
    Placement("reward", "k1, own token only", "later tokens missing", in_reward("k1", own), ALL_TWO),
    Placement("reward", "k1 to go", "∇KL(π‖ref)", in_reward("k1", to_go), ALL_TWO),
    Placement("reward", "k1 of the response", "∇KL(π‖ref)", in_reward("k1", whole), ALL_TWO),
    Placement("reward", "k3 to go", "biased", in_reward("k3", to_go), ALL_TWO),
)
REGIME_NAMES = {
    "on": "on policy", "off": "off policy", "token": "off, × token ratio", "product": "off, × response ratio"}


def kl_table(world: World, rows: tuple[Placement, ...], regimes: tuple[str, ...]) -> Table:
  """One row a placement: bias and deviation in every regime."""
  header = ["where", "estimator", "expected gradient, on policy"]
  header += [f"{REGIME_NAMES[r]}: {what}" for r in regimes for what in ("bias", "sd")]

  @jax.jit  # one program: eager enumeration spends its time in dispatch
  def measure(world):
    every = enumerate_world(world)
    return [[bias_and_deviation(every, row.term, r) if r in row.regimes else None for r in regimes] for row in rows]

  body = []
  for row, measured in zip(rows, measure(world)):
    cells = [[NUMBER.format(float(x)) for x in pair] if pair else ["–", "–"] for pair in measured]
    body.append([row.where, row.estimator, row.expectation, *sum(cells, [])])
  return header, body


LENGTHS, LONGEST = (2, 10), 20
MODES = (
    ("token", dict(mode="token")),
    ("sequence", dict(mode="sequence")),
    (f"constant, length={LONGEST}", dict(mode="constant", length=LONGEST)),
)


def _mask(lengths):
  return (jnp.arange(LONGEST) < jnp.asarray(lengths)[:, None]).astype(jnp.float32)


def aggregation_table() -> Table:
  """Weight of a token and of a sequence in the gradient, for a short and a long response."""
  header = ["mode", "a token of the short one", "a token of the long one", "all of the short one",
            "all of the long one", "sum", "a short token, both lengths doubled"]
  body = []
  for name, how in MODES:
    def weights(lengths):
      return jax.grad(lambda x: losses.aggregate(x, _mask(lengths), **how))(jnp.zeros((2, LONGEST)))
    w = weights(LENGTHS)
    numbers = [w[0, 0], w[1, 0], w[0].sum(), w[1].sum(), w.sum(), weights([2 * n for n in LENGTHS])[0, 0]]
    body.append([name] + [NUMBER.format(float(x)) for x in numbers])
  return header, body


def accumulation_table() -> Table:
  """A batch of two responses cut into two microbatches: plain mean of the losses against the exact weights."""
  header = ["mode", "whole batch", "mean of the pieces", "weighted by `aggregation_weight`"]
  values, mask, body = jnp.stack([jnp.ones(LONGEST), jnp.zeros(LONGEST)]), _mask(LENGTHS), []
  for name, how in MODES:
    pieces = jnp.stack([losses.aggregate(values[i:i + 1], mask[i:i + 1], **how) for i in range(2)])
    weights = jnp.stack([losses.aggregation_weight(mask[i:i + 1], **how) for i in range(2)])
    numbers = [losses.aggregate(values, mask, **how), pieces.mean(), jnp.sum(pieces * weights) / weights.sum()]
    body.append([name] + [NUMBER.format(float(x)) for x in numbers])
  return header, body


def zero_spread_table() -> Table:
  """Gradient of a batch of two groups, one of which has no spread, and of the other group alone."""
  header = ["mode", "KL coefficient", "tied group", "other group", "other group, tied group left out"]
  # Rows 0 and 1 are the tied group (advantage 0, long responses), rows 2 and 3 the other (short responses).
  mask, sign = _mask((8, 8, 2, 2)), jnp.asarray([0.0, 0.0, 1.0, -1.0])
  advantages, log_probs = jnp.broadcast_to(sign[:, None], mask.shape), jnp.full(mask.shape, -1.0)
  batch = Rollouts(tokens=None, mask=mask, log_probs=log_probs, prompt=None, prompt_mask=None,
                   ref_log_probs=log_probs - 0.5)
  body = []
  for name, how in MODES:
    @jax.jit
    def gradient(kl_coef, batch, advantages):
      settings = dict(aggregation=how["mode"], length=how.get("length"), kl_coef=kl_coef, kl="k2")
      return jax.grad(lambda x: losses.clip_policy_loss(x, batch, advantages, **settings)[0])(batch.log_probs)
    for kl_coef in (0.0, 0.1):
      both = gradient(kl_coef, batch, advantages)
      alone = gradient(kl_coef, *jax.tree.map(lambda x: x[2:], (batch, advantages)))
      numbers = [jnp.linalg.norm(both[:2]), jnp.linalg.norm(both[2:]), jnp.linalg.norm(alone)]
      body.append([name, f"{kl_coef:g}"] + [NUMBER.format(float(x)) for x in numbers])
  return header, body


RATIOS = (0.5, 0.9, 1.0, 1.25, 1.5, 4.0, 10.0)
FAMILY = (
    ("PPO", losses.clip_loss, dict(clip_high=None)),
    ("DAPO (default)", losses.clip_loss, {}),
    ("dual clip 3", losses.clip_loss, dict(clip_high=None, dual_clip=3.0)),
    ("CISPO (default)", losses.cispo_loss, {}),
    ("REINFORCE", lambda log_probs, old, advantages, mask: losses.reinforce_loss(log_probs, advantages, mask), {}),
)


def clip_table() -> Table:
  """Pull on the log-probability of one token as a function of its ratio, for both signs of the advantage."""
  body = []
  for (name, loss, settings), sign in itertools.product(FAMILY, (1.0, -1.0)):
    @jax.jit
    def pull(ratio):
      old, one = -jnp.log(jnp.full((1, 1), ratio)) - 3.0, jnp.ones((1, 1))
      return -jax.grad(lambda x: loss(x, old, sign * one, one, **settings)[0])(jnp.full((1, 1), -3.0))[0, 0]
    body.append([name, f"{sign:+.0f}"] + [f"{round(float(pull(r)), 3) + 0.0:g}" for r in RATIOS])
  return ["loss", "A"] + [f"ratio {r:g}" for r in RATIOS], body


TABLES: dict[str, Callable[[], Table]] = {
    "kl-one-token": lambda: kl_table(ONE_TOKEN, ONE_TOKEN_ROWS, ALL),
    "kl-two-tokens": lambda: kl_table(TWO_TOKENS, TWO_TOKEN_ROWS, ALL_TWO),
    "aggregation": aggregation_table,
    "accumulation": accumulation_table,
    "zero-spread": zero_spread_table,
    "clip": clip_table,
}


def markdown(name: str) -> str:
  """Renders one table with the comment line by which the test finds it in the document."""
  header, body = TABLES[name]()
  lines = [header, ["---"] * len(header), *body]
  return "\n".join([f"<!-- table: {name} -->"] + ["| " + " | ".join(line) + " |" for line in lines])


if __name__ == "__main__":
  print("\n\n".join(markdown(name) for name in TABLES))
