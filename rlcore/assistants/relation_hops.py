"""What judges of `envs.relation_hops` are asked, and the plain functions that stand in for them.

`facts` are those of `envs.relation_hops.with_facts` at one step, as NumPy arrays. All of it runs on the host, beside a
program that waits, so nothing of JAX is called.
"""

from typing import Any

from rlcore.assistants import prompts
from rlcore.assistants.judges import Request
from rlcore.envs.relation_hops import Sizes
from rlcore.types import PyTree

Facts = dict[str, Any]


def ask_about_token(facts: PyTree, sizes: Sizes = Sizes()) -> Request:
  """Asks about a plan, a query or an answer in `make_planned_hops`; only about an answer is the right one told.

  Args:
    facts: of the token.
    sizes: of the world.

  Returns:
    The request; its value is -1, 0 or 1.

  Reference: SLATE, arXiv:2602.23440.
  """
  time = int(facts["time"])
  context = f"{_question(facts, sizes)} {_rules(sizes)}\n\n{_planned_steps(facts, time // 2, sizes)}"
  kind, choice = _token(facts, time, sizes)
  if kind == "plan":
    messages = prompts.thinking_prompt(context, _thinking(facts, choice))
  elif kind == "query":
    messages = prompts.query_prompt(context, _query(facts, time, choice))
  else:
    messages = prompts.answer_prompt(context, f"e{choice}", f"e{int(facts['about']['gold'])}")
  return Request(messages, facts, prompts.parse_sign)


def score_token(facts: PyTree, sizes: Sizes = Sizes()) -> float:
  """Stands in for the judge that `ask_about_token` asks: `judge_plan`, `judge_query` and `judge_answer` of the world.

  Args:
    facts: of the token.
    sizes: of the world.

  Returns:
    -1, 0 or 1.
  """
  time, chain = int(facts["time"]), facts["about"]["chain"].tolist()
  kind, choice = _token(facts, time, sizes)
  known, hops = (int(facts["history"][name][time]) for name in ("known", "hops"))
  if kind == "plan":
    return 1.0 if choice == hops else 0.0 if hops < choice < len(chain) else -1.0
  if kind == "answer":
    return 1.0 if choice == int(facts["about"]["gold"]) else 0.0 if choice == known else -1.0
  if ("query", choice) in [_token(facts, t, sizes) for t in range(1, time, 2)]:
    return -1.0
  return 1.0 if chain[hops:hops + 1] == [choice] else 0.0 if choice in chain else -1.0


def ask_about_query(facts: PyTree, sizes: Sizes = Sizes(budget=8)) -> Request:
  """Asks how well a query in `make_walked_hops` follows the principles.

  Args:
    facts: of the query.
    sizes: of the world.

  Returns:
    The request; its value is in [0, 1].

  Reference: PPR, arXiv:2509.25598.
  """
  time = int(facts["time"])
  rules = ("The agent knows one entity at a time, first the start. It queries a relation of the entity that it knows "
           "and then knows the one that this leads to, which cannot be undone; or it answers with an entity, which "
           f"ends the task. It has {sizes.budget} actions.")
  known, action = facts["history"]["known"], facts["history"]["action"]
  history = [f"Query: {_query(facts, t, int(action[t]))} Result: e{int(known[t + 1])}." for t in range(time)]
  step = f"Query: {_query(facts, time, int(action[time]))}"
  messages = prompts.principle_prompt(f"{_question(facts, sizes)} {rules}", history, step)
  return Request(messages, facts, prompts.parse_principle_score)


def score_query(facts: PyTree, sizes: Sizes = Sizes(budget=8)) -> float:
  """Stands in for the judge that `ask_about_query` asks: `query_rubric` of the world, over the most it could give.

  Args:
    facts: of the query.
    sizes: of the world.

  Returns:
    A number in [0, 1].
  """
  time = int(facts["time"])
  known, action = (facts["history"][name][:time + 1].tolist() for name in ("known", "action"))
  *before, query = zip(known, action)
  kept = (0 <= query[1] < sizes.relations, query not in before, query[1] in facts["about"]["chain"], True)
  maxima = [most for _, _, most in prompts.PRINCIPLES]
  return sum(most for most, keeps in zip(maxima, kept) if keeps) / sum(maxima)


def _question(facts: Facts, sizes: Sizes) -> str:
  chain = ", ".join(f"r{int(relation)}" for relation in facts["about"]["chain"])
  return (f"A graph has the entities e0 to e{sizes.entities - 1} and the relations r0 to r{sizes.relations - 1}; each "
          "relation of an entity leads to one entity. Which entity is reached from "
          f"e{int(facts['about']['start'])} by the relations {chain}, in this order?")


def _rules(sizes: Sizes) -> str:
  return ("The agent knows one entity at a time, first the start. In each step it plans which hop of the chain is "
          "next, and then queries a relation of the entity that it knows, or answers with an entity, which ends the "
          "task. A query of the relation that the next hop needs finds the entity that is known from then on; any "
          f"other finds a distractor, and a step is lost. There are {sizes.budget} steps, and the last can only "
          "answer.")


def _token(facts: Facts, time: int, sizes: Sizes) -> tuple[str, int]:
  """Reads a token of `make_planned_hops`: a plan, a query or an answer, and which."""
  action = int(facts["history"]["action"][time])
  if time % 2 == 0:
    return "plan", action
  choice = action - (sizes.hops + 1)
  return ("query", choice) if choice < sizes.relations else ("answer", choice - sizes.relations)


def _thinking(facts: Facts, plan: int) -> str:
  chain = facts["about"]["chain"]
  if plan >= len(chain):
    return "No hop is left, so it is time to answer."
  return f"The next hop is number {plan + 1} of {len(chain)}, the relation r{int(chain[plan])}."


def _query(facts: Facts, time: int, relation: int) -> str:
  return f"Which entity does relation r{relation} of e{int(facts['history']['known'][time])} lead to?"


def _planned_steps(facts: Facts, steps: int, sizes: Sizes) -> str:
  """Tells the steps that are done, and where they led."""
  known, hops, lines = facts["history"]["known"], facts["history"]["hops"], []
  for step in range(steps):
    time, after = 2 * step + 1, 2 * step + 2
    found = f"e{int(known[after])}" if hops[after] > hops[time] else "a distractor"
    plan, query = _token(facts, 2 * step, sizes)[1], _token(facts, time, sizes)[1]
    lines.append(f"Step {step + 1}. {_thinking(facts, plan)} {_query(facts, time, query)} Found: {found}.")
  where = 2 * steps
  lines.append(f"Step {steps + 1} is to be taken. Known is e{int(known[where])}, after {int(hops[where])} of "
               f"{len(facts['about']['chain'])} hops.")
  return "\n".join(lines)
