"""What is shown as it is, how a command ends, and what needs which extra."""

from __future__ import annotations

import csv
import errno
import io
import logging
import sys
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.table import Table

from robustseg_core import config
from robustseg_core.cli import terminal
from robustseg_core.cli.terminal import Terminal, guarded, literal
from robustseg_core.errors import EXTRAS, RobustsegError, not_installed
from robustseg_core.output.page import _harmless, plain_text
from robustseg_core.robustness import report as robustness_report
from robustseg_core.robustness.files import write_csv
from robustseg_core.robustness.table import COLUMNS, lines
from robustseg_core.text import csv_cell, visible
from support import ROOT
from support.programs import run_program

HOSTILE = "[/red] [sim] :smile: \\[x] \x1b[31m\r\n\t\u202e\u2028\x9b\udcff$\\frac{"


def shown(draw) -> str:
    """What a console with colors writes."""
    out = io.StringIO()
    console = Terminal()
    console.file, console._force_terminal, console._color_system = out, True, None
    draw(console)
    return out.getvalue()


@pytest.mark.parametrize("terminal_there", [True, False])
def test_a_bar_is_gone_when_an_error_is_told(terminal_there, monkeypatch):
    """`0/? steps` above the sentence says nothing; a bar that went well stays."""
    monkeypatch.setenv("TERM", "xterm")

    def written(error: Exception | None) -> str:
        out = io.StringIO()
        console = Terminal()
        console.file, console._force_terminal, console._color_system = out, terminal_there, None
        console.is_interactive = terminal_there
        monkeypatch.setattr(terminal, "err", console)
        with suppress(RobustsegError), terminal.progress_bar("steps") as progress:
            progress.add_task("teacher", total=None)
            if error is not None:
                raise error
        return out.getvalue()

    assert "teacher" in written(None) and "steps" in written(None)
    failed = written(RobustsegError("nothing is called so"))
    if terminal_there:
        assert failed.endswith("\r\x1b[1A\x1b[2K"), "the line of the bar is erased"
    else:
        assert not failed.strip()


@given(st.text(st.characters(codec=None), max_size=40))
def test_what_is_visible_is_on_one_line_and_prints_everywhere(text):
    found = visible(text)
    assert found.isprintable() and len(found.splitlines()) <= 1
    found.encode("utf-8")
    assert visible(found) == found
    if text.isprintable():
        assert found == text


def test_brackets_stay_and_what_cannot_be_seen_is_written_out():
    assert visible("[/red] [sim] a\\b") == "[/red] [sim] a\\b"
    assert visible("a\n\x1b[31m\u202e") == "a\\n\\x1b[31m\\u202e"
    assert visible("o\udcff") == "o\\xff"


@pytest.mark.parametrize("way", ["print", "say", "notice", "head", "cell", "title", "literal"])
def test_a_hostile_name_is_shown_as_it_is_wherever_it_stands(way):
    def draw(console):
        if way in ("print", "say", "notice"):
            getattr(console, way)(HOSTILE)
        elif way == "head":
            console.say(HOSTILE, head="error:", style="red")
        else:
            table = Table(title=HOSTILE if way == "title" else None)
            table.add_column("a", no_wrap=True, overflow="fold", min_width=120)
            table.add_row(literal(HOSTILE, "red") if way == "literal" else HOSTILE)
            console.width = 140
            console.print(table)

    found = shown(draw)
    assert visible(HOSTILE) in found.replace("\n", "") or visible(HOSTILE) in found
    assert all(character.isprintable() or character == "\n" for character in found)


def test_logs_are_shown_as_they_are(capsys):
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        terminal.show_logs(verbose=True)
        try:
            raise ValueError("\x1b[31m")
        except ValueError:
            logging.getLogger("robustseg_core").warning("%s", HOSTILE, exc_info=True)
    finally:
        root.handlers[:], root.level = before[0], before[1]
    found = capsys.readouterr().err
    assert "[/red] [sim] :smile:" in found and "\x1b" not in found
    assert "ValueError" in found, "the traceback keeps its lines"


@pytest.mark.parametrize("word", ["=1+1", "+1-1x", "-cmd", "@SUM(A1)", "  =1", "\uff1d1", "=\n1"])
def test_a_csv_cell_is_no_formula_and_has_one_line(word):
    cell = csv_cell(word)
    assert cell.startswith("'") and "\n" not in cell


@pytest.mark.parametrize("value", ["-0.5", "+3", "-inf", "1e-5", 3, -0.5, None, "plain"])
def test_numbers_stay_numbers_in_csv(value):
    assert csv_cell(value) == value


