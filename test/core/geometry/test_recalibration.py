"""Stories about calibration in mid-drive: a change is told, an impossible one is refused."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core import config
from robustseg_core.bag import BagWriter
from robustseg_core.errors import RobustsegError
from robustseg_core.geometry.transforms import apart, pose
from robustseg_core.output import messages
from robustseg_core.recording.run import run_bags
from robustseg_core.robot.config import RobotConfig
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import SECOND, Fault, Finding, sentence
from support.drives import ALL, EPOCH, OPTICAL, TOPICS, drive, rows, segmenter
from support.makers import camera_info, make, transform

pytestmark = pytest.mark.slow

CHANGED_S = 0.6


def info(**changes: Any) -> Any:
    """The drive's CameraInfo with other fields, or with some numbers of them."""
    sent = camera_info(48, 64, fx=60.0, d=(-0.1, 0.02, 0, 0, 0))
    for name, value in changes.items():
        if isinstance(value, dict):
            for place, number in value.items():
                getattr(sent, name)[place] = number
        else:
            setattr(sent, name, value)
    return sent


def lidar(x: float = 0.0, turn_deg: float = 0.0, sign: float = 1.0) -> Any:
    """The drive's transform, moved along x and turned about the camera's y."""
    half = np.radians(turn_deg) / 2
    (a, b, c), d = OPTICAL[:3], OPTICAL[3]
    s, w = np.sin(half), np.cos(half)
    product = (w * a + s * c, w * b + s * d, w * c - s * a, w * d - s * b)
    return transform("camera", "lidar", (x, 0, 0), tuple(sign * n for n in product))


def story(
    act: Callable[[Segmenter], Any], seconds: float = 1.4
) -> tuple[Segmenter, dict[str, set[Fault]], list[Any]]:
    """A drive in which `act` happens: what was said of each sensor from then on."""
    made = segmenter()
    made.intake.view.set_camera_info("rgb", info())  # as if it had been the first
    said: dict[str, set[Fault]] = {name: set() for name in ALL}
    answers: list[Any] = []

    def watch(now_ns: int) -> None:
        if now_ns >= CHANGED_S * SECOND and not answers:
            answers.append(act(made))
        for name, health in made.health(now_ns).items():
            if answers:
                said[name] |= {finding.fault for finding in health.findings}

    maps = [label_map for _, label_map in drive(made, rows(seconds), watch)]
    assert maps[-1].used == ALL
    return made, said, answers


