"""What all tests share: where the real recordings lie, and nothing that depends on order."""

from __future__ import annotations

import os
import re

from support import ROOT

# PyTorch's threads spin while they wait: with one core too many every test is slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
from hypothesis import settings

# No wall-clock limits: a first example compiles, and a test machine may be busy.
settings.register_profile("robustseg", deadline=None)
settings.register_profile("check", deadline=None, max_examples=20)  # `make check`
settings.load_profile("robustseg")


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Folder of real recorded bags; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("ROBUSTSEG_REALDATA", ROOT.parent / "shared" / "realdata"))
    if not folder.is_dir():
        pytest.skip(f"real recordings are absent ({folder.name}); set ROBUSTSEG_REALDATA")
    return folder


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
