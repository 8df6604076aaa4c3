"""How much got lost on the way, by numbers and by stamps, and the line that cures it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from robustseg_core import config
from robustseg_core.doctor.examine import admit
from robustseg_core.doctor.loss import (
    CYCLONE,
    FAST_DDS,
    KERNEL,
    ZENOH,
    Reception,
    Wire,
    kernel_limits,
    loss_of,
    lost_numbers,
    lost_stamps,
    payload_bytes,
)
from robustseg_core.doctor.observation import Observation, Offer, Stream
from robustseg_core.doctor.streams import check_stream
from robustseg_core.robot.config import RobotConfig
from robustseg_core.robot.transports import VARIABLE
from robustseg_core.types import MS, SECOND
from support.makers import events, image, xyz

IMAGE = "sensor_msgs/msg/Image"
LOST = st.sets(st.integers(1, 58), max_size=50)


@given(first=st.integers(0, 10**9), lost=LOST)
def test_of_numbers_what_lies_between_the_first_and_the_last_is_lost(first, lost):
    """Those of 60 messages whose ends were heard."""
    assert lost_numbers([first + n for n in range(60) if n not in lost]) == len(lost)


@given(lost=LOST, seed=st.integers(0, 1000))
def test_messages_in_another_order_are_not_lost(lost, seed):
    heard = np.array([n for n in range(60) if n not in lost])
    near = heard + np.random.default_rng(seed).uniform(0, 20, len(heard))
    assert lost_numbers(heard[np.argsort(near)].tolist()) == len(lost)


@given(lost=LOST)
def test_a_publisher_that_begins_anew_is_no_loss(lost):
    heard = [n for n in range(60) if n not in lost]
    assert lost_numbers([*(1000 + n for n in heard), *heard]) == 2 * len(lost)
    assert lost_numbers([]) == 0 and lost_numbers([7]) == 0


@given(
    lost=st.sets(st.integers(1, 58), max_size=40),
    period_ms=st.integers(5, 500),
    jitter=st.floats(0, 0.08),
    seed=st.integers(0, 1000),
)
def test_of_stamps_that_keep_a_rate_the_gaps_are_counted(lost, period_ms, jitter, seed):
    assume(sum({n, n + 1}.isdisjoint(lost) for n in range(59)) >= 8)  # whose period can be seen
    random = np.random.default_rng(seed)
    at = np.arange(60) + random.uniform(-jitter, jitter, 60)
    stamps = [round(t * period_ms * MS) for n, t in enumerate(at) if n not in lost]
    assert lost_stamps(stamps) == len(lost)


@given(st.integers(0, 1000))
def test_of_stamps_without_a_rate_nothing_is_said(seed):
    pauses_s = np.random.default_rng(seed).exponential(0.1, 200)
    assert lost_stamps(np.cumsum(pauses_s * SECOND).astype(np.int64)) is None
    assert lost_stamps([0, 1, 2]) is None and lost_stamps([5] * 50) is None


def told(reception: Reception, numbers, gid: bytes = b"a") -> None:
    for number in numbers:
        info = {"publication_sequence_number": number, "publisher_gid": {"data": gid}}
        reception.heard(image(np.zeros((4, 5), np.uint8), "mono8", number * SECOND // 10), info)


def test_publishers_and_subscriptions_are_counted_apart():
    reception = Reception()
    told(reception, [1, 2, 4])
    told(reception, [900, 901], gid=b"b")
    reception.begin()
    told(reception, [50, 52])
    loss = loss_of(reception)
    assert (loss.heard, loss.lost, loss.by) == (7, 2, "publication numbers")
    assert loss.share == pytest.approx(2 / 9)
    assert reception.size == 20


def test_who_numbers_nothing_is_judged_by_stamps_and_who_says_nothing_not_at_all():
    reception = Reception()
    for n in (*range(20), *range(30, 50)):
        stamp_ns = n * SECOND // 10
        reception.heard(image(np.zeros((4, 5), np.uint8), "mono8", stamp_ns), {})
    loss = loss_of(reception)
    assert (loss.heard, loss.lost, loss.by) == (40, 10, "gaps of the stamps")
    silent = Reception()
    silent.heard(object(), {})
    assert loss_of(silent) is None and silent.size == 0


def test_what_makes_a_message_large():
    assert payload_bytes(image(np.zeros((48, 64, 3), np.uint8), "rgb8")) == 48 * 64 * 3
    assert payload_bytes(xyz(np.zeros((10, 3)))) == 160
    assert payload_bytes(events(np.zeros(7, np.uint16), 0)) == 14
    assert payload_bytes(object()) == 0


LOW = {"net.core.rmem_max": 212_992, "net.ipv4.ipfrag_time": 30}
HIGH = dict(KERNEL)
BIG = 7_000_000


@pytest.mark.parametrize(
    ("middleware", "kernel", "environment", "words", "never"),
    [
        (FAST_DDS, LOW, {}, [f"export {VARIABLE}=", "rmem_max=2147483647"], []),
        (FAST_DDS, HIGH, {}, [f"export {VARIABLE}="], ["sysctl"]),
        (CYCLONE, LOW, {}, ["sudo sysctl -w", "SocketReceiveBufferSize", "10MB"], []),
        (CYCLONE, HIGH, {}, ["SocketReceiveBufferSize"], ["sysctl"]),
        (CYCLONE, LOW, {"CYCLONEDDS_URI": "<SocketReceiveBufferSize"}, ["sysctl"], ["URI"]),
        (ZENOH, LOW, {}, ["wait_before_drop=", "shared_memory/enabled=true"], ["sysctl"]),
        (ZENOH, LOW, {"ZENOH_CONFIG_OVERRIDE": "mode=1;"}, ["'mode=1;transport/"], ["sysctl"]),
        ("rmw_connextdds", LOW, {}, ["rmw_connextdds", "buffers"], ["sysctl"]),
    ],
)
def test_the_cure_is_that_of_the_middleware(middleware, kernel, environment, words, never):
    cure = Wire(middleware, {}, kernel, environment).cure()
    assert all(word in cure for word in words) and not any(word in cure for word in never), cure


def test_the_kernels_limits_are_read_where_it_tells_them(tmp_path):
    (tmp_path / "net" / "core").mkdir(parents=True)
    (tmp_path / "net" / "core" / "rmem_max").write_text("212992\n")
    assert kernel_limits(tmp_path) == {"net.core.rmem_max": 212_992}
    assert kernel_limits(tmp_path / "nowhere") == {}


def check(reception: Reception | None, middleware: str = FAST_DDS) -> Any:
    """The doctor's word on the loss of a camera's messages."""
    robot = config.parse(RobotConfig, {"weights": "untrained", "streams": {"rgb": {"topic": "/a"}}})
    probe, _ = admit(robot)
    probe.logs["rgb"].arrivals_ns.append(1)
    wire = Wire(middleware, {} if reception is None else {"rgb": reception}, LOW)
    offers = {"/a": Offer((IMAGE,), publishers=1)}
    observation = Observation(probe, offers, 0, 5 * SECOND, live=True, wire=wire)
    return {c.name: c for c in check_stream(Stream(observation, "rgb"))}["loss"]


@pytest.mark.parametrize(
    ("heard", "status"),
    [
        (range(100), "ok"),
        ((*range(40), *range(42, 100)), "ok"),
        ((*range(40), *range(45, 100)), "warn"),
        (range(0, 100, 3), "bad"),
    ],
)
def test_the_doctor_tells_how_much_of_how_many_by_whom_and_the_cure(heard, status):
    reception = Reception()
    told(reception, heard)
    reception.size = BIG
    got = check(reception)
    sent = max(heard) - min(heard) + 1
    share = 100 * (1 - len(heard) / sent)
    assert got.status.value == status
    assert got.found == (
        f"{share:.1f} % of {sent} messages lost in 5.0 s (rmw_fastrtps_cpp, by publication "
        "numbers; the largest that came: 7.0 MB)"
    )
    assert (VARIABLE in got.fix) == (status != "ok")


def test_that_our_own_queue_was_full_is_told_too():
    reception = Reception(overflows=2)
    told(reception, range(0, 100, 3))
    got = check(reception)
    assert "our own queue, found full at 2 looks" in got.found
    assert got.fix.startswith(f"export {VARIABLE}=") and got.fix.endswith("on this computer")
    assert "0.0 kB" in got.found


def test_of_what_nobody_tells_nothing_is_said():
    assert check(None).status.value == "-"
    empty = check(Reception(), CYCLONE)
    assert empty.status.value == "-" and "rmw_cyclonedds_cpp numbers nothing" in empty.found
