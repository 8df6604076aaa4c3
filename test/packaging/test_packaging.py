"""One tree for pip and colcon: what each of them installs, from a copy of the tracked files."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from xml.etree import ElementTree

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support import ROOT

MANIFEST = ElementTree.parse(ROOT / "package.xml").getroot()
VERSION = MANIFEST.findtext("version")
BIN = Path(sys.executable).parent

pytestmark = pytest.mark.packaging


def run(*words, cwd: Path, first: Path = BIN) -> str:
    """What a program prints, with the programs of `first` first on the path."""
    environment = {**os.environ, "PATH": f"{first}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=environment, text=True, capture_output=True
    )
    assert done.returncode == 0, f"{words} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def interpreter(venv: Path) -> Path:
    """The `bin` of another Python with the same packages, which writes down what it starts."""
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=venv.parent)
    site = next(venv.glob("lib/*/site-packages"))
    (site / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (site / "sitecustomize.py").write_text(
        f"import sys\nprint(*sys.orig_argv, file=open({str(venv / 'started')!r}, 'a'))\n"
    )
    return venv / "bin"


def first_lines(folder: Path) -> set[str]:
    return {path.read_text().splitlines()[0] for path in folder.iterdir()}


@pytest.fixture
def tree(tmp_path) -> Path:
    """The project as a fresh clone has it."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git checkout: which files belong to the project is unknown")
    copy = tmp_path / "src" / "robustseg"
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    return copy


def wheel_of(source: Path, where: Path) -> zipfile.ZipFile:
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        where,
        source,
        cwd=where,
    )
    return zipfile.ZipFile(next(where.glob("robustseg-*.whl")))


def check_wheel(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert {name.split("/")[0] for name in names} == {
        "robustseg_core",
        "robustseg_ros",
        f"robustseg-{VERSION}.data",
        f"robustseg-{VERSION}.dist-info",
    }
    data = f"robustseg-{VERSION}.data/data/share"
    for program in ("robustseg", "segment_node", "play_node", "fault_node"):
        assert f"robustseg-{VERSION}.data/data/lib/robustseg/{program}" in names
    for shared in (
        "ament_index/resource_index/packages/robustseg",
        "robustseg/package.xml",
        "robustseg/launch/robustseg.launch.py",
        "robustseg/config/robot.yaml",
    ):
        assert f"{data}/{shared}" in names
    assert "robustseg_core/output/report.html.j2" in names
    assert {"robustseg_core/py.typed", "robustseg_ros/py.typed"} <= set(names)
    assert not [name for name in names if "__pycache__" in name]
    metadata = wheel.read(f"robustseg-{VERSION}.dist-info/METADATA").decode()
    assert f"Version: {VERSION}" in metadata
    for extra in ("ros", "sim", "engines", "cluster", "dev"):
        assert f"Provides-Extra: {extra}" in metadata
    scripts = wheel.read(f"robustseg-{VERSION}.dist-info/entry_points.txt").decode()
    for command in ("robustseg = ", "segment_node = ", "play_node = "):
        assert command in scripts


def test_pip_installs_the_two_packages_and_nothing_else(tree, tmp_path):
    (tmp_path / "wheel").mkdir()
    wheel = wheel_of(tree, tmp_path / "wheel")
    check_wheel(wheel)
    # Unlike colcon's, pip's executables belong to the environment that they are in.
    run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-index",
        "--ignore-installed",
        "--prefix",
        tmp_path / "prefix",
        wheel.filename,
        cwd=tmp_path,
    )
    prefix = tmp_path / "prefix"
    assert first_lines(prefix / "bin") == {f"#!{sys.executable}"}
    # `ros2 run` looks into lib/robustseg, which a wheel's scripts are not in.
    for program in (prefix / "lib" / "robustseg").iterdir():
        assert os.access(program, os.X_OK)
    assert "Usage: robustseg" in run(prefix / "lib/robustseg/robustseg", "--help", cwd=tmp_path)


