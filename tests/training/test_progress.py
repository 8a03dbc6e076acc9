"""What is shown while a run works."""

import io

import pytest
import rich.console

from rlcore.training import examples, progress
from rlcore.types import Example


def make_console(terminal: bool) -> rich.console.Console:
  return rich.console.Console(file=io.StringIO(), force_terminal=terminal, width=120, color_system=None)


@pytest.mark.parametrize("seconds, text", [(0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (754, "12:34"),
                                           (3723, "1:02:03")])
def test_durations(seconds, text):
  assert progress.format_seconds(seconds) == text


@pytest.mark.parametrize("terminal", [True, False])
def test_shows_stage_metric_speed_and_time_left(terminal):
  console = make_console(terminal)
  with progress.Progress("success", console) as live:
    live.stage("train", total=40, done=10)
    live.advance(10, {"success": 0.25, "tokens": 500.0, "nonfinite_loss": 0.2}, seconds=5.0)
  text = console.file.getvalue()
  for part in ("train", "20/40", "success 0.250", "1,000 tokens/s", "2 non-finite", "0:10 left"):
    assert part in text, (part, text)


def test_the_speed_is_in_the_unit_of_the_stage():
  console = make_console(False)
  with progress.Progress("success", console) as live:
    live.stage("train", total=2, unit="steps")
    live.advance(1, {"tokens": 500.0}, seconds=5.0)
  assert "100 steps/s" in console.file.getvalue() and "tokens" not in console.file.getvalue()


def test_the_evaluation_is_a_table_of_before_and_after():
  console = make_console(False)
  console.print(examples.render_evaluation({"solve_rate": 0.25}, {"solve_rate": 0.5, "length": 7.0}))
  console.print(examples.render_evaluation(None, {"solve_rate": 0.5}))
  rows = [line.split() for line in console.file.getvalue().splitlines()]
  head = ["held-out", "before", "after"]
  assert rows == [head, ["solve_rate", "0.250", "0.500"], ["length", "-", "7.000"], head, ["solve_rate", "-", "0.500"]]


@pytest.mark.parametrize("shaped, head", [
    (None, "prompt 2 3   reward 1"), (1.0, "prompt 2 3   reward 1"),
    (0.75, "prompt 2 3   reward 1   shaped reward 0.75"),
    (float("nan"), "prompt 2 3   reward 1   shaped reward nan")])
def test_examples_name_the_shaped_reward_where_it_is_another(shaped, head):
  console = make_console(False)
  console.print(examples.render_examples([Example("2 3", ("5",), (0.5,), 1.0, shaped)]))
  assert console.file.getvalue().splitlines()[0] == head


def test_a_log_file_gets_few_lines():
  console = make_console(False)
  with progress.Progress("success", console) as live:
    live.stage("train", total=1000)
    for _ in range(1000):
      live.advance(1, {"loss": 1.5}, seconds=0.001)
  lines = console.file.getvalue().splitlines()
  assert len(lines) <= 3 and lines[-1] == "train 1000/1000  loss 1.500  done"


def test_examples_put_the_number_under_its_token():
  console = make_console(False)
  example = Example("2 3 6", ("2", "*", "3", "\n"), (0.5, -1.25, 0.0, 2.0), 1.0)
  console.print(examples.render_examples([example], width=100))
  prompt, tokens, numbers = console.file.getvalue().splitlines()[:3]
  assert prompt == "prompt 2 3 6   reward 1"
  assert numbers.split() == ["+0.50", "-1.25", "+0.00", "+2.00"]
  for piece, number in zip(("2", "*", "3", "⏎"), numbers.split(), strict=True):
    assert numbers.index(number) <= tokens.index(piece) < numbers.index(number) + len(number)


def test_long_examples_are_wrapped_and_empty_ones_are_fine():
  console = make_console(False)
  long = Example("p", tuple("abcdefghij"), (1.0,) * 10, 1.0)
  console.print(examples.render_examples([long, Example("q", (), (), 0.0)], width=30))
  assert max(map(len, console.file.getvalue().splitlines())) <= 30
