"""What the demo, which knows only what the node publishes, makes of a pause without masks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy")

from robustseg_core.output.reasons import PauseLog
from robustseg_core.types import Fault, Finding, Health, Reasons, State
from robustseg_ros.demo import _why

pytestmark = pytest.mark.ros


def silent(quiet_ms: float) -> tuple[Finding, ...]:
    return (Finding(Fault.SILENT, fatal=True, value=quiet_ms, limit=150.0, unit="ms"),)


def test_a_pause_is_told_by_diagnostics_else_by_the_mask_after_it() -> None:
    pauses = PauseLog()
    pauses.add(2, {"rgb": Health(State.DEAD, silent(900))})
    masks: list[tuple[Any, Any]] = [
        (SimpleNamespace(reasons={"rgb": silent(ms)} if ms else {}), None) for ms in (0, 600, 0)
    ]
    recorder: Any = SimpleNamespace(rows=[{"at_s": t} for t in (0.1, 1.0, 3.0)])
    why: dict[float, Reasons] = _why(SimpleNamespace(pauses=pauses), recorder, masks)  # type: ignore[arg-type]
    assert why == {0.0: {}, 0.1: {"rgb": silent(600)}, 1.0: {"rgb": silent(900)}}