def test_pip_installs_what_rosdep_and_the_list_for_robots_bring():
    keys = {depend.text for depend in MANIFEST.iter("exec_depend")}
    lines = (ROOT / "requirements-robot.txt").read_text().splitlines()
    by_pip = {Requirement(line).name for line in lines if line and not line.startswith("#")}
    known = {"python3-opencv": "opencv-python-headless", "python3-pil": "pillow"}
    by_apt = {known.get(k, k.removeprefix("python3-")) for k in keys if k.startswith("python3-")}
    installed = {
        canonicalize_name(Requirement(line).name)
        for line in distribution("robustseg").requires or ()
        if "extra ==" not in line
    }
    assert not by_pip & by_apt
    assert installed == {canonicalize_name(n) for n in by_pip | by_apt} - {"yaml"} | {"pyyaml"}


def test_every_package_that_the_code_imports_is_asked_for():
    """Of ROS's, by name; test_rooms.py has the others."""
    keys = {depend.text for depend in MANIFEST.iter("exec_depend")}
    asked = set()
    for path in (*(ROOT / "robustseg_ros").rglob("*.py"), *(ROOT / "launch").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                asked |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                asked.add(node.module.partition(".")[0])
    ours = {"robustseg_core", "robustseg_ros"}
    python = {key.removeprefix("python3-") for key in keys} | {"rosbags", "typer", "yaml"}
    assert asked - ours - set(sys.stdlib_module_names) - python <= keys


def test_an_sdist_installs_the_same(tree, tmp_path):
    (tmp_path / "wheel").mkdir()
    run(sys.executable, "setup.py", "-q", "sdist", "-d", tmp_path / "sdist", cwd=tree)
    check_wheel(wheel_of(next((tmp_path / "sdist").glob("*.tar.gz")), tmp_path / "wheel"))


def test_colcon_knows_it_as_an_ament_python_package_builds_and_tests_it(tree, tmp_path):
    workspace = tmp_path
    listed = run("colcon", "list", "--base-paths", "src", cwd=workspace)
    assert listed.split() == ["robustseg", "src/robustseg", "(ros.ament_python)"]
    run("colcon", "build", "--base-paths", "src", cwd=workspace)
    prefix = workspace / "install" / "robustseg"
    for program in ("segment_node", "play_node", "robustseg"):
        assert os.access(prefix / "lib" / "robustseg" / program, os.X_OK)
    assert (prefix / "share/robustseg/launch/robustseg.launch.py").is_file()
    assert (prefix / "share/ament_index/resource_index/packages/robustseg").is_file()
    site = next(prefix.rglob("robustseg_core")).parent
    packages = {p.name for p in site.iterdir() if p.is_dir() and "info" not in p.name}
    assert packages - {"__pycache__"} == {"robustseg_core", "robustseg_ros"}
    # The whole suite under colcon would run this test again: a file of it shows that it can.
    run(
        "colcon",
        "test",
        "--base-paths",
        "src",
        "--return-code-on-test-failure",
        "--pytest-args",
        "test/core/test_plugins.py",
        cwd=workspace,
    )
    summary = run("colcon", "test-result", cwd=workspace)
    assert "0 failures" in summary and "Summary: 0 tests" not in summary


@pytest.mark.parametrize("how", [(), ("--symlink-install",)], ids=["copied", "linked"])
def test_what_colcon_built_with_one_python_starts_with_another(tree, tmp_path, how):
    """The Python that built it is gone: a moved workspace, a new virtual environment."""
    builder = interpreter(tmp_path / "builder")
    run(
        builder / "python",
        "-c",
        "from colcon_core.command import main; main()",
        "build",
        "--base-paths",
        "src",
        *how,
        cwd=tmp_path,
        first=builder,
    )
    assert f"{builder}/python" in (tmp_path / "builder" / "started").read_text()
    programs = tmp_path / "install" / "robustseg" / "lib" / "robustseg"
    assert first_lines(programs) == {"#!/usr/bin/env python3"}
    shutil.rmtree(tmp_path / "builder")
    other = interpreter(tmp_path / "other")
    start = f". install/setup.sh && {programs}/robustseg --help"
    assert "Usage: robustseg" in run("sh", "-c", start, cwd=tmp_path, first=other)
    assert f"python3 {programs}/robustseg" in (tmp_path / "other" / "started").read_text()
