"""Stack writer: work out a secret string of digits by pushing them on a stack; a pop takes one back.

The smallest world in which a response reflects on itself. The actions are the digits (push), `base` (pop) and
`base + 1` (answer). A push on a full stack and a pop from an empty one do nothing. The episode ends with the answer or
at the horizon, and earns 1 if the stack then spells the secret, else 0. One bit of the observation may show that the
digit on top is wrong: the chance to notice an error. A digit that was pushed and popped is an error that a reflection
took back, so the labels of steps follow from the actions and the outcome alone (`stack_labels`).

Reference: TP-GRPO, arXiv:2507.23317 (the world is ours: the paper's premise in its purest form).
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from rlcore import rewards
from rlcore.types import Array, World


class StackPrompt(NamedTuple):
  """An instance of the world.

  Attributes:
    prompt: int32, which of the P prompts this is.
    secret: `[n]` int32, the digits to be written, the bottom of the stack first.
    shown: `[n, base]` bool, whether the observation tells that this digit is wrong when it lies on top in this slot.
  """

  prompt: Array
  secret: Array
  shown: Array


class StackState(NamedTuple):
  """What has been written: `digits` `[n]` int32 (junk above `depth`), `depth` int32, `time` int32."""

  digits: Array
  depth: Array
  time: Array


def draw_prompts(
    key: Array, num_prompts: int = 16, length: int = 4, base: int = 4, shown_rate: float = 0.5) -> StackPrompt:
  """Draws secrets and hints.

  Args:
    key: PRNG key; may be traced, so that every seed has its own.
    num_prompts: P.
    length: n, digits of a secret.
    base: how many digits there are.
    shown_rate: probability that the observation tells of a wrong digit, for each prompt, slot and digit.

  Returns:
    `[P]` prompts; prompt p is entry p.
  """
  secret_key, shown_key = jax.random.split(key)
  secrets = jax.random.randint(secret_key, (num_prompts, length), 0, base)
  shown = jax.random.bernoulli(shown_key, shown_rate, (num_prompts, length, base))
  return StackPrompt(jnp.arange(num_prompts, dtype=jnp.int32), secrets, shown)


def make_stack_writer(*, num_prompts: int = 16, length: int = 4, base: int = 4, horizon: int = 14) -> World:
  """Makes the world; its params are one `StackPrompt`.

  The observation is one-hot prompt `[P]`, one-hot digit of each slot `[n * base]` (0 above the top), depth / n,
  time / horizon and the bit that shows an error.

  Args:
    num_prompts: P, as the prompts were drawn.
    length: n.
    base: number of digits.
    horizon: most actions of an episode; the last of them ends it like an answer.

  Returns:
    The world.

  Raises:
    ValueError: if the horizon leaves no room for the secret.
  """
  if horizon < length:
    raise ValueError(f"horizon={horizon} leaves no room for a secret of {length} digits")

  def observe(state, params):
    filled = jnp.arange(length) < state.depth
    slots = jax.nn.one_hot(state.digits, base) * filled[:, None]
    return jnp.concatenate([
        jax.nn.one_hot(params.prompt, num_prompts), slots.reshape(-1),
        jnp.stack([state.depth / length, state.time / horizon, _shows_error(state, params)])]).astype(jnp.float32)

  def reset(key, params):
    del key
    zero = jnp.zeros((), jnp.int32)
    state = StackState(jnp.zeros(length, jnp.int32), zero, zero)
    return observe(state, params), state

  def step(key, state, action, params):
    del key
    digits, depth = _act(state.digits, state.depth, action, action, base)
    state = StackState(digits, depth, state.time + 1)
    terminated = (action == base + 1) | (state.time >= horizon)
    right = (depth == length) & jnp.all(digits == params.secret)
    reward = (terminated & right).astype(jnp.float32)
    return observe(state, params), state, reward, terminated, jnp.zeros((), bool), {}

  return World(reset, step, base + 2, num_prompts + length * base + 3, horizon)


def script_logits(
    state: StackState, prompt: StackPrompt, *, noise: float = 0.1, reflect: float = 0.7, right: float = 0.5) -> Array:
  """Gives the log-probabilities of a script that half knows the secret, as demonstrations to clone.

  Each action is uniform over all with probability `noise`; else a pop with probability `reflect` if the observation
  shows an error; else the answer if the stack is full; else a push of the right digit with probability `right`, of a
  uniform one otherwise.

  Args:
    state: of the world.
    prompt: the instance.
    noise: probability of a uniform action.
    reflect: probability of taking back an error that shows.
    right: probability of pushing the right digit knowingly.

  Returns:
    `[base + 2]` float32, finite.
  """
  length, base = prompt.shown.shape
  only = lambda action: jax.nn.one_hot(action, base + 2)
  digit = prompt.secret[jnp.minimum(state.depth, length - 1)]
  push = right * only(digit) + (1 - right) / base * (jnp.arange(base + 2) < base)
  go_on = jnp.where(state.depth == length, only(base + 1), push)
  reflects = reflect * _shows_error(state, prompt)
  return jnp.log(noise / (base + 2) + (1 - noise) * (reflects * only(base) + (1 - reflects) * go_on))


def stack_labels(action: Array, mask: Array, correct: Array, *, length: int = 4, base: int = 4) -> Array:
  """Labels the actions of one episode as a judge would that sees only what was written and whether it is right.

  In a correct episode everything from a push to before the pop that takes its digit back is 0, the rest 1. In an
  incorrect one a push is 1 if its digit is on the stack at the end, the rest 0. The last counted action is always 1.

  Args:
    action: `[T]` int32.
    mask: `[T]`, > 0 where an action was taken.
    correct: scalar, > 0 if the episode is correct.
    length: n, the height of the stack.
    base: number of digits.

  Returns:
    `[T]` float32 of 0 and 1, 0 in masked places.

  Reference: TP-GRPO, arXiv:2507.23317, sec. 3 (the judge's protocol).
  """
  chex.assert_rank([action, mask], 1)
  chex.assert_equal_shape((action, mask))
  keep, positions = mask > 0, jnp.arange(action.shape[0], dtype=jnp.int32)

  def write(carry, x):
    pushed_at, depth = carry  # the stack holds the times of its pushes
    act, alive, time = x
    pops = alive & (act == base) & (depth > 0)
    start = pushed_at[jnp.maximum(depth - 1, 0)]
    return _act(pushed_at, depth, jnp.where(alive, act, base + 1), time, base), (pops, start)

  empty = jnp.full(length, -1, jnp.int32), jnp.zeros((), jnp.int32)
  (pushed_at, depth), (pops, start) = jax.lax.scan(write, empty, (action, keep, positions))
  stays = jnp.any((pushed_at == positions[:, None]) & (jnp.arange(length) < depth), 1)
  taken_back = rewards.labels_from_reflections(start, positions, pops, positions.size)
  flags = jnp.where(jnp.asarray(correct) > 0, taken_back, stays)
  return rewards.good_steps(flags, mask).astype(jnp.float32)


def _act(stack: Array, depth: Array, action: Array, item: Array, base: int) -> tuple[Array, Array]:
  """Pushes `item` where the action is a digit, pops where it is `base`."""
  pushes = (action < base) & (depth < stack.shape[0])
  pops = (action == base) & (depth > 0)
  top = jnp.arange(stack.shape[0]) == depth
  return jnp.where(pushes & top, item, stack).astype(jnp.int32), depth + pushes - pops


def _shows_error(state: StackState, prompt: StackPrompt) -> Array:
  """Says whether the digit on top is wrong and the prompt shows it."""
  slot = jnp.maximum(state.depth - 1, 0)
  digit = state.digits[slot]
  return (state.depth > 0) & (digit != prompt.secret[slot]) & prompt.shown[slot, digit]
