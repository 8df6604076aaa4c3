"""Hostile command lines: each ends with a code and a sentence, and none in a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from robustseg_core import config
from robustseg_core.bag import BagWriter
from robustseg_core.cli.main import app
from robustseg_core.cli.terminal import guarded
from robustseg_core.robot.config import RobotConfig
from robustseg_core.text import visible
from robustseg_core.types import MS, SECOND
from support import ROOT
from support.makers import image, scenes

pytestmark = pytest.mark.slow

START = 1_700_000_000 * SECOND
EVIL = "/[/red][sim]\x1b[31m\u202e\n=x$\\frac"
BYTES = os.fsdecode(b"o\xff")
LONG = "x" * 300
SCENES = scenes(8)


def record(path: Path, topic: str = "/camera/image_raw", frame: str = "camera", count: int = 8):
    with BagWriter(path) as writer:
        for k in range(count):
            message = image(SCENES[k], "rgb8", START + k * 33 * MS)
            message.header.frame_id = frame
            writer.write(topic, "sensor_msgs/msg/Image", message, START + k * 33 * MS)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with all kinds of files, which is the working directory of the tests."""
    folder = tmp_path_factory.mktemp("lines")
    record(folder / "b")
    record(folder / "evil", EVIL, "[/red]$x$\x1b\n")
    (folder / BYTES).symlink_to("b")
    (folder / "dir").mkdir()
    for name, content in {
        "empty": b"",
        "cut.yaml": b"a: [",
        "deep.yaml": b"a: " + b"[" * 2000 + b"]" * 2000,
        "deep.json": b"[" * 100_000,
        "bytes.yaml": b"\xff\xfe\x00",
        "list.yaml": b"- 1",
        "int.yaml": b"1: 2",
        "cycle.yaml": b"streams: &a {rgb: *a}",
        "ros.yaml": b"a: {ros__parameters: [1]}",
        "nul.yaml": b'weights: "a\\0b"\nstreams: {rgb: {topic: /camera/image_raw}}',
        "long.yaml": b"streams: " + b"x" * 100_000,
        "recipe1.yaml": b"distill: {ifv: 3}",
        "recipe2.yaml": b"distill: 3\ndata: [1]",
        "recipe3.yaml": b"validate: {every: x}",
        "recipe4.yaml": b'data: {train: [b], kind: "[/red]"}',
        "split.yaml": b"first_seed: x",
    }.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def command(place, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(place)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def run(*words) -> tuple[int, str, str]:
        code = guarded(lambda: app([str(word) for word in words], prog_name="robustseg"))
        captured = capsys.readouterr()
        shown = captured.out + captured.err
        assert "Traceback" not in shown
        odd = {c for c in shown if not c.isprintable() and c != "\n"}
        assert not odd, (odd, shown)
        if code == 70:
            pytest.fail("\n".join(path.read_text() for path in tmp_path.glob("robustseg-*.txt")))
        return code, captured.out, captured.err

    return run


RUN = ("run", "b", "--out", "out")
OVERRIDES = (
    "a=[",
    "a={",
    "=",
    "=1",
    "a..b=1",
    ".=1",
    "streams=3",
    "streams=[1]",
    "streams.rgb=3",
    "streams.rgb.topic=[1]",
    "a=!!int ''",
    "a=*x",
    "a=&x [*x]",
    "a=\x1b",
    "[/red]=1",
    "a\nb=1",
    "",
    "streams.rgb.limits=3",
    "device=1",
    "device=[/red]",
    "cpu_threads=1e400",
    "view.width=1e9",
    "cpu_threads=.nan",
    "view.intrinsics=[1, 2]",
    "view.extrinsics=3",
    "weights=[1]",
    "weights=/dev/null",
    "weights=/",
    f"weights={LONG}",
    'weights="a\\0b"',
    "device=cuda:99",
    "streams.[/red].topic=/x",
    "streams.zzz.topic=/x",
    "sync.reference=[zzz",
    "<<=1",
    "a=2001-99-99",
)
FILES = (
    "empty",
    "dir",
    "cut.yaml",
    "deep.yaml",
    "deep.json",
    "bytes.yaml",
    "list.yaml",
    "int.yaml",
    "ros.yaml",
    "long.yaml",
    "/dev/null",
    "/dev/zero",
    "/",
    "-",
    "",
    LONG,
    "[/red]",
    "\x1b[31m",
    "a\nb",
    "a\0b",
    os.fsdecode(b"no\xff"),
)
USES = (
    ("train", "{}", "--out", "t"),
    ("sim", "d", "--split", "{}", "--jobs", "1"),
    ("run", "b", "--out", "out", "--weights", "{}"),
    ("label", "b", "--out", "l", "--weights", "{}"),
    ("eval", "--compare", "{}", "{}"),
    ("import", "{}", "--as", "anyseg", "--kind", "deliver", "--out", "i"),
    ("inspect", "{}"),
    ("inject", "{}", "i", "--fault", "rgb:off"),
    ("extract", "{}", "--out", "e", "--jobs", "1"),
    ("sim", "{}", "--preset", "nope"),
)
LINES = (
    ("[/red]",),
    ("\x1b[31m",),
    ("run", "--\x1b[31m"),
    ("run", "--[/red]", "x"),
    ("run",),
    ("eval",),
    ("eval", "x"),
    ("eval", "x", "b", "--protocol", "[/red]"),
    ("eval", "x", "b", "--kind", "[/red]"),
    ("eval", "x", "b", "--split", "[/red]"),
    ("eval", "x", "b", "--device", "[/red]"),
    ("eval", "x", "b", "--size", "²x²"),
    ("eval", "x", "b", "--missing", "[/red]"),
    ("calibrate", "x"),
    ("calibrate", "x", "b", "--out", "c"),
    ("calibrate", "x", "b", "--out", "c", "--faults", "[/red]"),
    ("import", "b"),
    ("import", "empty", "--as", "[/red]", "--kind", "deliver", "--out", "i"),
    ("import", "empty", "--as", "anyseg", "--kind", "[/red]", "--out", "i"),
    ("import", "empty", "--as", "anyseg", "--kind", "deliver", "--out", "/dev/full"),
    ("import", "empty", "--as", "anyseg", "--kind", "deliver", "--out", LONG),
    ("doctor",),
    ("doctor", "--live"),
    ("doctor", "b", "--live"),
    ("doctor", "b", "--seconds", "-1"),
    ("robustness",),
    ("robustness", "--sim", "b"),
    ("robustness", "b", "--rows", "²"),
    ("robustness", "b", "--rows", "5-1"),
    ("robustness", "b", "--severities", "5-1"),
    ("train", "recipe1.yaml", "--out", "t"),
    ("train", "recipe2.yaml", "--out", "t"),
    ("train", "recipe3.yaml", "--out", "t"),
    ("train", "[/red]", "--out", "t"),
    (*RUN, "--seed", "-1"),
    (*RUN, "--device", "[/red]"),
    (*RUN, "--kill", ""),
    (*RUN, "--kill", "[/red]@1"),
    (*RUN, "--kill", "\n@1"),
    (*RUN, "--fault", "rgb:[/red]"),
    (*RUN, "--fault", "[/red]:off"),
    (*RUN, "--fault", "rgb:salt_pepper(share=nan)"),
    ("run", "b", "--out", "empty"),
    ("run", "b", "--out", "/dev/full"),
    ("run", "b", "--out", LONG),
    ("run", "b", "--out", "empty/x"),
    ("inject", "b", "/dev/full", "--fault", "rgb:off"),
    ("inject", "b", LONG, "--fault", "rgb:off"),
    ("inject", "b", BYTES + "i", "--fault", "rgb:off"),
    ("extract", "b", "--out", "empty", "--jobs", "1"),
    ("extract", "b", "--size", "", "--out", "e"),
    ("extract", "b", "--out", "e", "--modality", "[/red]", "--jobs", "1"),
    ("extract", "b", "--out", "e", "--encoding", "depth.slop=true", "--jobs", "1"),
    ("extract", "b", "--out", "e", "--encoding", "depth", "--jobs", "1"),
    ("extract", "b", "--out", "e", "--class-map", "split.yaml", "--jobs", "1"),
    ("sim", "d", "--split", "split.yaml", "--jobs", "1"),
    ("sim", "", "--seconds", "1"),
    ("sim", "d", "--split", "split.yaml", "--seed", "3"),
    ("sim", "q.mcap", "--condition", "[/red]"),
    ("live", "--params", "cut.yaml"),
    ("live", "--params", "[/red]"),
    ("live", "--params", LONG),
)


@pytest.mark.parametrize("word", OVERRIDES, ids=ascii)
def test_an_odd_override_is_one_sentence(command, word):
    code, out, err = command(*RUN, "--set", word)
    assert code == 2 and out == ""
    assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1
    assert len(err) < 1500


@pytest.mark.parametrize("name", FILES, ids=lambda name: ascii(name)[:20])
@pytest.mark.parametrize("words", USES, ids=lambda words: words[0])
def test_a_file_that_is_none_is_one_sentence(command, words, name):
    if words[0] == "train" and name in ("empty", "/dev/null"):
        pytest.skip("an empty recipe is one without data, and says so when it has loaded PyTorch")
    code, out, _ = command(*(word.format(name) if word == "{}" else word for word in words))
    assert code == 2 and out == ""


@pytest.mark.parametrize("name", [*FILES, "cycle.yaml"], ids=lambda name: ascii(name)[:20])
def test_parameters_that_are_none_are_one_sentence(command, name):
    if name in ("empty", "/dev/null"):
        pytest.skip("no parameter at all is a robot without streams")
    assert command(*RUN, "--params", name)[0] == 2


@pytest.mark.parametrize("words", LINES, ids=ascii)
def test_a_hostile_line_is_one_sentence(command, words):
    code, out, err = command(*words)
    assert code == 2 and out == "" and err


def test_a_hostile_topic_is_shown_as_it_is_by_every_command(command, place, tmp_path):
    code, out, err = command("inspect", "evil")
    assert code == 0 and visible(EVIL)[:12] in err
    robot = tmp_path / "robot.yaml"
    robot.write_text(out)
    assert config.load(RobotConfig, robot).streams["rgb"].topic == EVIL
    assert json.loads(command("inspect", "evil", "--json")[1])["topics"][0]["topic"] == EVIL
    assert command("doctor", "evil", "--params", robot, "--set", "weights=untrained")[0] in (0, 1)
    code, _, err = command("inject", "evil", tmp_path / "x", "--fault", "rgb:off@0.1")
    assert code == 0
    out = tmp_path / "[/red]\n\u202e$"
    code, _, err = command(
        "run", "evil", "--out", out, "--params", robot, "--set", "weights=untrained"
    )
    assert code == 0, err
    assert visible(out / "result.json") in err
    html = (out / "report.html").read_text(encoding="utf-8")
    assert "\u202e" not in html and "\x1b" not in html
    rows = json.loads((out / "result.json").read_text())
    assert rows["config"]["streams"]["rgb"]["topic"] == EVIL, "what programs read is not escaped"


def test_names_that_are_no_utf_8_are_read_and_written(command, tmp_path):
    out = tmp_path / BYTES
    code, _, err = command("run", BYTES, "--out", out, "--set", "weights=untrained")
    assert code == 0 and "o\\xff" in err
    (out / "result.json").read_bytes().decode("utf-8")
    (out / "report.html").read_bytes().decode("utf-8")
    assert json.loads((out / "result.json").read_text())["bags"] == ["o\\xff"]
    assert len(list((out / "masks").iterdir())) > 4
    assert (out / "overlay.webm").stat().st_size > 100
    assert command("doctor", BYTES, "--set", "weights=untrained")[0] in (0, 1)
    assert command("extract", BYTES, "--out", out / "e", "--jobs", "1")[0] == 0


def robot_file(tmp_path, **values) -> Path:
    path = tmp_path / "robot.yaml"
    tree = {"streams": {"rgb": {"topic": "/camera/image_raw"}}, "weights": "untrained"} | values
    path.write_text(json.dumps(tree))
    return path


@pytest.mark.parametrize(
    ("file", "word", "option", "used"),
    [
        ({}, None, None, "auto"),
        ({"device": "cuda:7"}, None, None, "cuda:7"),
        ({"device": "cuda:7"}, "cuda:8", None, "cuda:8"),
        ({"device": "cuda:7"}, "cuda:8", "cpu", "cpu"),
        ({"device": "cuda:7"}, None, "cpu", "cpu"),
        ({"device": "cuda:7"}, None, "auto", "auto"),
        ({}, "cuda:8", None, "cuda:8"),
    ],
)
def test_an_option_wins_over_set_over_the_file_over_the_default(
    command, tmp_path, monkeypatch, file, word, option, used
):
    asked = []
    monkeypatch.setattr(
        "robustseg_core.recording.run.engine_of",
        lambda robot: asked.append(robot.device) or (_ for _ in ()).throw(KeyboardInterrupt),
    )
    words = ["run", "b", "--out", tmp_path / "out", "--params", robot_file(tmp_path, **file)]
    words += ["--set", f"device={word}"] if word else []
    words += ["--device", option] if option else []
    assert command(*words)[0] == 130
    assert asked == [used]


@pytest.mark.parametrize(
    ("file", "words", "used"),
    [
        ({}, [], ["weights=untrained"]),
        ({"weights": "mine"}, [], []),
        ({}, ["--set", "weights=mine"], ["weights=mine"]),
        ({"weights": "mine"}, ["--weights", "other"], ["weights=other"]),
        ({"weights": "mine"}, ["--set", "weights=x", "--weights", ""], ["weights=x", "weights=''"]),
    ],
)
def test_the_matrix_takes_weights_that_were_given(
    command, tmp_path, monkeypatch, file, words, used
):
    asked = []

    def run(*_args, overrides, **_more):
        asked.extend(overrides)
        raise KeyboardInterrupt

    monkeypatch.setattr("robustseg_core.robustness.run.run", run)
    path = tmp_path / "robot.yaml"
    path.write_text(json.dumps(file))
    assert command("robustness", "b", "--no-score", "--params", path, *words)[0] == 130
    assert asked == used


@pytest.mark.parametrize(
    "words", [("live", "--params"), ("doctor", "--live", "--params")], ids=lambda words: words[0]
)
def test_without_ros_the_live_commands_say_how_to_install_it(command, tmp_path, monkeypatch, words):
    monkeypatch.setitem(sys.modules, "rclpy", None)
    code, _, err = command(*words, robot_file(tmp_path))
    assert code == 2 and "rclpy is not installed; pip install 'robustseg[ros]'" in err


def test_a_missing_simulator_says_how_to_install_it(command, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", None)
    code, _, err = command("sim", tmp_path / "x.mcap", "--seconds", "1", "--preset", "tiny")
    assert code == 2 and "open3d is not installed; pip install 'robustseg[sim]'" in err


def program(*words, shell: str = "", cwd: Path, **environment) -> subprocess.CompletedProcess:
    """The real program, in a shell where pipes or locales matter."""
    line = [sys.executable, "-m", "robustseg_core.cli", *map(os.fsencode, words)]
    if shell:
        line = ["bash", "-c", shell, "bash", *line]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(line, cwd=cwd, env=env, capture_output=True, timeout=300, check=False)


@pytest.mark.parametrize(
    ("shell", "codes"),
    [
        ('"$@" params | true; exit ${PIPESTATUS[0]}', (0, 141)),
        ('"$@" params > /dev/full', (2,)),
        ('"$@" params >&-', (0,)),
        ('"$@" inspect gone 2>/dev/full', (2,)),
        ('"$@" inspect gone 2>&-', (2,)),
    ],
)
def test_streams_that_end_early_are_no_traceback(place, shell, codes):
    done = program(shell=shell, cwd=place)
    assert done.returncode in codes, done
    assert b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr


def test_a_locale_without_letters_does_not_crash_a_run(place, tmp_path):
    """OpenCV crashed on a name that Python holds with surrogates."""
    out = tmp_path / "größe"
    done = program(
        "run",
        "b",
        "--out",
        str(out),
        "--set",
        "weights=untrained",
        cwd=place,
        LC_ALL="C",
        PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0",
    )
    assert done.returncode == 0, done.stderr
    assert (out / "overlay.webm").stat().st_size > 100 and (out / "report.html").exists()
