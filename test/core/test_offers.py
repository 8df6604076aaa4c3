"""What is offered makes the masks of what is pushed; what is overtaken is never looked into."""

from __future__ import annotations

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
        assert message_._opened is None
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
