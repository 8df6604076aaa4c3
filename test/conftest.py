"""What all tests share: where the real recordings lie, and nothing that depends on order."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator

from support import ROOT

# PyTorch's threads spin while they wait: with one core too many every test is slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell's background job ignores Ctrl-C, and so would all that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from pathlib import Path

import pytest
from hypothesis import settings

# No wall-clock limits: a first example compiles, and a test machine may be busy.
settings.register_profile("robustseg", deadline=None, max_examples=35)
settings.register_profile("check", deadline=None, max_examples=20)  # `make check`
settings.register_profile("thorough", deadline=None, max_examples=300)  # before a release
settings.load_profile("robustseg")


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Folder of real recorded bags; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("ROBUSTSEG_REALDATA", ROOT.parent / "shared" / "realdata"))
    if not folder.is_dir():
        pytest.skip(f"real recordings are absent ({folder.name}); set ROBUSTSEG_REALDATA")
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small images are done before a second thread of PyTorch wakes up."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str, str], Path]:
    """Copies of files of public repositories: `published("owner/name", commit, path)`.

    ROBUSTSEG_PUBLIC is a folder of clones (bare ones, too) called `owner+name`; a test whose file
    is in none of them skips.
    """
    clones = Path(os.environ.get("ROBUSTSEG_PUBLIC", ROOT.parent / "published"))
    copies = tmp_path_factory.mktemp("published")

    def copy(repository: str, commit: str, path: str) -> Path:
        name = repository.replace("/", "+")
        target = copies / f"{name}+{path.replace('/', '+')}"
        for clone in (clones / name, clones / name / "repo"):
            command = ["git", "-C", str(clone), "cat-file", "blob", f"{commit}:{path}"]
            found = subprocess.run(command, capture_output=True) if clone.is_dir() else None
            if found and found.returncode == 0:
                target.write_bytes(found.stdout)
                return target
        pytest.skip(f"{repository} at {commit} is absent; clone it, and set ROBUSTSEG_PUBLIC")

    return copy


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that workers which share the files end together."""
    items.sort(key=lambda i: (not i.get_closest_marker("slow"), "replay" not in i.path.parts))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A file that is marked as a whole is not even imported where its mark is left out.

    Half of the time of `make check` went into what only the other tests import.
    """
    left_out = re.findall(r"not (\w+)", config.option.markexpr)
    if not left_out or collection_path.suffix != ".py":
        return None
    marks = rf"^pytestmark = (?:pytest\.mark\.|\[pytest\.mark\.)(?:{'|'.join(left_out)})\b"
    return True if re.search(marks, collection_path.read_text(), re.MULTILINE) else None
