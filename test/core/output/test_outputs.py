"""Label maps and health as standard messages: what a subscriber will read."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.bag.typestore import LABEL_INFO, typestore
from robustseg_core.codecs.message_types import CAMERA_INFO
from robustseg_core.errors import RobustsegError
from robustseg_core.geometry.camera import Camera
from robustseg_core.geometry.scene import Scene
from robustseg_core.output import messages, states, topics
from robustseg_core.output.topics import Mask
from robustseg_core.types import MS, SECOND, Bundle, Fault, Finding, Frame, Health, State
from support.label_maps import STAMP, a_map, a_spec
from support.makers import camera_info

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


def test_the_colors_of_a_mask_are_those_of_the_networks_palette():
    color = topics.of_a_mask()["label_color"]
    message = through_the_wire(color.type, color.make(Mask(a_map(), a_spec())))
    assert (message.encoding, message.step, message.header.frame_id) == (
        "rgb8",
        12,
        "camera_optical",
    )
    colors = message.data.reshape(3, 4, 3)
    assert colors[0, :2].tolist() == [[0, 0, 255], [0, 255, 0]]
    assert not colors[0, 2:].any() and not colors[1:].any(), "no class: black"


BENT = (-0.2, 0.05, 0.001, -0.001, 0.01)
LENSES = {
    "none": camera_info(6, 8, fx=7.0),
    "plumb_bob": camera_info(6, 8, fx=7.0, d=BENT),
    "rational": camera_info(6, 8, fx=7.0, d=(*BENT, 0.1, 0.2, 0.03), model="rational_polynomial"),
    "fisheye": camera_info(6, 8, fx=7.0, d=(0.05, -0.01, 0.004, 0.0), model="equidistant"),
}


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("size", [(6, 8), (3, 4), (2, 8)])
def test_a_masks_camera_info_is_its_cameras_resized_as_the_mask_is(lens, size, rectified):
    """Whoever reads it, projects as we do; and it has what the type asks for."""
    info = LENSES[lens]
    turn, _ = cv2.Rodrigues(np.array([0.01, -0.02, 0.005]))
    info.r, info.p = turn.ravel(), np.array([6, 0, 3, 9.0, 0, 6.5, 2, 0, 0, 0, 1, 0])
    camera = Camera.from_message(info, rectified=rectified)
    label_map = a_map(ids=np.zeros(size, np.uint8), scene=Scene(camera))
    message = through_the_wire(CAMERA_INFO, messages.camera_info(label_map))
    assert (message.header.stamp.nanosec, message.header.frame_id) == (34, "camera_optical")
    assert (message.height, message.width) == size
    coefficients = {"plumb_bob": 5, "rational_polynomial": 8, "equidistant": 4}
    assert len(message.d) == coefficients[message.distortion_model]
    np.testing.assert_allclose(message.r.reshape(3, 3), turn)
    down, across = size[0] / 6, size[1] / 8
    assert message.p.tolist() == pytest.approx(
        [6 * across, 0, 3.5 * across - 0.5, 0, 0, 6.5 * down, 2.5 * down - 0.5, 0, 0, 0, 1, 0]
    )
    if rectified:
        assert message.k[[0, 4, 2, 5]].tolist() == message.p[[0, 5, 2, 6]].tolist()
        assert not message.d.any()
    read_back = Camera.from_message(message, rectified=rectified)
    points = np.random.default_rng(3).uniform([-1, -1, 2], [1, 1, 9], (40, 3))
    ours, theirs = camera.scaled(*size).project(points), read_back.project(points)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)


def test_where_no_lens_is_known_there_is_no_camera_info():
    for scene in (None, Scene()):
        assert messages.camera_info(a_map(scene=scene)) is None


def test_states_are_curves_with_names_in_one_order():
    frames = {"rgb": Frame("rgb", STAMP, np.zeros((3, 2, 2), np.float32), 0.75)}
    label_map = a_map(bundle=Bundle(STAMP, frames))
    message = through_the_wire(topics.CURVES, states.sensor_states(label_map, a_spec()))
    assert (message.header.stamp.nanosec, message.header.frame_id) == (34, "camera_optical")
    curves = dict(zip(message.name, message.position, strict=True))
    parts = ("state", "used", "quality", "held_ms")
    assert message.name == [
        *(f"{name}.{part}" for name in a_spec().modalities for part in parts),
        "confidence",
        "latency_ms.fuse",
        "latency_ms.total",
    ]
    found = {name: [curves[f"{name}.{part}"] for part in parts] for name in a_spec().modalities}
    assert found["rgb"] == [4, 1, 0.75, 0]
    assert found["lidar"][:2] == [0, 0] and np.isnan(found["lidar"][2:]).all()
    assert found["depth"][0] == 3 and found["depth"][3] == 33.3
    assert curves["confidence"] == pytest.approx(200 / 255)
    assert set(states.HEIGHT) == set(State) and len(set(states.HEIGHT.values())) == len(State)
    nobody = states.sensor_states(a_map(used=(), states={}, held_ms={}), a_spec())
    assert nobody["name"] == message.name and nobody["position"][0] == -1


def test_an_overlay_keeps_red_red_raw_and_compressed():
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[..., 0] = 250
    raw = through_the_wire(IMAGE, messages.drawn(picture, a_map()))
    assert (raw.encoding, raw.step, raw.height) == ("rgb8", 144, 32)
    assert np.array_equal(raw.data.reshape(32, 48, 3), picture)
    fields = messages.compressed_overlay(picture, a_map())
    packed = through_the_wire("sensor_msgs/msg/CompressedImage", fields)
    bgr = cv2.imdecode(packed.data, cv2.IMREAD_COLOR)
    assert abs(int(bgr[16, 24, 2]) - 250) < 6
    assert bgr[16, 24, 0] < 6
    with pytest.raises(RobustsegError, match=r"expected uint8 \(H, W, 3\) RGB"):
        messages.drawn(picture[..., 0], a_map())


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
