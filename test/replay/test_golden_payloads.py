"""Real recordings, and the numbers that other software reads from them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import Reader

from robustseg_core import modalities
from robustseg_core.bag.typestore import typestore
from robustseg_core.codecs.points import decode_points
from robustseg_core.geometry.view import View
from robustseg_core.modalities.depth import Depth
from robustseg_core.modalities.event import Event
from robustseg_core.types import Reading
from support.twins import both, rclpy_twin

pytestmark = pytest.mark.slow


def messages(bag: Path) -> Iterator[tuple[str, Any]]:
    with Reader(bag) as reader:
        for connection, _, raw in reader.messages():
            yield connection.topic, typestore().deserialize_cdr(raw, connection.msgtype)


def stamp_ns(message: Any) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


@pytest.mark.parametrize("twin", [False, True], ids=["rosbags", "rclpy"])
def test_an_event_recording_holds_exactly_its_events(realdata: Path, twin: bool) -> None:
    camera = Event()
    on = off = 0
    previous = 0
    for _, message in messages(realdata / "events_evt3_640x480"):
        packet = camera.decode(rclpy_twin(message) if twin else message, stamp_ns(message))
        assert list(camera.check(packet)) == []
        events = packet.events
        on += int(events.p.sum())
        off += int((~events.p).sum())
        assert (events.unknown, events.outside, events.early, events.odd_bytes) == (0, 0, 0, 0)
        assert previous <= events.t[0]
        assert (np.diff(events.t) >= 0).all()
        previous = events.t[-1]
    assert (on, off) == (125_183, 218_291)
    assert camera.lost_packets == 0


def test_event_stamps_and_the_sensor_clock_agree(realdata: Path) -> None:
    camera = Event()
    packets = [
        (stamp_ns(m), camera.decode(m, stamp_ns(m)))
        for _, m in messages(realdata / "events_evt3_640x480")
    ]
    arrived = np.array([stamp for stamp, _ in packets]) * 1e-9
    sensed = np.array([p.events.t[0] for _, p in packets]) * 1e-6
    assert sensed[-1] - sensed[0] == pytest.approx(arrived[-1] - arrived[0], abs=0.02)


KITTI = [(20_285, 32_760), (18_630, 35_581), (20_210, 40_885)]


def test_kitti_scans_land_in_their_pictures_and_nothing_from_behind(realdata: Path) -> None:
    view = View((370, 1224))
    found = []
    for topic, message in messages(realdata / "kitti_object_3frames"):
        if topic == "/tf_static":
            view.add_transforms(message)
        elif topic.endswith("camera_info"):
            view.set_camera_info("rgb", message, rectified=True)
        elif topic.endswith("pointcloud"):
            camera = view.camera
            assert camera is not None
            pose = view.view_from("lidar", message.header.frame_id)
            points = decode_points(message).xyz.astype(np.float64) @ pose[:3, :3].T + pose[:3, 3]
            u, v, depth_m, index = camera.project(points)
            assert (depth_m > 0).all()
            # The published counts cut at the centers of the first pixels, so u and v from 0.
            inside = (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
            x, y, z = points.T
            u, v = x / z * camera.fx + camera.cx, y / z * camera.fy + camera.cy
            careless = (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
            found.append((int(inside.sum()), int(careless.sum())))
            # The grid of the view begins half a pixel earlier, and ends so.
            view.size = (camera.height, camera.width)
            assert len(view.project(points).index) == pytest.approx(inside.sum(), rel=2e-3)
            assert len(index) < len(points)
    np.testing.assert_allclose(found, KITTI, atol=2)


def test_rellis_points_agree_with_the_labels_of_the_picture(realdata: Path) -> None:
    labels = realdata / "rellis3d_frame104_labels"
    picture = cv2.imread(str(next(labels.glob("*.png"))), cv2.IMREAD_UNCHANGED)
    classes = np.fromfile(labels / "000104.label", "<u4") & 0xFFFF
    view = View(picture.shape[:2])
    for topic, message in messages(realdata / "rellis3d_frame104"):
        if topic == "/tf_static":
            view.add_transforms(message)
        elif topic.endswith("camera_info"):
            view.set_camera_info("rgb", message, rectified=True)
        elif topic == "/os1_cloud_node/points":
            scan = message
    cloud = decode_points(scan)
    assert (cloud.total, cloud.total - len(cloud.xyz)) == (131_072, 53_364)
    assert cloud.ring is not None
    assert np.unique(cloud.ring).tolist() == list(range(64))
    # Labels are stored column by column, as in the PLY; the bag holds 64 rows of 2048.
    classes = classes.reshape(2048, 64).T.ravel()
    raw = np.ndarray((scan.height * scan.width, 3), "<f4", scan.data, strides=(scan.point_step, 4))
    returned = classes[np.flatnonzero(raw.any(axis=1))]
    pose = view.view_from("lidar", scan.header.frame_id)
    points = cloud.xyz @ pose[:3, :3].T + pose[:3, 3]
    seen = view.project(points)
    told = returned[seen.index]
    good = (told > 0) & (seen.depth_m > 0.5)
    agree = told[good] == picture[seen.rows[good], seen.cols[good]]
    assert good.sum() == pytest.approx(7_428, abs=2)
    assert agree.mean() >= 0.77


def test_recorded_depth_is_mostly_valid_and_in_metres(realdata: Path) -> None:
    depth, shares, nearest, farthest = Depth(), [], np.inf, 0.0
    for topic, message in messages(realdata / "rgbd_60frames"):
        if "depth" in topic:
            depth_m = depth.decode(message, stamp_ns(message))
            assert list(depth.check(depth_m)) == []
            for made in both(message):
                np.testing.assert_array_equal(depth.decode(made, 0), depth_m)
            shares.append(np.isfinite(depth_m).mean())
            nearest = min(nearest, np.nanmin(depth_m))
            farthest = max(farthest, np.nanmax(depth_m))
    assert len(shares) == 20
    assert 0.87 <= min(shares) <= max(shares) <= 0.93
    assert nearest == pytest.approx(0.801)
    assert 3.5 < farthest <= 3.602  # the farthest frame is not among these 20


TOPICS = {
    "/camera/color/image_raw/compressed": "rgb",
    "/camera/aligned_depth_to_color/image_raw": "depth",
    "/velodyne_points": "lidar",
    "/event_camera/events": "event",
}


def test_a_healthy_four_sensor_drive_raises_no_fatal_finding(realdata: Path) -> None:
    view = View((96, 128))
    sensors = {name: modalities.load(name)() for name in modalities.available()}
    seen = dict.fromkeys(sensors, 0)
    digests: dict[str, set[int]] = {name: set() for name in sensors}
    readings: dict[str, list[Reading]] = {name: [] for name in sensors}
    for topic, message in messages(realdata / "collage_four_sensors"):
        if topic == "/tf_static":
            view.add_transforms(message)
        elif topic.endswith("camera_info"):
            view.set_camera_info("rgb", message)
        elif name := TOPICS.get(topic):
            stamp = stamp_ns(message)
            data = sensors[name].decode(message, stamp)
            assert not [f for f in sensors[name].check(data) if f.fatal]
            seen[name] += 1
            digests[name].add(sensors[name].digest(message))
            readings[name].append(Reading(name, stamp, message.header.frame_id, data))
    assert seen == {"rgb": 60, "depth": 20, "lidar": 9, "event": 498}
    for name, sensor in sensors.items():
        last = readings[name][-1]
        array = sensor.encode(readings[name], view, last.stamp_ns)
        assert array.shape == (3, 96, 128)
        assert np.isfinite(array).all()
        assert array.any()
        assert sensor.usable(last.frame_id, view) is None
    assert {name: len(found) for name, found in digests.items()}["event"] == 498