def test_the_matrix_csv_holds_hostile_names_as_text(tmp_path):
    row = dict.fromkeys(COLUMNS, "") | {"drive": '=HYPERLINK("x")\n', "faults": ["@a"], "why": []}
    row |= {"delay_s": -0.5}
    write_csv(tmp_path / "a.csv", COLUMNS, lines([row]))
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 2 and rows[1][0] == '\'=HYPERLINK("x")\\n'
    assert rows[1][COLUMNS.index("faults")] == "'@a"
    assert rows[1][COLUMNS.index("delay_s")] == "-0.5"


def test_html_shows_names_and_not_what_they_do():
    assert _harmless("a\u202e\nb") == "a\\u202e\\nb" and _harmless(3) == 3
    summary = {"rows": [], "drives": [HOSTILE + "<script>"], "rows_without_test": []}
    from jinja2 import DictLoader, Environment

    page = Environment(
        loader=DictLoader({"x": "{{ s.drives | join(', ') }}|{{ s.drives[0] }}"}),
        autoescape=True,
        finalize=_harmless,
    ).get_template("x")
    html = page.render(s=summary)
    html.encode()
    assert "<script>" not in html and "\u202e" not in html and "\n" not in html


def test_a_dollar_in_a_name_is_no_formula():
    """matplotlib raises where it takes a name for a formula that is none."""
    row = {"row": 1, "fault": "a$\\frac{$b", "miou": dict.fromkeys(robustness_report.STYLES, 0.5)}
    png = robustness_report.plot({"rows": [row], "miou": {}, "trained": True})
    assert png.startswith(b"\x89PNG")

    @plain_text
    def draw() -> bool:
        import matplotlib.pyplot as plt

        return plt.rcParams["text.parse_math"]

    assert draw() is False and draw() is False


