"""What mypy says of both packages: one of the tests, so that these do not wait for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support import ROOT

pytest.importorskip("mypy", reason="mypy is not installed (extra `dev`)")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # without a cache it takes minutes


def test_the_packages_are_typed_strictly():
    done = subprocess.run(
        [sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
