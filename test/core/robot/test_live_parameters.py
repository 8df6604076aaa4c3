"""What may be changed in mid-drive: the table says it, and the drive goes on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustseg_core import config
from robustseg_core.engines.blank import blank
from robustseg_core.errors import RobustsegError
from robustseg_core.modalities import available
from robustseg_core.output import messages
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


@pytest.mark.parametrize("words", ["{mode: off}", "{mode: 'off'}", "{enabled: false, mode: dead}"])
def test_off_is_off_however_yaml_reads_it(words):
    read = config.parse(RobotConfig, config.read_yaml(f"streams: {{rgb: {words}}}", source="x"))
    assert read.streams["rgb"].in_force == "off"
    assert robot(streams__rgb__mode="off").streams["rgb"].mode == "off"


@pytest.mark.parametrize("word", ["on", "Dead", "0"])
def test_another_mode_is_refused(word):
    with pytest.raises(RobustsegError, match=r"^streams.rgb.mode is "):
        robot(streams__rgb__mode=word)


def level(segmenter: Segmenter, name: str, now_ns: int) -> tuple[int, str]:
    """Of a sensor, or of all, on /diagnostics."""
    fields = messages.health(segmenter.health(now_ns), now_ns)
    (found,) = (s for s in fields["status"] if s["name"] == f"robustseg: {name}")
    return found["level"], found["message"]


@pytest.mark.parametrize("speaks", [True, False])
@pytest.mark.parametrize(("mode", "state"), [("off", State.DISABLED), ("dead", State.DEAD)])
def test_a_sensor_is_left_out_without_an_alarm_and_taken_back(mode, state, speaks):
    segmenter, off_s, on_s = made(robot(), Offered), 1.5, 2.5
    arrivals = [
        row
        for row in rows(4.0)
        if speaks or row[1] != "rgb" or not off_s * SECOND <= row[0] < on_s * SECOND
    ]
    changes = {
        round(off_s * SECOND): robot(streams__rgb__mode=mode),
        round(on_s * SECOND): robot(),
    }
    seen: list[Any] = []
    masks = []

    def watch(now_ns: int) -> None:
        for at_ns in [at_ns for at_ns in changes if at_ns <= now_ns]:
            segmenter.configure(changes.pop(at_ns))
        if 1.6 * SECOND < now_ns < 2.4 * SECOND:
            seen.append((level(segmenter, "rgb", now_ns), level(segmenter, "sensors", now_ns)))

    for at, mask in drive(segmenter, arrivals, watch):
        masks.append((at, mask))
        if 1.6 * SECOND < at < 2.4 * SECOND:
            assert mask.used == ("depth", "event", "lidar") and mask.states["rgb"] is state
            trained = segmenter.spec.model_copy(update={"trained": True})
            statuses = messages.status(mask, trained)["status"]
            assert [status["level"] for status in statuses] == [0] * 5, statuses
    assert {own[0] for own, _ in seen} == {whole[0] for _, whole in seen} == {0}
    word = "its mode is dead" if mode == "dead" else "switched off by parameter"
    assert all(word in own[1] for own, _ in seen)
    assert all(w[1].startswith("3 of 3 sensors usable") for _, w in seen)
    assert ("acknowledged as dead: rgb" in seen[-1][1][1]) == (mode == "dead")
    assert ("it speaks" in seen[-1][0][1]) == (speaks and mode == "dead")
    middle = [at for at, _ in masks if 1.6 * SECOND < at < 2.4 * SECOND]
    assert len(middle) >= 7, "as many as the next sensor opens"
    back = [mask for at, mask in masks if at > 2.8 * SECOND]
    assert len(back) >= 22 and all(set(mask.used) == set(ALL) for mask in back)
    health = segmenter.health(4 * SECOND)["rgb"]
    assert not health.rejected and not health.findings
    assert health.rate_hz == pytest.approx(20, rel=0.1)


MODES = st.sampled_from(["off", "auto", "dead"])


@settings(max_examples=6, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ALL), MODES), min_size=1, max_size=8), st.booleans())
def test_whatever_is_switched_only_who_is_automatic_is_used(switches, offers):
    segmenter = made(robot(), Offered if offers else Segmenter)
    modes = dict.fromkeys(ALL, "auto")
    plan = [(round((0.6 + 0.25 * k) * SECOND), *switch) for k, switch in enumerate(switches)]

    def watch(now_ns: int) -> None:
        while plan and plan[0][0] <= now_ns:
            _, name, modes[name] = plan.pop(0)
            segmenter.configure(robot(**{f"streams__{n}__mode": m for n, m in modes.items()}))
        if not plan and now_ns > 2.8 * SECOND and set(modes.values()) != {"auto"}:
            modes.update(dict.fromkeys(ALL, "auto"))
            segmenter.configure(robot())

    last = None
    for at, mask in drive(segmenter, rows(4.5), watch):
        assert {modes[name] for name in mask.used} == {"auto"}
        last = at, mask
    assert last is not None and last[0] > 4.3 * SECOND and set(last[1].used) == set(ALL)
    assert all(not each.rejected for each in segmenter.health(round(4.5 * SECOND)).values())