def raising(error: BaseException):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            RobustsegError("pip install robustseg[sim] [/red]\x1b"),
            2,
            "error: pip install robustseg[sim] [/red]\\x1b",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
        (SystemExit(), 0, ""),
        (SystemExit(None), 0, ""),
        (SystemExit(3), 3, ""),
        (SystemExit("no [/red]"), 1, "no [/red]"),
        (
            OSError(errno.ENOSPC, "No space left on device", "a\nb"),
            2,
            "error: cannot use a\\nb: No space left on device; check",
        ),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 5000), 2, "File name too long"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 2, "Permission denied"),
        (MemoryError(), 2, "memory ran out"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "memory ran out"),
        (ImportError("libx.so: failed to map segment from shared object"), 2, "memory ran out"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 2, "memory ran out"),
        (
            OSError(errno.EMFILE, "Too many open files", "x"),
            2,
            "error: cannot use x: Too many open files; allow more open files (ulimit -n)",
        ),
        (
            RuntimeError("unable to open file <x>: Too many open files (24)"),
            2,
            "error: unable to open file <x>: Too many open files (24); allow more open files",
        ),
        (RuntimeError("I/O error: File too large (os error 27)"), 2, "File too large"),
        (ValueError("write: No space left on device"), 2, "make room"),
        (BrokenProcessPool("dead"), 2, "a process was killed"),
        (
            UnicodeEncodeError("utf-8", "a\udcff", 1, 2, "surrogates not allowed"),
            2,
            "a\\xff is not UTF-8",
        ),
        (
            ModuleNotFoundError("No module named 'open3d'", name="open3d.core"),
            2,
            "open3d is not installed; pip install 'robustseg[sim]'",
        ),
        (ModuleNotFoundError("x", name="rclpy"), 2, "pip install 'robustseg[ros]'"),
        (ModuleNotFoundError("x", name="jinja2"), 2, "pip install robustseg"),
        (ModuleNotFoundError("x", name="robustseg_core.nope"), 70, "a defect of robustseg"),
        (ValueError("[/red]\n" + "x" * 9999), 70, "a defect of robustseg"),
        (RecursionError("too deep"), 70, "a defect of robustseg"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 2, "Broken pipe"),  # not that of our output
    ],
)
def test_a_command_ends_in_a_sentence(error, code, said, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert guarded(raising(error)) == code
    err = capsys.readouterr().err
    assert said in err and "Traceback" not in err and len(err.splitlines()) <= 1
    assert len(err) < 800
    kept = [path.read_text() for path in tmp_path.iterdir()]
    assert len(kept) == (code == 70)
    for text in kept:
        assert "in command" in text and type(error).__name__ in text


def test_a_defect_is_told_where_nothing_can_be_written(capsys, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    assert guarded(raising(ValueError("x"))) == 70
    assert "--verbose" in capsys.readouterr().err


@pytest.mark.slow
def test_a_text_that_nests_too_deeply_is_its_author_s(capsys):
    import json

    assert guarded(lambda: json.loads("[" * 100_000)) == 2
    assert "nested too deeply" in capsys.readouterr().err


class Full(io.StringIO):
    """A stream on a disk without room."""

    def write(self, _text):
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self):
        self.write("")


def test_standard_error_that_is_full_does_not_hide_the_code(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Full())
    assert guarded(raising(RobustsegError("x"))) == 2
    assert guarded(raising(ValueError("x"))) == 70


def test_standard_output_that_is_full_is_no_success(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Full())
    assert guarded(lambda: None) == 2
    assert "No space left" in capsys.readouterr().err


def test_every_optional_module_is_in_the_extra_that_we_name():
    setup = (ROOT / "setup.py").read_text()
    for module, extra in EXTRAS.items():
        named = setup.partition(f'"{extra}": [')[2].partition("]")[0].replace("-", "_")
        assert module in named, f"{module} is not in extra {extra}"
        assert f"'robustseg[{extra}]'" in not_installed(module)


@pytest.mark.parametrize("gone", ["none", "raises"])
def test_a_missing_module_is_refused_without_being_imported(gone, monkeypatch):
    if gone == "none":
        monkeypatch.setitem(sys.modules, "rclpy", None)
    else:
        monkeypatch.delitem(sys.modules, "rclpy", raising=False)
        monkeypatch.setattr("importlib.util.find_spec", raising_spec)
    with pytest.raises(
        RobustsegError, match=r"rclpy is not installed; pip install 'robustseg\[ros\]'"
    ):
        terminal.require("rclpy")
    if gone == "none":
        terminal.require("json")


def raising_spec(name):
    raise ModuleNotFoundError(name=name)


def test_an_interrupt_that_meets_a_callback_from_c_ends_the_command_all_the_same():
    done = run_program(
        """
        import ctypes, os, signal, sys
        from robustseg_core.cli.guard import guarded

        @ctypes.CFUNCTYPE(None)
        def callback():
            os.kill(os.getpid(), signal.SIGINT)
            print("not reached")

        def command():
            callback()
            print("goes on", flush=True)
            signal.pause()

        sys.exit(guarded(command))
        """,
        check=False,
    )
    assert (done.returncode, done.stdout) == (130, "goes on\n")
    assert done.stderr.strip() == "interrupted"


@example("0E0")
@given(st.text(st.characters(codec=None), max_size=60))
def test_any_text_goes_through_an_override(text):
    word = f"weights={config.scalar(text)}"
    assert word.isascii() and "\n" not in word
    assert config.override({}, [word]) == {"weights": text}


@pytest.mark.slow
@given(st.text(max_size=30), st.text(max_size=30))
def test_no_override_ends_in_anything_but_a_sentence(key, value):
    try:
        config.override({"a": {"b": 1}}, [f"{key}={value}"])
    except RobustsegError as error:
        assert "key=value" in str(error) or "YAML" in str(error) or "below" in str(error)


@pytest.mark.parametrize(
    "word",
    [
        "a=[",
        "=",
        "=1",
        "a",
        "",
        "a..b=1",
        ".a=1",
        "a.=1",
        " =1",
        "a. .b=1",
        "a=!!int ''",
        "a=!!bool x",
        "a=!!timestamp x",
        "a=2001-99-99",
        "a=*x",
        "a=" + "[" * 3000,
        "a=\x00",
        "a='",
        "a=@",
        "a=!!python/object:os.system x",
        "x.y=1",
    ],
)
def test_an_override_that_is_none_is_refused(word):
    with pytest.raises(RobustsegError) as caught:
        config.override({"x": 3}, [word])
    assert len(str(caught.value)) < 600


def test_an_override_goes_below_what_is_empty_and_leaves_the_given_tree_alone():
    tree = {"view": None, "streams": {"rgb": {}}}
    assert config.override(tree, ["view.width=3"])["view"] == {"width": 3}
    config.override(tree, ["streams.rgb.topic=/x"])
    assert tree == {"view": None, "streams": {"rgb": {}}}


@pytest.mark.parametrize("text", ["a: {ros__parameters: [1]}", "a: {ros__parameters: 3}", "- 1"])
def test_a_parameter_file_of_another_shape_is_refused(text):
    with pytest.raises(RobustsegError, match="expected `key: value` lines"):
        config.read_yaml(text, source="x")
