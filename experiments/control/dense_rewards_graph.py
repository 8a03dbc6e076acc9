"""The second part of dense rewards: a graph of states guides goal-conditioned Q-learning (G4RL, arXiv:2511.10872).

Two rooms, joined by a door in a corner. A random walk enters cells and transitions into a graph, an encoder is fitted
to it, and the inner product of two cells' embeddings is added to a reward of straight-line distance, which knows
nothing of the wall. The arms differ in the weight of that term alone. `experiments.control.dense_rewards` has the
first part.
"""

import functools

from flax import struct
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from rlcore import losses, models, rewards, stats
from rlcore.envs import grids
from rlcore.training import fitting, tabular_q
from rlcore.training import state as state_lib
from rlcore.types import Array, Experiment, World

SIZE, WALL, DOOR = 11, 5, 10  # cells a side, the column of the wall, the row of its door
CELLS = SIZE**2
NEAR, FAR = 4, 12  # a pair of start and goal is judged that is no further apart in cells, and no nearer in steps
_PROJECTED = 4  # numbers of a feature beside the place


@struct.dataclass
class State:
  """A run: `step`, `key`, table `q` `[CELLS * CELLS, A]` by cell and goal, `embeddings` `[CELLS, E]`, `fit_loss`."""

  step: Array
  key: Array
  q: Array
  embeddings: Array
  fit_loss: Array


