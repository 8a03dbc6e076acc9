"""Tasks whose held-out problems are a given, finite set: an evaluation asks each of them once."""

import jax
import jax.numpy as jnp

from rlcore.types import Problem, Task


def with_test_set(task: Task, problems: Problem) -> Task:
  """Gives a task a finite test split.

  Args:
    task: whose training split stays; that no problem is in both is the caller's business.
    problems: `Problem` of `[M, ...]`, `jax.tree.map(jnp.stack, ...)` of single ones, or a whole batch of `make_loader`.

  Returns:
    The task; `sample(key, "test")` draws one of the M problems, an evaluation takes each exactly once.

  Raises:
    ValueError: for a set without problems, or prompts that do not fit the task.
  """
  problems = jax.tree.map(jnp.asarray, problems)
  size, *prompt = problems.prompt.shape
  if not size or prompt != [task.max_prompt]:
    raise ValueError(f"problems.prompt has shape {problems.prompt.shape}; a test set has [M, {task.max_prompt}], M > 0")
  at = lambda index: jax.tree.map(lambda x: x[index], problems)

  def sample(key, split):
    return at(jax.random.randint(key, (), 0, size)) if split == "test" else task.sample(key, split)

  return task._replace(sample=sample, test_size=size, test_problem=at)
