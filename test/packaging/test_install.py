"""`make install`: .make/install.py, with real uv and pip, on a small project without a network."""

from __future__ import annotations

import ensurepip
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from support import ROOT

SCRIPT = ROOT / ".make" / "install.py"
UV = shutil.which("uv", path=f"{sys.prefix}/.uv/bin{os.pathsep}{os.environ['PATH']}")

pytestmark = [pytest.mark.packaging, pytest.mark.slow]

BACKEND = """
import zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "small-1-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        for file, text in {
            "METADATA": "Metadata-Version: 2.1\\nName: small\\nVersion: 1\\n"
            "Requires-Dist: torch>=2.2\\n"
            "Provides-Extra: ros\\nRequires-Dist: lib; extra == 'ros'\\n",
            "WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
            "RECORD": "",
        }.items():
            wheel.writestr(f"small-1.dist-info/{file}", text)
    return name
"""


def make_wheel(folder: Path, name: str, version: str) -> None:
    """A package that holds nothing but its version."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        info = f"{name}-{version}.dist-info"
        wheel.writestr(f"{name}/__init__.py", f"__version__ = {version!r}\n")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(
            f"{info}/RECORD", f"{name}/__init__.py,,\n{info}/METADATA,,\n{info}/RECORD,,\n"
        )


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> Path:
    """A folder for `--find-links`, with pip itself and a torch for the CPU."""
    folder = tmp_path_factory.mktemp("wheels")
    torches = (("torch", "2.13.0+cpu"), ("torch", "2.14.0"))
    others = (("setuptools", "79.0.1"), ("wheel", "0.48.0"), ("lib", "1.0"), ("lib", "2.0"))
    for name, version in (*torches, *others):
        make_wheel(folder, name, version)
    for bundled in (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"):
        shutil.copy(bundled, folder)
    return folder


@pytest.fixture
def project(tmp_path) -> Path:
    """A project of one backend and two dependencies, pinned, in a folder with a blank."""
    project = tmp_path / "a project"
    (project / ".make").mkdir(parents=True)
    shutil.copy(SCRIPT, project / ".make")
    (project / "constraints.txt").write_text("torch==2.13.0\nuv==0.13.9\nlib==1.0\n")
    (project / "pyproject.toml").write_text(
        '[project]\nname = "small"\nversion = "1"\n'
        'dynamic = ["dependencies", "optional-dependencies"]\n'
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (project / "backend.py").write_text(BACKEND)
    return project


def install(project: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script under no settings but these."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "UV_", "PYTHON"))}
    alone = {"PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1"}
    return subprocess.run(
        [sys.executable, ".make/install.py", ".venv", "ros"],
        cwd=project,
        text=True,
        capture_output=True,
        env={**kept, **alone, **environment},
    )


def versions(project: Path) -> dict[str, str]:
    listed = subprocess.run(
        [
            project / ".venv/bin/python",
            "-m",
            "pip",
            "--disable-pip-version-check",
            "list",
            "--format",
            "json",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return {entry["name"]: entry["version"] for entry in json.loads(listed.stdout)}


def fake_uv(folder: Path, code: str) -> str:
    """A program in uv's place, which notes its words and environment, and then does `code`."""
    program = folder / "uv"
    program.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        f"with open({str(folder / 'calls')!r}, 'a') as calls:\n"
        f"    print(json.dumps([sys.argv[1:], dict(os.environ)]), file=calls)\n{code}\n"
    )
    program.chmod(0o755)
    return str(program)


def calls(folder: Path) -> list[tuple[list[str], dict[str, str]]]:
    return [tuple(json.loads(line)) for line in (folder / "calls").read_text().splitlines()]


HOW = [pytest.param("uv", marks=pytest.mark.skipif(not UV, reason="no uv here")), "pip"]


@pytest.mark.parametrize("how", HOW)
def test_uv_and_pip_make_the_same_environment(project, wheels, how):
    users = project / ".venv" / "notes.txt"
    users.parent.mkdir()
    users.write_text("mine")
    uv = UV if how == "uv" else "false"
    done = install(project, UV=uv, PIP_FIND_LINKS=str(wheels), PIP_NO_INDEX="1")
    assert done.returncode == 0, done.stdout + done.stderr
    found = versions(project)
    # The constraint `torch==2.13.0` accepts a build with a local version, when there is no other.
    assert (found["torch"], found["lib"], found["small"]) == ("2.13.0+cpu", "1.0", "1")
    assert {"pip", "setuptools", "wheel"} <= found.keys()
    assert ("pip does" in done.stdout) == (how == "pip")
    assert "0.6 GB" in done.stdout.splitlines()[0]
    assert users.read_text() == "mine"
    assert not (project / ".venv" / ".unfinished").exists()


def test_a_file_in_the_place_of_the_environment_is_named_and_stays(project):
    (project / ".venv").write_text("mine")
    done = install(project, UV="false")
    assert done.returncode == 1 and "File exists" in done.stdout and not done.stderr
    assert (project / ".venv").read_text() == "mine"


@pytest.mark.skipif(not UV, reason="no uv here")
def test_what_an_interrupted_run_left_in_part_is_laid_again(project, wheels):
    settings = {"UV": UV, "PIP_FIND_LINKS": str(wheels), "PIP_NO_INDEX": "1"}
    assert install(project, **settings).returncode == 0
    module = next((project / ".venv").glob("lib/*/site-packages/torch/__init__.py"))
    module.unlink()
    (project / ".venv" / ".unfinished").touch()
    assert install(project, **settings).returncode == 0
    assert module.is_file()


