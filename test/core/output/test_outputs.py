"""Label maps and health as standard messages: what a subscriber will read."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.bag.typestore import LABEL_INFO, typestore
from robustseg_core.errors import RobustsegError
from robustseg_core.output import messages
from robustseg_core.types import MS, SECOND, Fault, Finding, Health, State
from support.label_maps import STAMP, a_map, a_spec

IMAGE = "sensor_msgs/msg/Image"
ARRAY = "diagnostic_msgs/msg/DiagnosticArray"
LATE = Finding(Fault.LATE, fatal=False, text="80 ms, limit 40")


def read(message: Any) -> dict[str, Any]:
    """Statuses by name: (level, message, values)."""
    return {
        s.name: (s.level, s.message, {pair.key: pair.value for pair in s.values})
        for s in message.status
    }


def through_the_wire(msgtype: str, fields: dict[str, Any]) -> Any:
    store = typestore()
    raw = store.serialize_cdr(messages.to_rosbags(msgtype, fields), msgtype)
    return store.deserialize_cdr(raw, msgtype)


def test_a_mask_survives_the_wire_with_the_stamp_of_its_reference():
    mask = through_the_wire(IMAGE, messages.label_mask(a_map()))
    assert (mask.header.stamp.sec, mask.header.stamp.nanosec) == (12, 34)
    assert (mask.header.frame_id, mask.encoding, mask.step) == ("camera_optical", "mono8", 4)
    assert np.array_equal(mask.data.reshape(mask.height, mask.width), a_map().ids)
    assert np.all(through_the_wire(IMAGE, messages.confidence(a_map())).data == 200)


def test_a_mask_that_is_a_slice_of_something_larger_is_sent_whole_and_alone():
    large = np.arange(600, dtype=np.uint16).astype(np.uint8).reshape(20, 30)
    mask = messages.label_mask(a_map(ids=large[::2, 3:9]))
    assert np.array_equal(mask["data"].reshape(10, 6), large[::2, 3:9])


def test_the_names_of_a_masks_ids_survive_the_wire_with_the_one_that_means_nobody_knows():
    message = through_the_wire(LABEL_INFO, messages.label_info(a_spec(), STAMP))
    names = {one.class_id: one.class_name for one in message.class_map}
    assert names == {0: "road", 1: "tree", 255: "unlabeled"}
    assert message.threshold == 0 and message.header.stamp.sec == 12


def test_an_overlay_keeps_red_red_raw_and_compressed():
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[..., 0] = 250
    raw = through_the_wire(IMAGE, messages.overlay(picture, a_map()))
    assert (raw.encoding, raw.step, raw.height) == ("rgb8", 144, 32)
    assert np.array_equal(raw.data.reshape(32, 48, 3), picture)
    fields = messages.compressed_overlay(picture, a_map())
    packed = through_the_wire("sensor_msgs/msg/CompressedImage", fields)
    bgr = cv2.imdecode(packed.data, cv2.IMREAD_COLOR)
    assert abs(int(bgr[16, 24, 2]) - 250) < 6
    assert bgr[16, 24, 0] < 6
    with pytest.raises(RobustsegError, match=r"expected uint8 \(H, W, 3\) RGB"):
        messages.overlay(picture[..., 0], a_map())


def test_the_status_says_who_made_the_mask_and_why_the_others_did_not():
    message = through_the_wire(ARRAY, messages.status(a_map(), a_spec(trained=True)))
    assert (message.header.stamp.sec, message.header.frame_id) == (12, "camera_optical")
    said = read(message)
    assert list(said) == [f"robustseg: {n}" for n in ("rgb", "depth", "event", "lidar", "mask")]
    assert said["robustseg: rgb"] == (
        messages.OK,
        "used",
        {"state": "LIVE", "used": "true", "held_ms": "0.000"},
    )
    assert said["robustseg: depth"][:2] == (messages.WARN, "used")
    assert said["robustseg: event"][:2] == (
        messages.WARN,
        "late: 80 ms, limit 40; polarity: one-sided",
    )
    assert said["robustseg: event"][2]["reason.late.value"] == "80.1"
    assert said["robustseg: event"][2]["reason.late.unit"] == "ms"
    assert said["robustseg: lidar"][:2] == (messages.ERROR, "silent: 1.2 s without a message")
    assert said["robustseg: lidar"][2]["reason.silent"] == "1.2 s without a message"
    assert messages.read_status(message)["reasons"] == a_map().reasons, "numbers, too"
    level, text, values = said["robustseg: mask"]
    assert (level, text) == (messages.WARN, "made of rgb depth")
    assert (values["used"], values["latency_ms.total"], values["trained"]) == (
        "rgb depth",
        "21.000",
        "true",
    )


@pytest.mark.parametrize(
    ("used", "trained", "level"),
    [
        (("rgb", "depth", "event", "lidar"), True, messages.OK),
        (("rgb", "depth", "event", "lidar"), False, messages.WARN),
        (("lidar",), True, messages.WARN),
        ((), True, messages.ERROR),
    ],
)
def test_the_mask_is_well_only_when_all_sensors_and_trained_weights_made_it(used, trained, level):
    fields = messages.status(a_map(used=used), a_spec(trained=trained))
    assert fields["status"][-1]["level"] == level


def test_a_sensor_that_was_switched_off_is_no_fault_of_the_mask():
    states = {name: State.LIVE for name in ("rgb", "depth", "event")} | {"lidar": State.DISABLED}
    used = ("rgb", "depth", "event")
    fields = messages.status(a_map(used=used, states=states), a_spec(trained=True))
    assert [status["level"] for status in fields["status"]] == [messages.OK] * 5


def late(fault: Fault, *, fatal: bool) -> tuple[Finding, ...]:
    return (Finding(fault, fatal=fatal, text="12 s"),)


LIVE = Health(State.LIVE)
SLOW = Health(State.LIVE, late(Fault.SLOW, fatal=False))
DEAD = Health(State.DEAD, late(Fault.SILENT, fatal=True))
OFF = Health(State.DISABLED)
STARTING = Health(State.WAITING, late(Fault.NEVER_SEEN, fatal=False))
ABSENT = Health(State.WAITING, late(Fault.NEVER_SEEN, fatal=True))


@pytest.mark.parametrize(
    ("streams", "level"),
    [
        ((LIVE, LIVE), messages.OK),
        ((LIVE, OFF), messages.OK),
        ((LIVE, STARTING), messages.OK),
        ((LIVE, SLOW), messages.WARN),
        ((LIVE, DEAD), messages.WARN),
        ((LIVE, ABSENT), messages.WARN),
        ((LIVE, Health(State.RECOVERING)), messages.WARN),
        ((Health(State.DEGRADED), DEAD), messages.WARN),
        ((STARTING, STARTING), messages.WARN),
        ((DEAD, DEAD), messages.ERROR),
        ((DEAD, STARTING), messages.ERROR),
        ((ABSENT, ABSENT), messages.ERROR),
        ((OFF, OFF), messages.ERROR),
        ((), messages.ERROR),
    ],
)
def test_overall_health_is_an_error_only_when_no_sensor_is_usable(streams, level):
    healths = {f"sensor{number}": stream for number, stream in enumerate(streams)}
    message = through_the_wire(ARRAY, messages.health(healths, STAMP))
    assert message.status[0].name == "robustseg: sensors"
    assert message.status[0].level == level


def test_diagnostics_carry_the_numbers_behind_the_opinion():
    stream = Health(
        State.DEAD,
        late(Fault.SILENT, fatal=True),
        rate_hz=9.87,
        age_ms=1234.5,
        received=70,
        rejected={Fault.FORMAT: 3, Fault.BLACK: 2},
    )
    said = read(
        through_the_wire(ARRAY, messages.health({"lidar": stream}, STAMP, "front/segmenter"))
    )
    level, text, values = said["front/segmenter: lidar"]
    assert (level, text) == (messages.ERROR, "DEAD: silent: 12 s")
    assert values == {
        "state": "DEAD",
        "reason": "silent: 12 s",
        "rate_hz": "9.87",
        "age_ms": "1234.5",
        "score": "1.00",
        "received": "70",
        "rejected": "5",
        "rejected_format": "3",
        "rejected_black": "2",
        "reason.silent": "12 s",
        "fatal": "silent",
    }


def test_the_opinion_of_every_stream_is_read_back_from_diagnostics():
    slow = Finding(Fault.SLOW, fatal=False, text="3 Hz", value=3.0, limit=5.0, unit="Hz")
    healths = {"rgb": Health(State.LIVE, (slow,)), "lidar": DEAD, "event": LIVE}
    message = through_the_wire(ARRAY, messages.health(healths, STAMP))
    assert messages.read_health(message) == healths
    assert messages.read_health(message, "front/robustseg") == {}


def test_fields_that_nobody_named_are_zero():
    info = through_the_wire("sensor_msgs/msg/CameraInfo", {"width": np.int64(640), "d": [0.1, 0.2]})
    assert (info.width, info.height, info.header.frame_id) == (640, 0, "")
    assert (info.d.tolist(), info.k.tolist()) == ([0.1, 0.2], [0.0] * 9)
    assert info.roi.do_rectify is False


def test_a_misspelt_field_or_type_names_the_right_one():
    with pytest.raises(RobustsegError, match="no field 'heigth'; did you mean 'height'"):
        messages.to_rosbags(IMAGE, {"heigth": 3})
    with pytest.raises(RobustsegError, match="did you mean 'sensor_msgs/msg/Image'"):
        messages.to_rosbags("sensor_msgs/msg/Imag", {})


@given(stamp_ns=st.integers(0, (2**31 - 1) * SECOND), age_ns=st.integers(0, 10 * MS))
def test_no_nanosecond_of_a_stamp_is_lost(stamp_ns, age_ns):
    stamp = messages.header(stamp_ns + age_ns, "x")["stamp"]
    assert stamp["sec"] * SECOND + stamp["nanosec"] == stamp_ns + age_ns
