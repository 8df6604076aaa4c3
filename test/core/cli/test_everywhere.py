"""What all commands have, and that help costs nearly nothing."""

from __future__ import annotations

import importlib
import inspect
import io
import json
import subprocess
import sys
from typing import get_args, get_type_hints

import pytest
import typer

from robustseg_core import datasets
from robustseg_core.bag import BagWriter
from robustseg_core.cli import demo, terminal
from robustseg_core.cli.entry import COMMANDS, ENDLESS, app
from robustseg_core.cli.guard import guarded, wishes
from robustseg_core.datasets._base import SPLITS
from robustseg_core.datasets._collection import Collection
from robustseg_core.engines.opening import EAGER, RUNTIMES
from robustseg_core.engines.precision import LEAST
from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation.protocols import MISSING, PROTOCOLS
from robustseg_core.learn.official import SYSTEMS
from robustseg_core.metrics import ABSENT
from robustseg_core.sim.rig import PRESETS, RIGS
from robustseg_core.sim.style import STREETS
from robustseg_core.sim.weather import CONDITIONS
from robustseg_core.types import MS, SECOND
from support import ROOT
from support.makers import image, scenes
from support.programs import run_program

START = 1_700_000_000 * SECOND


@pytest.fixture(scope="module")
def group():
    return typer.main.get_command(app)


@pytest.fixture
def command(capsys):
    def run(*words) -> tuple[int, str, str]:
        code = guarded(lambda: app([str(word) for word in words], prog_name="robustseg"))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield run
    wishes.forget()


def test_the_commands_of_the_help_are_those_of_the_modules(group):
    found = set()
    for module in {place for place, _ in COMMANDS.values()}:
        commands = importlib.import_module(f"robustseg_core.cli.{module}").commands
        found |= set(typer.main.get_group(commands).commands)
    assert found == set(COMMANDS) == set(group.list_commands(None))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_what_all_have(group, name):
    options = {opt: p for p in group.get_command(None, name).params for opt in p.opts}
    assert "-q" in options and "--quiet" in options
    assert ("--json" in options) == (name not in ENDLESS)
    assert ("--out" in options) == (name not in ENDLESS)
    if "--out" in options:
        assert options["-o"] is options["--out"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_usage_shows_arguments_as_they_are_written(group, name):
    command = group.get_command(None, name)
    context = command.make_context(name, [], resilient_parsing=True)
    own = [p.metavar for p in command.params if p.param_type_name == "argument" and p.metavar]
    assert command.collect_usage_pieces(context) == ["[OPTIONS]", *own]


@pytest.mark.parametrize("name", ["list", "params"])
def test_what_is_printed_goes_into_a_new_file_if_asked_for(command, tmp_path, name):
    file = tmp_path / "said"
    printed = command(name)[1]
    assert command(name, "-o", file) == (0, "", f"  {file}\n") and file.read_text() == printed
    code, out, err = command(name, "-o", file)
    assert code == 2 and out == "" and "is there already; move it away" in err
    assert file.read_text() == printed
    code, _, err = command(name, "-o", tmp_path / "no" / "said")
    assert code == 2 and "make it first" in err
    assert command(name, "--json", "-q", "-o", tmp_path / "json") == (0, "", "")
    assert json.loads((tmp_path / "json").read_text()) == json.loads(command(name, "--json")[1])


def test_a_place_is_named_once(command, tmp_path):
    words = ("inject", tmp_path / "b", "--fault", "rgb:off")
    code, _, err = command(*words)
    assert code == 2 and "nothing says where to write; give OUT, or --out OUT" in err
    code, _, err = command(*words, tmp_path / "x", "-o", tmp_path / "y")
    assert code == 2 and "are two places; give OUT once" in err
    assert command("sim", "--seconds", "1")[0] == 2


def test_view_shows_a_recording_or_the_live_node(command, tmp_path, monkeypatch):
    assert "give BAG, or --live" in command("view")[2]
    assert "give BAG, or --live" in command("view", "--live", tmp_path)[2]
    code, _, err = command("view", "--live", "--kill", "rgb@1")
    assert code == 2 and "leave them out with --live" in err
    code, _, err = command("view", tmp_path, "--seconds", "2")
    assert code == 2 and "--seconds belongs to --live" in err
    monkeypatch.setitem(sys.modules, "rerun", None)
    code, _, err = command("view", "--live")
    assert code == 2 and "pip install 'robustseg[viz]'" in err


def test_the_demo_of_make_breaks_what_the_command_does():
    makefile = (ROOT / "Makefile").read_text()
    assert f"KILL ?= {' '.join(demo.KILLED)}\n" in makefile
    assert f"FAULT ?= {' '.join(demo.BROKEN)}\n" in makefile
    assert f"DRIVE := {demo.DRIVE}\n" in makefile


def test_a_demo_that_cannot_be_says_so_before_anything_is_made(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = command("demo", "--healthy", "--kill", "rgb@1")
    assert code == 2 and "leave it out" in err
    assert command("demo", "nothing.mcap")[0] == 2
    code, _, err = command("demo", "--fault", "rgb:sutck")
    assert code == 2 and "did you mean 'stuck'" in err
    monkeypatch.setitem(sys.modules, "rclpy", None)
    assert "pip install 'robustseg[ros]'" in command("demo")[2]
    assert not list(tmp_path.iterdir())


def test_eval_compare_writes_where_it_is_told(command, tmp_path):
    code, _, err = command("eval", "--compare", tmp_path / "no", "-o", tmp_path)
    assert code == 2 and err.startswith("error: ")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ENDLESS])
