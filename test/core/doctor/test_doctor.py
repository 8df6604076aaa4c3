"""Why is there no output: a recording for each thing that can be wrong, and the fix for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustseg_core import config
from robustseg_core.bag import Bag, BagWriter
from robustseg_core.doctor import Report, Status, examine
from robustseg_core.modalities import ranked
from robustseg_core.robot.config import RobotConfig
from robustseg_core.types import SECOND
from support.drives import EPOCH, OPTICAL, PLACED, TOPICS, rows
from support.makers import camera_info, header, image, make, transform

pytestmark = pytest.mark.slow

INFO = "/camera_info"
SECONDS = 2.0
Row = tuple[int, str, Any]


def placed() -> list[Row]:
    """The transforms of the sensors that need one."""
    return [(0, "/tf_static", transform("camera", n, quaternion=OPTICAL)) for n in PLACED]


def healthy() -> list[Row]:
    """(arrival, topic, message) of a drive that lacks nothing."""
    infos = [(k * SECOND // 2, INFO, camera_info(48, 64, fx=60.0)) for k in range(4)]
    own = camera_info(48, 64, fx=60.0, frame_id="event_camera")
    events = [(k * SECOND // 2, "/event_info", own) for k in range(4)]
    sensors = [(at, TOPICS[name], sent) for at, name, sent in rows(SECONDS)]
    beside = transform("camera", "event_camera", (0.1, 0, 0))
    return sorted(
        [*placed(), (0, "/tf_static", beside), *infos, *events, *sensors],
        key=lambda row: row[0],
    )


def robot(**changes: Any) -> RobotConfig:
    streams: dict[str, Any] = {name: {"topic": topic} for name, topic in TOPICS.items()}
    streams["depth"]["camera_info"] = INFO
    streams["event"]["camera_info"] = "/event_info"
    for name, stream in changes.pop("streams", {}).items():
        streams[name] = {**streams[name], **stream}
    return config.parse(RobotConfig, {"weights": "untrained", "streams": streams, **changes})


@pytest.fixture
def diagnose(tmp_path: Path) -> Callable[..., Report]:
    def run(drive: Iterable[Row], robot_config: RobotConfig | None = None) -> Report:
        with BagWriter(tmp_path / "bag") as writer:
            for at, topic, sent in drive:
                latched = topic == "/tf_static"
                writer.write(topic, sent.__msgtype__, sent, EPOCH + at, latched=latched)
        with Bag(tmp_path / "bag") as bag:
            return examine(bag, robot_config or robot())

    return run


def changed(topic: str, change: Callable[[int, Any], Any]) -> list[Row]:
    """The healthy drive with the k-th message of one topic replaced; None drops it."""
    result, k = [], 0
    for at, name, sent in healthy():
        new = sent
        if name == topic:
            new, k = change(k, sent), k + 1
        if new is not None:
            result.append((at, name, new))
    return result


def restamped(sent: Any, stamp_ns: int) -> Any:
    stamp = make("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    header = make("std_msgs/msg/Header", stamp=stamp, frame_id=sent.header.frame_id)
    fields = {name: getattr(sent, name) for name in sent.__dataclass_fields__}
    return type(sent)(**{**fields, "header": header})


def reframed(sent: Any, frame_id: str) -> Any:
    header = make("std_msgs/msg/Header", stamp=sent.header.stamp, frame_id=frame_id)
    fields = {name: getattr(sent, name) for name in sent.__dataclass_fields__}
    return type(sent)(**{**fields, "header": header})


def expect(report: Report, row: str, check: str, status: str, *words: str) -> None:
    """This check has this status; its texts hold these words; and something bad ends with 1."""
    got = report.row(row).check(check)
    assert got.status.value == status, got
    for word in words:
        assert word in f"{got.found} | {got.fix}"
    assert report.exit_code == (report.status is Status.BAD)
    if status == "bad":
        assert got.fix and report.exit_code == 1


def test_a_healthy_drive_needs_no_doctor(diagnose):
    report = diagnose(healthy())
    problems = [(r.name, c) for r in report.rows for c in r.checks if c.status.value == "warn"]
    assert [(name, c.name) for name, c in problems] == [("node", "network")]  # random weights
    assert report.exit_code == 0
    assert [row.name for row in report.rows] == [*ranked(), "tf", "node"]
    assert report.row("rgb").check("rate").found == "20.0 Hz"
    assert report.row("lidar").check("tf").found == "lidar to camera"


def test_a_misspelt_topic_is_absent_and_the_right_one_is_named(diagnose):
    report = diagnose(healthy(), robot(streams={"rgb": {"topic": "/rbg"}}))
    expect(report, "rgb", "topic", "bad", "no /rbg", "did you mean '/rgb'?", "streams.rgb.topic")
    assert report.row("rgb").check("used").status is Status.NONE  # one cause, one complaint
    assert report.row("depth").check("used").status is Status.OK


def test_a_wrong_type_names_what_is_found_and_expected(diagnose):
    report = diagnose(healthy(), robot(streams={"lidar": {"topic": "/depth"}}))
    expect(
        report,
        "lidar",
        "type",
        "bad",
        "found sensor_msgs/msg/Image",
        "expected sensor_msgs/msg/PointCloud2",
        "set streams.lidar.topic to one of /lidar",
    )


def test_zero_stamps_are_the_drivers_fault(diagnose):
    report = diagnose(changed("/depth", lambda k, sent: restamped(sent, 0)))
    expect(report, "depth", "stamps", "bad", "20 of 20", "zero_stamp", "header.stamp")
    assert report.row("rgb").check("stamps").status is Status.OK


def test_a_clock_that_is_three_seconds_off_is_an_offset(diagnose):
    def late(k: int, sent: Any) -> Any:
        return restamped(sent, EPOCH + k * SECOND // 10 + 3 * SECOND)

    report = diagnose(changed("/lidar", late))
    expect(report, "lidar", "stamps", "bad", "offset", "synchronize the sensor's clock")


def test_two_interleaved_frames_are_noticed(diagnose):
    def two(k: int, sent: Any) -> Any:
        return reframed(sent, "camera" if k % 2 else "other_camera")

    report = diagnose(changed("/depth", two))
    expect(report, "depth", "frame", "warn", "other_camera", "second publisher")


def test_an_empty_frame_id_is_noticed(diagnose):
    report = diagnose(changed("/depth", lambda k, sent: reframed(sent, "")))
    expect(report, "depth", "frame", "warn", "frame_id is empty", "optical frame")


def test_a_missing_transform_is_named_from_and_to(diagnose):
    moved = changed("/lidar", lambda k, sent: reframed(sent, "velodyne"))
    report = diagnose(moved)
    expect(
        report,
        "lidar",
        "tf",
        "bad",
        "no transform from 'velodyne' to 'camera'",
        "neither /tf_static nor /tf names 'velodyne'",
        "--frame-id camera --child-frame-id velodyne",
        "view.extrinsics.lidar",
    )
    expect(report, "lidar", "used", "bad", "no_tf")
    assert report.row("node").check("masks").status is Status.OK  # the others go on


def panned(seconds: float) -> list[Row]:
    """A healthy drive whose LiDAR's place is told on /tf, for so long."""
    moved = [r for r in healthy() if r[1] != "/tf_static" or "event" in str(r[2])]
    times = [k * SECOND // 20 for k in range(round(20 * seconds))]
    pan = [(t, "/tf", stamped("camera", "lidar", EPOCH + t, OPTICAL)) for t in times]
    return sorted([*moved, *pan], key=lambda row: row[0])


def test_a_mount_that_moves_is_named(diagnose):
    report = diagnose(panned(SECONDS))
    assert report.row("lidar").check("tf").found == "lidar to camera; on /tf: lidar"
    assert report.row("lidar").check("used").status is Status.OK, report.to_json()


def test_a_mount_of_which_nobody_tells_in_time_is_named(diagnose):
    report = diagnose(panned(SECONDS / 2))
    expect(report, "lidar", "tf", "warn", "the newest transform 'camera' to 'lidar' on /tf is")
    expect(report, "lidar", "tf", "warn", "view.tf_grace_s")


def stamped(parent: str, child: str, stamp_ns: int, quaternion: Any) -> Any:
    sent = transform(parent, child, quaternion=quaternion)
    sent.transforms[0].header = header(stamp_ns, parent)
    return sent


def test_an_event_camera_without_a_transform_goes_on_and_it_is_told(diagnose):
    drive = [r for r in healthy() if r[1] != "/tf_static"]
    report = diagnose([*placed(), *drive])
    expect(report, "event", "tf", "warn", "'event_camera' to 'camera'", "what the camera sees")
    assert report.exit_code == 0 and report.row("event").check("used").status is Status.OK


def test_a_configured_pose_replaces_tf(diagnose):
    moved = [r for r in healthy() if r[1] != "/tf_static"]
    told = {name: [0, 0, 0, *OPTICAL] for name in PLACED}
    pose = {"extrinsics": told | {"event": [0, 0, 0, 0, 0, 0, 1]}}
    report = diagnose(moved, robot(view=pose))
    assert report.exit_code == 0, report.to_json()
    assert report.row("lidar").check("tf").found == "view.extrinsics.lidar"


def test_without_camera_info_the_lidar_is_out_and_the_camera_goes_on(diagnose):
    report = diagnose([r for r in healthy() if "info" not in r[1]])
    expect(report, "rgb", "calibration", "warn", "no CameraInfo on /camera_info", "let its driver")
    expect(report, "lidar", "calibration", "bad", "cannot be projected", "view.intrinsics")
    assert report.row("rgb").check("used").status is Status.OK


def test_a_zero_k_is_quoted(diagnose):
    def empty(k: int, sent: Any) -> Any:
        fields = {name: getattr(sent, name) for name in sent.__dataclass_fields__}
        return type(sent)(**{**fields, "k": np.zeros(9)})

    report = diagnose(r for r in changed(INFO, empty) if r[1] != "/event_info")
    expect(report, "rgb", "calibration", "warn", "CameraInfo K is [0.0", "calibrate the camera")
    assert report.exit_code == 1  # the LiDAR cannot be projected


def test_a_camera_info_of_another_size_is_another_cameras(diagnose):
    report = diagnose(changed(INFO, lambda k, sent: camera_info(48, 128, fx=60.0)))
    expect(report, "rgb", "calibration", "warn", "for 128x48", "have 64x48", "camera_info")


def test_a_slow_sensor_is_measured_against_what_was_promised(diagnose):
    report = diagnose(healthy(), robot(streams={"rgb": {"rate_hz": 60.0}}))
    expect(report, "rgb", "rate", "warn", "20.0 Hz, expected 60 Hz", "streams.rgb.rate_hz")
    assert report.exit_code == 0


def test_a_sensor_that_stopped_is_bad_and_says_since_when(diagnose):
    report = diagnose(changed("/rgb", lambda k, sent: sent if k < 8 else None))
    expect(report, "rgb", "rate", "bad", "silent for 1.6 of 2.0 s", "cable")


def test_what_does_not_decode_is_quoted_with_the_way_out(diagnose):
    def unknown(k: int, sent: Any) -> Any:
        return image(np.zeros((48, 64), np.uint8), "yuv9", EPOCH + k * SECOND // 20)

    report = diagnose(changed("/rgb", unknown))
    expect(report, "rgb", "decode", "bad", "40 of 40", "format", "yuv9")


def test_a_black_camera_is_found_by_its_content(diagnose):
    def dark(k: int, sent: Any) -> Any:
        noise = np.random.default_rng(k).integers(0, 2, (48, 64, 3), dtype=np.uint8)
        return image(noise, "rgb8", EPOCH + k * SECOND // 20)

    report = diagnose(changed("/rgb", dark))
    expect(report, "rgb", "decode", "bad", "black", "lens cap")


def test_a_network_that_is_not_there_is_the_nodes_problem(diagnose, tmp_path):
    report = diagnose(healthy(), robot(weights=str(tmp_path / "gone.safetensors")))
    expect(report, "node", "network", "bad", "gone.safetensors")
    assert report.row("rgb").check("used").status is Status.OK  # the rest is examined all the same


def test_a_robot_without_topics_is_told_so(diagnose):
    report = diagnose(healthy(), config.parse(RobotConfig, {"weights": "untrained"}))
    expect(report, "node", "network", "bad", "no stream has a topic", "inspect")


def test_a_stream_that_is_switched_off_is_not_ill(diagnose):
    report = diagnose(healthy(), robot(streams={"lidar": {"enabled": False}}))
    assert report.row("lidar").status is Status.OK and report.exit_code == 0
    assert "switched off" in report.row("lidar").check("topic").found


def test_a_place_that_no_sensor_can_have_is_told_with_its_limit(diagnose):
    others = [row for row in healthy() if row[1] != "/tf_static"]
    tf = transform("camera", "lidar", (500, 0, 0), OPTICAL)
    report = diagnose([(0, "/tf_static", tf), *others])
    expect(report, "lidar", "tf", "bad", "500.0 m from 'camera', limit 100 m", "max_distance_m")


def test_a_lens_that_changes_meanwhile_is_told(diagnose):
    report = diagnose(changed(INFO, lambda k, m: camera_info(48, 64, fx=60.0 + 30 * (k > 1))))
    told = ("it changed: fx 60.00 to 90.00 px", "second publisher")
    expect(report, "rgb", "calibration", "warn", *told)


def test_a_lens_that_becomes_impossible_is_told(diagnose):
    def outside(k, sent):
        sent.k[2] += 100 * (k > 1)
        return sent

    told = ("principal point (131.5, 23.5)", "the last good one is used")
    expect(diagnose(changed(INFO, outside)), "rgb", "calibration", "warn", *told)
