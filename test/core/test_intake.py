"""A segmenter is watched and varied from outside: by an observer, and by a policy."""

from __future__ import annotations

from typing import Any

import pytest

from robustseg_core.engines.blank import blank
from robustseg_core.errors import RobustsegError
from robustseg_core.intake import HEALTH_DECIDES, Observer, Policy, Register
from robustseg_core.models.checkpoint import default_spec
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import MS, SECOND, Fault, Finding, LabelMap
from support.drives import ALL, OPTICAL, SIZE, drive, engine, robot, rows
from support.makers import camera_info, transform

pytestmark = pytest.mark.slow


def made(**options: Any) -> Segmenter:
    segmenter = Segmenter(robot(), engine().spec, engine(), **options)
    segmenter.push_camera_info("rgb", camera_info(48, 64, fx=60.0))
    segmenter.push_transforms(transform("camera", "lidar", quaternion=OPTICAL))
    return segmenter


class Diary(Observer):
    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []

    def arriving(self, modality: str, now_ns: int) -> None:
        self.lines.append(("arriving", modality))

    def pushed(self, modality: str, message: Any, now_ns: int, finding: Finding | None) -> None:
        fault = finding.fault if finding else None
        self.lines.append(("pushed", modality, message is not None, fault))

    def calibrated(self, modality: str, message: Any, finding: Finding | None) -> None:
        self.lines.append(("calibrated", modality, finding is None))

    def placed(self, message: Any, finding: Finding | None) -> None:
        self.lines.append(("placed", finding is None))

    def stepped(self, now_ns: int, label_map: LabelMap | None) -> None:
        self.lines.append(("stepped", None if label_map is None else label_map.used))


def test_an_observer_is_told_of_everything_that_is_taken_and_made():
    diary = Diary()
    segmenter = made(observer=diary)
    (at, name, sent), *_ = rows(0.2, ["rgb"])
    segmenter.push(name, sent, at)
    segmenter.push(name, object(), at + 1)
    segmenter.intake.reject(name, at + 2, Finding(Fault.FORMAT, fatal=True, text="ends early"))
    segmenter.step(at + 3)
    assert diary.lines == [
        ("calibrated", "rgb", True),
        ("placed", True),
        ("arriving", "rgb"),
        ("pushed", "rgb", True, None),
        ("arriving", "rgb"),
        ("pushed", "rgb", True, Fault.FORMAT),
        ("arriving", "rgb"),
        ("pushed", "rgb", False, Fault.FORMAT),
        ("stepped", None),
    ]


def test_an_observer_changes_nothing_and_sees_every_mask():
    diary = Diary()
    watched = [(at, m.stamp_ns, m.used) for at, m in drive(made(observer=diary), rows(1.5))]
    alone = [(at, m.stamp_ns, m.used) for at, m in drive(made(), rows(1.5))]
    assert watched == alone
    assert [line[1] for line in diary.lines if line[0] == "stepped" and line[1]] == [
        used for _, _, used in watched
    ]


class Without(Policy):
    """Leaves some out from a time on: deaf to them, or only without belief."""

    def __init__(self, *, deaf: str = "", out: str = "", from_ns: int = SECOND) -> None:
        self.deaf, self.out, self.from_ns = deaf, out, from_ns

    def hears(self, modality: str, now_ns: int) -> bool:
        return modality != self.deaf or now_ns < self.from_ns

    def believes(self, healthy: Any, now_ns: int) -> list[str]:
        return [name for name in healthy if name != self.out or now_ns < self.from_ns]


@pytest.mark.parametrize("name", ALL)
def test_who_is_not_believed_by_the_policy_is_in_no_set_at_once(name):
    segmenter = made(policy=Without(out=name))
    maps = list(drive(segmenter, rows(2.0)))
    assert any(name in m.used for at, m in maps if at < SECOND)
    assert not any(name in m.used for at, m in maps if at >= SECOND)
    assert all(set(m.used) == set(ALL) - {name} for at, m in maps if at > 1.3 * SECOND)
    assert segmenter.health(2 * SECOND)[name].state.usable, "health has its own opinion"


def test_who_is_not_heard_by_the_policy_is_silent():
    segmenter = made(policy=Without(deaf="lidar"))
    maps = list(drive(segmenter, rows(3.0)))
    assert maps[-1][1].reasons["lidar"][0].fault is Fault.SILENT
    assert segmenter.intake.pushed["lidar"] == 10


def test_by_default_health_decides():
    assert HEALTH_DECIDES.hears("rgb", 0)
    assert HEALTH_DECIDES.believes(("rgb", "lidar"), 0) == ("rgb", "lidar")


def test_a_register_counts_by_fault_and_keeps_the_newest_words():
    register = Register()
    first = [
        register.add("lidar", Finding(fault, fatal=False, text=str(number)))
        for number, fault in enumerate([Fault.NO_TF, Fault.NO_TF, Fault.FORMAT])
    ]
    register.add("rgb", Finding(Fault.NO_TF, fatal=False, text="3"))
    assert first == [True, False, True]
    assert [(who, f.fault, f.text, count) for who, f, count in register] == [
        ("lidar", Fault.NO_TF, "1", 2),
        ("lidar", Fault.FORMAT, "2", 1),
        ("rgb", Fault.NO_TF, "3", 1),
    ]
    assert (register.total(), len(register)) == (4, 3)
    register.clear()
    assert not register and register.newest("lidar", Fault.NO_TF) is None


@pytest.mark.parametrize("who", ["stamps", "clock first", "clock second", "clock alone"])
def test_a_loop_is_one_reset_whoever_tells_it_first(who):
    """What was on its way when the clock was set is of before, and spoils nothing."""
    once = rows(1.5)
    again = [(1_500 * MS + at, name, sent) for at, name, sent in once]
    if who == "clock alone":
        again = [row for row in rows(3.0) if row[0] >= 1_500 * MS]
    early = once[-40][0]
    jump_ns = {"clock first": early, "clock alone": early}.get(who, again[60][0])
    segmenter, said = made(), []

    def watch(now_ns: int) -> None:
        if who != "stamps" and now_ns >= jump_ns and not said:
            said.append(segmenter.intake.clock_jumped(now_ns))

    masks = list(drive(segmenter, [*once, *again], watch))
    assert segmenter.intake.jumps == 1
    assert sum(at >= 1_500 * MS for at, _ in masks) >= 28
    assert set(masks[-1][1].used) == set(ALL)
    assert not any(each.rejected for each in segmenter.health(3 * SECOND).values())


def test_sensors_that_the_network_does_not_know_are_named_and_the_rest_goes_on():
    spec = default_spec(("rgb", "depth"), size=SIZE)
    segmenter = Segmenter(robot(("rgb", "lidar", "event")), spec, blank(spec))
    assert segmenter.streams == ("rgb",)
    known = "is ignored: the network knows rgb, depth"
    assert segmenter.remarks() == [f"lidar {known}", f"event {known}"]
    with pytest.raises(RobustsegError) as caught:
        Segmenter(robot(("lidar", "event")), spec, blank(spec))
    assert str(caught.value) == (
        "streams name ['event', 'lidar'], but the network knows ['rgb', 'depth']; "
        "configure at least one of these"
    )
