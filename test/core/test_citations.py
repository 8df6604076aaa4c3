"""Whatever the code and its pages cite can be opened by who reads them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from support import ROOT

KINDS = {".py", ".md", ".yaml", ".yml", ".toml", ".cfg", ".xml", ".j2"}
NOT_OURS = {".venv", "out", "build", "install", "log", "dist", ".git"}
WORKING_NOTES = re.compile(
    "|".join(
        (
            r"ros_anchor" "s",
            r"style_anchor" "s",
            r"anchors_20\d\d",
            r"robustseg_rmms" "s",
            r"anyseg_any2se" "g",
            r"anyseg \d",
            r"datasets_and_protocol" "s",
            r"\.\./shared/(?!realdata)",
            r"\bmethods/\w+\.md",
            r"design\.m" "d",
        )
    )
)
"""Notes that the project was begun with; they are not in the repository."""
PAGE = re.compile(r"(?<![\w/.:-])((?:[\w.-]+/)*[\w-]+\.md)\b")
"""A page of ours, by its path; a link to another site has a colon and slashes before it."""
MADE_AT_RUN_TIME = {"table.md", "robustness.md"}


def files() -> list[Path]:
    """Text files of the project: what git tracks, or, outside of git, what lies there."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = (
        [ROOT / name for name in listed.stdout.split("\0") if name]
        if listed.returncode == 0
        else [p for p in ROOT.rglob("*") if not NOT_OURS & set(p.relative_to(ROOT).parts)]
    )
    return sorted(p for p in found if p.is_file() and (p.suffix in KINDS or p.name == "Makefile"))


def test_there_is_something_to_read() -> None:
    assert len(files()) > 200


def test_no_working_note_is_cited() -> None:
    cited = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if WORKING_NOTES.search(line)
    ]
    assert not cited, "\n".join(cited)


@pytest.mark.parametrize("kind", [".py", ".md", ".yaml"])
def test_every_page_that_is_named_is_there(kind: str) -> None:
    lost, known = [], {path.name for path in files()}
    for path in files():
        if path.suffix != kind:
            continue
        for name in PAGE.findall(re.sub(r"https?://\S+", "", path.read_text())):
            if name in known | MADE_AT_RUN_TIME:
                continue
            if not any((folder / name).exists() for folder in (ROOT, path.parent)):
                lost.append(f"{path.relative_to(ROOT)}: {name}")
    assert not lost, "\n".join(lost)
