"""Data sets on disk, for real: array_record files read back through TFDS, JSON lines, order, shards and resuming."""

import json
import subprocess
import sys

import grain
import jax
import numpy as np
import pytest
import tensorflow_datasets

from rlcore.tasks import make_countdown, make_signpost, tfds

_TASK = make_countdown(max_number=9, max_target=50)
_COUNT = 40


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  directory = tmp_path_factory.mktemp("data")
  path = tfds.write_dataset(_TASK, directory, name="puzzles", num_examples=dict(train=_COUNT, test=5), seed=3)
  return directory, path


def _lines(tmp_path, *lines):
  path = tmp_path / "mine.jsonl"
  path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines))
  return path


def _puzzle(i, answer="1+2"):
  return json.dumps(dict(prompt=f"1,2={i}:", answer=answer))


def _prompts(problems):
  return [_TASK.decode(row) for row in problems.prompt]


def test_written_dataset_comes_back(written):
  directory, path = written
  source = tensorflow_datasets.data_source("puzzles", split="train", data_dir=directory)
  assert len(source) == _COUNT
  assert len(tensorflow_datasets.builder_from_directory(path).as_data_source("test")) == 5
  loader = tfds.make_loader(source, _TASK, batch_size=_COUNT, target=tfds.task_target(_TASK), shuffle=False)
  problems = loader[0]
  keys = jax.random.split(jax.random.key(3), 1024)[:_COUNT]  # how the records were drawn
  want = jax.device_get(jax.jit(jax.vmap(lambda key: _TASK.sample(key, "train")))(keys))
  jax.tree.map(np.testing.assert_array_equal, problems, want)
  assert jax.tree.map(lambda x: x.dtype, problems) == jax.tree.map(lambda x: x.dtype, want)
  tokens, mask = jax.vmap(_TASK.demonstration)(problems)
  answers = tfds.make_loader(source, _TASK, batch_size=_COUNT, shuffle=False)[0].target
  np.testing.assert_array_equal(answers.tokens, tokens)
  np.testing.assert_array_equal(answers.mask, mask)
  assert jax.jit(jax.vmap(_TASK.score))(problems, answers.tokens, answers.mask).all()


def test_nothing_is_overwritten(written):
  with pytest.raises(FileExistsError, match="another name or version"):
    tfds.write_dataset(_TASK, written[0], name="puzzles", num_examples=dict(train=1))


def test_a_task_without_demonstrations_and_with_other_targets(tmp_path):
  task = make_signpost(num_blocks=2, num_options=2, num_prompts=3, relevant=(1,))._replace(demonstration=None)
  plain = task._replace(sample=lambda key, split: task.sample(key, split).replace(target=jax.random.uniform(key) < 0.5))
  bare = task._replace(sample=lambda key, split: task.sample(key, split).replace(target=None))
  for name, one in (("full", task), ("plain", plain), ("bare", bare)):
    path = tfds.write_dataset(one, tmp_path, name=name, num_examples=dict(test=7))
    source = tensorflow_datasets.builder_from_directory(path).as_data_source("test")
    problems = tfds.make_loader(source, one, batch_size=7, shuffle=False, target=tfds.task_target(one))[0]
    want = jax.vmap(lambda key: one.sample(key, "test"))(jax.random.split(jax.random.key(0), 1024)[:7])
    jax.tree.map(np.testing.assert_array_equal, problems, want)
    assert source[0]["answer"] == b""
  with pytest.raises(ValueError, match=r"record 0: the record has no target \['prompt', 'secrets', 'decisions'\]"):
    tfds.make_loader(source, task, batch_size=1, shuffle=False, target=tfds.task_target(task))[0]


def test_text_that_does_not_go_round_is_refused(tmp_path):
  lossy = _TASK._replace(decode=lambda tokens: _TASK.decode(tokens)[:-1])
  with pytest.raises(ValueError, match="does not give the tokens"):
    tfds.write_dataset(lossy, tmp_path, name="lossy", num_examples=dict(train=2))


def test_no_tensorflow_is_needed():
  code = "import sys; from rlcore.tasks import tfds; sys.exit('tensorflow' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_jsonl_is_padded_on_the_left(tmp_path):
  first, second = b"\xef\xbb\xbf" + _puzzle(3).encode() + b"\r", '{"answer": "7", "prompt": "7=7:", "n": 1}'
  source = tfds.read_jsonl(_lines(tmp_path, first, "", second, ""))
  assert len(source) == 2 and source.lines == [1, 3] and source[1]["n"] == 1
  problems = tfds.make_loader(source, _TASK, batch_size=2, shuffle=False)[0]
  assert _prompts(problems) == ["1,2=3:", "7=7:"]
  assert problems.prompt.shape == (2, _TASK.max_prompt) and problems.prompt.dtype == np.int32
  np.testing.assert_array_equal(problems.prompt_mask.sum(1), [6, 4])
  assert problems.prompt_mask[:, -4:].all() and (problems.prompt[0, :-6] == _TASK.pad_id).all()
  np.testing.assert_array_equal(problems.target.tokens[1, :3], [7, _TASK.eos_id, _TASK.pad_id])
  np.testing.assert_array_equal(problems.target.mask.sum(1), [4, 2])