def test_when_pip_fails_too_it_is_no_success_and_the_next_run_knows(project, tmp_path):
    done = install(project, UV="no-such-uv", PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    assert done.returncode != 0 and "No matching distribution" in done.stderr
    assert "no-such-uv: No such file" in done.stdout and "pip does" in done.stdout
    assert (project / ".venv" / ".unfinished").exists()


def test_pip_lays_again_what_a_uv_that_died_has_begun(project, wheels, tmp_path):
    site = project / ".venv" / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"
    half = {
        "METADATA": "Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0+cpu\n",
        "RECORD": "",
    }
    uv = fake_uv(
        tmp_path,
        f"""
from pathlib import Path
if "--editable" in sys.argv:
    info = Path({str(site)!r}) / "torch-2.13.0+cpu.dist-info"
    info.mkdir(parents=True)
    for name, text in {half!r}.items():
        (info / name).write_text(text)
    sys.exit(137)
""",
    )
    done = install(project, UV=uv, PIP_FIND_LINKS=str(wheels), PIP_NO_INDEX="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (site / "torch" / "__init__.py").is_file()


def test_a_torch_without_cuda_is_asked_for_only_where_none_was_given(project, wheels, tmp_path):
    asked = "sys.exit(not os.environ.get('UV_FIND_LINKS') if 'compile' in sys.argv else 0)"
    uv = fake_uv(tmp_path, asked)
    for given, backend in (
        ({}, "auto"),
        ({"PIP_FIND_LINKS": str(wheels)}, None),
        ({"UV_TORCH_BACKEND": "cu130"}, "cu130"),
        ({"PIP_FIND_LINKS": str(wheels), "UV_TORCH_BACKEND": "cpu"}, "cpu"),
    ):
        assert install(project, UV=uv, **given).returncode == 0
        assert calls(tmp_path)[-1][1].get("UV_TORCH_BACKEND") == backend, given


@pytest.mark.skipif(not UV, reason="no uv here")
@pytest.mark.parametrize("place", ["links", "index"])
@pytest.mark.parametrize("version", ["2.13.0", "2.13.0+cpu", "2.12.0", None])
def test_a_torch_that_the_pins_refuse_counts_as_none(module, tmp_path, place, version):
    folder = tmp_path / "torch"
    folder.mkdir()
    if version:
        make_wheel(folder, "torch", version)
    env = {**os.environ, "UV_NO_CONFIG": "1", "UV_FIND_LINKS": "", "UV_INDEX": ""}
    env["UV_FIND_LINKS" if place == "links" else "UV_INDEX"] = (
        str(folder) if place == "links" else tmp_path.as_uri()
    )
    where = ["--python", sys.executable, "-c", str(ROOT / "constraints.txt")]
    (folder / "index.html").write_text(
        "".join(f'<a href="{path.name}">{path.name}</a>' for path in folder.glob("*.whl"))
    )
    found = module.finds_torch(UV, where, env)
    assert found == (version in ("2.13.0", "2.13.0+cpu"))


@pytest.fixture(scope="module")
def module():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("install_script", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_uv_hears_what_pip_is_told_in_files_and_variables(project, tmp_path):
    conf = tmp_path / "pip.conf"
    conf.write_text(
        "[global]\nindex-url = https://mirror/simple\nfind-links =\n    /a\n    /b\n"
        "extra-index-url = https://one/simple https://two/simple\ncert = /ca.pem\ntimeout = 7\n"
        "[install]\ntrusted-host = mirror\nconstraint = /more.txt\n[list]\nindex-url = https://no\n"
    )
    uv = fake_uv(tmp_path, "")
    done = install(
        project,
        UV=uv,
        PIP_CONFIG_FILE=str(conf),
        SSL_CERT_FILE="",
        PIP_FIND_LINKS="/c",
        PIP_INDEX_URL="",
        UV_HTTP_TIMEOUT="9",
    )
    assert done.returncode == 0, done.stderr
    words, env = calls(tmp_path)[-1]
    wanted = {
        "UV_DEFAULT_INDEX": "https://mirror/simple",
        "UV_INDEX": "https://one/simple https://two/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/c",
        "UV_INSECURE_HOST": "mirror",
        "SSL_CERT_FILE": "/ca.pem",
        "UV_HTTP_TIMEOUT": "9",
    }
    assert {name: env.get(name) for name in wanted} == wanted
    assert words[words.index("/more.txt") - 1] == "-c" and "constraints.txt" in words


def test_what_uv_was_told_itself_wins(module):
    settings = module.pip_settings("global.index-url='https://pip'\n:env:.find-links='/x y'\n\n")
    assert settings == {"index-url": "https://pip", "find-links": "/x y"}
    env = module.uv_environment(settings, {"UV_INDEX_URL": "https://uv", "UV_INDEX_STRATEGY": "x"})
    assert "UV_DEFAULT_INDEX" not in env and env["UV_FIND_LINKS"] == "/x,y"
    assert env["UV_INDEX_STRATEGY"] == "x"


def make(*words: str) -> str:
    """What make prints, with an environment in place and nobody writing bytecode."""
    done = subprocess.run(
        ["make", "--no-print-directory", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("goal", ["test", "demo"])
def test_make_says_first_what_it_is_going_to_do(goal):
    assert make("-n", goal).startswith(f"echo 'make {goal}: ")


def test_make_help_tells_of_uv_and_shows_no_remarks():
    assert "UV=false" in (told := make("help")) and "bytecode" not in told


def test_programs_that_make_starts_may_keep_their_bytecode():
    asked = "show: ; @echo kept=$$PYTHONDONTWRITEBYTECODE"
    assert make("--eval", asked, "show") == "kept=\n"


def test_a_python_that_is_too_old_is_refused_by_a_sentence(tmp_path):
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "install", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "is older than 3.10; give another one" in done.stderr
    assert not (tmp_path / "venv").exists()
