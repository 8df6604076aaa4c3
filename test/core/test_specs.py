"""The pages in docs/specs say what the code does: every constant is there, with its value."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import robustseg_core.health
import robustseg_core.sync
from robustseg_core import datasets, distill, modalities
from robustseg_core.config import HealthConfig, StreamConfig, SyncConfig
from robustseg_core.models import mit
from support import ROOT

SPECS = ROOT / "docs" / "specs"
GROUPS = {"health": HealthConfig, "sync": SyncConfig, "streams": StreamConfig}
UNITS = {"ms": 1e6, "s": 1e9}
"""Of constants in nanoseconds, as people read them."""
NAMES = {"topic", "camera_info", "transport", "rectified", "enabled", "mode", "limits"}
"""Fields of a stream that are no constants of the synchronizer."""


def table(page: str) -> dict[str, tuple[str, str]]:
    """Constant -> (value, unit), of every row that begins with one in code letters."""
    row = re.compile(r"^\| `(\w+\.[\w.]+)` \|([^|]+)\|([^|]*)\|", re.M)
    rows = row.findall((SPECS / page).read_text())
    assert len(rows) == len({name for name, *_ in rows}), "a constant stands there twice"
    return {name: (value.strip(), unit.strip()) for name, value, unit in rows}


def value_of(name: str) -> Any:
    """What the code has: a field's default, or a module's constant."""
    group, _, field = name.partition(".")
    if field.islower() and "." not in field:
        model = GROUPS[group] if group in GROUPS else modalities.limits_of(group)
        default = model.model_fields[field].default
        return default if name != "sync.reference" else modalities.ranked()
    module, _, constant = name.rpartition(".")
    return getattr(importlib.import_module(f"robustseg_core.{module}"), constant)


def shown(name: str, unit: str) -> Any:
    value = value_of(name)
    if name.endswith("_NS"):
        return value / UNITS[unit]
    return value


def read(text: str) -> Any:
    """A value as the tables write it."""
    if text in ("unset", "true", "false"):
        return {"unset": None, "true": True, "false": False}[text]
    parts = text.split(", ")
    numbers = all(re.fullmatch(r"-?\d+(\.\d+)?", part) for part in parts)
    values = tuple(float(part) if numbers else part for part in parts)
    return values if len(values) > 1 else values[0]


def constants(package: Any, modules: str = r".*") -> Iterator[str]:
    """Numbers in capital letters that the modules of a package assign."""
    for info in pkgutil.iter_modules(package.__path__):
        if not re.fullmatch(modules, info.name):
            continue
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        tree = ast.parse(Path(str(module.__file__)).read_text())
        for node in tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            names = [n for t in targets for n in (t.elts if isinstance(t, ast.Tuple) else [t])]
            for name in (n.id for n in names if isinstance(n, ast.Name)):
                value = getattr(module, name)
                parts = value if isinstance(value, tuple) else (value,)
                if (
                    len(name) > 1
                    and name.isupper()
                    and all(
                        isinstance(float(p) if hasattr(p, "dtype") else p, (int, float))
                        for p in parts
                    )
                ):
                    yield f"{module.__name__.removeprefix('robustseg_core.')}.{name}"


HEALTH = {
    *(f"health.{field}" for field in HealthConfig.model_fields),
    *(f"{m}.{f}" for m in modalities.available() for f in modalities.limits_of(m).model_fields),
    *constants(robustseg_core.health),
    *constants(modalities, r"_\w+_(checks|creep|steps)"),
    "types.ALARM",
}
SYNC = {
    *(f"sync.{field}" for field in SyncConfig.model_fields),
    *(f"streams.{field}" for field in StreamConfig.model_fields if field not in NAMES),
    *constants(robustseg_core.sync),
}


@pytest.mark.parametrize(
    ("page", "wanted"),
    [("health.md", HEALTH), ("synchronizer.md", SYNC)],
    ids=["health", "synchronizer"],
)
def test_every_constant_is_on_its_page(page: str, wanted: set[str]) -> None:
    assert set(table(page)) == wanted


@pytest.mark.parametrize("page", ["health.md", "synchronizer.md"])
def test_every_value_is_the_code_s(page: str) -> None:
    for name, (text, unit) in table(page).items():
        written, real = read(text), shown(name, unit)
        if isinstance(real, (int, float)) and not isinstance(real, bool):
            assert written == pytest.approx(real, rel=1e-4), name
        else:
            assert written == real, name


def rows_of(page: str, name: str) -> list[list[str]]:
    """Cells of the rows that begin with one of these words in code letters."""
    text = (SPECS / page).read_text()
    found = re.findall(rf"^\| `({name})` \|(.*)\|$", text, re.M)
    return [[first, *(cell.strip() for cell in rest.split(" | "))] for first, rest in found]


def test_the_backbones_are_the_code_s() -> None:
    rows = rows_of("network.md", "tiny|b\\d")
    assert [row[0] for row in rows] == list(mit.BACKBONES)
    for name, *cells in rows:
        have = mit.BACKBONES[name]
        numbers = [tuple(map(int, cell.split(", "))) for cell in cells]
        assert numbers == [have.channels, have.depths, have.heads]


def test_the_losses_have_the_weights_of_the_code() -> None:
    rows = rows_of("network.md", "|".join(distill.available()))
    assert sorted(row[0] for row in rows) == distill.available()
    for name, *_, default in rows:
        term = distill.load(name)()
        weights = getattr(term.options, "stage_weights", (term.weight(classes=25),))
        assert tuple(map(float, re.findall(r"\d+\.\d+", default))) == weights, name


def test_the_datasets_are_those_that_there_are() -> None:
    text = (SPECS / "datasets.md").read_text()
    assert sorted(re.findall(r"^## .*\(`(\w+)`\)$", text, re.M)) == datasets.available()
    for name in datasets.available():
        section = text.partition(f"(`{name}`)")[2].partition("\n## ")[0]
        options = datasets.load(name).Options.model_fields
        for option in re.findall(r"`(legacy_\w+|\w+_size|nearest_m|cache)`", section):
            assert option in options, f"{name} has no option {option}"


PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "training" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    if page.parent == SPECS:
        for name in re.findall(r"`((?:health|sync|streams)\.[\w.]+)`", text):
            value_of(name)
    roots = "robustseg_core|robustseg_ros|docs|config|test|training|launch"
    for path in re.findall(rf"`((?:{roots})/[\w/.-]*\w/?)`", text):
        assert (ROOT / path).exists(), f"{page.name} names {path}"
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_the_rooms_of_the_page_are_the_linted_ones() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    layers = re.findall(r'"([^"]+)"', text.partition("layers = [")[2].partition("]")[0])
    linted = [layer.replace(" |", "") for layer in layers]
    block = (ROOT / "CONTRIBUTING.md").read_text().partition("From the top:")[2].split("```")[1]
    assert [" ".join(part.split()) for part in re.split(r"·|\n", block.strip())] == linted


@pytest.mark.slow
def test_the_figure_is_what_the_synchronizer_does(tmp_path: Path) -> None:
    again = tmp_path / "again.svg"
    subprocess.run([sys.executable, SPECS / "timeline.py", again], check=True, cwd=ROOT)
    points = [
        re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"', path.read_text())
        for path in (again, SPECS / "synchronizer.svg")
    ]
    assert points[0] == points[1], "run: python docs/specs/timeline.py"
