"""A bandit that learns in milliseconds, with everything an experiment can have; the host loop's tests train it."""

import jax
import jax.numpy as jnp
import ml_collections

from rlcore.types import Example, Experiment, Stage

ARMS = 4


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """REINFORCE on a four-armed bandit whose last arm pays; `nan_from` poisons the loss, `crash` raises."""
  if config.group_size < 2:
    raise ValueError(f"group_size={config.group_size}: group-relative credit needs at least 2 responses to a prompt")

  def init(key):
    return {"step": jnp.zeros((), jnp.int32), "key": key, "logits": 0.1 * jax.random.normal(key, (ARMS,)),
            "unused": jnp.zeros((0,))}

  def move(state, lr):
    key, draw = jax.random.split(state["key"])
    actions = jax.random.categorical(draw, state["logits"], shape=(config.group_size,))
    reward = (actions == ARMS - 1).astype(jnp.float32)

    def loss_fn(logits):
      return -jnp.mean(jax.nn.log_softmax(logits)[actions] * (reward - jnp.mean(reward)))

    loss, grad = jax.value_and_grad(loss_fn)(state["logits"])
    loss = jnp.where(state["step"] >= config.nan_from, jnp.nan, loss)
    bad = ~jnp.isfinite(loss)
    state = state | {"step": state["step"] + 1, "key": key,
                     "logits": jnp.where(bad, state["logits"], state["logits"] - lr * grad)}
    return state, {"loss": jnp.where(bad, 0.0, loss), "success": jnp.mean(reward), "tokens": jnp.float32(8.0),
                   "nonfinite_loss": bad.astype(jnp.float32)}

  def evaluate(state):
    policy = jax.nn.softmax(state["logits"])
    return {"solve_rate": policy[-1], "policy": policy}

  def examples(state):
    return [Example("pull", ("arm", " ", "3"), (0.5, 0.0, -1.0), 1.0)]

  warmup = Stage("warm-up", config.warmup_steps, lambda state: move(state, config.warmup_lr))
  return Experiment(init, lambda state: move(state, config.lr), evaluate, warmup if config.warmup_steps else None,
                    examples, config.jittable)


def make_study(config):
  """Two noisy numbers whose means differ by `config.lr`."""
  def study(key):
    noise = jax.random.normal(key)
    return {"low": noise, "high": noise + config.lr}

  return study
