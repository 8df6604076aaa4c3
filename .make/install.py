"""Makes the project's virtual environment: by uv, or by pip where uv fails.

    python .make/install.py VENV EXTRAS
    python .make/install.py VENV EXTRA --alone    # what this extra names, without the project

uv takes half a minute where pip takes five to six. It comes from the package index into `VENV/.uv`,
needs no python3-venv, and is told what pip's settings say. What lies in VENV stays; after a run
that was interrupted the packages are laid once more, for some may be half there.
UV=... names another uv, and UV=false means pip; UV_TORCH_BACKEND=... chooses the build of torch.
"""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = "constraints.txt"
BUILD_TOOLS = ("setuptools", "wheel")
# With what trains and tests, or without: `uv` says it, and the log of a fresh `make demo` adds up.
SIZES = {True: "0.9 GB to fetch, 3.5", False: "0.6 GB to fetch, 3.0"}
# pip's settings that decide what is fetched from where, and uv's variables for them: the first is
# set, unless the user has set one of them.
UV_VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "extra-index-url": ("UV_INDEX", "UV_EXTRA_INDEX_URL"),
    "find-links": ("UV_FIND_LINKS",),
    "trusted-host": ("UV_INSECURE_HOST",),
    "cert": ("SSL_CERT_FILE",),
    "client-cert": ("SSL_CLIENT_CERT",),
    "proxy": ("ALL_PROXY", "HTTPS_PROXY", "https_proxy", "all_proxy"),
    "default-timeout": ("UV_HTTP_TIMEOUT",),
    "timeout": ("UV_HTTP_TIMEOUT",),
}


def say(sentence: str) -> None:
    """Print a line now, before what the programs print."""
    print(sentence, flush=True)


def run(*words: str | Path, **options) -> bool:
    """Whether a program, run in the project's root, exits with 0; False if there is none."""
    try:
        return subprocess.run(words, cwd=ROOT, **options).returncode == 0
    except OSError as error:
        say(f"{words[0]}: {error.strerror}")
        return False


def pip_settings(listed: str) -> dict[str, str]:
    """What `pip install` goes by, of the lines that `pip config list` prints.

    Returns:
        Option name (`find-links`) to value. The environment wins over the section `install`, which
        wins over `global`; empty values count as not given.
    """
    found: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        for line in listed.splitlines():
            key, _, value = line.partition("=")
            where, _, name = key.rpartition(".")
            if where == section and (words := str(ast.literal_eval(value)).split()):
                found[name] = " ".join(words)
    return found


