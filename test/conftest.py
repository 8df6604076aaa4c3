"""What all tests share: where the real recordings lie, and nothing that depends on order."""

from __future__ import annotations

import os

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
