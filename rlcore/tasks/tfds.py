"""Data sets on disk: write a generated task with TFDS, read TFDS or JSON lines in a shuffled, resumable order.

Nothing here needs TensorFlow. The module is imported by name (`from rlcore.tasks import tfds`), not by the package, so
that tasks without a data set start faster.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import json
import os
from typing import Any, NamedTuple, Protocol

import grain
import jax
import numpy as np
import tensorflow_datasets as tfds

from rlcore.types import Array, Problem, PyTree, Task

_CHUNK = 1024  # problems drawn by one call


class Source(Protocol):
  """Records by their number: a `tfds.data_source`, a `JsonLines`, a list."""

  def __len__(self) -> int:
    ...

  def __getitem__(self, index: int) -> Mapping[str, Any]:
    ...


class AnswerTarget(NamedTuple):
  """The answer of a record as tokens; as a pair it is also its own demonstration.

  Attributes:
    tokens: `[T]` int32, the answer, `eos_id`, then padding.
    mask: `[T]` float32, 1 on the answer and its end.
  """

  tokens: Array
  mask: Array


@dataclasses.dataclass(frozen=True)
class JsonLines:
  """The records of a JSONL file; `read_jsonl` makes it.

  Attributes:
    path: the file.
    records: its objects.
    lines: the line number, from 1, of each.
  """

  path: str
  records: Sequence[Mapping[str, Any]]
  lines: Sequence[int]

  def __len__(self) -> int:
    return len(self.records)

  def __getitem__(self, index: int) -> Mapping[str, Any]:
    return self.records[index]

  def where(self, index: int) -> str:
    """Returns `file:line` of a record."""
    return f"{self.path}:{self.lines[index]}"


def _parse_line(line: bytes, where: str) -> dict[str, Any]:
  try:
    record = json.loads(line.decode("utf-8"))
  except UnicodeDecodeError as error:
    raise ValueError(f"{where}: not UTF-8 (byte {error.start + 1} of the line)") from error
  except json.JSONDecodeError as error:
    raise ValueError(f"{where}: not valid JSON: {error.msg} at column {error.colno}") from error
  except (ValueError, RecursionError) as error:  # a number of too many digits; too many brackets
    raise ValueError(f"{where}: not readable as JSON: {error}") from error
  if not isinstance(record, dict):
    raise ValueError(f"{where}: expected an object with 'prompt' and 'answer', found {type(record).__name__}")
  for key in ("prompt", "answer"):
    if key not in record:
      raise ValueError(f"{where}: no {key!r}; this line has {sorted(record)}")
    if not isinstance(record[key], str):
      raise ValueError(f"{where}: {key!r} must be a string, found {type(record[key]).__name__}")
  return record


def read_jsonl(path: str | os.PathLike) -> JsonLines:
  """Reads a file with one JSON object a line, each with a "prompt" and an "answer" string; blank lines are skipped.

  Args:
    path: the file, UTF-8. Further keys of an object are kept for a `target` function.

  Returns:
    Its records.

  Raises:
    ValueError: a line is not UTF-8, not JSON, not such an object, or there is none; names file and line.
  """
  path = os.fspath(path)
  with open(path, "rb") as file:
    lines = file.read().removeprefix(b"\xef\xbb\xbf").split(b"\n")
  numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
  if not numbered:
    raise ValueError(f"{path}: no examples, the file is empty")
  records = [_parse_line(line, f"{path}:{number}") for number, line in numbered]
  return JsonLines(path, records, [number for number, _ in numbered])


def _target_leaves(task: Task) -> tuple[dict[str, jax.ShapeDtypeStruct], Any]:
  """Returns the arrays of the task's `Problem.target` by name, and the tree they came from."""
  target = jax.eval_shape(lambda: task.sample(jax.random.key(0), "train")).target
  paths, treedef = jax.tree_util.tree_flatten_with_path(target)
  return {jax.tree_util.keystr(path, simple=True, separator=".") or "value": leaf for path, leaf in paths}, treedef


