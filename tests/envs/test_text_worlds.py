"""The worlds in words: against the worlds of feature vectors, and against plain Python that knows only the words."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.envs import household, key_corridor, text_face, text_worlds
from rlcore.envs import relation_hops as hops

SIZES = hops.Sizes(entities=6, relations=3, hops=2, budget=4)
CORRIDOR = dict(num_tasks=4, turns=6, rooms=3, num_actions=3)
HORIZON, MANY = 10, 192


def _questions(key):
  graph_key, key = jax.random.split(key)
  graph = hops.make_graph(graph_key, SIZES)
  return jax.vmap(lambda key: hops.sample_question(key, graph, SIZES))(jax.random.split(key, MANY))


def _tasks(key):
  draw = lambda key, number: key_corridor.draw_task(key, number, CORRIDOR["rooms"], CORRIDOR["num_actions"])
  return jax.vmap(draw)(jax.random.split(key, MANY), jnp.arange(MANY, dtype=jnp.int32) % CORRIDOR["num_tasks"])


def _plan_script(key, state, goal):
  return household.demonstrator(key, state, goal, household.plan_lengths(goal.chain), error=0.0)


WORLDS = {  # text world, world of feature vectors, its face, instances, a script or None
    "household": (
        text_worlds.make_text_household(num_goals=MANY, horizon=HORIZON), household.make_household(
            num_goals=MANY, horizon=HORIZON), text_worlds.household_face(HORIZON),
        functools.partial(household.draw_goals, num_goals=MANY), _plan_script),
    "corridor": (
        text_worlds.make_text_corridor(**CORRIDOR), key_corridor.make_key_corridor(**CORRIDOR),
        text_worlds.corridor_face(**CORRIDOR), _tasks, None),
    "hops": (
        text_worlds.make_text_hops(SIZES), hops.make_walked_hops(SIZES), text_worlds.hops_face(SIZES), _questions,
        functools.partial(hops.follow_chain, skill=0.8)),
}


@pytest.mark.parametrize("name", WORLDS)
def test_words_of_actions_play_the_world(name):
  """Rewards, ends, info and states of many instances at a time are those of the world of feature vectors."""
  text, world, face, draw, script = WORLDS[name]
  instances = jax.jit(draw)(jax.random.key(1))
  keys = jax.random.split(jax.random.key(2), MANY)
  state, *_ = jax.jit(jax.vmap(text.reset))(keys, instances)
  plain = jax.jit(jax.vmap(world.reset))(keys, instances)[1]
  table = text_face.encode(face.words, face.actions)

  @jax.jit
  @jax.vmap
  def both(key, state, plain, instance):
    any_key, script_key, world_key = jax.random.split(key, 3)
    choice = jax.random.randint(any_key, (), 0, world.num_actions)
    if script is not None:
      choice = jnp.where(jax.random.bernoulli(script_key, 0.2), choice, script(script_key, plain, instance))
    _, *want = world.step(world_key, plain, choice, instance)
    return text.step(state, jnp.asarray(table)[choice]), want

  alive, paid, ended = np.ones(MANY, bool), 0, 0
  for turn in range(world.horizon):
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys, turn)
    (state, observation, reward, done, info), (plain, *want) = both(keys, state, plain, instances)
    assert observation.shape == (MANY, text.observation_length)
    np.testing.assert_array_equal(reward[alive], want[0][alive])
    np.testing.assert_array_equal(done[alive], (want[1] | want[2])[alive])
    assert set(info) == {*want[3], "understood", "won", "num_goals"} and np.all(info["understood"])
    for key, value in want[3].items():
      np.testing.assert_array_equal(info[key][alive], value[alive])
    np.testing.assert_array_equal(info["won"], reward == 1)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[alive], b[alive]), state.inner, plain)
    paid, ended = paid + np.sum(reward[alive]), ended + np.sum(alive & done)
    alive &= ~np.asarray(done)
  assert not np.any(alive) and ended == MANY and paid > 3


class House:
  """The household, told in words."""

  def __init__(self, goal):
    self.chain = [text_worlds.HOUSE_ACTIONS[a][:-2] for a in goal.chain]
    self.hand, self.count, self.turn = None, 0, 1
    self.facts = dict(fridge="shut", drawer="shut", table="dirty", cat="hungry", candle="dark", cloth_on_table="bare")

  def prompt(self):
    return " then ".join(self.chain)

  def see(self, said="you begin"):
    facts = [f"{thing if thing != 'cloth_on_table' else 'table'}-{how}" for thing, how in self.facts.items()]
    turn = f"turn{self.turn}" if self.turn <= HORIZON else "over"
    return " ".join([turn, said, *facts, self.hand or "hands-empty", f"{self.count}/4"])

  def do(self, deed):
    facts = self.facts
    match deed.split():
      case ["take", "cloth" | "fish" | "match" as thing] if self.hand is None:
        if thing == "fish" and facts["fridge"] == "shut" or thing == "match" and facts["drawer"] == "shut":
          return False
        self.hand = thing
      case ["drop", "it"] if self.hand:
        self.hand = None
      case ["open", "fridge" | "drawer" as thing] if self.hand is None and facts[thing] == "shut":
        facts[thing] = "open"
      case ["close", "fridge" | "drawer" as thing] if self.hand is None and facts[thing] == "open":
        facts[thing] = "shut"
      case ["wipe", "table"] if self.hand == "cloth" and facts["table"] == "dirty":
        facts["table"] = "clean"
      case ["feed", "cat"] if self.hand == "fish" and facts["cat"] == "hungry":
        facts["cat"] = "fed"
      case ["light", "candle"] if self.hand == "match" and facts["candle"] == "dark":
        facts["candle"] = "lit"
      case ["lay", "table"] if (self.hand, facts["table"], facts["cloth_on_table"]) == (None, "clean", "bare"):
        facts["cloth_on_table"] = "laid"
      case _:
        return False
    return True

  def act(self, deed):
    worked = self.do(deed)
    self.count += worked and self.count < 4 and deed == self.chain[self.count]
    self.turn += 1
    won = self.count == 4
    return self.see("it works" if worked else "nothing happens"), float(won), won or self.turn > HORIZON


class Corridor:
  """The key corridor, told in words."""

  def __init__(self, task):
    self.task, self.room, self.turn, self.keys = int(task.task), "hall", 1, set()
    cells = {(room, way): (r, m) for r, room in enumerate(text_worlds.ROOMS[:3])
             for m, way in enumerate(text_worlds.WAYS[:3])}
    self.leads = {cell: text_worlds.ROOMS[task.table[place]] for cell, place in cells.items()}
    self.role = {cell: int(task.role[place]) for cell, place in cells.items()}

  def prompt(self):
    return f"task{self.task + 1} : find three keys"

  def see(self):
    return f"{f'turn{self.turn}' if self.turn <= 6 else 'over'} {self.room}"

  def act(self, deed):
    verb, way = deed.split()
    assert verb == "use"
    role, self.room = self.role[self.room, way], self.leads[self.room, way]
    self.turn += 1
    self.keys |= {role} if role < 3 else set()
    won = self.turn == 7 and role != 3 and len(self.keys) == 3
    return self.see(), float(won), role == 3 or self.turn == 7


class Search:
  """Relation hops, told in words."""

  def __init__(self, question):
    people, links = text_worlds.ENTITIES[:6], text_worlds.RELATIONS[:3]
    self.knows = {(person, link): people[question.graph[e, r]] for e, person in enumerate(people)
                  for r, link in enumerate(links)}
    self.start = self.known = people[question.start]
    self.chain, self.turn = [links[r] for r in question.chain], 1

  def prompt(self):
    return f"who is {self.start} {' '.join(f''''s {link}''' for link in self.chain)} ?"

  def see(self, said="you know"):
    return f"{f'turn{self.turn}' if self.turn <= 4 else 'over'} {said} {self.known}"

  def act(self, deed):
    verb, about = deed.split()
    known = verb == "ask" and about in text_worlds.RELATIONS or verb == "answer" and about in text_worlds.ENTITIES
    gold = functools.reduce(lambda person, link: self.knows[person, link], self.chain, self.start)
    if verb == "ask" and known:
      self.known = self.knows[self.known, about]
    self.turn += 1
    answered = verb == "answer" and known
    return (self.see("you find" if known else "nothing happens"), float(answered and about == gold),
            answered or self.turn > 4)


SPEAKERS = {"household": House, "corridor": Corridor, "hops": Search}


@pytest.mark.parametrize("name", WORLDS)
def test_every_sentence_is_the_one_of_plain_python(name):
  """Any allowed words, those that tell no action among them: sentences, rewards and ends."""
  text, _, face, draw, script = WORLDS[name]
  instances = jax.tree.map(np.asarray, jax.jit(draw)(jax.random.key(3)))
  rng, reset, step = np.random.default_rng(4), jax.jit(text.reset), jax.jit(text.step)
  scripted = script and jax.jit(script)
  table, wasted, won = text_face.encode(face.words, face.actions), 0, 0
  for episode in range(60):
    instance = jax.tree.map(lambda x: x[episode], instances)
    speaker = SPEAKERS[name](instance)
    state, prompt, prompt_mask, observation = reset(jax.random.key(0), instance)
    assert text.decode(prompt) == speaker.prompt() and np.all(prompt_mask == np.ones(text.prompt_length))
    assert text.decode(observation) == speaker.see()
    sloppy, done = 0.4 * (episode % 3), False
    while not done:
      tokens = np.array([rng.choice(np.flatnonzero(row)) for row in text.allowed], np.int32)
      if script and rng.random() > sloppy:
        tokens = table[scripted(jax.random.key(rng.integers(10**6)), state.inner, instance)]
      elif rng.random() > 0.5:
        tokens = table[rng.integers(len(table))]
      state, observation, reward, done, info = step(state, tokens)
      deed = text.decode(tokens).removesuffix(" .")
      assert (text.decode(observation), float(reward), bool(done)) == speaker.act(deed)
      assert info["understood"] == (f"{deed} ." in face.actions)
      assert info["understood"] or not any(np.any(value) for key, value in info.items() if key != "num_goals")
      wasted, won = wasted + (not info["understood"]), won + reward
  assert won > 0 and (wasted > 5) == (name != "corridor")


@pytest.mark.parametrize("name", WORLDS)
def test_the_tables_of_a_world_fit_its_words(name):
  text, world, face, *_ = WORLDS[name]
  assert text.vocab_size == len(face.words) == len(set(face.words)) and text.num_turns == world.horizon
  assert text.action_length == 3 and text.allowed.shape == (3, text.vocab_size)
  assert [face.words[i] for i in np.flatnonzero(text.allowed[2])] == ["."] and face.words[text.pad_id] == "."
  drawable = np.flatnonzero(text.allowed.any(0))
  assert drawable.max() + 1 == len(drawable)  # a model may draw these alone
  assert text.decode([-1, 10**6]) == "? ?"
  tokens = text_face.encode(face.words, face.actions)
  assert [text.decode(row) for row in tokens] == list(face.actions)
  assert all(text.allowed[place, token] for row in tokens for place, token in enumerate(row))


@pytest.mark.parametrize("name", WORLDS)
def test_compiled_and_batched_forms_agree(name):
  text, _, _, draw, _ = WORLDS[name]
  instances = jax.tree.map(lambda x: x[:5], jax.jit(draw)(jax.random.key(5)))
  rng, keys = np.random.default_rng(6), jax.random.split(jax.random.key(7), 5)
  tokens = np.stack([rng.choice(np.flatnonzero(row), 5) for row in text.allowed], 1).astype(np.int32)

  def start_and_go(key, instance, action):
    state, *seen = text.reset(key, instance)
    return seen, text.step(state, action)[1:]

  batched = jax.jit(jax.vmap(start_and_go))(keys, instances, tokens)
  for i in range(5):
    one = start_and_go(keys[i], jax.tree.map(lambda x: x[i], instances), tokens[i])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[i], b), batched, one)


def test_bad_input_is_refused():
  face = text_worlds.household_face()
  with pytest.raises(ValueError, match="the world has 12 actions, the face 11 different"):
    text_face.make_text_world(household.make_household(), face._replace(actions=face.actions[:-1] + face.actions[:1]))
  with pytest.raises(ValueError, match="what a wasted turn is"):
    text_face.make_text_world(household.make_household(), face._replace(waste=None))
  with pytest.raises(ValueError, match="not in the vocabulary: hat"):
    text_face.encode(face.words, ("take hat .",))
  with pytest.raises(ValueError, match="the same number of words: 'take fish .', 'look .'"):
    text_face.encode(face.words, ("take fish .", "look ."))
  with pytest.raises(ValueError, match="rooms=9: there are words for 1 to 8"):
    text_worlds.make_text_corridor(rooms=9)
  with pytest.raises(ValueError, match="entities=27: there are words for 1 to 26"):
    text_worlds.make_text_hops(hops.Sizes(entities=27))