def test_every_command_that_takes_json_answers(name):
    module = importlib.import_module(f"robustseg_core.cli.{COMMANDS[name][0]}")
    for info in module.commands.registered_commands:
        if (info.name or info.callback.__name__.replace("_", "-")) == name:
            told = inspect.getsource(info.callback)
            told += "".join(
                inspect.getsource(function)
                for word, function in vars(module).items()
                if inspect.isfunction(function) and f"{word}(" in told and word[0] == "_"
            )
            assert "answer(" in told or "wished(" in told, "or the program that it starts answers"


COLLECTIONS = [n for n in datasets.available() if issubclass(datasets.load(n), Collection)]
CHOICES = {
    ("bench", "--engine"): (EAGER, *RUNTIMES),
    ("calibrate", "--split"): SPLITS,
    ("eval", "--absent"): ABSENT,
    ("eval", "--missing"): MISSING,
    ("eval", "--protocol"): PROTOCOLS,
    ("eval", "--split"): SPLITS,
    ("export", "--engine"): RUNTIMES,
    ("export", "--precision"): LEAST,
    ("import", "--as"): SYSTEMS,
    ("import", "--kind"): COLLECTIONS,
    ("import", "--missing"): MISSING,
    ("robustness", "--preset"): PRESETS,
    ("sim", "--condition"): CONDITIONS,
    ("sim", "--preset"): PRESETS,
    ("sim", "--rig"): RIGS,
    ("sim", "--streets"): STREETS,
}
"""Command and option -> the words that the code takes."""
CHECKED = {("seconds", float), ("ftti", float), ("reaction", float), ("alpha", float)}
"""Numbers whose bounds are the core's: it says more of them than an option can."""
OPEN = {"--device", "--faults"}
"""Options that take words or something else."""


def test_the_help_names_exactly_the_words_that_are_taken(group):
    named = {
        (name, option.opts[0]): set(option.metavar.split("|"))
        for name in COMMANDS
        for option in group.get_command(None, name).params
        if option.opts[0] not in OPEN and "|" in (option.metavar or "")
    }
    assert named == {option: set(words) for option, words in CHOICES.items()}


