"""Whatever the code and its pages cite can be opened by who reads them."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from support import ROOT

KINDS = {".py", ".md", ".yaml", ".yml", ".toml", ".cfg", ".xml", ".j2"}
NOT_OURS = {".venv", ".venv-docs", "out", "build", "install", "log", "dist", ".git"}
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
CODE = re.compile(r"(?<![\w/.:*{<-])((?:[\w.-]+/)*\w+\.py)\b(?!\.)")
"""A file of code, by its path."""
ANCHOR = re.compile(r"(?:(?<![\w/.:-])|\]\()((?:[\w.-]+/)*[\w-]+\.md)#([\w-]+)|\]\(()#([\w-]+)\)")
"""A heading of a page, as links name it; without a page, of the same one."""
MADE_AT_RUN_TIME = {"bench.md", "robustness.md", "severities.md", "table.md"}
OTHERS = {
    "package/name.py",
    "mix_transformer.py",
    "segformer_head.py",
    "rs_launch.py",
    "msg_MID360_launch.py",
    "navigation_launch.py",
}
"""A plug-in in general, released code of SegFormer, and what drivers and Nav2 launch."""
OF_OTHERS = Path("test/data/golden/README.md")
"""Says which files of released code made the figures."""
OF_THE_SITE = {ROOT / ".make/site.py", ROOT / "test/core/test_site.py", ROOT / "mkdocs.yml"}
"""Name pages by where they lie on the site; `test/core/test_site.py` looks that they are there."""
ROOTS = ("", "robustseg_core", "robustseg_core/models", "robustseg_ros", "test")
"""Where a path may begin that a text names."""


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
        if path.suffix != kind or path in OF_THE_SITE:
            continue
        for name in PAGE.findall(re.sub(r"https?://\S+", "", path.read_text())):
            if name in known | MADE_AT_RUN_TIME:
                continue
            if not any((folder / name).exists() for folder in (ROOT, path.parent)):
                lost.append(f"{path.relative_to(ROOT)}: {name}")
    assert not lost, "\n".join(lost)


def prose(path: Path) -> str:
    """What a file says to people: a page, or the docstrings and comments of code; no links away."""
    text = path.read_text()
    if path.suffix == ".py":
        lines = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Expr))
        strings = [str(line.value) for line in lines if isinstance(line, ast.Constant)]
        text = "\n".join([*strings, *re.findall(r"#.*", text)])
    return re.sub(r"https?://\S+", "", text)


def found(name: str, path: Path) -> bool:
    return any((folder / name).exists() for folder in (*(ROOT / r for r in ROOTS), path.parent))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [".py", ".md", ".yaml", ".toml"])
def test_every_file_of_code_that_is_named_is_there(kind: str) -> None:
    known = {path.name for path in files()}
    lost = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in files()
        if path.suffix == kind and path != ROOT / OF_OTHERS
        for name in CODE.findall(prose(path))
        if not (name in known | OTHERS or found(name, path))
    ]
    assert not lost, "\n".join(lost)


def headings(page: Path) -> set[str]:
    """What may stand behind `#` in a link to this page, as GitHub makes it of its headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [".py", ".md"])
def test_every_heading_that_is_named_is_there(kind: str) -> None:
    lost = []
    for path in files():
        if path.suffix != kind or path in OF_THE_SITE:
            continue
        for match in ANCHOR.finditer(prose(path)):
            name, anchor = match[1] or "", match[2] or match[4]
            places = [path.parent / name, ROOT / name] if name else [path]
            page = next((place for place in places if place.exists()), None)
            if page is None or anchor not in headings(page):
                lost.append(f"{path.relative_to(ROOT)}: {name}#{anchor}")
    assert not lost, "\n".join(lost)
