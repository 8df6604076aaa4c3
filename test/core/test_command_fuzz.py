"""A dozen hostile command lines in a user's folder, always the same; `test/fuzz` has hundreds."""

from __future__ import annotations

from fuzz import household, lines
from fuzz.commands import fuzz

QUICK = ("inspect", "inject", "params")
"""Lines that load no PyTorch."""
CASES = ((number, lines.case(number, 0)) for number in range(400))
CHEAP = [number for number, case in CASES if case.line in QUICK and case.way != "killed"][:12]


def test_hostile_command_lines_break_no_promise(tmp_path):
    household.build(tmp_path / "built", earlier=False)
    outcomes = fuzz(CHEAP, 0, tmp_path / "built", tmp_path)
    assert len(outcomes) == 12
    assert not [(outcome.case, outcome.findings) for outcome in outcomes if outcome.findings]
