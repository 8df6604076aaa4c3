"""What is offered makes the masks of what is pushed; what is overtaken is never looked into."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from robustseg_core.bag.sealed import Sealed
from robustseg_core.bag.typestore import typestore
from robustseg_core.engines.blank import blank
from robustseg_core.intake import CHECKED_NS, MOST_PACKETS
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import MS, SECOND, Fault, Rejection, State
from support.drives import ALL, EPOCH, OPTICAL, drive, engine, message, robot, rows, through
from support.makers import camera_info, transform

pytestmark = pytest.mark.slow
Rows = Iterable[tuple[int, str, Any]]


class Offered(Segmenter):
    """Takes as offered what it is given, and counts what it decodes."""

    def __init__(self, *rest: Any, **options: Any) -> None:
        super().__init__(*rest, **options)
        self.decoded: Counter[str] = Counter()
        for name, decoder in self.intake.modalities.items():
            decoder.decode = self._counting(name, decoder.decode)

    def _counting(self, name: str, decode: Any) -> Any:
        def counted(*arguments: Any) -> Any:
            self.decoded[name] += 1
            return decode(*arguments)

        return counted

    def push(self, modality: str, message: Any, now_ns: int) -> None:
        self.offer(modality, message, now_ns)


def made(kind: type[Segmenter] = Offered) -> Any:
    spec = engine().spec
    segmenter = kind(robot(), spec, blank(spec))
    segmenter.push_camera_info("rgb", camera_info(48, 64, fx=60.0))
    segmenter.push_transforms(transform("camera", "lidar", quaternion=OPTICAL))
    return segmenter


def told(arrivals: Rows, kind: type[Segmenter]) -> list[Any]:
    """What every mask says of who made it."""
    return [
        (at, m.stamp_ns, m.used, m.held_ms, {n: s.value for n, s in m.states.items()})
        for at, m in drive(made(kind), arrivals)
    ]


@pytest.mark.parametrize(
    "fault",
    ["", "rgb:off@1+1", "rgb:black@1+1", "depth:invalid_depth@1+1", "lidar:stuck@1", "rgb:slow@1"],
)
def test_who_keeps_up_gets_the_same_masks_either_way(fault):
    arrivals = through(fault, rows(3.0)) if fault else rows(3.0)
    offered, pushed = (told(arrivals, kind) for kind in (Offered, Segmenter))
    if not fault:
        assert offered == pushed
    # A bad message is found when a set wants it, a few of a sensor's periods later at the most.
    differ = [a for a, b in zip(offered, pushed, strict=False) if a[1:4] != b[1:4]]
    assert abs(len(offered) - len(pushed)) <= 2 and len(differ) <= 0.1 * len(pushed), differ


def busy(segmenter: Any, arrivals: Rows, every_ns: int) -> list[Any]:
    """Masks of a consumer that looks up only now and then."""
    masks, due_ns = [], every_ns
    for at, name, sent in arrivals:
        if at >= due_ns:
            masks.append(segmenter.step(due_ns))
            due_ns += every_ns
        segmenter.offer(name, sent, at)
    return [mask for mask in masks if mask is not None]


def test_what_is_overtaken_is_never_decoded_and_counts_all_the_same():
    segmenter = made()
    masks = busy(segmenter, rows(6.0), 400 * MS)
    health = segmenter.health(6 * SECOND)
    assert len(masks) >= 12 and set(masks[-1].used) == set(ALL)
    assert {name: each.state for name, each in health.items()} == dict.fromkeys(ALL, State.LIVE)
    assert all(not each.rejected and not each.findings for each in health.values()), health
    assert {name: each.received for name, each in health.items()} == Counter(
        name for _, name, _ in rows(6.0)
    )
    for name, count in {"rgb": 120, "depth": 60, "lidar": 60}.items():
        assert segmenter.decoded[name] <= 6 * SECOND / CHECKED_NS + len(masks) + 8, name
        assert segmenter.decoded[name] <= count
    assert segmenter.decoded["rgb"] < 90
    assert (
        segmenter.decoded["event"] < 200 and not segmenter.intake.modalities["event"].lost_packets
    )


@pytest.mark.parametrize(
    ("name", "fault", "found"),
    [
        ("rgb", "black", Fault.BLACK),
        ("depth", "invalid_depth", Fault.INVALID_DEPTH),
        ("lidar", "empty_cloud", Fault.EMPTY_CLOUD),
        ("event", "undecodable", Fault.UNDECODABLE),
        ("rgb", "stuck", Fault.STUCK),
        ("lidar", "off", Fault.SILENT),
    ],
)
def test_who_is_busy_finds_what_is_broken_in_time_and_uses_none_of_it(name, fault, found):
    segmenter = made()
    arrivals = through(f"{name}:{fault}@3", rows(6.0))
    masks = busy(segmenter, arrivals, 300 * MS)
    broken = [m for m in masks if m.stamp_ns > EPOCH + 4.5 * SECOND]
    assert broken and all(name not in mask.used for mask in broken)
    reasons = {finding.fault for mask in broken for finding in mask.reasons[name]}
    assert found in reasons, reasons
    others = {n for mask in broken for n in mask.used}
    assert others == set(ALL) - {name}


def test_nobody_waits_for_room_and_what_waits_is_bounded():
    segmenter = made()
    for k in range(20 * MOST_PACKETS // 4):
        segmenter.offer("event", message("event", k), k * SECOND // 40)
    assert len(segmenter.intake._inbox) <= MOST_PACKETS + 1
    assert not segmenter.decoded


def test_nobody_waits_for_who_decodes():
    """The executor's thread goes on while the other one holds the intake."""
    segmenter = made()
    for at, name, sent in rows(0.5):
        segmenter.offer(name, sent, at)
        segmenter.step(at)
    known = segmenter.health(SECOND)
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with segmenter.intake._lock:
            held.set()
            free.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    for k in range(4 * MOST_PACKETS):
        segmenter.offer("event", message("event", 20 + k % 20), SECOND + k)
    assert segmenter.health(2 * SECOND, wait=False) == known
    assert segmenter.intake.load().text == ""
    free.set()
    holder.join()
    assert segmenter.health(2 * SECOND)["event"].received > 4 * MOST_PACKETS


