"""What the commands share: one line for whatever is wrong with an argument or a config."""

import io

import ml_collections
import pytest

from experiments import launch
from rlcore.models import decoder
from rlcore.training import examples, progress
from rlcore.training.errors import NonFiniteError, RunError

CONFIG = "--config=tests/training/toy_config.py"


@pytest.mark.parametrize("arguments, message", [
    ([CONFIG, "--config.lr=1e400"], "config.lr=1e400 is too large a number"),
    ([CONFIG, "--config.lr", "-1.5e+999"], "config.lr=-1.5e+999 is too large a number"),
    ([CONFIG, "--workdir=/tmp/x\udcff"], r"the argument --workdir=/tmp/x\udcff is not UTF-8"),
    (["--config=x\udcff.py"], r"the argument --config=x\udcff.py is not UTF-8"),
    (["--config=no/file.py:smoke"], "there is no config file 'no/file.py'"),
])
def test_an_argument_that_cannot_be_is_one_line(arguments, message, capsys):
  with pytest.raises(SystemExit) as ended:
    launch._parse(["test", *arguments])
  assert ended.value.code == 2 and capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize("argument", ["--config.lr=1e30", "--config.lr=inf", "--config.steps=10", "--config.lr=1e-400"])
def test_numbers_that_fit_pass(argument):
  launch._check_arguments(["test", CONFIG, argument])


@pytest.mark.parametrize("error, code, line", [
    (ZeroDivisionError("0.0 cannot be raised\nto a power"), 2,
     "error: ZeroDivisionError: 0.0 cannot be raised; to a power (--debug shows where)"),
    (RunError("no http://me:secret@host/v1"), 2, "error: no http://***@host/v1"),
    (NonFiniteError("stopped"), 1, "error: stopped"), (SystemExit("said"), 1, "said")])
def test_errors_end_in_a_line_and_a_code(error, code, line, capsys):
  def command():
    raise error

  assert launch._attempt(command) == code and capsys.readouterr().err == f"{line}\n"
  assert launch._attempt(lambda: None) == 0 and launch._attempt(lambda: 143) == 143


@pytest.mark.parametrize("name", [".x", "", "a..b", "a-b", "no_such_module.x"])
def test_a_name_of_no_module(name):
  with pytest.raises(RunError, match="is no name of a module|there is no such module"):
    launch.import_experiment(ml_collections.ConfigDict(dict(experiment=name)))


@pytest.mark.parametrize("field", ["dim", "heads", "vocab_size", "context", "ff_dim", "head_dim"])
def test_a_model_of_no_size_is_named(field):
  with pytest.raises(ValueError, match=f"^{field}=0 must be at least 1$"):
    decoder.DecoderConfig(**{"vocab_size": 4, "context": 4} | {field: 0})


def test_brackets_in_paths_and_names_are_shown_as_they_are():
  for terminal in (False, True):
    console = launch.console()
    console.file, console._force_terminal = io.StringIO(), terminal
    console.print("runs/[bold]x[/bold]", soft_wrap=True)
    console.print(examples.render_evaluation(None, {"[bold]rate": 0.5}))
    with progress.Progress("success", console) as live:
      live.stage("[red]train", total=2)
      live.advance(1, {"tokens": 1.0}, seconds=1.0)
      live.message("saved in [dim]there")
    shown = console.file.getvalue()
    for text in ("runs/[bold]x[/bold]", "[bold]rate", "[red]train", "saved in [dim]there"):
      assert text in shown, (text, shown)