CHANGES = {
    "focal length": ({"k": {0: 90.0, 4: 90.0}}, "fx 60.00 to 90.00 px, fy 60.00 to 90.00 px"),
    "principal point": ({"k": {2: 20.0}}, "cx 31.50 to 20.00 px"),
    "distortion": ({"d": {0: -0.2}}, "distortion (-0.1, 0.02) to (-0.2, 0.02)"),
    "model": (
        {"distortion_model": "equidistant", "d": np.array([-0.1, 0.02, 0, 0])},
        "distortion (-0.1, 0.02) to fisheye (-0.1, 0.02)",
    ),
    "frame": (
        {"header": camera_info(frame_id="eye").header},
        "frame_id 'camera' to 'eye'",
    ),
    "binning": ({"binning_x": 2, "binning_y": 2}, "binning 1x1 to 2x2"),
    "region of interest": (
        {
            "roi": make(
                "sensor_msgs/msg/RegionOfInterest",
                x_offset=16,
                y_offset=12,
                height=24,
                width=32,
                do_rectify=False,
            )
        },
        "size 64x48 to 32x24, cx 31.50 to 15.50 px, cy 23.50 to 11.50 px",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_calibration_that_changes_is_told_once_with_both_values_and_used(name):
    fields, words = CHANGES[name]

    def act(made: Segmenter) -> None:
        if name == "frame":  # else the LiDAR would be lost with it
            made.push_transforms(transform("camera", "eye"))
        for _ in range(30):  # as often as a driver says it
            assert made.push_camera_info("rgb", info(**copy.deepcopy(fields))) is None

    made, said, _ = story(act)
    ((what, finding, count),) = made.intake.calibration_changed
    assert (what, finding.text, count) == ("CameraInfo of rgb changed", words, 1)
    assert Fault.RECALIBRATED in said["rgb"]
    assert not any(said[other] for other in ALL[1:])
    own = made.intake.view.camera_of("rgb")
    assert own is not None and not own.changes(type(own).from_message(info(**fields)))
    assert not made.intake.calibration_rejected


def test_rectified_images_are_told_of_p_and_r_and_raw_ones_are_not():
    turned = np.array([[0.8, 0, 0.6], [0, 1, 0], [-0.6, 0, 0.8]])
    changed = info(p={0: 80.0}, r=turned.ravel())
    made = segmenter(("rgb",))
    made.push_camera_info("rgb", info())
    made.intake.calibration_changed.clear()
    assert made.push_camera_info("rgb", changed) is None and not made.intake.calibration_changed
    view = made.intake.view
    view.set_camera_info("rgb", info(), rectified=True)
    text = view.set_camera_info("rgb", changed, rectified=True)
    assert "fx 60.00 to 80.00 px" in text and "pitch 0.00 yaw 0.00 degrees to" in text
    assert "pitch 36.87" in text


@pytest.mark.parametrize(
    "moved, words",
    [
        (lidar(turn_deg=10), "moved by 0.000 m and turned by 10.00 degrees in 'camera'"),
        (lidar(x=1.5), "moved by 1.500 m and turned by 0.00 degrees in 'camera'"),
    ],
)
def test_a_sensor_that_moves_is_told_with_both_places_and_the_new_one_is_used(moved, words):
    made, said, answers = story(lambda made: [made.push_transforms(moved) for _ in range(10)])
    assert answers == [[None] * 10]
    ((what, finding, count),) = made.intake.calibration_changed
    assert (what, count) == ("lidar", 1)
    assert finding.text.startswith(f"{words}: from x 0.000")
    assert said == {"rgb": set(), "depth": set(), "event": set(), "lidar": {Fault.RECALIBRATED}}
    pose_now = made.intake.view.view_from("lidar", "lidar")
    numbers = moved.transforms[0].transform
    t, q = numbers.translation, numbers.rotation
    assert apart(pose_now, pose(t.x, t.y, t.z, q.x, q.y, q.z, q.w)) == pytest.approx((0, 0))


def test_a_link_in_the_middle_of_the_chain_moves_the_sensor_as_well():
    def act(made: Segmenter) -> None:
        made.push_transforms(transform("camera", "mast"))
        made.push_transforms(transform("mast", "lidar", quaternion=OPTICAL))  # nothing moved
        assert not made.intake.calibration_changed
        made.push_transforms(transform("camera", "mast", (0, 0.25, 0)))

    made, said, _ = story(act)
    ((_what, finding, _count),) = made.intake.calibration_changed
    assert "moved by 0.250 m" in finding.text and said["lidar"] == {Fault.RECALIBRATED}


noise = st.floats(-1e-7, 1e-7)


@given(st.lists(noise, min_size=9, max_size=9), st.sampled_from([-1.0, 1.0]), noise)
def test_what_is_numerically_the_same_is_no_change(shifts, sign, offset):
    made = segmenter()
    made.push_camera_info("rgb", info())
    for at, name, sent in rows(0.2):
        made.push(name, sent, at)
    made.intake.calibration_changed.clear()
    version = made.intake.view.version
    sent = info()
    sent.k = (sent.k * (1 + np.array(shifts))).astype(np.float32).astype(np.float64)
    sent.d = np.append(sent.d.astype(np.float32), np.zeros(3))
    made.push_camera_info("rgb", sent)
    made.push_transforms(lidar(x=offset, sign=sign))
    for at, name, sent in rows(0.4)[len(rows(0.2)) :]:
        made.push(name, sent, at)
    assert made.intake.view.version == version and not made.intake.calibration_changed


def test_two_publishers_that_disagree_are_counted_and_fill_no_memory():
    made = segmenter(("rgb",))
    for k in range(100):
        made.push_camera_info("rgb", info(k={0: 60.0 + 10 * (k % 2)}))
    assert made.intake.calibration_changed.total() >= 99
    for k in range(300):  # a zoom
        made.push_camera_info("rgb", info(k={0: 70.0 + k}))
    ((what, finding, _),) = made.intake.calibration_changed
    assert what == "CameraInfo of rgb changed" and "fx 299.00 to 300.00 px" in finding.text


def test_a_place_that_creeps_is_told_when_it_has_moved():
    made = segmenter()
    arrivals = rows(3.0)
    for step, (at, name, sent) in enumerate(arrivals):
        if step % 10 == 0:
            made.push_transforms(lidar(x=0.0002 * (step // 10)))  # a fifth of what is told
        made.push(name, sent, at)
    told = made.intake.calibration_changed.total()
    assert 1 <= told <= len(arrivals) // 10 // 4


# -- what is impossible -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, words",
    [
        ({"k": {2: 64.0}}, r"principal point \(64.0, 23.5\) lies outside the image of 64x48"),
        ({"k": {5: -3.0}}, "principal point"),
        ({"k": {0: 0.5, 4: 0.5}}, "sees 178 degrees; expected 1 to 170"),
        ({"k": {0: 1e5, 4: 1e5}}, "sees 0.0367 degrees; expected 1 to 170"),
        ({"k": {0: 600.0}}, "focal lengths 600 and 60 px differ"),
        ({"k": {4: np.nan}}, "not finite"),
        ({"d": {0: np.inf}}, "not finite"),
    ],
)
def test_an_impossible_camera_is_refused_told_and_the_last_good_one_stays(change, words):
    def act(made: Segmenter) -> Any:
        before = made.intake.view.camera
        answers = [made.push_camera_info("rgb", info(**copy.deepcopy(change))) for _ in range(3)]
        assert made.intake.view.camera is before
        return answers[0]

    made, said, (finding,) = story(act)
    assert finding.fault is Fault.NO_CALIB
    ((what, finding, count),) = made.intake.calibration_rejected
    assert (what, finding.fault, count) == ("CameraInfo of rgb", Fault.NO_CALIB, 3)
    assert "calibrate the camera" in finding.text and re.search(words, finding.text)
    assert said == {"rgb": {Fault.NO_CALIB}, "depth": set(), "event": set(), "lidar": set()}
    assert not made.intake.calibration_changed


def test_a_cropped_image_may_have_its_principal_point_outside():
    sent = info()
    sent.roi = make(
        "sensor_msgs/msg/RegionOfInterest",
        x_offset=0,
        y_offset=30,
        height=18,
        width=64,
        do_rectify=False,
    )
    made = segmenter(("rgb",))
    assert made.push_camera_info("rgb", sent) is None
    assert made.intake.view.camera.cy < 0


def test_a_lidar_half_a_kilometre_away_is_refused_and_its_last_place_stays():
    def act(made: Segmenter) -> Any:
        before = made.intake.view.view_from("lidar", "lidar")
        answers = [made.push_transforms(lidar(x=500)) for _ in range(3)]
        assert np.array_equal(made.intake.view.view_from("lidar", "lidar"), before)
        assert made.push_transforms(transform("map", "camera", (4000, 0, 0))) is None  # no link
        return answers

    made, said, (answers,) = story(act)
    assert all(a is not None and a.fault is Fault.NO_TF for a in answers)
    ((what, finding, count),) = made.intake.calibration_rejected
    assert (what, count) == ("transform", 3)
    assert "500.0 m from 'camera', limit 100 m" in finding.text
    assert "view.max_distance_m" in finding.text and "view.extrinsics.lidar" in finding.text
    assert said == {"rgb": set(), "depth": set(), "event": set(), "lidar": {Fault.NO_TF}}
    assert not made.intake.calibration_changed
    assert made.push_transforms(lidar(x=0.5)) is None, "a possible one is believed again"
    assert made.intake.view.view_from("lidar", "lidar")[0, 3] == 0.5


def test_two_steps_that_only_together_make_sense_end_well():
    """A tree that gets another root: between its two messages the sensor seems to be far away."""

    def act(made: Segmenter) -> None:
        made.push_transforms(transform("base", "camera", (300, 0, 0)))
        made.push_transforms(transform("base", "lidar", (300, 0.2, 0), OPTICAL))
        made.push_transforms(transform("base", "camera", (0, 0, 0)))  # now it is 300 m away
        made.push_transforms(transform("base", "lidar", (0, 0.2, 0), OPTICAL))

    made, _, _ = story(act)
    assert made.intake.calibration_rejected.total() == 1
    assert made.intake.view.view_from("lidar", "lidar")[1, 3] == pytest.approx(0.2)


def test_a_lidar_that_is_too_far_from_the_start_waits_with_the_reason():
    made = segmenter()
    made.push_transforms(lidar(x=500))
    maps = [m for _, m in drive(made, rows(1.0))]
    assert maps[-1].used == ALL[:3]
    told = sentence(maps[-1].reasons["lidar"])
    assert told.startswith("no_tf: transform puts 'lidar' 500.0 m from")
    ((_what, refused, count),) = made.intake.calibration_rejected
    assert count == 1 and "limit 100 m" in refused.text
    finding = made.push_transforms(lidar(x=500))
    assert finding is not None and finding.fault is Fault.NO_TF


def test_a_robot_may_allow_more():
    robot = config.parse(
        RobotConfig,
        {
            "streams": {n: {"topic": TOPICS[n]} for n in ALL},
            "view": {"max_distance_m": 1000},
        },
    )
    plain = segmenter()
    made = Segmenter(robot, plain.spec, plain._engine)
    made.push_camera_info("rgb", info())
    made.push_transforms(lidar(x=500))
    last = [m for _, m in drive(made, rows(1.0))][-1]
    assert not made.intake.calibration_rejected
    assert last.reasons["lidar"][0].fault is Fault.OUTSIDE  # it is taken at its word


@pytest.mark.parametrize(
    "view, words",
    [
        ({"extrinsics": {"lidar": [500, 0, 0, 0, 0, 0, 1]}}, "500.0 m from the camera, limit 100"),
        (
            {"extrinsics": {"lidar": [0, float("nan"), 0, 0, 0, 0, 1]}},
            "is nan: input should be a finite",
        ),
        ({"extrinsics": {"lidar": [0, 0, 0, 0, 0, 0, 0]}}, "quaternion has length 0, expected 1"),
        ({"extrinsics": {"lidar": [0, 0, 0, 0, 0, 90, 0]}}, "length 90"),
        ({"extrinsics": {"lidra": [0, 0, 0, 0, 0, 0, 1]}}, "did you mean 'lidar'"),
        ({"intrinsics": [0, 60, 30, 20]}, "give finite fx, fy > 0"),
        ({"intrinsics": [60, 60, float("inf"), 20]}, "is inf: input should be a finite"),
        ({"intrinsics": [60, 60, -30, 20]}, "outside every image"),
        ({"intrinsics": [60, 60, 90, 20], "width": 64, "height": 48}, "outside the image of 64x48"),
        ({"intrinsics": [1, 1, 30, 20], "width": 64, "height": 48}, "sees 176 degrees"),
    ],
)
def test_an_impossible_place_or_lens_in_robot_yaml_is_an_error_with_the_way_out(view, words):
    with pytest.raises(RobustsegError, match=r"; |finite number") as caught:
        config.parse(RobotConfig, {"streams": {"rgb": {"topic": "/rgb"}}, "view": view})
    assert words in str(caught.value)


def test_configured_intrinsics_of_another_image_are_named():
    robot = config.parse(
        RobotConfig,
        {
            "streams": {n: {"topic": TOPICS[n]} for n in ALL},
            "view": {"intrinsics": [600, 600, 320, 240], "frame_id": "camera"},
        },
    )
    plain = segmenter()
    made = Segmenter(robot, plain.spec, plain._engine)
    made.push_transforms(lidar())
    last = [m for _, m in drive(made, rows(1.0))][-1]
    assert last.used == ALL[:3]
    told = sentence(last.reasons["lidar"])
    assert "view.intrinsics: principal point (320.0, 240.0) lies outside" in told


# -- where people read it ---------------------------------------------------------------------


def test_a_run_tells_it_in_its_notices_and_diagnostics_warn(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        written = [
            (0, "/tf_static", lidar()),
            (0, "/camera_info", camera_info(48, 64, fx=60.0)),
            (SECOND, "/camera_info", camera_info(48, 64, fx=90.0)),
            (SECOND, "/tf_static", lidar(turn_deg=10)),
            (SECOND + SECOND // 2, "/tf_static", lidar(x=500)),
            *((at, TOPICS[name], sent) for at, name, sent in rows(2.0)),
        ]
        for at, topic, sent in sorted(written, key=lambda row: row[0]):
            writer.write(topic, sent.__msgtype__, sent, EPOCH + at, latched=topic == "/tf_static")
    run_bags([tmp_path / "bag"], out=tmp_path / "out", overrides=["weights=untrained"])
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    text = "\n".join(result["notices"])
    assert "CameraInfo of rgb changed: fx 60.00 to 90.00 px" in text
    assert "lidar: moved by 0.000 m and turned by 10.00 degrees" in text
    assert "puts 'lidar' 500.0 m from 'camera', limit 100 m" in text

    levels: list[int] = []

    def watch(made: Segmenter) -> None:
        made.push_transforms(lidar(turn_deg=10))

    made, said, _ = story(watch)
    fields = messages.health(made.health(round(1.4 * SECOND)), 0)
    levels += [s["level"] for s in fields["status"] if s["name"] == "robustseg: lidar"]
    assert levels == [messages.WARN] and Fault.RECALIBRATED in said["lidar"]


def test_calibration_that_does_not_parse_is_counted():
    made = segmenter()
    made.intake.reject_calibration(
        "/tf_static", Finding(Fault.FORMAT, fatal=True, text="ends early")
    )
    assert made.remarks() == ["/tf_static: format: ends early (1 messages)"]
