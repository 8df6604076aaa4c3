"""`make docs` without mkdocs: every page is in the navigation, every link leads somewhere."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

import robustseg_core
from support import ROOT


def loaded(path: str) -> Any:
    """A script of the repository as a module."""
    place = ROOT / path
    spec = importlib.util.spec_from_file_location(f"{place.stem}_script", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


site = loaded(".make/site.py")
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
DOCS = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}
PAGES = sorted(DOCS | set(site.OUTSIDE))


def entries(nav: Any) -> Iterator[str]:
    """The pages of a navigation, in its order."""
    for value in nav.values() if isinstance(nav, dict) else nav:
        if isinstance(value, str):
            yield value
        else:
            yield from entries(value)


def test_the_navigation_lists_every_page_once_and_nothing_else() -> None:
    listed = list(entries(CONFIG["nav"]))
    assert sorted(listed) == sorted(site.place(page) for page in PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_to_a_page_or_a_file(page: str) -> None:
    wanted: dict[str, str] = {}
    place = site.place(page)
    text = site.led((ROOT / page).read_text(), place, wanted)
    there = {site.place(one) for one in PAGES} | set(wanted)
    there |= {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.*")}
    for number, piece in enumerate(site.CODE.split(text)):
        for _, target, _, _ in site.LINK.findall(piece) if number % 2 == 0 else ():
            if target and not site.ELSEWHERE.match(target):
                folder = site.posixpath.dirname(place)
                assert site.posixpath.normpath(site.posixpath.join(folder, target)) in there
    assert all((ROOT / path).is_file() for path in wanted.values()), "a folder has no copy"


@pytest.mark.parametrize(
    ("page", "text", "led"),
    [
        ("index.md", "[a](docs/adapt.md#once)", "[a](adapt.md#once)"),
        ("index.md", "![a](docs/demo.png)", "![a](demo.png)"),
        ("adapt.md", "[a](../README.md)", "[a](index.md)"),
        ("specs/health.md", "[a](../../training/README.md)", "[a](../training/README.md)"),
        ("training/README.md", "[a](../docs/specs/faults.md)", "[a](../specs/faults.md)"),
        ("adapt.md", "`[a](../README.md)` [b](https://x.org/a.md)", None),
        ("adapt.md", "```\n[a](../no.md)\n```\n[b](#once)", None),
    ],
)
def test_a_link_goes_to_where_the_page_lies_on_the_site(page, text, led) -> None:
    assert site.led(text, page, {}) == (led or text)


def test_what_is_no_page_is_linked_in_the_repository_or_copied(monkeypatch) -> None:
    wanted: dict[str, str] = {}
    monkeypatch.setattr(site, "repository", lambda: "")
    assert site.led("[a](../NOTICE)", "adapt.md", wanted) == "[a](files/NOTICE.txt)"
    assert wanted == {"files/NOTICE.txt": "NOTICE"}
    monkeypatch.setattr(site, "repository", lambda: "https://x.org/r")
    assert site.led("[a](../NOTICE)", "adapt.md", {}) == "[a](https://x.org/r/blob/main/NOTICE)"
    with pytest.raises(FileNotFoundError, match=r"docs/adapt\.md links to \.\./no\.md"):
        site.led("[a](../no.md)", "adapt.md", {})


def test_pipes_in_the_code_of_a_table_lose_the_backslash_that_github_wants() -> None:
    assert site.unescaped("| `a\\|b` | c\\|d |\n`e\\|f`") == "| `a|b` | c\\|d |\n`e\\|f`"


@pytest.mark.parametrize("page", PAGES)
def test_lists_and_tables_begin_after_an_empty_line(page: str) -> None:
    """GitHub does not mind; Python-Markdown makes a paragraph of them."""
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.M | re.S)
    lines = text.splitlines()
    for before, line in itertools.pairwise(lines):
        begins = re.match(r"([*-]|\d+\.) |\|", line)
        goes_on = re.match(r"\s*([*-]|\d+\.) |\||\s+\S|$", before)
        assert goes_on or not begins, f"{page}: put an empty line before: {line}"


def test_the_page_of_python_names_what_there_is_and_all_that_is_public() -> None:
    text = (ROOT / "docs" / "reference" / "python.md").read_text()
    named = re.findall(r"^::: (\S+)$", text, re.M)
    for name in named:
        module, _, attribute = name.rpartition(".")
        if not module.startswith("robustseg_ros"):
            assert getattr(importlib.import_module(module), attribute).__doc__, name
    shown = {name.rpartition(".")[2] for name in named}
    assert set(robustseg_core.__all__) - {"__version__"} <= shown


def test_the_pages_of_reference_are_those_of_the_code() -> None:
    for name, text in loaded("docs/reference/pages.py").pages().items():
        kept = (ROOT / "docs" / "reference" / name).read_text()
        assert kept == text, "run: python docs/reference/pages.py"


def test_an_environment_for_the_docs_gets_what_the_extra_names() -> None:
    install = loaded(".make/install.py")
    assert "mkdocs-material" in install.packages_of("docs")
    pins = (ROOT / "constraints.txt").read_text()
    for name in install.packages_of("docs"):
        assert re.search(rf"^{name.partition('[')[0]}==", pins, re.M), f"{name} has no pin"