@pytest.mark.parametrize(
    "words",
    [
        ["view", "none.mcap", "--every"],
        ["robustness", "--sim", "--minutes"],
        ["sim", "drive.mcap", "--seconds"],
        ["doctor", "none.mcap", "--seconds"],
    ],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize("value", ["inf", "1e308", "nan", "-1"])
def test_no_number_of_seconds_is_endless(command, tmp_path, monkeypatch, words, value):
    monkeypatch.chdir(tmp_path)
    code, _, said = command(*words, value)
    assert code == 2 and "defect" not in said and not list(tmp_path.iterdir())
    assert words[-1] in said or "seconds is" in said, said


@pytest.mark.parametrize("name", COMMANDS)
def test_every_number_of_a_command_line_has_both_bounds(name):
    """Where there are none, 10^25 samples at once are a defect of ours, and 10^25 rounds no end."""
    module = importlib.import_module(f"robustseg_core.cli.{COMMANDS[name][0]}")
    for info in module.commands.registered_commands:
        hints = get_type_hints(info.callback, include_extras=True)
        for option, (kind, told) in _numbers(hints):
            if (option, kind) not in CHECKED:
                assert told.min is not None and told.max is not None, (info.name, option)


def _numbers(hints):
    for option, hint in hints.items():
        kind, *told = get_args(hint) or (hint,)
        numbers = {int, float} & {kind, *get_args(kind)}
        if numbers and told:
            yield option, (numbers.pop(), told[0])


@pytest.mark.parametrize("words", [["-h"], ["run", "-h"], ["--help"]], ids=" ".join)
def test_the_short_word_is_the_long_one(command, words):
    long = [word.replace("-h", "--help") if word == "-h" else word for word in words]
    assert command(*words)[:2] == command(*long)[:2]
    assert command(*words)[0] == 0


def test_help_loads_no_command_and_not_even_rich(tmp_path):
    program = """
        import sys
        from robustseg_core.cli.entry import app
        from robustseg_core.cli.guard import guarded
        code = guarded(lambda: app(["--help"]))
        ours = {n for n in sys.modules if n.startswith("robustseg_core.cli.")}
        print(code, "rich" in sys.modules, sorted(ours))
    """
    done = run_program(program)
    names = ["robustseg_core.cli.entry", "robustseg_core.cli.guard"]
    assert done.stdout.splitlines()[-1] == f"0 False {names}"
    assert "robustness  What every fault" in done.stdout


def test_the_package_is_the_program():
    words = [sys.executable, "-m", "robustseg_core", "--version"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("robustseg ")


def test_a_mistyped_command_is_guessed_though_none_is_loaded(command):
    code, out, err = command("inspct")
    assert code == 2 and out == "" and "Did you mean 'inspect'" in err


@pytest.mark.parametrize("words", [["list"], ["params"]], ids=" ".join)
def test_what_goes_to_standard_output_anyway_is_json_if_asked_for(command, words):
    code, out, err = command(*words, "--json")
    assert code == 0 and err == "" and json.loads(out)
    assert command(*words)[1] != out, "the next command line wishes for itself"


def record(path):
    with BagWriter(path) as writer:
        for k, scene in enumerate(scenes(6)):
            stamp = START + k * 33 * MS
            writer.write("/image_raw", "sensor_msgs/msg/Image", image(scene, "rgb8", stamp), stamp)
    return path


@pytest.mark.slow
def test_a_quiet_run_that_answers_says_one_document_and_notices(command, tmp_path):
    bag, out = record(tmp_path / "drive"), tmp_path / "out"
    code, said, err = command("run", bag, "-o", out, "-q", "--json")
    assert code == 0 and json.loads(said) == json.loads((out / "result.json").read_text())
    assert all(line.startswith("notice:") for line in err.splitlines())
    code, said, err = command("run", bag, "-o", out, "--json")
    assert "masks at" in err and json.loads(said)["totals"]["masks"] > 0
    code, said, err = command("inspect", tmp_path / "nothere", "--json", "--quiet")
    assert code == 2 and said == "" and err.startswith("error: ")


@pytest.mark.slow
def test_one_gpu_of_several_may_be_named(command, tmp_path):
    bag = record(tmp_path / "drive")
    code, _, err = command("run", bag, "-o", tmp_path / "out", "--device", "cuda:7")
    assert code == 2 and "device is 'cuda:7', but this machine has" in err
    code, _, err = command("run", bag, "-o", tmp_path / "out", "--device", "gpu")
    assert code == 2 and "auto, cpu, cuda or cuda:N" in err


@pytest.mark.parametrize("error", [None, RobustsegError("no"), KeyboardInterrupt()])
def test_a_bar_ends_at_the_end_and_is_gone_on_errors(error, monkeypatch):
    out = io.StringIO()
    console = terminal.Terminal()
    console.file, console._force_terminal, console._color_system = out, True, None
    console.is_interactive = True
    monkeypatch.setattr(terminal, "err", console)
    try:
        with terminal.progress_bar("messages") as progress:
            task = progress.add_task("reading", total=400)
            progress.update(task, completed=330)
            if error is not None:
                raise error
    except (RobustsegError, KeyboardInterrupt) as raised:
        assert raised is error
    written = out.getvalue()
    if error is None:
        assert "400/400 messages" in written.rpartition("reading")[2]
    else:
        assert written.rstrip("\n").endswith("\x1b[2K"), "the bar's line is wiped"


def test_who_wants_to_be_left_alone_is_told_what_matters_only(capsys, monkeypatch):
    console = terminal.Terminal()
    monkeypatch.setattr(wishes, "quiet", True)
    console.print("a table")
    console.say("a file")
    console.notice("look")
    assert capsys.readouterr().err == "notice: look\n"
