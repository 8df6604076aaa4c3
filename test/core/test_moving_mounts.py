"""A mount that moves, from the messages to the mask: a sensor is where it was when it saw."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from robustseg_core.bag import Bag, BagWriter
from robustseg_core.codecs.points import decode_points
from robustseg_core.config import PointsConfig
from robustseg_core.health.monitor import State
from robustseg_core.intake import MOVING
from robustseg_core.output.cloud import POINT
from robustseg_core.output.cloud import cloud as output_cloud
from robustseg_core.recording.replay import replay
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import MS, SECOND, Fault, sentence
from support import drives
from support.drives import EPOCH, OPTICAL, TOPICS, engine, robot, rows
from support.makers import camera_info, cloud, header, transform

SECONDS = 1.2
PERIOD = 20 * MS
"""Of /tf."""
DEG_PER_S = 50.0


def yaw(degrees: float) -> tuple[float, float, float, float]:
    half = math.radians(degrees) / 2
    return 0.0, 0.0, math.sin(half), math.cos(half)


def pan_deg(stamp_ns: int) -> float:
    """How far the mount has turned."""
    return DEG_PER_S * (stamp_ns - EPOCH) / SECOND


def on_tf(parent: str, child: str, stamp_ns: int, *pose: Any) -> Any:
    sent = transform(parent, child, *pose)
    sent.transforms[0].header = header(stamp_ns, parent)
    return sent


def turned_back(sent: Any) -> Any:
    """The scan as a LiDAR sees it that has turned meanwhile."""
    stamp = sent.header.stamp
    stamp_ns = stamp.sec * SECOND + stamp.nanosec
    angle = -math.radians(pan_deg(stamp_ns))
    scan = decode_points(sent)
    table = np.zeros(len(scan.xyz), [(n, "<f8") for n in ("x", "y", "z", "intensity")])
    x, y, z = scan.xyz.T.astype(np.float64)
    table["x"] = x * math.cos(angle) - y * math.sin(angle)
    table["y"] = x * math.sin(angle) + y * math.cos(angle)
    table["z"], table["intensity"] = z, 0.5
    return cloud(table, stamp_ns=stamp_ns)


def still_rows(seconds: float = SECONDS) -> list[tuple[int, str, Any]]:
    """The same scans of a LiDAR that stands: float64 like the others."""
    return [(at, n, _plain(s) if n == "lidar" else s) for at, n, s in rows(seconds)]


def _plain(sent: Any) -> Any:
    scan, stamp = decode_points(sent), sent.header.stamp
    table = np.zeros(len(scan.xyz), [(n, "<f8") for n in ("x", "y", "z", "intensity")])
    table["x"], table["y"], table["z"] = scan.xyz.T
    table["intensity"] = 0.5
    return cloud(table, stamp_ns=stamp.sec * SECOND + stamp.nanosec)


def panning_rows(seconds: float = SECONDS) -> list[tuple[int, str, Any]]:
    return [(at, n, turned_back(s) if n == "lidar" else s) for at, n, s in rows(seconds)]


def tf_rows(seconds: float, until: float = 1e9, late: int = -30 * MS) -> list[tuple[int, str, Any]]:
    """/tf of a mount that pans, on another beat than the LiDAR; said in time, or later."""
    found = []
    for k in range(-3, round(seconds * SECOND / PERIOD) + 1):
        at = k * PERIOD + 3 * MS
        if at <= until * SECOND:
            pose = on_tf("mast", "pan", EPOCH + at, (0, 0, 0), yaw(pan_deg(EPOCH + at)))
            found.append((max(at + late, 0), "/tf", pose))
    return found


def fixed_mount(made: Segmenter) -> Segmenter:
    made.push_transforms(transform("camera", "lidar", quaternion=OPTICAL))
    return made


def moving_mount(made: Segmenter) -> Segmenter:
    made.push_transforms(transform("camera", "mast", quaternion=OPTICAL))
    made.push_transforms(transform("pan", "lidar"))
    return made


def segmenter(**view: Any) -> Segmenter:
    told = robot()
    told = told.model_copy(update={"view": told.view.model_copy(update=view)})
    made = Segmenter(told, engine().spec, engine())
    made.push_camera_info("rgb", camera_info(48, 64, fx=60.0))
    return made


def drive(made: Segmenter, arrivals: Iterable[tuple[int, str, Any]]) -> list[Any]:
    maps, now = [], 0
    for at, name, sent in sorted(arrivals, key=lambda row: row[0]):
        while (wake := made.wake_ns(now)) is not None and wake < at:
            now = wake
            maps.append(made.step(now))
        now = at
        if name == "/tf":
            made.push_transforms(sent, moving=True)
            continue
        made.push(name, sent, now)
        maps.append(made.step(now))
    return [one for one in maps if one is not None]


@pytest.mark.slow
def test_a_mount_that_pans_makes_the_masks_of_one_that_stands():
    still = drive(fixed_mount(segmenter()), still_rows())
    made = moving_mount(segmenter())
    maps = drive(made, [*panning_rows(), *tf_rows(SECONDS)])
    assert [m.stamp_ns for m in maps] == [m.stamp_ns for m in still]
    assert not made.remarks()
    both = [(a, b) for a, b in zip(maps, still, strict=True) if "lidar" in b.used]
    assert len(both) > 10
    for ours, theirs in both[2:]:  # from the first scan on, the mount's motion is kept
        assert ours.used == theirs.used
        one, other = (m.bundle.frames["lidar"].array for m in (ours, theirs))
        assert np.mean(np.abs(one - other) > 1e-3) < 0.01  # a point on a pixel's edge may go over
        placed = ours.scene.placed["lidar"]
        stamp_ns = placed.reading.stamp_ns
        assert stamp_ns <= ours.stamp_ns
    # Held by 50 ms beside the next image, it is where it was when it saw.
    assert any(m.stamp_ns > m.bundle.frames["lidar"].stamp_ns for m, _ in both)
    assert made.intake.view.moving("lidar", "lidar") == ("pan",)


def test_the_labelled_cloud_is_in_the_frame_as_it_is_at_the_stamp_of_the_mask():
    made = moving_mount(segmenter())
    maps = drive(made, [*panning_rows(), *tf_rows(SECONDS)])
    held = 0
    for mask in maps[8:]:
        if "lidar" not in mask.used:
            continue
        placed = mask.scene.placed["lidar"]
        seen = placed.reading.data.xyz
        turned = math.radians(pan_deg(mask.stamp_ns) - pan_deg(placed.reading.stamp_ns))
        cos, sin = math.cos(-turned), math.sin(-turned)
        x, y, z = seen.T
        expected = np.stack([cos * x - sin * y, sin * x + cos * y, z], axis=1)
        np.testing.assert_allclose(placed.now(seen), expected, atol=1e-3)
        held += mask.stamp_ns > placed.reading.stamp_ns
        fields = output_cloud(mask, made.spec, PointsConfig(source="lidar"))
        table = np.frombuffer(fields["data"], POINT)
        found = placed.lands(seen, mask.ids.shape).index
        np.testing.assert_allclose(table["x"], expected[found, 0], atol=1e-3)
    assert held > 3


def test_before_a_transform_has_come_its_forerunner_serves():
    made, late = moving_mount(segmenter()), 7 * MS
    maps = drive(made, [*panning_rows(), *tf_rows(SECONDS, late=late)])
    assert not made.remarks()
    for mask in maps[6:]:
        if "lidar" not in mask.used or mask.stamp_ns > mask.bundle.frames["lidar"].stamp_ns:
            continue
        here = mask.scene.placed["lidar"].camera_from_sensor
        behind = math.radians(pan_deg(mask.stamp_ns)) - turned_about_y(here)
        assert 0 <= behind <= math.radians(DEG_PER_S) * (PERIOD + late) / SECOND + 1e-9


def turned_about_y(camera_from_sensor: Any) -> float:
    """How far the LiDAR's x has turned to the left of the camera's z."""
    ahead = camera_from_sensor[:3, :3] @ [1, 0, 0]
    return math.atan2(-ahead[0], ahead[2])


def test_a_camera_that_pans_is_taken_where_it_was_when_it_looked():
    """The same motion on the other side: a held scan is seen from where the camera is now."""
    made = segmenter()
    made.push_transforms(
        transform("pan", "camera", quaternion=[-q for q in OPTICAL[:3]] + [OPTICAL[3]])
    )
    made.push_transforms(transform("mast", "lidar"))
    maps = drive(made, [*still_rows(), *tf_rows(SECONDS)])
    held = [m for m in maps if "lidar" in m.used and m.stamp_ns > m.bundle.frames["lidar"].stamp_ns]
    assert len(held) > 5
    for mask in held:
        expected = np.radians(-pan_deg(mask.stamp_ns))
        found = turned_about_y(mask.scene.placed["lidar"].camera_from_sensor)
        assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_nothing_is_encoded_again_while_the_mount_stands(monkeypatch):
    counts = {}
    for name, speed in (("stands", 0.0), ("pans", DEG_PER_S)):
        monkeypatch.setattr(f"{__name__}.DEG_PER_S", speed)
        made = segmenter()
        made.push_transforms(
            transform("pan", "camera", quaternion=[-q for q in OPTICAL[:3]] + [OPTICAL[3]])
        )
        made.push_transforms(transform("mast", "lidar"))
        made.intake.view.camera  # noqa: B018
        decoder, stamps = made.intake.modalities["lidar"], []
        encode = decoder.encode

        def counted(readings, view, stamp_ns, encode=encode, stamps=stamps):
            stamps.append(readings[-1].stamp_ns)
            return encode(readings, view, stamp_ns)

        monkeypatch.setattr(decoder, "encode", counted)
        drive(made, [*still_rows(), *tf_rows(SECONDS)])
        counts[name] = len(stamps), len(set(stamps))
    assert counts["stands"][0] == counts["stands"][1]
    assert counts["pans"][0] > counts["pans"][1]


def test_transforms_that_stop_put_the_sensor_out_by_name_and_nobody_else():
    made = moving_mount(segmenter())
    maps = drive(made, [*panning_rows(), *tf_rows(SECONDS, until=0.6)])
    last = maps[-1]
    assert set(last.used) == {"rgb", "depth", "event"}
    told = sentence(last.reasons["lidar"])
    assert told.startswith("no_tf: the newest transform 'mast' to 'pan' on /tf is")
    assert "older than the data, limit 0.2 s" in told and "view.tf_grace_s" in told
    good = [m.bundle.frames["lidar"].stamp_ns for m in maps if "lidar" in m.used]
    assert EPOCH + 0.7 * SECOND <= max(good) <= EPOCH + 0.8 * SECOND
    assert any("is 0." in remark and "older than" in remark for remark in made.remarks())


def test_a_robot_may_allow_more_grace():
    made = moving_mount(segmenter(tf_grace_s=2.0))
    maps = drive(made, [*panning_rows(), *tf_rows(SECONDS, until=0.6)])
    assert "lidar" in maps[-1].used


def test_what_is_refused_of_tf_is_counted_and_told():
    made = moving_mount(segmenter())
    bad = on_tf("mast", "pan", EPOCH + 500 * MS, (0, 0, 0), (0, 0, 0, 2))
    drive(
        made, [*panning_rows(), *tf_rows(SECONDS), (500 * MS, "/tf", bad), (510 * MS, "/tf", bad)]
    )
    ((what, finding, count),) = made.intake.calibration_rejected
    assert (what, finding.fault, count) == (MOVING, Fault.NO_TF, 2)
    assert made.remarks() == [f"moving transform: {finding} (2 messages)"]
    assert made.health(round(SECONDS * SECOND))["lidar"].state is State.LIVE


def test_a_static_transform_that_changes_on_a_moving_mount_is_told():
    made = moving_mount(segmenter())
    arrivals = [*panning_rows(), *tf_rows(SECONDS)]
    drive(made, [row for row in arrivals if row[0] < 0.6 * SECOND])
    assert not made.intake.calibration_changed
    made.push_transforms(transform("pan", "lidar", (0, 0, 0.25)))
    drive(made, [row for row in arrivals if row[0] >= 0.6 * SECOND])
    ((what, finding, count),) = made.intake.calibration_changed
    assert (what, count) == ("lidar", 1)
    assert finding.text.startswith("moved by 0.250 m and turned by 0.00 degrees in 'camera'")


def odometry(seconds: float) -> list[tuple[int, str, Any]]:
    """A base that drives through odom, with forty wheels and fingers, at 100 Hz."""
    found = []
    for k in range(round(100 * seconds)):
        at = k * 10 * MS
        sent = on_tf("odom", "camera", EPOCH + at, (0.1 * k, 0, 0))
        for n in range(40):
            sent.transforms += on_tf("camera", f"wheel{n}", EPOCH + at, (0, 0, k)).transforms
        found.append((at, "/tf", sent))
    return found


@pytest.mark.slow
def test_a_base_that_drives_through_odom_disturbs_nobody():
    made, alone = fixed_mount(segmenter()), fixed_mount(segmenter())
    versions = set[int]()
    maps = drive(made, [*still_rows(), *odometry(SECONDS)])
    still = drive(alone, still_rows())
    versions = {made.intake.view.version, alone.intake.view.version}
    assert len(versions) == 1, "nothing that was computed is thrown away"
    assert not made.intake.needs_motion and not made.remarks()
    for ours, theirs in zip(maps, still, strict=True):
        np.testing.assert_array_equal(ours.ids, theirs.ids)


@pytest.mark.slow
def test_a_replay_reads_tf_and_leaves_it_where_nobody_hangs_on_it(tmp_path):
    def bag(name: str, written: list[tuple[int, str, Any]], *static: Any) -> Any:
        with BagWriter(tmp_path / name) as writer:
            for sent in static:
                writer.write("/tf_static", sent.__msgtype__, sent, EPOCH, latched=True)
            info = camera_info(48, 64, fx=60.0)
            writer.write("/camera_info", info.__msgtype__, info, EPOCH)
            for at, topic, sent in sorted(written, key=lambda row: row[0]):
                writer.write(TOPICS.get(topic, topic), sent.__msgtype__, sent, EPOCH + at)
        return tmp_path / name

    pan = [*panning_rows(), *tf_rows(SECONDS)]
    mast = transform("camera", "mast", quaternion=OPTICAL), transform("pan", "lidar")
    still = transform("camera", "lidar", quaternion=OPTICAL), transform("camera", "event_camera")
    heard: list[Any] = []
    for path in (
        bag("pan", pan, *mast, still[1]),
        bag("odom", [*still_rows(), *odometry(SECONDS)], *still),
    ):
        made = Segmenter(robot(), engine().spec, engine())
        move = made.intake.view.move

        def counted(message, move=move):
            heard[-1] += 1
            move(message)

        made.intake.view.move = counted
        heard.append(0)
        with Bag(path) as opened:
            maps = list(replay(opened, made))
        assert "lidar" in maps[-1].used and len(maps) > 20
        assert not made.remarks()
    assert heard[0] == len(tf_rows(SECONDS)) and heard[1] < 5


def test_after_a_reset_old_transforms_are_forgotten():
    made = moving_mount(segmenter())
    drive(made, [*panning_rows(), *tf_rows(SECONDS)])
    made.reset(2 * SECOND)
    sent = copy.deepcopy(drives.message("lidar", 2))
    made.push("lidar", sent, 2 * SECOND)
    told = made.health(2 * SECOND)["lidar"].findings
    assert any("no usable transform 'mast' to 'pan' on /tf yet" in finding.text for finding in told)
