"""Short programs in a Python of their own, for what a process can show only once."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from support import ROOT


def run_program(
    program: str, *words: str, cwd: Path = ROOT, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """What became of an indented program: `words` are its arguments, ours are its modules."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=check,
    )
