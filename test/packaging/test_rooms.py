"""Who may import whom: the contract in pyproject.toml is checked, and bites."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT

pytestmark = pytest.mark.slow

PLANTED = {
    "upward": ("robustseg_core/sync/rate.py", "from robustseg_core import segmenter"),
    "hidden in a function": (
        "robustseg_core/models/head.py",
        "def f():\n    from robustseg_core.learn import fit",
    ),
    "ROS": ("robustseg_core/output/messages.py", "import robustseg_ros.qos"),
    "circle": ("robustseg_core/sync/rate.py", "import robustseg_core.sync.buffer"),
    "new room without a place": ("robustseg_core/attic.py", ""),
}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    for package in ("robustseg_core", "robustseg_ros"):
        shutil.copytree(
            ROOT / package,
            folder / package,
            ignore=lambda _, names: [
                name for name in names if name.endswith((".safetensors", ".pyc"))
            ],
        )
    return run(folder)


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            Path(sys.executable).with_name("lint-imports"),
            "--no-cache",
            "--config",
            ROOT / "pyproject.toml",
        ],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_import_is_found(name, tmp_path):
    assert lint(tmp_path).returncode == 0
    path, line = PLANTED[name]
    with (tmp_path / path).open("a") as file:
        file.write(f"\n{line}\n")
    done = run(tmp_path)
    assert done.returncode != 0, done.stdout
    assert "BROKEN" in done.stdout or "attic" in done.stdout


def test_no_test_imports_from_another_test():
    """What two of them need lies in test/support."""
    shared = re.compile(r"^(?:from|import) (?:[\w.]+\.)?test_\w+", re.M)
    found = [p.name for p in (ROOT / "test").rglob("*.py") if shared.search(p.read_text())]
    assert not found