def task_target(task: Task) -> Callable[[Mapping[str, Any]], PyTree]:
  """Returns the `target` function that gives a record of `write_dataset` the task's own target back."""
  leaves, treedef = _target_leaves(task)

  def target(record: Mapping[str, Any]) -> PyTree:
    found = record.get("target", {})
    if missing := [name for name in leaves if name not in found]:
      raise ValueError(f"the record has no target {missing}: was it written for this task?")
    return treedef.unflatten([np.asarray(found[name], leaf.dtype) for name, leaf in leaves.items()])

  return target


class _TaskBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Writes problems of a task as `prompt` and `answer` text and the tensors of their target."""

  # Nothing is downloaded, so there are no checksums to look for beside this file (and TFDS would look for them with a
  # package that it does not install).
  code_path = None

  def __init__(self, task: Task, num_examples: Mapping[str, int], seed: int, name: str, version: str, directory: str):
    self.task, self.num_examples, self.seed = task, num_examples, seed
    self.name, self.VERSION = name, tfds.core.Version(version)
    super().__init__(data_dir=directory, file_format="array_record")

  def _info(self) -> tfds.core.DatasetInfo:
    text = tfds.features.Text()
    leaves = _target_leaves(self.task)[0]
    target = {name: tfds.features.Tensor(shape=x.shape, dtype=np.dtype(x.dtype)) for name, x in leaves.items()}
    features = dict(prompt=text, answer=text) | (dict(target=target) if target else {})
    return tfds.core.DatasetInfo(
        builder=self, description=f"Problems drawn from a task of rlcore with seed {self.seed}.",
        features=tfds.features.FeaturesDict(features), supervised_keys=("prompt", "answer"), disable_shuffling=True)

  def _split_generators(self, dl_manager):
    del dl_manager
    return {split: self._generate_examples(split, count) for split, count in self.num_examples.items()}

  def _generate_examples(self, split: str, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
    def draw(key):
      problem = self.task.sample(key, split)
      return problem, None if self.task.demonstration is None else self.task.demonstration(problem)

    names = list(_target_leaves(self.task)[0])
    draw = jax.jit(jax.vmap(draw))
    keys = jax.random.split(jax.random.key(self.seed), -(-count // _CHUNK) * _CHUNK)
    for start in range(0, count, _CHUNK):
      drawn = jax.device_get(draw(keys[start:start + _CHUNK]))
      for i in range(min(_CHUNK, count - start)):
        yield start + i, _record(self.task, names, *jax.tree.map(lambda x: x[i], drawn))


def _record(task: Task, names: Sequence[str], problem: Problem, demonstration: tuple | None) -> dict[str, Any]:
  tokens = problem.prompt[problem.prompt_mask > 0]
  record = dict(prompt=task.decode(tokens), answer="")
  if task.encode(record["prompt"]) != tokens.tolist():
    raise ValueError(f"the task's encode does not give the tokens of {record['prompt']!r} back")
  if demonstration is not None:
    answer, mask = demonstration
    record["answer"] = task.decode(answer[(mask > 0) & (answer != task.eos_id)])
  if names:
    record["target"] = dict(zip(names, jax.tree.leaves(problem.target)))
  return record


def write_dataset(
    task: Task, directory: str | os.PathLike, *, name: str, num_examples: Mapping[str, int], seed: int = 0,
    version: str = "1.0.0") -> str:
  """Draws problems of a task and writes them as a TFDS data set in array_record files.

  `tfds.data_source(name, split=..., data_dir=directory)` reads it. Problems come in the order in which they were drawn
  and, like those of `task.sample`, may repeat.

  Args:
    task: its text must go round: `encode(decode(prompt))` is the prompt.
    directory: TFDS `data_dir`; the files go to `directory/name/version`.
    name: of the data set, lower case with underscores.
    num_examples: number of problems of each split, "train" and "test".
    seed: of the draws.
    version: `major.minor.patch`.

  Returns:
    The directory of the files.

  Raises:
    FileExistsError: this version was written before; it is left as it is.
    ValueError: the task's text does not go round.
  """
  builder = _TaskBuilder(task, num_examples, seed, name, version, os.fspath(directory))
  if builder.data_path.exists():
    raise FileExistsError(f"{builder.data_path} exists: remove it, or write another name or version")
  builder.download_and_prepare()
  return os.fspath(builder.data_path)


def _text(value: Any) -> str:
  return value.decode("utf-8") if isinstance(value, bytes) else value


class _Problems:
  """A source whose records are tokenised problems."""

  def __init__(self, source: Source, task: Task, encode: Callable[[str], Sequence[int]], target):
    self.source, self.task, self.encode, self.target = source, task, encode, target

  def __len__(self) -> int:
    return len(self.source)

  def __getitem__(self, index: int) -> Problem:
    record = self.source[index]
    try:
      return self._problem(record)
    except ValueError as error:
      where = self.source.where(index) if isinstance(self.source, JsonLines) else f"record {index}"
      raise ValueError(f"{where}: {error}") from error

  def _tokens(self, record: Mapping[str, Any], key: str, limit: int, what: str) -> list[int]:
    tokens = list(self.encode(_text(record[key])))
    if len(tokens) > limit:
      raise ValueError(f"the {key} is {len(tokens)} tokens long, but at most {limit} fit ({what})")
    return tokens

  def _problem(self, record: Mapping[str, Any]) -> Problem:
    task = self.task
    tokens = self._tokens(record, "prompt", task.max_prompt, f"max_prompt={task.max_prompt}")
    if not tokens:
      raise ValueError("the prompt is empty")
    prompt = np.full(task.max_prompt, task.pad_id, np.int32)
    prompt[-len(tokens):] = tokens
    mask = (np.arange(task.max_prompt) >= task.max_prompt - len(tokens)).astype(np.float32)
    return Problem(prompt, mask, self._answer(record) if self.target is None else self.target(record))

  def _answer(self, record: Mapping[str, Any]) -> AnswerTarget:
    length = self.task.max_response
    answer = self._tokens(record, "answer", length - 1, f"max_response={length} with its end") + [self.task.eos_id]
    tokens = np.full(length, self.task.pad_id, np.int32)
    tokens[:len(answer)] = answer
    return AnswerTarget(tokens, (np.arange(length) < len(answer)).astype(np.float32))


def make_loader(
    source: Source, task: Task, *, batch_size: int, encode: Callable[[str], Sequence[int]] | None = None,
    target: Callable[[Mapping[str, Any]], PyTree] | None = None, seed: int = 0, shuffle: bool = True,
    num_epochs: int | None = None, shard_index: int = 0, shard_count: int = 1) -> grain.MapDataset:
  """Makes batches of problems from records of prompt and answer, in an order that is a function of the seed.

  `loader[n]` is batch n: the whole position in the data is the number n, so a resumed run asks for the next number.
  `iter(loader.to_iter_dataset(grain.ReadOptions(...)))` reads ahead; its `get_state` and `set_state` go to checkpoints.
  Every epoch has an order of its own; batches run on across its end.

  Args:
    source: records with "prompt" and "answer" (text or UTF-8 bytes); those of `JsonLines` are all checked now.
    task: gives pad and end ids, `max_prompt`, `max_response` and, by default, `encode`.
    batch_size: B.
    encode: text to token ids.
    target: `(record) -> Problem.target`, NumPy arrays of static shape, such as `task_target(task)`; by default an
      `AnswerTarget`.
    seed: of the order.
    shuffle: False keeps the order of the source.
    num_epochs: None for endless repetition.
    shard_index: which of the `shard_count` disjoint parts this process reads.
    shard_count: number of parts.

  Returns:
    A grain data set of `Problem`s of `[B, ...]` in NumPy, prompts padded on the left; the last batch of a finite
    one may be smaller.

  Raises:
    ValueError: the shard is empty or does not exist, or a record does not fit the task (with file and line, or the
      record's number).
  """
  if not 0 <= shard_index < shard_count:
    raise ValueError(f"shard_index={shard_index} is not one of the {shard_count} shards (from 0)")
  if len(source) <= shard_index:
    raise ValueError(f"{len(source)} examples are too few for {shard_count} shards")
  problems = _Problems(source, task, encode or task.encode, target)
  if isinstance(source, JsonLines):
    problems = [problems[i] for i in range(len(problems))]
  loader = grain.MapDataset.source(problems)[shard_index::shard_count].seed(seed)
  if shuffle:
    loader = loader.shuffle()
  return loader.repeat(num_epochs).batch(batch_size)
