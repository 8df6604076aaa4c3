"""Sensors' faults as codes for a fault manager: what failed, how badly, and what has passed.

As ros2_medkit has it (`ros2_medkit_msgs/srv/ReportFault`): a code in UPPER_SNAKE_CASE of up to 64
characters, failed or passed, a severity, a text, and the measurements behind it. Whoever debounces
counts reports, so a fault is reported anew at each look while it lasts, and passed once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from robustseg_core.types import Fault, Finding, Health, State

LONGEST_CODE = 64
WARN, ERROR = 1, 2
"""`SEVERITY_WARN` and `SEVERITY_ERROR` of `ros2_medkit_msgs/msg/Fault`."""
WANTED = (Fault.DISABLED, Fault.ACKNOWLEDGED)
"""What people did need not be told."""


@dataclass(frozen=True, slots=True)
class FaultReport:
    """What a fault manager is told."""

    code: str
    failed: bool
    """False: it has passed."""
    severity: int = 0
    text: str = ""
    evidence: tuple[tuple[str, str], ...] = ()
    """Names and values of what was measured."""


class FaultCodes:
    """Remembers which codes have failed."""

    def __init__(self) -> None:
        self._failed: set[str] = set()

    def look(self, healths: Mapping[str, Health]) -> list[FaultReport]:
        """All that fails now, and what has passed since the last look.

        Args:
            healths: what is believed of each sensor.
        """
        now: dict[str, FaultReport] = {}
        for name, health in healths.items():
            found = health.findings[0] if health.findings else None
            if found is None or found.fault in WANTED or not _fails(health.state, found):
                continue
            severity = WARN if health.state.usable else ERROR
            code = code_of(name, found.fault)
            now[code] = FaultReport(
                code,
                failed=True,
                severity=severity,
                text=f"{name}: {found}",
                evidence=_evidence(found),
            )
        passed = [FaultReport(code, failed=False) for code in sorted(self._failed - now.keys())]
        self._failed = set(now)
        return [*now.values(), *passed]


def _fails(state: State, found: Finding) -> bool:
    """A sensor that starts, or that is back and on probation, fails no more."""
    return state in (State.DEAD, State.DEGRADED) or (state is State.WAITING and found.fatal)


def code_of(modality: str, fault: Fault) -> str:
    """`ROBUSTSEG_RGB_SILENT`."""
    code = re.sub(r"\W", "_", f"robustseg_{modality}_{fault.value}", flags=re.ASCII).upper()
    return code[:LONGEST_CODE]


def _evidence(found: Finding) -> tuple[tuple[str, str], ...]:
    measured = {"value": found.value, "limit": found.limit}
    told = [(name, f"{number:g}") for name, number in measured.items() if number is not None]
    return (*told, *((("unit", found.unit),) if told and found.unit else ()))