def test_any_tokeniser_and_any_target(tmp_path):
  source = tfds.read_jsonl(_lines(tmp_path, '{"prompt": "äb c", "answer": "x", "level": 4}'))
  loader = tfds.make_loader(
      source, _TASK, batch_size=1, encode=lambda text: [len(word) for word in text.split()],
      target=lambda record: np.float32(record["level"]))
  problem = loader[5]
  assert problem.prompt[0, -2:].tolist() == [2, 1] and problem.prompt_mask.sum() == 2 and problem.target == 4


@pytest.mark.parametrize("broken, message", [
    ("[" * 100_000, "not readable as JSON"), ('{"prompt": 1' + "0" * 5000 + "}", "not readable as JSON"),
    ('{"prompt": "1=1:", "answer": "1"', "not valid JSON: Expecting ',' delimiter at column 33"),
    ('{"prompt": "1=1:"}', r"no 'answer'; this line has \['prompt'\]"),
    ('{"question": "1=1:", "answer": "1"}', "no 'prompt'; this line has"),
    ('{"prompt": 3, "answer": "1"}', "'prompt' must be a string, found int"),
    ('["1=1:", "1"]', "expected an object with 'prompt' and 'answer', found list"),
    (b'{"prompt": "\xff", "answer": "1"}', "not UTF-8 .byte 13 of the line."),
    ('{"prompt": "1,2,3,4,5=6:", "answer": "1"}', "the prompt is 12 tokens long, but at most 9 fit .max_prompt=9."),
    ('{"prompt": "1,2=3:", "answer": "1+2+3+4+5"}', "the answer is 9 tokens long, but at most 7 fit"),
    ('{"prompt": "", "answer": "1"}', "the prompt is empty"),
    ('{"prompt": "1 x", "answer": "1"}', "character 'x' at position 2"),
], ids=lambda text: str(text)[:30])
def test_a_broken_line_is_named(tmp_path, broken, message):
  path = _lines(tmp_path, _puzzle(3), "", broken, _puzzle(4))
  with pytest.raises(ValueError, match=rf"mine\.jsonl:3: {message}") as info:
    tfds.make_loader(tfds.read_jsonl(path), _TASK, batch_size=1)
  assert "\n" not in str(info.value)


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_file_is_refused(tmp_path, content):
  with pytest.raises(ValueError, match="mine.jsonl: no examples"):
    tfds.read_jsonl(_lines(tmp_path, content))
  with pytest.raises(FileNotFoundError, match="other.jsonl"):
    tfds.read_jsonl(tmp_path / "other.jsonl")


def test_order_is_a_function_of_the_seed(written):
  source = tensorflow_datasets.data_source("puzzles", split="train", data_dir=written[0])
  order = lambda seed: [_prompts(tfds.make_loader(source, _TASK, batch_size=8, seed=seed)[i]) for i in range(10)]
  first, again, other = order(0), order(0), order(1)
  assert first == again != other
  everything = sorted(_TASK.decode(_TASK.encode(record["prompt"].decode())) for record in source)
  epochs = [sum(first[:5], []), sum(first[5:], [])]
  assert sorted(epochs[0]) == sorted(epochs[1]) == everything and epochs[0] != epochs[1]


def test_shards_are_disjoint_and_complete(tmp_path):
  source = tfds.read_jsonl(_lines(tmp_path, *(_puzzle(i) for i in range(10, 23))))
  parts = []
  for shard in range(3):
    loader = tfds.make_loader(source, _TASK, batch_size=3, num_epochs=1, shard_index=shard, shard_count=3)
    parts.append(sum((_prompts(loader[i]) for i in range(len(loader))), []))
  assert [len(part) for part in parts] == [5, 4, 4]
  assert sorted(sum(parts, [])) == [f"1,2={i}:" for i in range(10, 23)]
  with pytest.raises(ValueError, match="shard_index=3 is not one of the 3 shards"):
    tfds.make_loader(source, _TASK, batch_size=1, shard_index=3, shard_count=3)
  with pytest.raises(ValueError, match="13 examples are too few for 20 shards"):
    tfds.make_loader(source, _TASK, batch_size=1, shard_index=15, shard_count=20)


def test_a_resumed_iterator_continues(tmp_path):
  source = tfds.read_jsonl(_lines(tmp_path, *(_puzzle(i) for i in range(10, 21))))
  options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
  make = lambda: iter(tfds.make_loader(source, _TASK, batch_size=4, seed=5).to_iter_dataset(options))
  whole = make()
  batches = [_prompts(next(whole)) for _ in range(9)]
  stopped = make()
  for _ in range(4):
    next(stopped)
  state = json.loads(json.dumps(stopped.get_state()))  # a checkpoint holds plain numbers
  resumed = make()
  resumed.set_state(state)
  assert [_prompts(next(resumed)) for _ in range(5)] == batches[4:]
  loader = tfds.make_loader(source, _TASK, batch_size=4, seed=5)
  assert [_prompts(loader[i]) for i in range(9)] == batches