@functools.cache
def layout() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns walls `[11, 11]`, the cell after each move `[CELLS, 4]`, and the pairs that are judged `[K, 2]`."""
  walls = np.zeros((SIZE, SIZE), bool)
  walls[:, WALL] = np.arange(SIZE) != DOOR
  place = np.stack(np.divmod(np.arange(CELLS), SIZE), 1)
  after = np.clip(place[:, None] + np.array(grids.MOVES), 0, SIZE - 1)
  after = np.where(walls[after[..., 0], after[..., 1]][..., None], place[:, None], after) @ [SIZE, 1]
  steps = np.where(np.eye(CELLS, dtype=bool), 0, CELLS)
  for _ in range(CELLS):
    steps = np.minimum(steps, 1 + steps[after].min(1))
  apart = np.linalg.norm(place[:, None] - place, axis=-1)
  left, right = (side(place[:, 1]) for side in (lambda x: x < WALL, lambda x: x > WALL))
  return walls, after.astype(np.int32), np.argwhere(left[:, None] & right & (apart <= NEAR) & (steps >= FAR))


def make_world(horizon: int) -> World:
  """Makes the grid whose horizon truncates: who is late has not arrived."""
  world = grids.make_grid_world(horizon=horizon)

  def step(key, state, action, task):
    observation, state, reward, *_, info = world.step(key, state, action, task)
    won = reward > 0
    return observation, state, reward, won, (state.time >= horizon) & ~won, info

  return world._replace(step=step)


def draw_task(key: Array) -> grids.GridTask:
  """Draws a start in the left room and a goal in the right one."""
  rows, columns = jax.random.split(key)
  row = jax.random.randint(rows, (2,), 0, SIZE)
  column = jax.random.randint(columns, (2,), 0, WALL) + jnp.array([0, WALL + 1])
  start, goal = jnp.stack([row, column], 1)
  return grids.GridTask(jnp.asarray(layout()[0]), start, goal)


def features(key: Array) -> Array:
  """Returns of each cell its place, over 10, and a random projection of its number, `[CELLS, 6]`."""
  place = jnp.stack(jnp.divmod(jnp.arange(CELLS), SIZE), 1) / (SIZE - 1)
  return jnp.concatenate([place, 0.05 * jax.random.normal(key, (CELLS, _PROJECTED))], 1)


def walk_graph(config: ml_collections.ConfigDict, seen: Array, key: Array) -> tuple[Array, Array, Array]:
  """Enters the cells of a random walk that starts top left into a graph: nodes, which are used, and adjacency."""
  after = jnp.asarray(layout()[1])

  def step(carry, action):
    (*graph, node), cell = carry
    cell = after[cell, action]
    return (rewards.graph_observe(*graph, seen[cell], node, config.threshold), cell), None

  size = config.nodes
  empty = jnp.zeros((size, seen.shape[1])), jnp.zeros(size), jnp.zeros((size, size))
  start = rewards.graph_observe(*empty, seen[0], -1, config.threshold), jnp.zeros((), jnp.int32)
  actions = jax.random.randint(key, (config.walk,), 0, len(grids.MOVES))
  return jax.lax.scan(step, start, actions)[0][0][:3]


def embed_cells(config: ml_collections.ConfigDict, key: Array) -> tuple[Array, Array]:
  """Fits the encoder to the graph; returns the embeddings of all cells, and the last loss."""
  feature_key, walk_key, init_key, fit_key = jax.random.split(key, 4)
  seen = features(feature_key)
  nodes, used, adjacency = walk_graph(config, seen, walk_key)
  targets = rewards.connectivity_targets(adjacency, used)
  encoder = models.MLP((config.hidden,), config.embedding, "relu")
  encode = lambda params, x: jax.vmap(functools.partial(encoder.apply, params))(x)
  # One entry of data that is drawn every time: the batch is the whole graph.
  loss = lambda params, _: losses.connectivity_loss(encode(params, nodes), targets, used)
  params, values = fitting.fit(
      loss, encoder.init(init_key, seen[0]), jnp.zeros(1), fit_key, steps=config.fit_steps, batch_size=1,
      optimizer=state_lib.make_optimizer(config.lr, b2=0.999, max_grad_norm=None))
  return encode(params, seen), values[-1]


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """Composes the graph and Q-learning."""
  world = make_world(config.horizon)
  places = jnp.stack(jnp.divmod(jnp.arange(CELLS), SIZE), 1).astype(jnp.float32)
  number = lambda place: place[0] * SIZE + place[1]

  def init(key):
    graph_key, key = jax.random.split(key)
    embeddings, fit_loss = embed_cells(config, graph_key)
    return State(jnp.zeros((), jnp.int32), key, jnp.zeros((CELLS * CELLS, world.num_actions)), embeddings, fit_loss)

  def one_episode(carry, key):
    q, embeddings = carry
    task_key, play_key = jax.random.split(key)
    task = draw_task(task_key)
    goal = number(task.goal)

    def pay(reward, state, action, after):
      del reward, state, action
      cell = after // CELLS
      base = -jnp.linalg.norm(places[cell] - places[goal])
      return rewards.graph_guided_reward(base, embeddings[cell], embeddings[goal], config.graph_coef)

    q, episode, sound = tabular_q.q_learning_episode(
        world, lambda state: number(state.place) * CELLS + goal, q, play_key, task, pay=pay,
        learning_rate=config.learning_rate, epsilon=config.epsilon, discount=config.discount, with_soundness=True)
    return (q, embeddings), {"success": jnp.sum(episode.reward_t), "tokens": jnp.sum(episode.mask),
                             "nonfinite_reward": 1.0 - sound}

  def update(state):
    key, run_key = jax.random.split(state.key)
    (q, _), metrics = jax.lax.scan(one_episode, (state.q, state.embeddings), jax.random.split(run_key, config.episodes))
    metrics = {"success": jnp.mean(metrics["success"]), "tokens": jnp.sum(metrics["tokens"]),
               "nonfinite_reward": jnp.max(metrics["nonfinite_reward"])}
    return state.replace(step=state.step + 1, key=key, q=q), metrics | {"judged": judge(q, config.horizon)}

  return Experiment(init, update, lambda state: {"judged": judge(state.q, config.horizon), "fit_loss": state.fit_loss},
                    unit="steps")


def judge(q: Array, horizon: int) -> Array:
  """Returns the share of the pairs near in space and far in steps that the greedy policy solves."""
  after, pairs = (jnp.asarray(x) for x in layout()[1:])

  def arrives(cell, goal):
    step = lambda cell, _: (jnp.where(cell == goal, cell, after[cell, jnp.argmax(q[cell * CELLS + goal])]), None)
    return jax.lax.scan(step, cell, length=horizon)[0] == goal

  return stats.masked_mean(jax.vmap(arrives)(*pairs.T).astype(jnp.float32), None)
