"""What may be changed in mid-drive: the table says it, and the drive goes on."""

from __future__ import annotations

from typing import Any

import pytest

from robustseg_core import config
from robustseg_core.engines.blank import blank
from robustseg_core.modalities import available
from robustseg_core.robot.config import RobotConfig
from robustseg_core.robot.parameters import parameters, template, to_tree
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import SECOND, Fault, State
from support.drives import ALL, OPTICAL, TOPICS, drive, engine, rows, through
from support.makers import camera_info, transform

pytestmark = pytest.mark.slow


class Offered(Segmenter):
    """Takes as offered what it is given, as the node does."""

    def push(self, modality: str, message: Any, now_ns: int) -> None:
        self.offer(modality, message, now_ns)


def robot(**words: Any) -> RobotConfig:
    """Dotted names, with `__` for a dot."""
    plain = [f"{name.replace('__', '.')}={value}" for name, value in words.items()]
    topics = [f"streams.{name}.topic={topic}" for name, topic in TOPICS.items()]
    return config.parse(RobotConfig, config.override({}, topics + plain))


def made(robot: RobotConfig, kind: type[Segmenter] = Segmenter) -> Segmenter:
    spec = engine().spec
    segmenter = kind(robot, spec, blank(spec))
    segmenter.push_camera_info("rgb", camera_info(48, 64, fx=60.0))
    segmenter.push_transforms(transform("camera", "lidar", quaternion=OPTICAL))
    return segmenter


def told(segmenter: Segmenter, arrivals: Any, changes: dict[int, RobotConfig]) -> list[Any]:
    """What every mask says, where the configuration becomes others on the way."""
    left = sorted(changes.items())

    def watch(now_ns: int) -> None:
        while left and left[0][0] <= now_ns:
            segmenter.configure(left.pop(0)[1])

    return [
        (at, m.stamp_ns, m.used, m.held_ms, m.states, {n: f[0].fault for n, f in m.reasons.items()})
        for at, m in drive(segmenter, arrivals, watch)
    ]


def test_the_table_says_what_may_change_and_what_may_not():
    live = {parameter.name for parameter in parameters() if parameter.live}
    fixed = {parameter.name for parameter in parameters()} - live
    assert {"health.grace_s", "streams.rgb.limits.black_mean", "streams.lidar.max_age_ms"} <= live
    assert {name for name in fixed if name.startswith("health.")} == {"health.simulated"}
    assert {name.rpartition(".")[2] for name in fixed if ".limits." in name} == {
        "usual_frames",
        "usual_scans",
    }
    for name in ("weights", "device", "alpha", "view.width", "sync.deadline_ms"):
        assert name in fixed
    for name in available():
        assert {f"streams.{name}.{key}" for key in ("topic", "rate_hz", "camera_info")} <= fixed
    for parameter in parameters():
        assert ("while active" in parameter.when) == parameter.live


def test_the_template_marks_them():
    lines = template().splitlines()
    assert lines[0].startswith("# Every parameter")
    marked = sum(line.endswith("(live)") for line in lines)
    assert marked == sum(parameter.live for parameter in parameters())


DRIVES = [(Segmenter, "rgb:off@1+0.5"), (Offered, "depth:invalid_depth@1+0.5")]


@pytest.mark.parametrize(("kind", "fault"), DRIVES)
def test_a_configuration_that_is_set_again_changes_nothing(kind, fault):
    same = {k * SECOND // 4: robot() for k in range(12)}
    plain, again = (
        told(made(robot(), kind), through(fault, rows(2.5)), changes) for changes in ({}, same)
    )
    assert plain == again


def others() -> RobotConfig:
    """Every parameter that may change in mid-drive, at another value."""
    values: dict[str, Any] = {f"streams.{name}.topic": topic for name, topic in TOPICS.items()}
    for parameter in parameters():
        default = parameter.default
        if not parameter.live or isinstance(default, (bool, str)) or default is None:
            continue
        if isinstance(default, int):
            values[parameter.name] = default + 1
        else:
            values[parameter.name] = 0.9 * default if default else 35.0
    return config.parse(RobotConfig, to_tree(parameters(), values))


@pytest.mark.parametrize(("kind", "fault"), DRIVES)
def test_changed_at_the_start_is_as_good_as_written_so(kind, fault):
    arrivals = through(fault, rows(2.5))
    late = told(made(robot(), kind), arrivals, {0: others()})
    assert late == told(made(others(), kind), arrivals, {})


def test_a_limit_is_in_force_with_the_next_message_and_rates_stay_known():
    strict = robot(streams__rgb__limits__black_mean=255, streams__rgb__limits__black_std=999)
    segmenter = made(robot(), Offered)
    masks = told(segmenter, rows(5.0), {2 * SECOND: strict, 3 * SECOND: robot()})
    dark = [m for m in masks if 2.3 * SECOND < m[0] < 3 * SECOND]
    assert dark and all("rgb" not in m[2] and m[5]["rgb"] is Fault.BLACK for m in dark)
    assert all(set(m[2]) == set(ALL) for m in masks if 1 * SECOND < m[0] < 2 * SECOND)
    assert all(set(m[2]) == set(ALL) for m in masks if m[0] > 4 * SECOND)
    assert segmenter.config == robot()
    health = segmenter.health(5 * SECOND)
    assert health["rgb"].state is State.LIVE and health["rgb"].rate_hz == pytest.approx(20, rel=0.1)


def test_the_grace_may_end_at_once():
    segmenter = made(robot())
    arrivals = [row for row in rows(3.0) if row[1] != "lidar"]
    masks = list(drive(segmenter, arrivals, lambda _now_ns: None))
    assert masks and not segmenter.health(3 * SECOND)["lidar"].findings[0].fatal
    segmenter.configure(robot(health__grace_s=1))
    segmenter.step(3 * SECOND)
    found = segmenter.health(3 * SECOND)["lidar"].findings[0]
    assert found.fault is Fault.NEVER_SEEN and found.fatal
