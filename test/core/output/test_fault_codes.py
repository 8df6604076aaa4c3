"""What a fault manager is told: each fault while it lasts, and once that it has passed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.output.fault_codes import LONGEST_CODE, FaultCodes, code_of
from robustseg_core.types import Fault, Finding, Health, State

SILENT = Finding(Fault.SILENT, fatal=True, text="quiet", value=215.5, limit=210.0, unit="ms")
DOUBT = Finding(Fault.MISALIGNED, fatal=False, text="4 degrees")


def test_a_fault_is_told_while_it_lasts_and_passed_once():
    codes, well = FaultCodes(), {"rgb": Health(State.LIVE)}
    assert codes.look(well) == []
    dead = {"rgb": Health(State.DEAD, (SILENT,))}
    for _ in range(2):
        (told,) = codes.look(dead)
        assert (told.code, told.failed, told.severity) == ("ROBUSTSEG_RGB_SILENT", True, 2)
        assert told.text == "rgb: silent: quiet"
        assert told.evidence == (("value", "215.5"), ("limit", "210"), ("unit", "ms"))
    (passed,) = codes.look(well)
    assert (passed.code, passed.failed) == ("ROBUSTSEG_RGB_SILENT", False)
    assert codes.look(well) == []


def test_another_fault_of_the_sensor_ends_the_first():
    codes = FaultCodes()
    codes.look({"rgb": Health(State.DEAD, (SILENT,))})
    failed, passed = codes.look({"rgb": Health(State.DEGRADED, (DOUBT,))})
    assert (failed.code, failed.severity) == ("ROBUSTSEG_RGB_MISALIGNED", 1)
    assert passed.code == "ROBUSTSEG_RGB_SILENT" and not passed.failed


def test_who_starts_recovers_or_is_switched_off_fails_not():
    starting = Finding(Fault.STARTING, fatal=False)
    back = Finding(Fault.RECOVERING, fatal=False)
    said = Finding(Fault.ACKNOWLEDGED, fatal=False)
    healths = {
        "rgb": Health(State.WAITING, (starting,)),
        "depth": Health(State.RECOVERING, (back,)),
        "lidar": Health(State.DEAD, (said,)),
        "event": Health(State.DISABLED, (Finding(Fault.DISABLED, fatal=False),)),
    }
    assert FaultCodes().look(healths) == []


def test_a_sensor_that_never_came_is_an_error():
    never = Finding(Fault.NEVER_SEEN, fatal=True, text="no message")
    (told,) = FaultCodes().look({"lidar": Health(State.WAITING, (never,))})
    assert (told.code, told.severity) == ("ROBUSTSEG_LIDAR_NEVER_SEEN", 2)


@given(st.text(min_size=1, max_size=100), st.sampled_from(Fault))
def test_a_code_has_the_form_that_it_must_have(name, fault):
    code = code_of(name, fault)
    assert len(code) <= LONGEST_CODE
    assert set(code) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