def test_a_reset_forgets_what_was_offered_before_it():
    segmenter = made()
    for at, name, sent in rows(0.5):
        segmenter.offer(name, sent, at)
    segmenter.reset(SECOND)
    assert segmenter.step(SECOND + 1) is None and not segmenter.decoded


def sealed(sent: Any) -> Sealed:
    return Sealed(bytes(typestore().serialize_cdr(sent, sent.__msgtype__)), sent.__msgtype__)


def test_a_sealed_message_is_the_message_and_tells_its_header_unopened():
    plain = rows(1.0)
    packed = [(at, name, sealed(sent)) for at, name, sent in plain]
    for (_, _, sent), (_, _, message_) in zip(plain, packed, strict=True):
        assert message_.header.stamp == (sent.header.stamp.sec, sent.header.stamp.nanosec)
        assert message_.header.frame_id == sent.header.frame_id
        assert not message_.opened
    assert told(packed, Offered) == told(plain, Offered)
    assert not hasattr(packed[0][2], "no_such_field")


@pytest.mark.parametrize("length", [0, 3, 8, 15, 17, 30])
def test_a_sealed_message_that_is_none_is_rejected_with_a_sentence(length):
    whole = sealed(message("rgb", 0))
    cut = Sealed(whole.raw[:length], whole.msgtype)
    with pytest.raises(Rejection, match=f"{length} bytes are no sensor_msgs/msg/Image"):
        _ = cut.height
    segmenter = made()
    segmenter.offer("rgb", cut, 1)
    segmenter.step(2)
    assert segmenter.health(3)["rgb"].rejected == {Fault.FORMAT: 1}


def test_who_is_too_slow_says_so_and_blames_nobody():
    """Fed at 20 images a second, with time for two masks; then there is time again."""
    segmenter = made()
    relief_ns, loads, masks, due_ns = 6 * SECOND, [], [], 0
    for at, name, sent in rows(12.0):
        while due_ns <= at:
            mask = segmenter.step(due_ns)
            masks += [(due_ns, mask)] if mask is not None else []
            loads.append((due_ns, segmenter.intake.load()))
            due_ns += (500 if 2 * SECOND <= due_ns < relief_ns else 10) * MS
        segmenter.offer(name, sent, at)
    times = [t for t, load in loads if load.overloaded]
    assert 2 * SECOND < times[0] <= 4 * SECOND and relief_ns < times[-1] <= relief_ns + 2 * SECOND
    assert max(load.backlog_ms["rgb"] for _, load in loads) >= 400
    assert all("OVERLOADED" in load.text for _, load in loads if load.overloaded)
    assert not segmenter.intake.load().text and segmenter.intake.load().shed
    busy_masks = [mask for t, mask in masks if 2.5 * SECOND < t < relief_ns]
    assert len(busy_masks) >= 6
    for _, mask in masks:
        assert all(state is State.LIVE for state in mask.states.values()) or mask.stamp_ns < (
            EPOCH + SECOND
        )
    for mask in busy_masks:  # the newest there is, not the oldest that waits
        assert set(mask.used) == set(ALL), mask.reasons
        assert not mask.reasons, mask.reasons
        assert mask.latency_ms["queue"] <= 60
    assert not any(each.findings for each in segmenter.health(12 * SECOND).values())


def test_who_keeps_up_is_not_overloaded():
    """The clean twin: what is late for a moment, and what comes in bursts, included."""
    segmenter, loads, due_ns = made(), [], 0
    for at, name, sent in rows(6.0):
        while due_ns <= at:
            segmenter.step(due_ns)
            loads.append(segmenter.intake.load())
            due_ns += (300 if due_ns == 3 * SECOND else 10) * MS
        segmenter.offer(name, sent, at)
    assert not any(load.text or load.shed for load in loads)
    assert max(load.backlog_ms["rgb"] for load in loads) >= 200  # the moment


def test_a_sensor_that_dies_while_we_are_too_slow_is_found_all_the_same():
    segmenter = made()
    masks = busy(segmenter, through("lidar:off@4", rows(9.0)), 400 * MS)
    assert segmenter.intake.load().overloaded
    assert "lidar" not in masks[-1].used and masks[-1].reasons["lidar"][0].fault is Fault.SILENT
    early = [m for m in masks if m.stamp_ns < EPOCH + 4 * SECOND]
    assert all(m.states["lidar"] is not State.DEAD for m in early)


def test_a_replay_is_never_too_slow():
    segmenter = made(Segmenter)
    for at, name, sent in rows(4.0):
        segmenter.push(name, sent, at)
        if at % (SECOND // 2) == 0:
            segmenter.step(at)
    assert segmenter.intake.load().text == "" and segmenter.intake.overtaken > 5
