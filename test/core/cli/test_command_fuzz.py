"""A dozen hostile command lines in a user's folder, always the same; `test/fuzz` has hundreds."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from fuzz import lines
from support import ROOT

pytestmark = pytest.mark.slow

QUICK = ("inspect", "inject", "params")
"""Lines that load no PyTorch."""
CASES = ((number, lines.case(number, 0)) for number in range(400))
CHEAP = [number for number, case in CASES if case.line in QUICK and case.way != "killed"][:12]


def test_hostile_command_lines_break_no_promise(tmp_path):
    # In a process of its own: Linux counts the memory of who starts a process as that one's peak
    done = subprocess.run(
        [sys.executable, ROOT / "test" / "fuzz" / "commands.py", "--only", *map(str, CHEAP)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["cases"] == 12
