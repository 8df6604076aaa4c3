"""Who may import whom: the contract in pyproject.toml is checked, and bites."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
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
    "the front door": ("robustseg_core/sync/rate.py", "from robustseg_core import load"),
    "the front door, whole": ("robustseg_core/bag/files.py", "import robustseg_core"),
    "for types": (
        "robustseg_core/sync/rate.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
        "    from robustseg_core.segmenter import Segmenter",
    ),
    "circle": ("robustseg_core/sync/rate.py", "import robustseg_core.sync.buffer"),
    "a node that learns": ("robustseg_ros/qos.py", "from robustseg_core.learn import fit"),
    "a node with a network of its own": (
        "robustseg_ros/segment_node.py",
        "def f():\n    from robustseg_core.models import checkpoint",
    ),
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


LIBRARIES = {
    *("PIL", "backports", "cv2", "h5py", "hdf5plugin", "huggingface_hub", "jinja2", "lightning"),
    *("lz4", "markupsafe", "matplotlib", "numba", "numpy", "onnx", "onnxruntime", "open3d"),
    *("openvino", "pydantic", "ray", "rerun", "rich"),
    *("rosbags", "safetensors", "torch", "typer", "typing_extensions", "yaml"),
}
"""What the core may import from outside. rosbags reads recordings, and is no part of ROS."""


def outside(file: Path) -> Iterator[str]:
    """Packages that a file imports, wherever in it, which are neither Python's nor ours."""
    for node in ast.walk(ast.parse(file.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        tops = {name.partition(".")[0] for name in names}
        yield from tops - {*sys.stdlib_module_names, "robustseg_core", "compression"}


def test_the_core_imports_known_libraries_and_nothing_of_ros():
    found = {name for file in (ROOT / "robustseg_core").rglob("*.py") for name in outside(file)}
    assert found <= LIBRARIES


def banned(lines: str, place: str = "robustseg_core/sync/rate.py") -> list[str]:
    """What ruff says of these lines in the core."""
    done = subprocess.run(
        [
            Path(sys.executable).with_name("ruff"),
            "check",
            "--select=TID251",
            "--output-format=concise",
            f"--stdin-filename={place}",
            "-",
        ],
        cwd=ROOT,
        input=lines,
        capture_output=True,
        text=True,
        check=False,
    )
    return [line for line in done.stdout.splitlines() if "TID251" in line]


def test_every_package_of_ros_that_the_node_imports_is_banned_in_the_core():
    files = [*(ROOT / "robustseg_ros").rglob("*.py"), *(ROOT / "launch").rglob("*.py")]
    names = {name for file in files for name in outside(file)} - LIBRARIES
    assert {"rclpy", "sensor_msgs", "launch_ros", "robustseg_ros"} <= names
    names |= {"geometry_msgs", "nav_msgs", "rosbag2_py", "rosidl_runtime_py", "ament_index_python"}
    for line in (f"import {name}.x" for name in sorted(names)):
        assert len(banned(line)) == 1, line
    assert not banned("import rclpy", "robustseg_ros/qos.py")


def test_no_test_imports_from_another_test():
    """What two of them need lies in test/support."""
    shared = re.compile(r"^(?:from|import) (?:[\w.]+\.)?test_\w+", re.M)
    found = [p.name for p in (ROOT / "test").rglob("*.py") if shared.search(p.read_text())]
    assert not found