def uv_environment(settings: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The environment that tells uv what `settings` tell pip; what `given` tells uv itself wins."""
    told = {
        variables[0]: settings[name]
        for name, variables in UV_VARIABLES.items()
        if name in settings and not any(given.get(variable) for variable in variables)
    }
    if "UV_FIND_LINKS" in told:
        told["UV_FIND_LINKS"] = told["UV_FIND_LINKS"].replace(" ", ",")
    if "UV_INDEX" in told:  # pip takes the best of all indexes; uv, unless told, the first's best
        told["UV_INDEX_STRATEGY"] = given.get("UV_INDEX_STRATEGY") or "unsafe-best-match"
    return {**given, "UV_PYTHON_DOWNLOADS": "never", **told}


class Installer:
    """An environment to be, `venv`, with the project and its `extras`."""

    def __init__(self, venv: Path, extras: str, *, alone: bool = False):
        self.venv = venv
        self.python = venv / "bin" / "python"
        self.alone = alone
        self.extras = extras.split(",")
        project = ("--no-build-isolation", "--editable", f".[{extras}]")
        self.project = tuple(packages_of(extras)) if alone else project
        self.unfinished = venv / ".unfinished"

    def install(self) -> bool:
        """Make the environment, or complete it; whether that is done."""
        size = SIZES["dev" in self.extras]
        size += " GB where torch is to have CUDA; by uv this takes half a minute"
        if self.alone:
            size = "60 MB to fetch; this takes some seconds"
        say(f"Making {self.venv}: {size} on a fast line.")
        again = self.unfinished.exists()
        self.venv.mkdir(parents=True, exist_ok=True)
        self.unfinished.touch()
        before = self.packages()
        if not self.by_uv(again=again):
            slower = "" if self.alone else ", in 5 to 6 minutes, with the torch that its index has"
            say(f"uv did not do it; pip does{slower}.")
            if not self.by_pip(again=again or self.packages() != before):
                return False
        self.unfinished.unlink()
        return True

    def packages(self) -> list[Path]:
        """The packages that are there, whole or in part."""
        return sorted(self.venv.glob("lib/*/site-packages/*.dist-info"))

    def by_uv(self, *, again: bool) -> bool:
        """Whether uv could do it; `again` lays what is there once more."""
        pip = self.find_pip()
        uv = os.environ.get("UV") or (pip and self.fetch_uv(pip))
        if not uv:
            return False
        listed = [*pip, "config", "list"] if pip else ["true"]
        done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True)
        settings = pip_settings(done.stdout)
        env = uv_environment(settings, os.environ)
        offline = ["--no-index"] * (settings.get("no-index", "0").lower() in ("1", "true", "yes"))
        if not run(
            uv,
            "venv",
            "--quiet",
            "--seed",
            "--allow-existing",
            *offline,
            "--python",
            sys.executable,
            self.venv,
            env=env,
        ):
            return False
        pins = [CONSTRAINTS, *settings.get("constraint", "").split()]
        where = ["--python", self.python, *(word for pin in pins for word in ("-c", pin))]
        if not (self.alone or "UV_TORCH_BACKEND" in env or finds_torch(uv, where, env)):
            env["UV_TORCH_BACKEND"] = "auto"
        command = [uv, "pip", "install", *where, *offline, *["--reinstall"] * again]
        return run(*command, "--quiet", *BUILD_TOOLS, env=env) and run(
            *command, *self.project, env=env
        )

    def by_pip(self, *, again: bool) -> bool:
        """Whether pip could do it; `again` lays what is there once more."""
        command = [
            self.python,
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "-c",
            CONSTRAINTS,
            *["--force-reinstall"] * again,
        ]
        return (
            self.by_venv()
            and run(*command, "--quiet", *BUILD_TOOLS)
            and run(*command, *self.project)
        )

    def by_venv(self) -> bool:
        """Whether Python itself could make the bare environment, or complete it."""
        if run(sys.executable, "-m", "venv", self.venv):
            return True
        say(f"no venv in {sys.executable}; install it: apt-get install python3-venv")
        return False

    def find_pip(self) -> list[str | Path]:
        """The command of a pip: this Python's, or that of the environment, made for it; or none."""
        if run(sys.executable, "-m", "pip", "--version", capture_output=True):
            return [sys.executable, "-m", "pip"]
        makes = "UV" not in os.environ and self.by_venv()
        return [self.python, "-m", "pip"] if makes else []

    def fetch_uv(self, pip: list[str | Path]) -> Path | None:
        """The pinned uv, which `pip` fetches if it is not there yet."""
        pin = re.search(r"^uv==(\S+)", (ROOT / CONSTRAINTS).read_text(encoding="utf-8"), re.M)
        folder = self.venv / ".uv"
        if not (folder / f"uv-{pin[1]}.dist-info").is_dir():
            say(f"Fetching uv {pin[1]}, 20 MB.")
            # Python's own packages stay as they are: what guards them must not hinder.
            env = {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PIP_ROOT_USER_ACTION": "ignore"}
            if not run(
                *pip,
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--upgrade",
                "--only-binary",
                "uv",
                "--target",
                folder,
                "-c",
                CONSTRAINTS,
                "uv",
                env={**os.environ, **env},
            ):
                return None
        return folder / "bin" / "uv"


def packages_of(extra: str) -> list[str]:
    """What an extra of setup.py names; setup.py is read, not run."""
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == "extras_require":
            return ast.literal_eval(node.value)[extra]
    raise LookupError("setup.py has no extras_require")


def finds_torch(uv: str | Path, where: list[str | Path], env: Mapping[str, str]) -> bool:
    """Whether the places that the user named beside the index hold a torch for this Python."""
    beside = env.get("UV_INDEX", "").split()
    only = {"UV_DEFAULT_INDEX": beside[0]} if beside else {}
    question = [uv, "pip", "compile", "--no-deps", *where, *["--no-index"] * (not beside), "-"]
    return run(*question, input=b"torch", capture_output=True, env={**env, **only})


def main(words: list[str]) -> int:
    """`install.py VENV EXTRAS [--alone]`; the exit code."""
    alone = "--alone" in words[2:]
    try:
        return 0 if Installer(Path(words[0]).absolute(), words[1], alone=alone).install() else 1
    except KeyboardInterrupt:
        say("Interrupted; the next run goes on where this one stopped.")
        return 130
    except OSError as error:
        say(f"{error.filename}: {error.strerror}; give another folder: make VENV=...")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
