"""The commands of README and docs: each is one that there is, and each is run, or says why not."""

from __future__ import annotations

import glob
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from robustseg_core.cli import entry
from support import ROOT
from support.drives import truths, write_drive

PAGES = [
    "README.md",
    "training/README.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
]
SECONDS = 6.0
"""Length of the drive; the pages kill sensors up to second 5."""
ROBOTS = "ros2|rosdep|colcon|docker|pixi|pip|sudo|mkdir|touch|export|source /opt|python3|fault_node"
ELSEWHERE = {
    r"make |source \.venv": (
        "the suite is `make test`; `make demo` is run by hand for a release (docs/releasing.md), "
        "test/ros/test_demo.py has its parts"
    ),
    rf"({ROBOTS})\b": "a robot's: what of it was run, docs/robot/README.md says at its end",
    r"git clone ": "fetches from elsewhere",
    r"robustseg (live|inspect --live|doctor --live)": "a robot's; test/ros runs what they start",
    r"robustseg --(install|show)-completion": "is about the shell that it is typed in",
    r".*--device cuda:1": "needs two GPUs; test/core/cli/test_everywhere.py",
    r"robustseg sim ": "minutes of ray casting; test/core/sim makes shorter drives",
    r"robustseg robustness (?!.*--rows 1,5,20 )": "up to hours; docs/first_hour.md runs three rows",
    r"robustseg (extract|label|train|embed|calibrate|eval|import) ": (
        "trains, or wants published files; test/core/test_readme.py runs those of docs/train.md, "
        "test/replay/test_training_chain.py those of training/README.md on short drives"
    ),
    r"robustseg (bench|export) ": "minutes; test/core/cli/test_engine_commands.py",
    r"robustseg adapt |robustseg run wednesday": "wants a teacher; test/core/learn/test_adapt.py",
    r".*\b(true|student)\.safetensors": "wants a student of the reader's",
    r"robustseg run street\.mp4": "a video of the reader's; test/core/bag/test_pictures.py",
    r"robustseg explain fault_2026": "a robot's file; docs/specs/black_box.md makes one",
    r"(NUMBA_\w+=\S+ )*python (test/fuzz|test/bench|training)/": (
        "up to hours; test/fuzz has short ones"
    ),
    r"(official|for|robustseg eval \$name|done)\b": "wants published files",
}
"""How a line begins that is not run here -> why, and who runs it."""


def lines(page: str) -> Iterator[str]:
    """Commands of a page's blocks of shell, continued ones joined, comments gone."""
    for block in re.findall(r"^```bash\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            if words := re.sub(r"(^|\s)#.*", "", line).strip():
                yield words


def run_here(line: str) -> bool:
    return not any(re.match(pattern, line) for pattern in ELSEWHERE)


def arguments(line: str) -> list[str]:
    """What the shell would hand to `robustseg` of one line; no pipe, no redirection."""
    words = shlex.split(re.split(r"\s[>|]\s", line)[0])[1:]
    return [found for word in words for found in sorted(glob.glob(word)) or [word]]


SHOWN = [(page, line) for page in PAGES for line in lines(page)]
TO_RUN = sorted({page for page, line in SHOWN if run_here(line)})


def test_a_line_is_run_or_says_why_not() -> None:
    strange = [line for _, line in SHOWN if run_here(line) and not line.startswith("robustseg ")]
    assert not strange, "write in ELSEWHERE who runs them"
    for pattern in ELSEWHERE:
        assert any(re.match(pattern, line) for _, line in SHOWN), f"no line begins so: {pattern}"


@pytest.mark.parametrize("page", sorted({page for page, line in SHOWN if "robustseg " in line}))
def test_every_command_and_option_is_one_that_there_is(page: str) -> None:
    """Of what is not run here, too."""
    app = typer.main.get_command(entry.app)
    for line in lines(page):
        if not line.startswith("robustseg ") or line.startswith("robustseg -"):
            continue
        name, *words = arguments(line)
        command = app.get_command(None, name)
        assert command is not None, line
        known = {text for p in command.params for text in (*p.opts, *p.secondary_opts)}
        used = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert used <= known, f"{line}: {used - known}"


@pytest.fixture(scope="module")
def drive(tmp_path_factory) -> Path:
    bag = write_drive(tmp_path_factory.mktemp("bag") / "drive", SECONDS, truths(SECONDS))
    return next(bag.glob("*.mcap"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", TO_RUN)
def test_the_commands_of_a_page_run_one_after_the_other(page, drive, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(drive, "drive.mcap")
    told = CliRunner().invoke(entry.app, ["inspect", "drive.mcap"])
    Path("robot.yaml").write_text(told.stdout)
    for line in filter(run_here, lines(page)):
        done = CliRunner().invoke(entry.app, arguments(line))
        assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception!r}"
        if "--json" in line:
            json.loads(done.stdout)
        if kept := re.search(r"\s> (\S+)", line):
            Path(kept[1]).write_text(done.stdout)
