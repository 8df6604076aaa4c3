"""The rows that no recording can show are proven by tests: run those of a checkout.

They need what the tests need: a checkout with its development environment, and rclpy for the rows
that exist only on the wire.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

from robustseg_core.errors import RobustsegError
from robustseg_core.robustness.matrix import MATRIX

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


def named_tests(rows: Iterable[int] = ()) -> list[str]:
    """`file::test` of all tests that the matrix names, or those of these rows."""
    wanted = set(rows)
    named = [t for row in MATRIX if not wanted or row.number in wanted for t in row.elsewhere]
    return list(dict.fromkeys(named))


def prove(checkout: Path, tests: Iterable[str]) -> dict[str, str]:
    """test -> `passed`, `failed` or `skipped`; a test with parameters passes if all of them do.

    Raises:
        RobustsegError: no such checkout, or pytest could not run its tests.
    """
    tests = list(tests)
    missing = sorted({t for t in tests if not (checkout / t.partition("::")[0]).is_file()})
    if missing:
        raise RobustsegError(
            f"{checkout} has no {missing[0].partition('::')[0]}; "
            "--tests wants a checkout of robustseg"
        )
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += [f"--junitxml={report}", *tests]
        done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
        if not report.exists() or done.returncode not in (0, 1):
            last = (done.stdout + done.stderr).strip().splitlines()[-1:] or ["no output"]
            raise RobustsegError(
                f"pytest ended with code {done.returncode}: {last[0]}; try `make test` there"
            )
        cases = ElementTree.parse(report).getroot().iter("testcase")
        outcomes: dict[str, set[str]] = {}
        for case in cases:
            place = f"{case.get('classname', '').replace('.', '/')}.py"
            test = f"{place}::{case.get('name', '').partition('[')[0]}"
            outcomes.setdefault(test, set()).add(_outcome(case))
    return {test: _worst(outcomes.get(test, set())) for test in tests}


def _outcome(case: ElementTree.Element) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return FAILED
    return SKIPPED if case.find("skipped") is not None else PASSED


def _worst(outcomes: set[str]) -> str:
    return next((o for o in (FAILED, SKIPPED, PASSED) if o in outcomes), SKIPPED)
