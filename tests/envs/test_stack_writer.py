"""The stack writer against a simulation with Python lists, and its labels against a reader of the whole episode."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.envs import stack_writer
from rlcore.policies import actor_critic
from tests.tolerance import close

N, BASE, HORIZON, PROMPTS = 4, 4, 14, 16
POP, ANSWER = BASE, BASE + 1
WORLD = stack_writer.make_stack_writer()
labels_of = jax.jit(stack_writer.stack_labels)


@pytest.fixture(scope="module")
def drawn():
  """Prompts of 40 seeds, which are traced."""
  return jax.device_get(jax.jit(jax.vmap(lambda seed: stack_writer.draw_prompts(jax.random.key(seed))))(jnp.arange(40)))


@pytest.fixture(scope="module")
def prompts(drawn):
  return jax.tree.map(lambda x: x[3], drawn)


def _see(stack, time, prompt):
  """The observation, from the list of digits."""
  slots = np.zeros((N, BASE))
  for slot, digit in enumerate(stack):
    slots[slot, digit] = 1
  top = len(stack) - 1
  bit = bool(stack) and stack[top] != prompt.secret[top] and bool(prompt.shown[top, stack[top]])
  return np.concatenate([np.eye(PROMPTS)[prompt.prompt], slots.ravel(), [len(stack) / N, time / HORIZON, bit]])


def simulate(actions, prompt):
  """Plays actions: `(observations before each, rewards, terminated flags)` until the end."""
  stack, seen, rewards, ends = [], [], [], []
  for time, action in enumerate(actions):
    seen.append(_see(stack, time, prompt))
    if action < BASE and len(stack) < N:
      stack.append(int(action))
    elif action == POP and stack:
      stack.pop()
    over = action == ANSWER or time + 1 == HORIZON
    rewards.append(float(over and stack == list(prompt.secret)))
    ends.append(over)
    if over:
      break
  return seen, rewards, ends


def label(actions, correct):
  """The labels, by what became of every single digit."""
  stack, fate, kind = [], {}, []
  for t, action in enumerate(actions):
    if action < BASE and len(stack) < N:
      stack.append(t)
      kind.append("push")
    elif action == POP and stack:
      fate[stack.pop()] = t
      kind.append("pop")
    else:
      kind.append("idle")
  if correct:
    labels = [0 if any(start <= t < end for start, end in fate.items()) else 1 for t in range(len(actions))]
  else:
    labels = [1 if kind[t] == "push" and t not in fate else 0 for t in range(len(actions))]
  labels[-1] = 1
  return labels


@functools.partial(jax.jit, static_argnums=2)
def _play(actions, prompt, world):
  observation, state = world.reset(jax.random.key(0), prompt)
  def step(carry, action):
    observation, state = carry
    after, state, reward, terminated, truncated, _ = world.step(jax.random.key(0), state, action, prompt)
    return (after, state), (observation, reward, terminated, truncated)
  return jax.lax.scan(step, (observation, state), actions)[1]


def _random_actions(rng, prompt):
  """Half of the time nonsense, else the secret with detours, so that correct episodes occur."""
  if rng.random() < 0.5:
    return rng.integers(0, BASE + 2, HORIZON)
  actions = []
  for digit in prompt.secret:
    while rng.random() < 0.4:
      actions += [rng.integers(BASE), POP] if rng.random() < 0.8 else [rng.integers(BASE), rng.integers(BASE), POP, POP]
    actions.append(digit)
  actions = (actions + [POP] * int(rng.random() < 0.1) + [ANSWER] * HORIZON)[:HORIZON]
  return np.array(actions)


def test_world_and_labels_are_the_simulation(prompts):
  rng = np.random.default_rng(0)
  solved = taken_back = 0
  for _ in range(150):
    prompt = jax.tree.map(lambda x: x[rng.integers(PROMPTS)], prompts)
    actions = _random_actions(rng, prompt).astype(np.int32)
    seen, rewards, ends = simulate(actions, prompt)
    got = [np.asarray(x)[:len(seen)] for x in _play(actions, prompt, WORLD)]
    np.testing.assert_allclose(got[0], seen, atol=1e-6)
    np.testing.assert_array_equal(got[1], rewards)
    np.testing.assert_array_equal(got[2], ends)
    assert not np.any(got[3])
    length, correct = len(seen), rewards[-1]
    mask = (np.arange(HORIZON) < length).astype(np.float32)
    want = label(actions[:length], correct) + [0] * (HORIZON - length)
    np.testing.assert_array_equal(labels_of(np.where(mask > 0, actions, -7), mask, np.float32(correct)), want)
    solved += correct
    taken_back += correct and 0 in want[:length]
  assert solved > 20 and taken_back > 5


@pytest.mark.parametrize("actions, correct, want", [
    ([0, 1, POP, 2, ANSWER], 1, [1, 0, 1, 1, 1]),
    ([0, 1, 2, POP, POP, 3, ANSWER], 1, [1, 0, 0, 0, 1, 1, 1]),  # nested: the inner pop lies inside the outer interval
    ([0, 1, POP, 2, ANSWER], 0, [1, 0, 0, 1, 1]),
    ([POP, 0, 1, 2, 3, 3], 0, [0, 1, 1, 1, 1, 1]),  # no-ops are 0, the last step is 1 all the same
    ([POP, ANSWER], 1, [1, 1])])
def test_labels_by_hand(actions, correct, want):
  size = len(actions)
  mask = (np.arange(HORIZON) < size).astype(np.float32)
  got = labels_of(np.resize(np.array(actions, np.int32), HORIZON), mask, np.float32(correct))
  np.testing.assert_array_equal(got, want + [0] * (HORIZON - size))


def test_a_hole_in_the_mask_is_no_action():
  actions, mask = np.zeros(HORIZON, np.int32), np.zeros(HORIZON, np.float32)
  actions[:5], mask[:5] = [0, POP, 1, POP, ANSWER], [1, 0, 1, 1, 1]
  np.testing.assert_array_equal(labels_of(actions, mask, np.float32(1))[:5], [1, 0, 0, 1, 1])


def test_secrets_and_hints_are_drawn_with_traced_seeds(drawn):
  assert drawn.secret.shape == (40, PROMPTS, N) and drawn.shown.shape == (40, PROMPTS, N, BASE)
  assert (np.bincount(np.ravel(drawn.secret), minlength=BASE) / drawn.secret.size > 0.2).all()
  assert abs(np.mean(drawn.shown) - 0.5) < 0.02
  assert len(np.unique(np.reshape(drawn.secret, (40, -1)), axis=0)) == 40


def test_the_script(prompts):
  """Its probabilities by hand, and its success as the world was designed for (0.21)."""
  prompt = jax.tree.map(lambda x: x[5], prompts)
  secret = [int(d) for d in prompt.secret]
  wrong = [d for d in range(BASE) if d != secret[0] and prompt.shown[0, d]][0]
  logits = jax.jit(stack_writer.script_logits)
  for stack in ([], secret[:2], secret, [wrong]):
    state = stack_writer.StackState(np.array((stack + [0] * N)[:N], np.int32), np.int32(len(stack)), np.int32(0))
    want = np.zeros(BASE + 2)
    if len(stack) == N:
      want[ANSWER] = 1
    else:
      want[:BASE] = 0.5 / BASE
      want[secret[len(stack)]] += 0.5
    if stack == [wrong]:
      want *= 0.3
      want[POP] += 0.7
    want = 0.1 / (BASE + 2) + 0.9 * want
    close(np.exp(logits(state, prompt)), want, rtol=1e-5)
  script = lambda key, state, prompt: jax.random.categorical(key, stack_writer.script_logits(state, prompt))
  play = lambda key, prompt: actor_critic.scripted_rollout(WORLD, script, key, prompt)
  play = jax.jit(jax.vmap(jax.vmap(play, (0, None)), (0, 0)))
  episodes = play(jax.random.split(jax.random.key(0), (PROMPTS, 250)), prompts)
  assert abs(np.mean(np.sum(episodes.reward_t, -1)) - 0.21) < 0.03
  pops = np.sum((episodes.action == POP) * episodes.mask, -1)
  assert abs(np.mean(pops) - 0.66) < 0.12


def test_a_short_horizon_is_refused():
  with pytest.raises(ValueError, match="horizon=3"):
    stack_writer.make_stack_writer(horizon=3)
