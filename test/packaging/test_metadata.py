"""What setup.py says of the package, without building it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support import ROOT
from support.programs import run_program

TOOLS = {"test", "dev"}
"""Extras that nothing at run time needs."""


def said(folder=ROOT) -> dict[str, Any]:
    """The arguments of `setup(...)`."""
    program = """
        import json, runpy, setuptools
        told = {}
        setuptools.setup = lambda **words: told.update(words)
        runpy.run_path("setup.py")
        del told["cmdclass"]
        print(json.dumps(told))
    """
    return json.loads(run_program(program, cwd=folder).stdout)


@pytest.fixture(scope="module")
def metadata():
    return said()


def names(requirements):
    return {canonicalize_name(Requirement(line).name) for line in requirements}


def test_every_dependency_is_explained_and_nothing_else(metadata):
    needed = names(metadata["install_requires"])
    for extra, lines in metadata["extras_require"].items():
        needed |= names(lines) if extra not in TOOLS else set()
    page = (ROOT / "docs" / "dependencies.md").read_text()
    first, second = page.split("| extra |")
    rows = [row for row in first.splitlines() if row.startswith("| `")]
    explained = [re.findall(r"`([\w.-]+)`", row.split("|")[1]) for row in rows]
    rows = [row for row in second.splitlines() if row.startswith("| ") and "`test`" not in row]
    explained += [re.findall(r"`([\w.-]+)`", row.split("|")[2]) for row in rows]
    assert {canonicalize_name(name) for row in explained for name in row} == needed
    for extra in metadata["extras_require"]:
        assert f"`{extra}`" in second


def test_the_classifiers_name_the_pythons_that_are_supported(metadata):
    words = metadata["classifiers"]
    assert len(set(words)) == len(words) and "Typing :: Typed" in words
    pythons = [word.rpartition(" ")[2] for word in words if re.search(r":: 3\.\d+$", word)]
    assert pythons[0] == metadata["python_requires"].lstrip(">=")
    assert f"Python {pythons[0]} to {pythons[-1]}" in (ROOT / "README.md").read_text()
    assert not any(word.startswith("License") for word in words), "PEP 639: `license` says it"


def test_the_links_are_those_of_the_manifest(tmp_path):
    for name in ("setup.py", "requirements-robot.txt", "README.md"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "launch").mkdir()
    (tmp_path / "config").mkdir()
    home = "https://example.org/robustseg"
    urls = f'<url type="repository">{home}</url><url type="bugtracker">{home}/issues</url>'
    text = (ROOT / "package.xml").read_text()
    (tmp_path / "package.xml").write_text(text.replace("</maintainer>", f"</maintainer>{urls}"))
    told = said(tmp_path)
    links = told["project_urls"]
    assert links["Source"] == home and links["Issues"] == f"{home}/issues"
    assert links["Changelog"].startswith(home)
    page = told["long_description"]
    assert f"]({home}/raw/main/docs/demo.png)" in page
    assert f"[Get started]({home}/blob/main/docs/get_started.md)" in page
    assert all("://" in target for target in re.findall(r"\]\(([^)]+)\)", page))


def test_without_an_address_the_page_on_pypi_has_no_link_to_nowhere(metadata):
    assert "<url" not in re.sub("<!--.*?-->", "", (ROOT / "package.xml").read_text(), flags=re.S)
    page = metadata["long_description"]
    assert not re.findall(r"\]\((?!https?://)", page) and "demo.png" not in page
    assert "Get started" in page
